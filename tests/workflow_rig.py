"""A platform's side of workflows, an engine and a tiny host, all in one process, for tests of workflows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ropewalk_core.errors import Unavailable
from ropewalk_core.flows import Run, RunSpec, Step
from ropewalk_core.journal import Journal
from ropewalk_core.local.host_client import StepExit, StepOrder
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import Actor
from ropewalk_core.placement import Inventory, Node
from ropewalk_core.settings import Limits, Settings
from ropewalk_workflows.engine.shell import Engine
from ropewalk_workflows.engine.wire import Batch, Recorded, WantedPage
from ropewalk_workflows.local import LocalWorkflows

ALICE = Actor(account="alice")
MACHINE = Inventory(nodes=(Node(name="here", arch="amd64", cpu=2, memory=8 * 2**30),))
_ROOTS = os.pathsep.join(str(Path(__file__).parents[1] / one) for one in ("hub", "workflows", "extensions"))


def folders(settings: Settings, account: str) -> AccountPaths:
    """Make an account's folders as plainly as can be."""
    paths = AccountPaths(settings.home, account)
    for one in (paths.files, paths.artifacts, paths.root / "runs"):
        one.mkdir(parents=True, exist_ok=True)
    return paths


@dataclass
class PlainHost:
    """Runs each attempt as a plain process: no sandbox, no zygote."""

    home: Path
    ran: list[str] = field(default_factory=list)
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    lose: Callable[[str], bool] = lambda order: False

    async def run_step(self, order: StepOrder, on_started: Callable[[], None] | None = None) -> StepExit:
        self.ran.append(order.id)
        if self.lose(order.id):
            raise Unavailable("lost")
        cwd = AccountPaths(self.home, order.account).files / order.cwd
        if order.inputs is not None:
            Path(order.folder).mkdir(parents=True)
            (Path(order.folder) / "inputs.json").write_text(json.dumps(order.inputs))
        with (Path(order.folder) / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "ropewalk_runtime.step",
                order.folder,
                cwd=cwd,
                stdout=log,
                stderr=log,
                env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": _ROOTS, **order.environment},
                start_new_session=True,
            )
        self.processes[order.id] = process
        if on_started is not None:
            on_started()
        reason = ""
        try:
            async with asyncio.timeout(order.timeout):
                await process.wait()
        except TimeoutError:
            reason = "time"
            await self.end(order.id)
        except asyncio.CancelledError:
            await self.end(order.id)
            raise
        code = await process.wait()
        return StepExit(code, -code if code < 0 else 0, reason or ("ended" if code == -9 else ""))  # type: ignore[arg-type]

    async def end(self, identifier: str) -> None:
        process = self.processes.get(identifier)
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@dataclass
class DirectFeed:
    """The platform's desk without a socket; can be away for a while."""

    workflows: LocalWorkflows
    away: bool = False
    batches: list[Batch] = field(default_factory=list)

    async def runs(self, after: str) -> WantedPage:
        if self.away:
            raise Unavailable("away")
        return WantedPage.model_validate_json((await self.workflows.internal_runs(after)).model_dump_json())

    async def report(self, batch: Batch) -> Recorded:
        if self.away:
            raise Unavailable("away")
        self.batches.append(batch)
        return await self.workflows.record_events(Batch.model_validate_json(batch.model_dump_json()))


class Rig:
    """Everything; `engine()` starts an engine that can be killed and started again."""

    def __init__(self, home: Path, *, steps: int = 4) -> None:
        self.settings = Settings(home=home, limits=Limits(steps=steps))
        home.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(home / "journal.db")
        self.workflows = LocalWorkflows(self.settings, self.journal, MACHINE, prepare=folders)
        self.host = PlainHost(home)
        self.feed = DirectFeed(self.workflows)
        self.running: asyncio.Task[None] | None = None

    def start(self, crash: Callable[[str], None] = lambda point: None, wall: Callable[[], float] = time.time) -> None:
        engine = Engine(self.settings, self.feed, self.host, crash=crash, wall=wall)
        self.running = asyncio.create_task(engine.run())

    async def stop(self) -> None:
        if self.running is not None:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)
        self.running = None

    async def close(self) -> None:
        await self.stop()
        self.journal.close()

    async def submit(self, spec: RunSpec, **keywords: Any) -> Run:
        return await self.workflows.submit(ALICE, "alice", spec.model_copy(update={"folder": ""}), **keywords)

    async def get(self, run: str) -> Run:
        return await self.workflows.get(ALICE, "alice", run)

    async def wait(self, run: str, *, seconds: float = 30.0) -> Run:
        async with asyncio.timeout(seconds):
            while not (found := await self.get(run)).status.state.terminal:
                await self.journal.wait(self.journal.cursor, timeout=0.2)
        return found

    async def until(self, run: str, holds: Callable[[Run], bool], *, seconds: float = 20.0) -> Run:
        async with asyncio.timeout(seconds):
            while not holds(found := await self.get(run)):
                await self.journal.wait(self.journal.cursor, timeout=0.05)
        return found

    def value(self, facts: dict[str, Any]) -> Any:
        from ropewalk_runtime import values

        store = AccountPaths(self.settings.home, "alice").artifacts
        return values.load(store / facts["digest"][:2] / facts["digest"])

    def result(self, run: Run) -> Any:
        found = run.outputs["result"]
        if isinstance(found, list):
            return [self.value(one) for one in found]
        if "digest" not in found:
            return {key: self.value(one) for key, one in found.items()}
        return self.value(found)


def step_named(run: Run, name: str) -> Step:
    return next(one for one in run.steps if one.name == name)
