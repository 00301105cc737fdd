"""What a wish refers to among the saved workflows of its account, written into it.

One lookup for who submits and for who saves. Not here: how a reference is written out (``manifest.references``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.flows import RunSpec
from ropewalk_core.journal import Journal
from ropewalk_workflows.manifest import references
from ropewalk_workflows.records import SAVED


def whole(journal: Journal, owner: str, spec: RunSpec) -> RunSpec:
    """Return a wish whose manifest refers to no saved workflow any more. Blocks.

    Raises
    ------
    BadWorkflow
        If one that it refers to is not there, or was saved from Python.
    """
    if spec.source == "workflow":  # ours are whole
        return spec
    manifest = references.whole(spec.manifest, lambda name: _saved(journal, owner, name))
    return spec if manifest is spec.manifest else spec.model_copy(update={"manifest": dict(manifest)})


def _saved(journal: Journal, owner: str, name: str) -> Mapping[str, Any] | None:
    record = journal.get(SAVED, owner, name)
    if record is None:
        return None
    run = record.body["spec"]["run"]
    if run["source"] == "workflow":
        raise BadWorkflow(
            f"'{name}' was saved from Python, so no manifest can refer to it.",
            field="templateRef",
            hint="Launch it by itself, or call its steps in a workflow of yours.",
        )
    found: Mapping[str, Any] = run["manifest"].get("spec") or {}
    return found
