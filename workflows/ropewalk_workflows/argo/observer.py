"""Sees what becomes of runs: watches Workflows in the namespaces of people whose runs are under way, and keeps it.

The cluster is the truth. What ended, was stopped or was removed there by somebody else is written down as it is and
left alone. Everything about one run is written under its lock, one batch for each look. Not here: what a look means
(``seen``). Rejected: a watch across all namespaces (the platform has no right to it), and one for each run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ropewalk_core.errors import NotFound, RopewalkError
from ropewalk_core.flows import SUSPENDED, Run, RunSpec, Step
from ropewalk_core.journal import Append, Put, Remove
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.buckets import Buckets
from ropewalk_core.kube.kinds import WORKFLOW, Object
from ropewalk_core.kube.view import Happened
from ropewalk_core.model import State, Status, Why
from ropewalk_core.ports import Clock
from ropewalk_core.reconcile import KeyedQueue
from ropewalk_core.settings import Settings
from ropewalk_core.tasks import Tasks
from ropewalk_workflows.accepted import Operations
from ropewalk_workflows.argo import stores
from ropewalk_workflows.argo.carrying import HOLD, Carrier, ours, over
from ropewalk_workflows.argo.holding import is_suspended
from ropewalk_workflows.argo.nodes import Known, Leaf, generation, known
from ropewalk_workflows.argo.seen import Asked, Seen, artifacts, seen
from ropewalk_workflows.engine.state import Fact, Reference
from ropewalk_workflows.manifest import read
from ropewalk_workflows.manifest.images import AnyImage
from ropewalk_workflows.records import OPEN, RUN, SPEC, STEP, Records, dump

REMOVED = Why(
    cause="It was removed with kubectl or another tool.", next="Submit it again if you still want its result."
)
_IDLE = 60.0
_LOOK = 15.0
_AGAIN = 2.0
_BUSY = 3.0
_QUICK = 0.05
Key = tuple[str, str]
log = logging.getLogger("ropewalk.argo")


@dataclass
class _Attended:
    """A run that is under way: what was asked, and what was written of its steps."""

    asked: Asked
    generation: int
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class _Watch:
    task: asyncio.Task[None]
    idle: float = 0.0


class Observer:
    """Keeps the journal's runs as the cluster has them."""

    def __init__(
        self,
        settings: Settings,
        records: Records,
        clock: Clock,
        api: Api,
        space: Callable[[str], Awaitable[str]],
        buckets: Buckets,
        carrier: Carrier,
    ) -> None:
        self._settings, self._records, self._journal, self._clock = settings, records, records.journal, clock
        self._api, self._space, self._buckets, self._carrier = api, space, buckets, carrier
        self._watches: dict[str, _Watch] = {}
        self._objects: dict[Key, Object] = {}
        self._attended: dict[Key, _Attended] = {}
        self._queue: KeyedQueue[Key] = KeyedQueue(self._look, clock)
        self._tasks = Tasks()
        self._running = False

    async def run(self) -> None:
        """Watch for ever."""
        self._running = True
        for owner in {one.owner for one in self._journal.page(OPEN, limit=100_000)}:
            self.attend(owner)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._queue.run())
                group.create_task(self._tend())
        finally:
            self._running = False
            self._watches.clear()
            await self._tasks.end()

    def attend(self, owner: str) -> None:
        """See to it that the runs of an account are watched."""
        if not self._running:
            return
        known = self._watches.get(owner)
        if known is None or known.task.done():
            self._watches[owner] = _Watch(self._tasks.start(self._watch(owner)))
        else:
            known.idle = 0.0

    async def _tend(self) -> None:
        """See to it that every open run is watched and looked at now and then, and end watches that nobody needs."""
        while True:
            await self._clock.sleep(_LOOK)
            for run in self._journal.page(OPEN, limit=100_000):
                self.attend(run.owner)
                self._objects.pop((run.owner, run.name), None)  # asked for anew, whatever a watch has not said
                self._queue.add((run.owner, run.name))
            for owner, one in list(self._watches.items()):
                one.idle = 0.0 if self._journal.page(OPEN, owner, limit=1) else one.idle + _LOOK
                if one.idle >= _IDLE:
                    del self._watches[owner]
                    one.task.cancel()
                    for key in [key for key in self._objects if key[0] == owner]:
                        self._forget(key)

    async def _watch(self, owner: str) -> None:
        while True:
            try:
                space = await self._space(owner)
                async for change in self._api.watch(WORKFLOW, space, labels={"ropewalk.dev/kind": "run"}):
                    if change.happened is Happened.SYNCED:
                        for one in self._journal.page(OPEN, owner, limit=100_000):
                            self._queue.add((owner, one.name))
                        continue
                    key = (owner, change.key[1])
                    if change.happened is Happened.REMOVED:
                        self._objects.pop(key, None)
                    else:
                        self._objects[key] = change.object
                    self._queue.add(key)
            except RopewalkError as error:
                log.warning("the runs of %s cannot be watched: %s", owner, error.message)
            await self._clock.sleep(_AGAIN)

    # One look at one run

    async def _look(self, key: Key) -> None:
        began = self._clock.steady()
        owner, run = key
        async with self._records.lock(f"{owner}/{run}"):
            record = self._journal.get(RUN, owner, run)
            if record is None or Run.model_validate(record.body["run"]).status.state.terminal:
                self._forget(key)
                return
            there = await self._there(owner, run)
            if there is None:
                if not self._carrier.open(owner, run) and record.body.get("made"):
                    gone = Status(state=State.STOPPED, note="removed", why=REMOVED)
                    await self._journal.write(*over(self._records, owner, run, gone, self._clock.wall()))
                    self._forget(key)
                return
            if generation(there) >= int(record.body["generation"]):
                await self._keep(key, record.body, there)
        took = self._clock.steady() - began
        if took > _QUICK:  # a wide run changes with each of its steps; the next look sees several changes at once
            await self._clock.sleep(min(_AGAIN, _BUSY * took))

    async def _there(self, owner: str, run: str) -> Object | None:
        """Return the Workflow as it was seen last; one that the watch has not is asked for, and may not be ours."""
        found = self._objects.get((owner, run))
        if found is None:
            with contextlib.suppress(NotFound):
                found = await self._api.get(WORKFLOW, run, await self._space(owner))
        return found if found is not None and ours(found, run) else None

    async def _keep(self, key: Key, body: dict[str, Any], there: Object) -> None:
        owner, run = key
        attended = self._attended.get(key)
        if attended is None:
            attended = self._attended[key] = await asyncio.to_thread(
                self._taken_up, owner, run, int(body["generation"])
            )
        asked = replace(attended.asked, cancel=bool(body["cancel"]))
        has = await asyncio.to_thread(known, there, asked.manifest, run)
        files = await self._files(owner, has, attended)
        now = self._clock.wall()
        found = await asyncio.to_thread(seen, asked, there, has, files, self._settings, now)
        body, holds = self._held(key, body, there, found)
        operations, bodies = self._told(key, body, found, has, attended, now)
        if operations or holds:
            await self._journal.write(*holds, *operations)
        if holds:
            self._carrier.hurry(owner, run, HOLD)
        attended.steps |= bodies
        if found.status.state.terminal:
            self._forget(key)

    def _taken_up(self, owner: str, run: str, number: int) -> _Attended:
        record = self._journal.get(SPEC, owner, run)
        if record is None:
            raise NotFound(f"There is no run '{run}'.", field="run")
        spec = RunSpec.model_validate(record.body)
        steps = {one.name.partition("/")[2]: one.body for one in self._records.steps(owner, run)}
        earlier = {name: _earlier(one, number) for name, one in steps.items()}
        return _Attended(Asked(owner, run, spec, read(spec.manifest, AnyImage()), earlier=earlier), number, steps)

    async def _files(self, owner: str, has: Known, attended: _Attended) -> dict[str, dict[str, Reference]]:
        """Return the files of each step that ended; what a step of ours did not tell is read and measured once."""
        found: dict[str, dict[str, Reference]] = {}
        for name, leaf in has.leaves.items():
            if leaf.phase not in ("Succeeded", "Failed", "Error") or not (keys := leaf.files()):
                continue
            told = {file: one for file, one in artifacts(leaf).items() if file in keys}
            if leaf.phase != "Succeeded":  # of a failure, what was left beside its result
                found[name] = told
                continue
            before = attended.steps.get(name) or {"fact": {}, "keys": {}}
            measured = before["fact"].get("artifacts") or {}
            for file, key in keys.items():
                if file in told:
                    continue
                if file in measured and (before.get("keys") or {}).get(file) == key:
                    told[file] = measured[file]
                    continue
                bucket = self._buckets.of(await self._space(owner))
                with contextlib.suppress(NotFound):  # a folder is many objects, and no artifact here
                    told[file] = await stores.measured(self._buckets, bucket, key)
            found[name] = told
        return found

    def _held(self, key: Key, body: dict[str, Any], there: Object, found: Seen) -> tuple[dict[str, Any], Operations]:
        """Return the record with whether the run is suspended, and what resumes one of which nothing is left to begin.

        On one machine such a run ends; Argo does not look at it while it is suspended.
        """
        body = {**body, "suspended": is_suspended(there, body)}
        if not (body["suspended"] and found.finished) or found.status.state.terminal or body["cancel"]:
            return body, []
        body |= {"suspended": False, "held": int(body.get("held", 0)) + 1}
        return body, [Put(RUN, *key, body), self._carrier.hold(*key)]

    def _told(
        self, key: Key, body: dict[str, Any], found: Seen, has: Known, attended: _Attended, now: float
    ) -> tuple[Operations, dict[str, dict[str, Any]]]:
        """Return the operations that write down what became different."""
        owner, name = key
        bodies: dict[str, dict[str, Any]] = {}
        operations: Operations = []
        changed: list[Step] = []
        for order, (step, fact) in enumerate(found.steps):
            before = attended.steps.get(step.id)
            step = _since(step, before)
            kept = _kept(step, fact, order, has.leaves.get(step.id), attended)
            if kept != before:
                bodies[step.id] = kept
                changed.append(step)
                operations.append(Put(STEP, owner, f"{name}/{step.id}", kept))
        run = Run.model_validate(body["run"])
        status, kind = found.status, "progress"
        if body["cancel"] and not status.state.terminal:
            status = run.status
        elif body.get("suspended") and status.state is State.RUNNING:
            status = status.model_copy(update={"note": SUSPENDED})
        if (status.state, status.note) != (run.status.state, run.status.note):
            kind = status.state.value if status.state != run.status.state else "held"
            ended = now if status.state.terminal else None
            run = run.model_copy(update={"status": status, "ended": ended, "outputs": found.outputs})
            operations.append(Put(RUN, owner, name, {**body, "run": dump(run), "made": True}))
            if status.state.terminal:
                operations.append(Remove(OPEN, owner, name))
        if operations:
            operations.append(Append(RUN, owner, name, kind, dump(run.model_copy(update={"steps": tuple(changed)}))))
        return operations, bodies

    def _forget(self, key: Key) -> None:
        self._objects.pop(key, None)
        self._attended.pop(key, None)


def _since(step: Step, before: dict[str, Any] | None) -> Step:
    """Return the step with the time since which it stands as it does; each look grows the tree anew."""
    if before is None:
        return step
    status = Status.model_validate(before["step"]["status"])
    same = (status.state, status.note, status.why) == (step.status.state, step.status.note, step.status.why)
    return step.model_copy(update={"status": status}) if same else step


def _earlier(body: dict[str, Any], number: int) -> int:
    """Return how many attempts a step had before this order to try again: Argo counts from one each time."""
    step = Step.model_validate(body["step"])
    if int(body.get("generation") or 1) < number and step.status.state is not State.DONE:
        return step.attempt
    return int(body.get("earlier") or 0)


def _kept(step: Step, fact: Fact, order: int, leaf: Leaf | None, attended: _Attended) -> dict[str, Any]:
    kept: dict[str, Any] = {"step": dump(step), "fact": fact.as_dict(), "order": order}
    if leaf is not None:
        kept |= {"node": str(leaf.last.get("id") or ""), "keys": leaf.files(), "log": leaf.log}
    if attended.generation > 1:
        kept |= {"generation": attended.generation, "earlier": attended.asked.earlier.get(step.id, 0)}
    return kept
