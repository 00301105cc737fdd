"""The page that says of each thing whether it runs here. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.conformance.corpus import Case

PAGE = Path(__file__).parents[2] / "docs" / "workflows" / "conformance.md"
_HEAD = """# What of Argo Workflows runs here

Made by running `tests/conformance/corpus.yaml` on one machine: `python -m tests.conformance` writes this page, and a
test holds it to what happens. On a cluster a manifest is read by the same rules before Argo gets it, so that what runs
on one runs on the other. What is refused is refused before anything starts, with the place in the manifest.
"""


def written(cases: Sequence[Case], outcomes: Sequence[dict[str, Any]]) -> str:
    """Return the page."""
    refused = sum("refused" in one for one in outcomes)
    parts = [_HEAD, f"{len(cases) - refused} of {len(cases)} run, {refused} are refused.\n"]
    for group, rows in groupby(zip(cases, outcomes, strict=True), key=lambda row: row[0].group):
        parts.append(f"## {group}\n")
        parts.append("| in the manifest | here | |\n|---|---|---|")
        parts.append("\n".join(_row(*row) for row in rows) + "\n")
    return "\n".join(parts)


def _row(case: Case, outcome: dict[str, Any]) -> str:
    said = str(outcome.get("said", "")).replace("|", "\\|")
    word = "refused" if "refused" in outcome else "differs" if case.differs else "runs"
    return f"| {case.feature.replace('|', chr(92) + '|')} | {word} | {said or case.differs} |"
