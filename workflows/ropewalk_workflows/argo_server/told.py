"""What is kept of a run, as the translation needs it: its wish, its steps' facts, its name among Argo's clients.

Reads the journal; who may see a run was asked before (the port). Not here: how it is shown (``objects``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ropewalk_core.errors import NotFound
from ropewalk_core.flows import ON_EXIT, Run, RunSpec
from ropewalk_workflows.engine.state import Fact
from ropewalk_workflows.records import SPEC, Records


@dataclass(frozen=True)
class Told:
    """A run with all that its workflow object is made of."""

    name: str
    namespace: str
    run: Run
    spec: RunSpec
    facts: Mapping[str, Fact] = field(default_factory=dict)
    version: int = 0
    """Grows with each change."""


def told(records: Records, run: Run, namespace: str, *, steps: bool = True) -> Told:
    """Return a run with what is kept beside it. Blocks.

    Parameters
    ----------
    run
        As its port returned it.
    namespace
        What its owner's namespace is called.
    steps
        Whether the facts of its steps are wanted, of which there may be many.

    Raises
    ------
    NotFound
        If it was removed meanwhile.
    """
    record, spec = records.run(run.owner, run.id), records.journal.get(SPEC, run.owner, run.id)
    if spec is None:
        raise NotFound.named("workflows", f"There is no run '{run.id}'.", field="run")
    kept = records.steps(run.owner, run.id) if steps else []
    facts = {str(one.body["step"]["id"]): Fact(**(one.body.get("fact") or {})) for one in kept}
    name = str(record.body.get("workflow") or run.id)
    return Told(name, namespace, run, RunSpec.model_validate(spec.body), facts, records.journal.cursor)


def strategy(run: Run) -> str:
    """Return how a run that is stopped, or was, is stopped."""
    return "Stop" if run.status.note == ON_EXIT else "Terminate"
