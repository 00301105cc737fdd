"""What the documents name is there: every path in links and in code, and every anchor of a link."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
TOPS = {one.name for one in ROOT.iterdir() if not one.name.startswith(".")}
BASES = (
    ROOT,
    *(ROOT / one for one in ("hub", "hub/ropewalk_core", "hub/ropewalk_hub", "extensions", "workflows", "docs")),
)
MADE = ("bin/", "build/", "run/", "journal.db", "ropewalk.toml", "secrets/", "accounts/", "logs/", "hub/jupyterhub")
"""Folders that are made at run time: of the home, of the test cluster, and by `make`."""


def links(text: str) -> set[str]:
    return {one for one in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in one}


def paths(text: str) -> set[str]:
    """Return the words in code that are paths of this repository: `docs/x.md`, `ropewalk_core/y.py`, `z.py`."""
    words = {one.strip("`") for one in re.findall(r"`[^`\n]+`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))}
    plain = {one for one in words if re.fullmatch(r"[\w.*-]+(/[\w.*-]+)*/?", one)}
    named = {one for one in plain if one.endswith((".py", ".md", ".mjs", ".toml", ".ipynb", ".html", "/"))}
    return named | {one for one in plain if one.partition("/")[0] in TOPS and "/" in one}


def exists(name: str) -> bool:
    return any(any(base.glob(name.rstrip("/"))) for base in BASES)


@pytest.mark.parametrize("page", PAGES, ids=lambda one: one.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page.read_text()):
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in heads}, link


@pytest.mark.parametrize("page", PAGES, ids=lambda one: one.name)
def test_every_named_path_is_there(page: Path) -> None:
    named = {one for one in paths(page.read_text()) if not one.startswith(MADE)}
    assert [one for one in sorted(named) if not exists(one)] == []


def test_paths_are_found() -> None:
    assert paths("`docs/x.md` `a.b` `make up` `hub/y/` `guard.py`\n```\n`no.py`\n```") == {
        "docs/x.md",
        "hub/y/",
        "guard.py",
    }
    assert not exists("bench/nothing.py") and exists("ropewalk_core/errors.py")
