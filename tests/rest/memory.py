"""Ports that remember and do nothing, over a real journal: enough to test what stands in front of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from ropewalk_core import comparison, history, sharing
from ropewalk_core.artifacts import ArtifactStore, streamed
from ropewalk_core.errors import BadInput, NotFound, UserCodeFailed
from ropewalk_core.figures import Cell, Series
from ropewalk_core.flows import ON_EXIT, Artifact, Comparison, Run, RunSpec, Step, StepInputs
from ropewalk_core.journal import Append, Journal, Put, Remove
from ropewalk_core.model import (
    Access,
    Actor,
    Bundle,
    Call,
    CallKey,
    Costs,
    Figures,
    Function,
    FunctionSpec,
    LogLine,
    NewKey,
    Page,
    Requirements,
    Revision,
    Service,
    ServiceSpec,
    Share,
    Spent,
    State,
    Status,
    Traffic,
    Window,
)
from ropewalk_core.names import check_name, new_id
from ropewalk_core.requirements import checked
from ropewalk_runtime.trace import Trace

RUNNING, DONE = Status(state=State.RUNNING, since=1.0), Status(state=State.DONE, since=1.0)
HELD = Status(state=State.RUNNING, since=1.0, note="suspended")


class Memory:
    """What the three ports share."""

    kind, model = "", Service

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    async def keep(self, owner: str, name: str, thing: Any) -> Any:
        body = thing.model_dump(mode="json")
        await self.journal.write(Put(self.kind, owner, name, body), Append(self.kind, owner, name, "asked", body))
        return thing

    async def get(self, actor: Actor, owner: str, name: str) -> Any:
        if record := self.journal.get(self.kind, owner, name):
            return self.model.model_validate(record.body)
        raise NotFound(f"There is no such {self.kind}.", field="name")

    async def remove(self, actor: Actor, owner: str, name: str) -> Any:
        thing = await self.get(actor, owner, name)
        body = thing.model_dump(mode="json")
        await self.journal.write(Remove(self.kind, owner, name), Append(self.kind, owner, name, "removed", body))
        return thing

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Any]:
        found = self.journal.page(self.kind, owner, after=after, limit=limit + 1)
        items = tuple(self.model.model_validate(one.body) for one in found[:limit])
        return Page(items=items, next=found[limit - 1].name if len(found) > limit else "")

    async def lines(self, after: int) -> AsyncIterator[LogLine]:
        for number in range(1, 4):
            if number * 10 > after:
                yield LogLine(offset=number * 10, text=f"line {number}")


class MemoryServices(Memory):
    kind, model = "service", Service

    async def apply(self, actor: Actor, owner: str, spec: ServiceSpec, *, key: str = "") -> Service:
        check_name(spec.name)
        return await self.keep(owner, spec.name, Service(owner=owner, spec=spec, status=RUNNING, address="http://x/"))

    def logs(self, actor: Actor, owner: str, name: str, *, after: int = 0, follow: bool = False) -> Any:
        return self.lines(after)


class MemoryFunctions(Memory):
    kind, model = "function", Function

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self.begun, self.left = asyncio.Event(), asyncio.Event()

    async def get(self, actor: Actor, owner: str, name: str) -> Any:
        return sharing.shown(self.journal, await super().get(actor, owner, name))

    async def access(self, actor: Actor, owner: str, name: str, access: Access) -> Function:
        await self.get(actor, owner, name)
        await self.journal.write(sharing.choosing(self.journal, owner, name, access)[1])
        found: Function = await self.get(actor, owner, name)
        return found

    async def keys(self, actor: Actor, owner: str, name: str) -> Page[CallKey]:
        await self.get(actor, owner, name)
        return Page(items=tuple(one.listed() for one in sharing.of(self.journal, owner, name).keys))

    async def add_key(self, actor: Actor, owner: str, name: str, **facts: Any) -> NewKey:
        await self.get(actor, owner, name)
        told, kept = sharing.adding(self.journal, owner, name, now=1.0, **facts)
        await self.journal.write(kept)
        return told

    async def revoke_key(self, actor: Actor, owner: str, name: str, identifier: str) -> CallKey:
        ended, kept = sharing.revoking(self.journal, owner, name, identifier)
        await self.journal.write(kept)
        return ended

    async def deploy(
        self, actor: Actor, owner: str, spec: FunctionSpec, *, key: str = "", existing: bool = False
    ) -> Function:
        check_name(spec.name)
        if existing:
            await self.get(actor, owner, spec.name)
        record = self.journal.get(self.kind, owner, spec.name)
        have = Function.model_validate(record.body) if record else None
        if have and have.revision.spec == spec:
            return have.model_copy(update={"unchanged": True})
        revision = Revision(id=spec.bundle.digest, number=have.revision.number + 1 if have else 1, spec=spec)
        made = Function(owner=owner, name=spec.name, revision=revision, status=RUNNING)
        made = made.model_copy(update={"traffic": have.traffic}) if have else made
        await self.journal.write(*history.keeping(self.journal, made, have))
        kept: Function = await self.keep(owner, spec.name, made)
        return kept

    async def prepare(self, actor: Actor, owner: str, needs: Requirements) -> AsyncIterator[LogLine]:
        for line in checked(needs.requirements):
            yield LogLine(offset=len(line), text=f"installing {line}", stream="stderr")
            if line == "fails":
                raise BadInput("The requirements cannot be met: fails.", field="requirements")
            if line == "waits":
                self.begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    self.left.set()

    async def revisions(
        self, actor: Actor, owner: str, name: str, *, after: str = "", limit: int = 50
    ) -> Page[Revision]:
        return history.page(self.journal, await self.get(actor, owner, name), after, limit)

    async def revision(self, actor: Actor, owner: str, name: str, number: int) -> Revision:
        return history.find(self.journal, await self.get(actor, owner, name), number)

    async def traffic(self, actor: Actor, owner: str, name: str, weights: Mapping[int, int]) -> Function:
        have = await self.get(actor, owner, name)
        shares = tuple(
            Share(number=one, revision=history.find(self.journal, have, one).id, weight=weights[one], address=f"r{one}")
            for one in sorted(weights)
            if one
        )
        update = {"traffic": Traffic(latest=weights.get(0, 0), shares=shares)}
        kept: Function = await self.keep(owner, name, have.model_copy(update=update))
        return kept

    async def call(
        self, actor: Actor, owner: str, name: str, payload: bytes, *, content_type: str = "", trace: Trace | None = None
    ) -> bytes:
        await self.get(actor, owner, name)
        if payload == b'"fail"':
            raise UserCodeFailed("double raised ValueError: no.", details={"traceback": "cell line 2"})
        return trace.parent.encode() if payload == b'"trace"' and trace else payload * 2

    async def calls(self, actor: Actor, owner: str, name: str, *, limit: int = 50) -> Page[Call]:
        one = Call(id="c1", function=name, owner=owner, revision="r1", started=1.0, ended=1.5, state=State.DONE)
        return Page(items=(one.model_copy(update={"accelerator": "toy"}),))

    def logs(self, actor: Actor, owner: str, name: str, *, call: str = "", after: int = 0, follow: bool = False) -> Any:
        return self.lines(after)

    async def figures(self, actor: Actor, owner: str, name: str, *, window: Window = "hour") -> Figures:
        await self.get(actor, owner, name)
        series = Series()
        for at in (70.0, 1.0):
            cell = Cell(calls=2, errors=1, cpu=0.5, gb_seconds=2.0)
            cell.took(0.012)
            series.add(time.time() - at, cell, time.time())
        return series.figures(window, time.time(), owner=owner, function=name)

    async def costs(self, actor: Actor, owner: str, name: str = "") -> Costs:
        if name:
            await self.get(actor, owner, name)
        days = (Spent(day="2026-11-22", calls=4, cpu=0.25, gb_seconds=2.0),)
        return Costs(owner=owner, function=name, days=days)


class MemoryWorkflows(Memory):
    kind, model = "run", Run
    artifacts: tuple[Artifact, ...] = ()
    store: ArtifactStore

    async def check(self, actor: Actor, owner: str, spec: RunSpec) -> None:
        return

    async def submit(self, actor: Actor, owner: str, spec: RunSpec, *, key: str = "") -> Run:
        name = f"run-{key[:20].lower()}" if key.isalnum() else new_id("run")
        step = Step(id="s1", name="train", status=DONE, artifacts=self.artifacts)
        facts = {"arguments": spec.arguments, "outputs": {"result": {"score": len(spec.arguments)}}}
        return await self.keep(
            owner, name, Run(id=name, owner=owner, name=spec.name, status=DONE, steps=(step,), **facts)
        )

    async def compare(
        self, actor: Actor, owner: str, name: str, *, steps: Sequence[str] = (), limit: int = 1000
    ) -> Comparison:
        runs: Page[Run] = await self.list(actor, owner, limit=limit)
        if not (mine := [one for one in runs.items if one.name == name]):
            raise NotFound("There is no such workflow.", field="name")
        rows = tuple(
            comparison.row(one, {step: Step(id=step, name=step, status=DONE) for step in steps}) for one in mine
        )
        return Comparison(owner=owner, name=name, rows=rows, steps=tuple(steps))

    async def cancel(self, actor: Actor, owner: str, run: str, *, on_exit: bool = False) -> Run:
        found: Run = await self.get(actor, owner, run)
        note = ON_EXIT if on_exit else ""
        return found.model_copy(update={"status": found.status.model_copy(update={"note": note})})

    retry = cancel

    async def suspend(self, actor: Actor, owner: str, run: str) -> Run:
        found: Run = await self.get(actor, owner, run)
        return await self.keep(owner, run, found.model_copy(update={"status": HELD}))

    async def resume(self, actor: Actor, owner: str, run: str) -> Run:
        found: Run = await self.get(actor, owner, run)
        return await self.keep(owner, run, found.model_copy(update={"status": DONE}))

    async def answer(
        self, actor: Actor, owner: str, run: str, steps: Sequence[str], *, ok: bool, message: str = ""
    ) -> Run:
        found: Run = await self.get(actor, owner, run)
        note = f"{' '.join(steps)} {ok} {message}"
        return found.model_copy(update={"status": found.status.model_copy(update={"note": note})})

    async def artifact(self, actor: Actor, owner: str, run: str, digest: str) -> AsyncIterator[bytes]:
        if all(one.digest != digest for one in self.artifacts):
            raise NotFound("There is no such artifact in this run.", field="digest")
        self.store.verify(digest)
        return streamed(self.store.open(digest))

    async def inputs(self, actor: Actor, owner: str, run: str, step: str) -> StepInputs:
        found: Run = await self.get(actor, owner, run)
        if all(one.id != step for one in found.steps):
            raise NotFound("The inputs of the step are not there.", field="step")
        return StepInputs(bundle=Bundle(files={"cell.py": "def f(): ..."}, entry="cell:f"), arguments={})

    async def spec(self, actor: Actor, owner: str, run: str) -> RunSpec:
        found: Run = await self.get(actor, owner, run)
        return RunSpec(name=found.name, manifest={"kind": "Workflow"})

    def logs(self, actor: Actor, owner: str, run: str, step: str, *, after: int = 0, follow: bool = False) -> Any:
        return self.lines(after)
