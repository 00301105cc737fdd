"""The engine's desk in the platform's process: which runs it is to carry out, and its reports made durable.

Both methods are mounted on ``run/platform.sock``. Only the engine that came last is listened to, also by a desk that
was restarted: two engines by mistake cannot both report. Not here: what people may do with runs (``local``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from ropewalk_core.errors import BadInput, Conflict
from ropewalk_core.flows import SUSPENDED, Run, RunSpec
from ropewalk_core.journal import Append, Operation, Put, Record, Remove
from ropewalk_core.model import State
from ropewalk_workflows import memo
from ropewalk_workflows.engine.points import Crash, nowhere
from ropewalk_workflows.engine.wire import Batch, Recorded, RunReport, Wanted, WantedPage
from ropewalk_workflows.records import ENGINE, OPEN, RUN, SPEC, STEP, Records, dump

_POLL = 5.0
Earlier: TypeAlias = Callable[[str, RunSpec, int], tuple[str, dict[str, dict[str, Any]]]]


class Desk:
    """What the engine asks.

    Parameters
    ----------
    records
        The runs.
    wall
        Unix time in seconds.
    earlier
        Returns what names an account's packages, and what earlier runs have of a run in so many characters (``memo``).
    crash
        Called at each point at which a kill is interesting (``engine.points``).
    """

    def __init__(
        self, records: Records, wall: Callable[[], float], earlier: Earlier, *, crash: Crash = nowhere
    ) -> None:
        self._records, self._journal, self._wall, self._earlier = records, records.journal, wall, earlier
        self._crash = crash
        last = self._journal.get(ENGINE, "", ENGINE)  # a desk that died was listening to it
        self._engine = str(last.body["id"]) if last is not None else ""

    async def runs(self, after: str) -> WantedPage:
        """Return the runs that the engine is to carry out, new or changed after its cursor; wait a little for one.

        Raises
        ------
        Conflict
            If another engine has asked meanwhile.
        """
        engine, _, text = after.partition(".")
        if not engine or (text and not text.isdigit()):
            raise BadInput("The cursor is an engine's name and a number.", field="after")
        if not text:  # an engine that has just started
            self._engine = engine
            # What the engine before it reported was written by then, and is read; what it reports from here is refused.
            await self._journal.write(Put(ENGINE, "", ENGINE, {"id": engine}))
            self._crash("desk-taken-over")
            place = self._journal.cursor
            everything = [(one.owner, one.name) for one in self._journal.page(OPEN, limit=100_000)]
            return WantedPage(cursor=f"{engine}.{place}", runs=await asyncio.to_thread(self._wanted, everything))
        cursor = int(text)
        until = asyncio.get_running_loop().time() + _POLL
        while True:
            self._check_engine(engine)
            seen = self._journal.cursor  # before the look: what comes during it ends the wait at once
            events = self._journal.events(after=cursor, kind=RUN)
            names = {(one.owner, one.name): None for one in events if one.type in ("asked", "stopping", "held")}
            cursor = events[-1].cursor if events else cursor
            left = until - asyncio.get_running_loop().time()
            if names or left <= 0:
                return WantedPage(cursor=f"{engine}.{cursor}", runs=await asyncio.to_thread(self._wanted, [*names]))
            if not events:
                await self._journal.wait(seen, timeout=left)

    async def record(self, batch: Batch) -> Recorded:
        """Make a report durable, but for runs that are over; return which those are, and the cursor after it.

        Over is a run that has ended, was removed or was begun again since this engine was told of it: what tells it
        can be on its way for long.

        Raises
        ------
        Conflict
            If another engine has asked for runs since.
        """
        self._check_engine(batch.engine)
        operations: list[Operation] = []
        over: list[str] = []
        locks = [self._records.lock(name) for name in sorted({f"{one.owner}/{one.run}" for one in batch.runs})]
        for lock in locks:
            await lock.acquire()
        try:
            for report in batch.runs:
                if (record := self._open(report)) is None:
                    over.append(report.run)
                else:
                    operations += self._noted(report, record)
            self._crash("desk-before-commit")
            self._check_engine(batch.engine)  # again: the locks were waited for
            cursor = await self._journal.write(*operations) if operations else self._journal.cursor
            self._crash("desk-after-commit")
            return Recorded(cursor=cursor, over=over)
        finally:
            for lock in locks:
                lock.release()

    def _check_engine(self, engine: str) -> None:
        if self._engine and engine != self._engine:
            raise Conflict("Another engine has taken over this home.", field="engine")

    def _open(self, report: RunReport) -> Record | None:
        record = self._journal.get(RUN, report.owner, report.run)
        if record is None or record.body["generation"] != report.generation:
            return None
        return None if State(record.body["run"]["status"]["state"]).terminal else record

    def _noted(self, report: RunReport, record: Record) -> list[Operation]:
        run = Run.model_validate(record.body["run"])
        operations: list[Operation] = []
        steps = [dump(one) for one in report.steps]
        for one in steps:
            operations += memo.told(self._journal, report.owner, report.run, one, record.body)
            operations.append(Put(STEP, report.owner, f"{report.run}/{one['step']['id']}", one))
        status, kind = report.status or run.status, "progress"
        if status.state == State.RUNNING and record.body["cancel"]:
            status = run.status
        if status.state != run.status.state:
            if record.body.get("suspended") and not status.state.terminal:
                status = status.model_copy(update={"note": SUSPENDED})
            kind = status.state.value
            ended = self._wall() if status.state.terminal else None
            run = run.model_copy(update={"status": status, "ended": ended, "outputs": report.outputs})
            operations.append(Put(RUN, report.owner, report.run, {**record.body, "run": dump(run)}))
            if status.state.terminal:
                operations.append(Remove(OPEN, report.owner, report.run))
        seen = {**dump(run), "steps": [one["step"] for one in steps]}
        if kind == "stopping":  # the person's own word for it was there first; this is the engine's echo
            kind = "progress"
        return [*operations, Append(RUN, report.owner, report.run, kind, seen)]

    def _wanted(self, names: list[tuple[str, str]]) -> list[Wanted]:
        found, left = [], memo.MOST_BYTES
        for owner, name in names:
            record, kept = self._journal.get(RUN, owner, name), self._journal.get(SPEC, owner, name)
            if record is None or kept is None:
                continue
            state = Run.model_validate(record.body["run"]).status.state
            if state.terminal:
                continue
            spec = RunSpec.model_validate(kept.body)
            most = left if state == State.ASKED and not record.body.get("fresh") else 0
            environment, earlier = self._earlier(owner, spec, most)
            if earlier:
                self._crash("desk-kept-read")
            left -= sum(len(str(one)) for one in earlier.values())
            facts = {
                str(one.body["step"]["id"]): one.body["fact"]
                for one in self._records.steps(owner, name)
                if one.body["fact"]
            }
            found.append(
                Wanted(
                    owner=owner,
                    run=name,
                    generation=record.body["generation"],
                    cancel=record.body["cancel"],
                    on_exit=record.body.get("on_exit", False),
                    suspended=record.body.get("suspended", False),
                    resumed=record.body.get("resumed", 0.0),
                    answers=record.body.get("answers", {}),
                    spec=spec,
                    started=float(record.body["run"]["status"]["since"]),
                    environment=environment,
                    kept=earlier,
                    facts=facts,
                )
            )
        if found:
            self._crash("desk-hands-out")
        return found
