"""Brings what was accepted to the API server: a Workflow is created at most once, stopped, suspended, made to go on.

Each of these may be carried out twice after a kill and then changes nothing: a name is taken once, an order has a
number that the Workflow carries. To suspend and to resume is an intent of its own, which takes no other one's place.
What becomes of the run is seen by ``observer``; here only what can never be is written down. Not here: which wish is
open (``kube.intents``).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ropewalk_core import why
from ropewalk_core.errors import Conflict, NameTaken, NotFound, RopewalkError, Unavailable
from ropewalk_core.flows import SUSPENDED, Run, RunSpec, Step
from ropewalk_core.journal import Append, Put, Remove
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.intents import Intent, Intents
from ropewalk_core.kube.kinds import POD, WORKFLOW, Object
from ropewalk_core.kube.nodes import Site
from ropewalk_core.model import State, Status, Why
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_workflows.accepted import Operations
from ropewalk_workflows.argo.holding import held, ordered, resumed, suspended
from ropewalk_workflows.argo.nodes import generation
from ropewalk_workflows.argo.render import RUN as OF_RUN
from ropewalk_workflows.argo.render import Where, workflow
from ropewalk_workflows.argo.retrying import retried
from ropewalk_workflows.manifest import read
from ropewalk_workflows.manifest.images import AnyImage
from ropewalk_workflows.records import OPEN, RUN, SPEC, STEP, Records, dump

WHAT, HOLD = "run", "run-held"
CREATE, STOP, RETRY = "create", "stop", "retry"
_NODE, _OF_RUN = "workflows.argoproj.io/node-id", "workflows.argoproj.io/workflow"
_PATIENCE, _BETWEEN = 20.0, 0.1


class Carrier:
    """Carries out the open wishes about runs."""

    def __init__(
        self,
        settings: Settings,
        records: Records,
        clock: Clock,
        api: Api,
        space: Callable[[str], Awaitable[str]],
        site: Callable[[], Awaitable[Site]],
        intents: Intents,
    ) -> None:
        self._settings, self._records, self._journal = settings, records, records.journal
        self._clock, self._api, self._space, self._site, self._intents = clock, api, space, site, intents
        self._drawn: dict[tuple[str, str], Object] = {}
        intents.carried_by(WHAT, self._carry, self._refused)
        intents.carried_by(HOLD, self._hold, self._not_held)

    def drawn(self, owner: str, run: str, body: Object) -> None:
        """Take a Workflow that was drawn a moment ago, in a namespace that was looked at; saves doing both again."""
        self._drawn[owner, run] = body

    def wish(self, owner: str, run: str, what: str) -> Put:
        """Return the operation that keeps a wish about a run."""
        return self._intents.asked(WHAT, owner, run, {"do": what})

    def hold(self, owner: str, run: str) -> Put:
        """Return the operation that keeps the wish to have a run suspended or resumed, as its record says."""
        return self._intents.asked(HOLD, owner, run, {})

    def open(self, owner: str, run: str) -> bool:
        """Whether the cluster may not know yet what is wanted of a run."""
        return self._intents.open(WHAT, owner, run)

    def hurry(self, owner: str, run: str, what: str = WHAT) -> None:
        """Carry out what is wanted of a run now."""
        self._intents.hurry(what, owner, run)

    async def _carry(self, intent: Intent) -> Operations:
        owner, run, what = intent.owner, intent.name, str(intent.wish.get("do"))
        async with self._records.lock(f"{owner}/{run}"):
            record, body = self._journal.get(RUN, owner, run), self._drawn.pop((owner, run), None)
            if record is None or Run.model_validate(record.body["run"]).status.state.terminal:
                return []
            if what == CREATE and not record.body["cancel"]:
                body = body or await self._draw(owner, run, int(record.body["generation"]))
                await self._create(ordered(body, record.body) if record.body.get("held") else body)
                await self._journal.write(Put(RUN, owner, run, {**record.body, "made": True}))
                return []
            space, number = await self._space(owner), int(record.body["generation"])
            if what == RETRY and not record.body["cancel"]:
                await self._retry(run, space, record.body)
                return []
            there = await self._stop(run, space, on_exit=bool(record.body.get("on_exit")))
            # One with an older number has ended; the observer would wait for a retry that was stopped before it came.
            if (generation(there) < number) if there else not record.body.get("made"):
                never = Status(state=State.STOPPED, note="stopped")
                await self._journal.write(*over(self._records, owner, run, never, self._clock.wall()))
        return []

    async def _create(self, body: Object) -> None:
        metadata = body["metadata"]
        try:
            await self._api.create(WORKFLOW, body)
        except NameTaken:  # an earlier try came through, unless what is there is not ours
            with contextlib.suppress(NotFound):  # not any more; the observer says so
                there = await self._api.get(WORKFLOW, metadata["name"], metadata["namespace"])
                if not ours(there, metadata["name"]):
                    raise

    async def _draw(self, owner: str, run: str, number: int) -> Object:
        kept = self._journal.get(SPEC, owner, run)
        if kept is None:
            raise NotFound("What this run is to do is not in the journal any more.", field="run")
        spec = RunSpec.model_validate(kept.body)
        where = Where(owner, run, await self._space(owner), number)
        return await asyncio.to_thread(self._rendered, spec, where, await self._site())

    def _rendered(self, spec: RunSpec, where: Where, site: Site) -> Object:
        manifest = read(spec.manifest, AnyImage())
        return workflow(spec, manifest, where, self._settings, site)

    async def _stop(self, run: str, space: str, *, on_exit: bool) -> Object | None:
        """Ask Argo to end a workflow, and return it if it is there. Of a suspended one Argo would not see the end."""
        change = {"spec": {"shutdown": "Stop" if on_exit else "Terminate", "suspend": None}}
        try:
            return await self._api.patch(WORKFLOW, run, change, namespace=space)
        except NotFound:
            return None

    async def _retry(self, run: str, space: str, body: Mapping[str, Any]) -> None:
        number = int(body["generation"])

        async def change(there: Object) -> Object | None:
            if generation(there) >= number:
                return None
            patch, nodes = retried(there, number, _now(self._clock.wall()))
            await self._without_pods(run, space, set(nodes))
            return ordered(patch, body)

        await self._changed(run, space, change)

    async def _hold(self, intent: Intent) -> Operations:
        """Suspend or resume a workflow as its run's record says; one that is still to be made or retried is made so."""
        owner, run = intent.owner, intent.name
        async with self._records.lock(f"{owner}/{run}"):
            record = self._journal.get(RUN, owner, run)
            if record is None or record.body["cancel"]:
                return []
            body, number = record.body, int(record.body.get("held", 0))

            async def change(there: Object) -> Object | None:
                current = ours(there, run) and generation(there) >= int(body["generation"])
                if not current or held(there) >= number:
                    return None
                if body.get("suspended"):
                    return suspended(there, number)
                return resumed(there, number, _now(self._clock.wall()))

            with contextlib.suppress(NotFound):
                await self._changed(run, await self._space(owner), change)
        return []

    async def _changed(self, run: str, space: str, change: Callable[[Object], Awaitable[Object | None]]) -> None:
        """Change a workflow by a patch of what is there, None for no change; again where Argo wrote meanwhile."""
        end = self._clock.steady() + _PATIENCE
        while (patch := await change(await self._api.get(WORKFLOW, run, space))) is not None:
            try:
                await self._api.patch(WORKFLOW, run, patch, namespace=space)
            except Conflict as error:
                if self._clock.steady() > end:
                    raise Unavailable("Argo changes this run all the time.") from error
                await self._clock.sleep(_BETWEEN)
            else:
                return

    async def _without_pods(self, run: str, space: str, nodes: set[str]) -> None:
        """Remove the pods of nodes, and wait until they are gone: Argo takes one that is there for the new one."""
        end = self._clock.steady() + _PATIENCE
        while True:
            pods = (await self._api.list(POD, space, labels={_OF_RUN: run})).items
            mine = [one for one in pods if (one["metadata"].get("annotations") or {}).get(_NODE) in nodes]
            if not mine or self._clock.steady() > end:
                return
            for one in mine:
                await self._api.delete(POD, one["metadata"]["name"], space, uid=one["metadata"]["uid"], grace=0)
            await self._clock.sleep(_BETWEEN)

    async def _refused(self, intent: Intent, error: RopewalkError) -> Operations:
        """End a run of which the cluster will hear nothing, under its lock: a look of the observer may be under way."""
        status = Status(state=State.FAILED, why=why.from_error(error))
        async with self._records.lock(f"{intent.owner}/{intent.name}"):
            await self._journal.write(*over(self._records, intent.owner, intent.name, status, self._clock.wall()))
        return []

    async def _not_held(self, intent: Intent, error: RopewalkError) -> Operations:
        """Say of a run why it is not suspended, or still is."""
        owner, run = intent.owner, intent.name
        async with self._records.lock(f"{owner}/{run}"):
            record = self._journal.get(RUN, owner, run)
            if record is None or (found := Run.model_validate(record.body["run"])).status.state.terminal:
                return []
            before = not record.body.get("suspended")
            told = {"note": SUSPENDED if before else "", "why": why.from_error(error)}
            found = found.model_copy(update={"status": found.status.model_copy(update=told)})
            body = {**record.body, "run": dump(found), "suspended": before}
            await self._journal.write(Put(RUN, owner, run, body), Append(RUN, owner, run, "held", dump(found)))
        return []


def ours(there: Object, run: str) -> bool:
    """Whether a Workflow was made for this run: somebody else may have taken its name."""
    return (there["metadata"].get("labels") or {}).get(OF_RUN) == run


def over(records: Records, owner: str, run: str, status: Status, now: float) -> Operations:
    """Return the operations that end a run, and with it every step that has not ended."""
    record = records.journal.get(RUN, owner, run)
    if record is None:
        return []
    found = Run.model_validate(record.body["run"])
    if found.status.state.terminal:
        return []
    found = found.model_copy(update={"status": status, "ended": now})
    operations: Operations = [
        Put(RUN, owner, run, {**record.body, "run": dump(found)}),
        Remove(OPEN, owner, run),
    ]
    ended: list[Step] = []
    for one in records.steps(owner, run):
        step = Step.model_validate(one.body["step"])
        if not step.status.state.terminal:
            stopped = Status(state=State.STOPPED, since=now, note="stopped", why=Why(cause="The run has ended."))
            ended.append(step.model_copy(update={"status": stopped, "ended": now}))
            operations.append(Put(STEP, owner, one.name, {**one.body, "step": dump(ended[-1])}))
    told = found.model_copy(update={"steps": tuple(ended)})
    return [*operations, Append(RUN, owner, run, status.state.value, dump(told))]


def _now(wall: float) -> str:
    return datetime.datetime.fromtimestamp(wall, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
