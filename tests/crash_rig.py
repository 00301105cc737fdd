"""An engine and a desk that are killed at any point and started again: in one process, and in milliseconds.

What is killed does nothing any more, not even to clean up: its desk and its host do not hear it. The host pretends, and
keeps account of which attempts it ran: as the real one does, it ends what an engine ordered when that engine is gone,
and writes what an attempt gave before it says so. Not here: processes that a signal kills (``engine_rig``).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from ropewalk_core.errors import Conflict, Unavailable
from ropewalk_core.flows import Run, RunSpec
from ropewalk_core.journal import Journal
from ropewalk_core.local.host_client import StepExit, StepOrder
from ropewalk_core.model import State, Status
from ropewalk_core.settings import Limits, Settings
from ropewalk_workflows.engine.shell import Engine
from ropewalk_workflows.engine.wire import Batch, Recorded, RunReport, WantedPage
from ropewalk_workflows.local import LocalWorkflows
from ropewalk_workflows.records import ENGINE, OPEN, RUN, STEP
from tests.workflow_rig import ALICE, MACHINE, folders

T = TypeVar("T")
Kill = tuple[str, int]


class Dead(BaseException):
    """A process ended here."""


class Fuse:
    """Counts the points that are reached, and blows at some of them, one after another."""

    def __init__(self, *kills: Kill) -> None:
        self.kills = list(kills)
        self.reached: Counter[str] = Counter()
        self.blown: list[str] = []

    def __call__(self, point: str) -> None:
        self.reached[point] += 1
        if self.kills and (point, self.reached[point]) == self.kills[0]:
            self.blown.append(self.kills.pop(0)[0])
            self.reached.clear()
            raise Dead(point)


class PretendHost:
    """Carries attempts out as a script says, and notes what no engine may do."""

    def __init__(self) -> None:
        self.alive: dict[str, str] = {}
        self.begun: set[str] = set()
        self.completed: Counter[str] = Counter()
        """How often each step came to its end, well or not."""
        self.faults: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.ended: dict[str, asyncio.Event] = {}

    async def run(self, order: StepOrder, on_started: Callable[[], None] | None) -> StepExit:
        run, step, _ = order.id.split(".")
        leaf = f"{run}.{step}"
        if leaf in self.alive:
            self.faults.append(f"{order.id} was begun while {self.alive[leaf]} ran")
        if order.id in self.begun:
            self.faults.append(f"{order.id} was begun twice")
        if step.startswith("alone") and any(one.split(".")[1].startswith("alone") for one in self.alive):
            self.faults.append(f"{order.id} was begun beside another that holds its mutex")
        self.begun.add(order.id)
        self.alive[leaf], ended = order.id, self.ended.setdefault(order.id, asyncio.Event())
        try:
            if on_started is not None:
                on_started()
            await self._until_it_may_end(step, ended)
            if ended.is_set():
                return StepExit(-9, 9, "ended")
            said = json.dumps(self._outputs(order, step, leaf))
            Path(order.folder).mkdir(parents=True, exist_ok=True)
            (Path(order.folder) / "outputs.json").write_text(said)
            return StepExit(0, said=said)
        finally:
            del self.alive[leaf]

    async def _until_it_may_end(self, step: str, ended: asyncio.Event) -> None:
        gate = self.gates.get(step)
        if gate is None:
            await asyncio.sleep(0.001)
            return
        waits = [asyncio.create_task(one.wait()) for one in (gate, ended)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()

    def _outputs(self, order: StepOrder, step: str, leaf: str) -> dict[str, Any]:
        inputs = order.inputs or json.loads((Path(order.folder) / "inputs.json").read_text())
        self.completed[leaf] += 1
        if step.startswith("flaky") and self.completed[leaf] == 1:
            return {"attempt": order.id, "ok": False, "error": "not yet", "code": 3}
        text = json.dumps(inputs.get("args") or inputs.get("arguments") or [step], sort_keys=True)
        result = hashlib.sha256(text.encode()).hexdigest()[:8] if step != "list" else '["x","y","z"]'
        facts = {"digest": hashlib.sha256(result.encode()).hexdigest(), "size": len(result), "type": "str"}
        artifacts = {"result": {**facts, "json": json.dumps(result), "media_type": "application/json"}}
        return {"attempt": order.id, "ok": True, "parameters": {"v": result}, "artifacts": artifacts}


class EngineProcess:
    """One life of the engine; it is its own feed and host, so that what it does after its end reaches nobody."""

    def __init__(self, world: World) -> None:
        self._world, self.dead = world, False
        self.engine = Engine(world.settings, self, self, crash=self._crash)
        self.task = asyncio.create_task(self.engine.run())

    def _crash(self, point: str) -> None:
        self._check()
        try:
            self._world.fuse(point)
        except Dead:
            self.kill()
            raise

    def kill(self) -> None:
        self.dead = True
        self.task.cancel()

    def _check(self) -> None:
        if self.dead:
            raise Dead

    async def runs(self, after: str) -> WantedPage:
        self._check()
        page = await self._world.ask(lambda port: port.internal_runs(after))
        self._check()
        return WantedPage.model_validate_json(page.model_dump_json())

    async def report(self, batch: Batch) -> Recorded:
        self._check()
        said = Batch.model_validate_json(batch.model_dump_json())
        recorded = await self._world.ask(lambda port: port.record_events(said))
        self._check()
        return recorded

    async def run_step(self, order: StepOrder, on_started: Callable[[], None] | None = None) -> StepExit:
        self._check()
        ended = await self._world.host.run(order, on_started)
        self._check()
        return ended

    async def end(self, identifier: str) -> None:
        self._check()
        self._world.host.ended.setdefault(identifier, asyncio.Event()).set()


class World:
    """A home whose platform and engine are started again whenever the fuse ends them."""

    def __init__(self, home: Path, *kills: Kill) -> None:
        self.settings = Settings(home=home, limits=Limits(steps=4))
        home.mkdir(parents=True)
        self.host, self.fuse = PretendHost(), Fuse(*kills)
        self._asked: set[asyncio.Future[Any]] = set()
        self._guard: asyncio.Task[None] | None = None
        self._calm = asyncio.Event()
        self.refused = 0
        self._open()

    def _open(self) -> None:
        self.journal = Journal(self.settings.home / "journal.db")
        self.workflows = LocalWorkflows(self.settings, self.journal, MACHINE, prepare=folders, crash=self.fuse)

    async def __aenter__(self) -> World:
        logging.getLogger("ropewalk.tasks").disabled = True  # each task of what is killed would be told of
        self._guard = asyncio.create_task(self._keep_an_engine())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._guard is not None
        self._guard.cancel()
        await asyncio.gather(self._guard, return_exceptions=True)
        self.journal.close()
        logging.getLogger("ropewalk.tasks").disabled = False

    async def _keep_an_engine(self) -> None:
        self.process = EngineProcess(self)
        try:
            while True:
                self._calm.set()
                await asyncio.gather(self.process.task, return_exceptions=True)
                self._calm.clear()
                self.process.dead, earlier = True, self.process.engine.id
                self.process = EngineProcess(self)
                await self._refuses(earlier, self.process.engine.id)
        finally:
            self.process.kill()
            await asyncio.gather(self.process.task, return_exceptions=True)

    async def settled(self) -> None:
        """Wait until whatever still ends has ended, and another engine has taken its place."""
        await asyncio.sleep(0.005)
        async with asyncio.timeout(10):
            await self._calm.wait()
        if self.fuse.blown:
            await self._refuse("stranger")  # also where the desk was killed and the engine lives

    async def _refuses(self, earlier: str, now: str) -> None:
        """Check that nobody listens to an engine that is dead once another has come."""
        while (found := self.journal.get(ENGINE, "", ENGINE)) is None or found.body["id"] != now:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await self._refuse(earlier)
        self.refused += 1

    async def _refuse(self, engine: str) -> None:
        forged = [RunReport(owner="alice", run=one.name, status=Status(state=State.DONE)) for one in self._runs()]
        with contextlib.suppress(Unavailable):
            try:
                await self.ask(lambda port: port.record_events(Batch(engine=engine, runs=forged)))
            except Conflict:
                return
            self.host.faults.append(f"the engine {engine} was listened to")

    def _runs(self) -> list[Any]:
        return self.journal.page(RUN, "alice")

    async def ask(self, what: Callable[[LocalWorkflows], Awaitable[T]]) -> T:
        """Ask the platform over a connection that ends with it."""
        asked: asyncio.Future[T] = asyncio.ensure_future(what(self.workflows))
        self._asked.add(asked)
        try:
            await asyncio.wait([asked])
        except asyncio.CancelledError:
            asked.cancel()
            raise
        finally:
            self._asked.discard(asked)
        if not asked.cancelled() and not isinstance(asked.exception(), Dead):
            return asked.result()
        if not asked.cancelled():
            self._platform_dies()
        raise Unavailable("The platform was killed.")

    def _platform_dies(self) -> None:
        for one in list(self._asked):
            one.cancel()
        self.journal.close()
        self._open()

    # The person

    async def person(self, act: str, *given: Any) -> Any:
        """Do something until the platform answers."""
        while True:
            with contextlib.suppress(Unavailable):
                return await getattr(self.workflows, act)(ALICE, "alice", *given)
            await asyncio.sleep(0.002)

    async def submit(self, spec: RunSpec) -> str:
        found: Run = await self.person("submit", spec.model_copy(update={"folder": ""}))
        return found.id

    async def until(self, run: str, holds: Callable[[Run], bool]) -> Run:
        async with asyncio.timeout(20):
            while not holds(found := await self.person("get", run)):  # noqa: ASYNC110 - what it is may be replaced
                await asyncio.sleep(0.002)
        return found

    async def until_step(self, run: str, step: str, state: State) -> None:
        await self.until(run, lambda one: any(each.id == step and each.status.state is state for each in one.steps))

    async def until_held(self, run: str) -> None:
        """Wait until the engine, whichever it is, has heard that a run is suspended."""
        async with asyncio.timeout(20):
            while (known := self.process.engine._runs.get(run)) is None or not known.state.suspended:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def wait(self, run: str) -> Run:
        return await self.until(run, lambda one: one.status.state.terminal)

    # What became of it

    def seen(self, run: Run, nickname: str) -> dict[str, Any]:
        """Return all of a run that no fault may change."""
        steps = {
            one.id: [one.name, one.status.state, one.status.note, one.error, one.inputs, one.outputs, one.needs]
            for one in run.steps
        }
        ends = [one.type for one in self.journal.events(kind=RUN, owner="alice", name=run.id)]
        facts = [one.body["fact"] for one in self.journal.page(STEP, "alice", after=f"{run.id}/")]
        seen = {
            "status": [run.status.state, run.status.note, run.status.why.code if run.status.why else ""],
            "outputs": run.outputs,
            "steps": steps,
            "ends": [one for one in ends if one in ("done", "failed", "stopped")],
            "open": self.journal.get(OPEN, "alice", run.id) is not None,
            "running": [one for one in facts if one.get("running")],
            "tries": {key: one.get("tries", 0) for key, one in zip(sorted(steps), facts, strict=False)},
            "completed": {key: n for key, n in sorted(self.host.completed.items()) if key.startswith(f"{run.id}.")},
        }
        found: dict[str, Any] = json.loads(json.dumps(seen).replace(run.id, nickname))
        return found
