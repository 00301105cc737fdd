"""Results of earlier runs: which steps may take one instead of running, and why a step ran. Reads the journal.

A record for each result leads to the step that gave it, whose own record has the rest. What is compared is the
engine's to say (``engine.memo``). Not here: deciding what a step takes. Rejected: results of failed steps (a person
tries again because something outside has changed), a table of the contents of old results (they are in the runs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from ropewalk_core.flows import KEPT, RunSpec
from ropewalk_core.journal import Journal, Operation, Put, Record, Remove
from ropewalk_core.model import State, Why
from ropewalk_runtime.values import SHORT
from ropewalk_workflows.engine.memo import NOTHING, OFF, TOUCHED
from ropewalk_workflows.records import STEP, dump
from ropewalk_workflows.required import named

MEMO, LAST = "run-memo", "run-last"
MOST_BYTES = 16 * 2**20
"""Of earlier results that are handed to an engine at once."""
_MOST, _MOST_SEEN = 20_000, 100_000
_MOST_NAMED = 3
_AGAIN = "submit(fresh=True) runs everything again."


def remembered(
    journal: Journal, owner: str, spec: RunSpec, environment: str, has: Callable[[str], bool], most: int = MOST_BYTES
) -> dict[str, dict[str, Any]]:
    """Return what earlier runs have of the steps of a run, the newest first where there is too much of it. Blocks.

    Parameters
    ----------
    environment
        What names the packages that its steps would see, but for those with an environment of their own.
    has
        Says whether the content of a digest is still there.
    most
        Characters that may be returned, about.
    """
    found: dict[str, dict[str, Any]] = {}
    environments = {environment, *named(spec.manifest)}
    known = list(islice((one for code in spec.bundles for one in _results(journal, owner, code)), _MOST_SEEN))
    for record in sorted(known, key=lambda one: str(one.body["run"]), reverse=True)[:_MOST]:
        if record.body["environment"] not in environments:
            continue
        step = journal.get(STEP, owner, f"{record.body['run']}/{record.body['step']}")
        if step is None or not _is_whole(fact := step.body["fact"], has):
            continue
        most -= len(str(fact))
        if most < 0:
            break
        memo = fact["memo"]
        found[record.name.partition("/")[2]] = {
            "parameters": fact.get("parameters", {}),
            "artifacts": fact.get("artifacts", {}),
            "from": memo.get("from") or f"{record.body['run']}/{record.body['step']}",
            "at": memo["at"],
        }
    return found


def told(journal: Journal, owner: str, run: str, said: dict[str, Any], body: Mapping[str, Any]) -> list[Operation]:
    """Add to what is kept of a step why it ran or did not, and return what keeps its result for later runs.

    Parameters
    ----------
    said
        A step and its fact, as JSON (`StepReport`).
    body
        The run's record: ``before`` is the run of the same name before it, ``fresh`` whether nothing was to be taken.
    """
    step, memo = said["step"], said["fact"].get("memo")
    if not memo or step["status"]["state"] != State.DONE or said["fact"].get("phase") != "Succeeded":
        return []
    if step["status"]["note"] == KEPT:
        source = memo["from"].partition("/")[0]
        why = Why(cause=f"Its result is that of {source}: same code, inputs and packages.", next=_AGAIN)
    else:
        why = Why(cause=f"It ran: {_reason(journal, owner, step['id'], memo, body)}.")
    step["status"]["why"] = dump(why)
    place = {"run": run, "step": step["id"], "environment": memo["environment"]}
    return [] if memo.get("not") else [Put(MEMO, owner, _name(memo), place)]


def origin(journal: Journal, owner: str, run: str, step: str) -> tuple[str, str]:
    """Return the run and the step that a result is of: these, or the earlier ones that it was taken from."""
    record = journal.get(STEP, owner, f"{run}/{step}")
    source = record.body["fact"].get("memo", {}).get("from", "") if record is not None else ""
    if not source or journal.get(STEP, owner, source) is None:  # removed since
        return run, step
    first, _, at = source.partition("/")
    return first, at


def forgotten(journal: Journal, owner: str, run: str, steps: list[Record]) -> list[Operation]:
    """Return what forgets the results of a run that is removed; one that a later run gave as well stays."""
    found: list[Operation] = []
    for one in steps:
        if memo := one.body["fact"].get("memo"):
            known = journal.get(MEMO, owner, _name(memo))
            found += [Remove(MEMO, owner, known.name)] if known is not None and known.body["run"] == run else []
    return found


def _name(memo: Mapping[str, Any]) -> str:
    return f"{memo['code']}/{memo['key']}"


def _results(journal: Journal, owner: str, code: str) -> Iterator[Record]:
    after = f"{code}/"
    while page := journal.page(MEMO, owner, after=after, limit=1000):
        for one in page:
            if not one.name.startswith(f"{code}/"):
                return
            yield one
        after = page[-1].name


def _is_whole(fact: Mapping[str, Any], has: Callable[[str], bool]) -> bool:
    """Say whether a result can still be read: short ones are in the fact itself."""
    return all(
        0 < len(one.get("json", "")) <= SHORT or has(one["digest"]) for one in fact.get("artifacts", {}).values()
    )


def _reason(journal: Journal, owner: str, step: str, memo: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    before = str(body.get("before", ""))
    if memo.get("not") == OFF:
        return "cache=False says that it always does"
    if memo.get("not") == NOTHING:
        return "it returns nothing, so it is run for what it does; cache=True keeps that too"
    if memo.get("not") == TOUCHED:
        return f"it uses {memo['touched']}, which is not compared; cache=True takes its result all the same"
    if body.get("fresh"):
        return "everything was to run again"
    record = journal.get(STEP, owner, f"{before}/{step}") if before else None
    earlier = record.body["fact"].get("memo") if record is not None else None
    if record is None or not earlier:
        return "there is no earlier result of it"
    return _changed(memo, earlier) or _gone(record, before)


def _changed(memo: Mapping[str, Any], earlier: Mapping[str, Any]) -> str:
    """Return what differs from the same step of the run before."""
    if memo["code"] != earlier["code"]:
        return "its code has changed"
    now, then = memo["inputs"], earlier["inputs"]
    changed = [name for name in sorted({*now, *then}) if now.get(name) != then.get(name)]
    if changed:
        more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
        return f"what goes in has changed: {', '.join(changed[:_MOST_NAMED])}{more}"
    if memo["environment"] != earlier["environment"]:
        return "the packages have changed"
    return "it is run in another way or place" if memo["how"] != earlier["how"] else ""


def _gone(record: Record, before: str) -> str:
    if record.body["fact"].get("phase") != "Succeeded":
        return f"it did not succeed in {before}"
    return f"its result in {before} is too old, or is not there any more"
