"""The journal's records of runs: which there are, and how they are read. Shared by the port and the engine's desk."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from ropewalk_core.errors import NotFound
from ropewalk_core.flows import Step
from ropewalk_core.journal import Journal, Operation, Put, Record
from ropewalk_core.model import State, Status
from ropewalk_workflows.engine.leaves import ROOT
from ropewalk_workflows.engine.state import Fact

SAVED = "saved-workflow"
RUN, SPEC, STEP, OPEN, NAME, ENGINE = "run", "run-spec", "run-step", "run-open", "run-name", "run-engine"


class Records:
    """Runs in the journal. A lock for each run keeps reading and writing of one record together."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._locks: dict[str, asyncio.Lock] = {}

    def run(self, owner: str, run: str) -> Record:
        """Return the run's record, or raise `NotFound`."""
        record = self.journal.get(RUN, owner, run)
        if record is None:
            raise NotFound.named("workflows", f"There is no run '{run}'.", field="run")
        return record

    def steps(self, owner: str, run: str) -> list[Record]:
        """Return the steps' records in the order in which the engine met them."""
        found: list[Record] = []
        after = f"{run}/"
        while page := self.journal.page(STEP, owner, after=after, limit=1000):
            inside = [one for one in page if one.name.startswith(f"{run}/")]
            found += inside
            if len(inside) < len(page):
                break
            after = page[-1].name
        return sorted(found, key=lambda one: (one.body.get("order", 0), one.name))

    def forgotten(self, owner: str, run: str) -> list[Operation]:
        """Return the operations that take back what failed; what succeeded stays, and numbers of attempts grow.

        A hook goes with what it belongs to: that of a call which did not succeed runs again, and those of the run do.
        """
        operations: list[Operation] = []
        records = self.steps(owner, run)
        again = {ROOT, *(str(one.body["step"]["id"]) for one in records if not _is_done(one))}
        for record in records:
            fact = Fact(**record.body["fact"])
            fact = Fact(attempt=fact.attempt) if fact.hook in again else fact.again_from_failure()
            step = Step.model_validate(record.body["step"])
            if fact.past or (fact.phase == "Succeeded" and step.status.state == State.DONE):
                continue
            step = step.model_copy(
                update={
                    "status": Status(state=State.WAITING),
                    "error": "",
                    "traceback": "",
                    "ended": None,
                    "outputs": {},
                }
            )
            operations.append(
                Put(STEP, owner, record.name, {**record.body, "step": dump(step), "fact": fact.as_dict()})
            )
        return operations

    def lock(self, name: str) -> asyncio.Lock:
        """Return the lock of this name."""
        return self._locks.setdefault(name, asyncio.Lock())


def _is_done(step: Record) -> bool:
    return bool(step.body["step"]["status"]["state"] == State.DONE)


def dump(value: BaseModel) -> dict[str, Any]:
    """Return a model as the journal keeps it."""
    return value.model_dump(mode="json")
