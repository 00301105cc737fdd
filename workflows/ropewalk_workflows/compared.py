"""Reads runs of one workflow from the journal for a comparison: their records, and of the steps that were asked for.

A run's own record holds its arguments and what it returned, so that a thousand runs are read without their steps. Of
one run alone, the newest that is done, steps are looked through, to say which of them returned numbers. Not here: what
a metric is (``ropewalk_core.comparison``). Rejected: an index of runs by name, which each submit and removal would
write to save a fraction of a second here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ropewalk_core import comparison
from ropewalk_core.errors import NotFound
from ropewalk_core.flows import Comparison, Run, Step
from ropewalk_core.journal import Journal
from ropewalk_core.model import State
from ropewalk_workflows.records import RUN, STEP

_AT_ONCE = 500
_LOOKED_THROUGH = 1000
_MOST_OFFERED = 50


def read(journal: Journal, owner: str, name: str, steps: Sequence[str], limit: int) -> Comparison:
    """Return the latest runs of a workflow. Blocks.

    Raises
    ------
    NotFound
        If there is none of this name.
    """
    limit = max(1, min(limit, comparison.MOST_RUNS))
    found: list[Run] = []
    for run in _named(journal, owner, name):
        found.append(run)
        if len(found) > limit:
            break
    if not found:
        hint = "`ropewalk workflows list` shows your runs with the names of their workflows."
        raise NotFound(f"There is no run of '{name[:100]}'.", field="name", hint=hint)
    runs, more = found[:limit], len(found) > limit
    known = _steps(journal, next((one for one in runs if one.status.state is State.DONE), runs[0]))
    wanted = list(dict.fromkeys(steps))[: comparison.MOST_STEPS]
    ids = {one: known[one].id if one in known else one for one in wanted}
    rows = tuple(comparison.row(one, _asked(journal, one, ids)) for one in runs)
    offered = [one.name for one in known.values() if "(" not in one.name and comparison.numbers(one.outputs)]
    return Comparison(owner=owner, name=name, rows=rows, steps=tuple(offered[:_MOST_OFFERED]), more=more)


def _named(journal: Journal, owner: str, name: str) -> Iterator[Run]:
    """Yield the runs of a name, newest first."""
    after = ""
    while page := journal.page(RUN, owner, after=after, limit=_AT_ONCE, newest=True):
        for one in page:
            if one.body["run"].get("name") == name:
                yield Run.model_validate(one.body["run"])
        if len(page) < _AT_ONCE:
            return
        after = page[-1].name


def _steps(journal: Journal, run: Run) -> dict[str, Step]:
    """Return the first steps of a run by name, in its order."""
    records = journal.page(STEP, run.owner, after=f"{run.id}/", limit=_LOOKED_THROUGH)
    own = [one for one in records if one.name.startswith(f"{run.id}/")]
    own.sort(key=lambda one: (one.body.get("order", 0), one.name))
    steps = (Step.model_validate(one.body["step"]) for one in own)
    return {one.name: one for one in steps if one.kind == "step"}


def _asked(journal: Journal, run: Run, ids: Mapping[str, str]) -> dict[str, Step]:
    """Return steps of a run by the names that were asked for; one that is not there is left out."""
    records = {name: journal.get(STEP, run.owner, f"{run.id}/{step}") for name, step in ids.items()}
    return {name: Step.model_validate(one.body["step"]) for name, one in records.items() if one is not None}
