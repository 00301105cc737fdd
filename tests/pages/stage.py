"""A platform whose pages can be asked: the real issuer, journal, catalogue and application, with ports in memory.

``python -m tests.pages.stage PORT`` serves it for a look with a browser; it prints the cookie of the signed-in person.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from argon2 import PasswordHasher
from fastapi import FastAPI

from ropewalk_core import comparison, guard, sharing
from ropewalk_core.errors import BadInput, NotFound, UserCodeFailed
from ropewalk_core.figures import Cell, Series
from ropewalk_core.flows import Artifact, Comparison, Preview, Run, RunSpec, Step, StepInputs
from ropewalk_core.guard_flows import GuardedWorkflows
from ropewalk_core.journal import Append, Journal
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
    Notebook,
    Page,
    Revision,
    Service,
    ServiceSpec,
    Share,
    State,
    Status,
    Traffic,
    Usage,
    Why,
    Window,
)
from ropewalk_core.placement import Inventory, Node, Placement
from ropewalk_core.settings import Settings, load
from ropewalk_hub.addresses import Addresses
from ropewalk_hub.app import create_app
from ropewalk_hub.issuer.passwords import Passwords
from ropewalk_hub.platform import Platform, build
from ropewalk_hub.security import cookie_name

PASSWORD = "correct horse battery staple"
OWNER = "ada"


async def _lines(texts: list[str], after: int = 0, **_: Any) -> AsyncIterator[LogLine]:
    for number, text in enumerate(texts):
        if (number + 1) * 10 > after:
            yield LogLine(offset=(number + 1) * 10, text=text)


def _page(items: list[Any], after: str, limit: int, name: Any) -> Page[Any]:
    items = [one for one in items if name(one) > after]
    return Page(items=tuple(items[:limit]), next=name(items[limit - 1]) if len(items) > limit else "")


class Things:
    """What one person has, in memory; every port below reads and writes it."""

    def __init__(self, journal: Journal, door: str) -> None:
        self.journal, self.door = journal, door
        self.notebook = Notebook(owner=OWNER, status=Status(state=State.STOPPED), address=f"{door}/lab")
        self.services: dict[str, Service] = {}
        self.functions: dict[str, Function] = {}
        self.revisions: dict[str, list[Revision]] = {}
        self.calls: dict[str, list[Call]] = {}
        self.runs: dict[str, Run] = {}
        self.log: list[str] = []
        self.answer: bytes | Exception = b'{"digit": 7}'
        self.wait, self.printed = 0.0, ""
        self.acts: list[tuple[str, str]] = []

    async def say(self, kind: str, name: str, type: str) -> None:
        """Tell those who watch."""
        self.acts.append((type, name))
        await self.journal.write(Append(kind, OWNER, name, type))


class _Notebooks:
    def __init__(self, things: Things) -> None:
        self._things = things

    async def start(self, actor: Actor, owner: str, name: str = "", **_: Any) -> Notebook:
        self._things.notebook = self._things.notebook.model_copy(update={"status": Status(state=State.RUNNING)})
        await self._things.say("notebook", "", "running")
        return self._things.notebook

    async def stop(self, actor: Actor, owner: str, name: str = "") -> Notebook:
        self._things.notebook = self._things.notebook.model_copy(update={"status": Status(state=State.STOPPED)})
        await self._things.say("notebook", "", "stopped")
        return self._things.notebook

    async def get(self, actor: Actor, owner: str, name: str = "") -> Notebook:
        return self._things.notebook

    def logs(self, actor: Actor, owner: str, name: str = "", **more: Any) -> AsyncIterator[LogLine]:
        return _lines(self._things.log, **more)


class _Services:
    def __init__(self, things: Things, platform: Platform) -> None:
        self._things, self._platform = things, platform

    async def apply(self, actor: Actor, owner: str, spec: ServiceSpec, *, key: str = "") -> Service:
        values = self._platform.catalog.check(spec.template, spec.values)
        if spec.values.get("folder") == "full":
            raise BadInput("The folder is full.", field="folder")
        spec = spec.model_copy(update={"values": values})
        made = Service(owner=owner, spec=spec, status=Status(state=State.STARTING), address=f"{self._things.door}/s/")
        self._things.services[spec.name] = made
        await self._things.say("service", spec.name, "asked")
        return made

    async def remove(self, actor: Actor, owner: str, name: str) -> Service:
        gone = self._things.services.pop(name)
        await self._things.say("service", name, "removed")
        return gone

    async def get(self, actor: Actor, owner: str, name: str) -> Service:
        if name not in self._things.services:
            raise NotFound(f"There is no service '{name}'.")
        return self._things.services[name]

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Service]:
        items = [self._things.services[name] for name in sorted(self._things.services)]
        return _page(items, after, limit, lambda one: one.spec.name)

    def logs(self, actor: Actor, owner: str, name: str, **more: Any) -> AsyncIterator[LogLine]:
        return _lines(self._things.log, **more)


class _Functions:
    def __init__(self, things: Things) -> None:
        self._things = things

    async def remove(self, actor: Actor, owner: str, name: str) -> Function:
        await self._things.say("function", name, "removed")
        return self._things.functions.pop(name)

    async def call(self, actor: Actor, owner: str, name: str, payload: bytes, **_: Any) -> bytes:
        things, number = self._things, len(self._things.acts)
        things.acts.append(("call", payload.decode()))
        record = Call(
            id=f"tried-{number}",
            function=name,
            owner=owner,
            revision="r",
            started=time.time(),
            state=State.DONE,
            cold=True,
        )
        await asyncio.sleep(things.wait)
        things.calls.setdefault(name, []).insert(0, record.model_copy(update={"logs": things.printed}))
        if isinstance(things.answer, Exception):
            raise things.answer
        return things.answer

    async def get(self, actor: Actor, owner: str, name: str) -> Function:
        if name not in self._things.functions:
            raise NotFound(f"There is no function '{name}'.")
        return sharing.shown(self._things.journal, self._things.functions[name])

    async def access(self, actor: Actor, owner: str, name: str, access: Access) -> Function:
        await self.get(actor, owner, name)
        await self._things.journal.write(sharing.choosing(self._things.journal, owner, name, access)[1])
        self._things.acts.append(("shared", name))
        return await self.get(actor, owner, name)

    async def keys(self, actor: Actor, owner: str, name: str) -> Page[CallKey]:
        await self.get(actor, owner, name)
        return Page(items=tuple(one.listed() for one in sharing.of(self._things.journal, owner, name).keys))

    async def add_key(self, actor: Actor, owner: str, name: str, **facts: Any) -> NewKey:
        await self.get(actor, owner, name)
        told, kept = sharing.adding(self._things.journal, owner, name, now=1.0, **facts)
        await self._things.journal.write(kept)
        return told

    async def revoke_key(self, actor: Actor, owner: str, name: str, identifier: str) -> CallKey:
        ended, kept = sharing.revoking(self._things.journal, owner, name, identifier)
        await self._things.journal.write(kept)
        return ended

    async def deploy(
        self, actor: Actor, owner: str, spec: FunctionSpec, *, key: str = "", existing: bool = False
    ) -> Function:
        assert existing  # pages deploy only to roll back
        have = await self.get(actor, owner, spec.name)
        revision = Revision(id=f"from {spec.timeout}", number=have.revision.number + 1, spec=spec)
        self._things.revisions[spec.name].insert(0, revision)
        made = self._things.functions[spec.name] = have.model_copy(update={"revision": revision})
        await self._things.say("function", spec.name, "running")
        return made

    async def revisions(
        self, actor: Actor, owner: str, name: str, *, after: str = "", limit: int = 50
    ) -> Page[Revision]:
        return Page(items=tuple(one.summary() for one in self._things.revisions.get(name, ())))

    async def revision(self, actor: Actor, owner: str, name: str, number: int) -> Revision:
        for one in self._things.revisions.get(name, ()):
            if one.number == number:
                return one
        raise NotFound(f"There is no revision {number} of '{name}'.")

    async def traffic(self, actor: Actor, owner: str, name: str, weights: Mapping[int, int]) -> Function:
        have = self._things.functions[name]
        for one in filter(None, weights):
            await self.revision(actor, owner, name, one)
        shares = tuple(
            Share(number=one, revision="r", weight=weights[one], address=f"http://r{one}--{name}/")
            for one in weights
            if one
        )
        made = have.model_copy(update={"traffic": Traffic(latest=weights[0], shares=shares)})
        self._things.functions[name] = made
        self._things.acts.append(("split", name))
        return made

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Function]:
        items = [self._things.functions[name] for name in sorted(self._things.functions)]
        return _page(items, after, limit, lambda one: one.name)

    async def calls(self, actor: Actor, owner: str, name: str, *, limit: int = 50) -> Page[Call]:
        return Page(items=tuple(self._things.calls.get(name, ())[:limit]))

    async def figures(self, actor: Actor, owner: str, name: str, *, window: Window = "hour") -> Figures:
        return self._counted(name).figures(window, time.time(), owner=owner, function=name)

    async def costs(self, actor: Actor, owner: str, name: str = "") -> Costs:
        return Costs(owner=owner, function=name, days=self._counted(name).days(time.time()))

    def _counted(self, name: str) -> Series:
        series, now = Series(), time.time()
        for one in self._things.calls.get(name, ()):
            cell = Cell(1, int(one.state is State.FAILED), 0, int(one.cold), 0, 0.001, 0.01)
            if one.ended is not None:
                cell.took(one.ended - one.started)
            series.add(one.started, cell, now)
        return series


class _Workflows:
    def __init__(self, things: Things) -> None:
        self._things = things

    async def get(self, actor: Actor, owner: str, run: str) -> Run:
        if run not in self._things.runs:
            raise NotFound(f"There is no run '{run}'.")
        return self._things.runs[run]

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Run]:
        items = sorted(self._things.runs.values(), key=lambda one: -one.created)
        start = [one.id for one in items].index(after) + 1 if after else 0
        shown = items[start : start + limit]
        return Page(items=tuple(shown), next=shown[-1].id if len(items) > start + limit else "")

    async def compare(
        self, actor: Actor, owner: str, name: str, *, steps: Sequence[str] = (), limit: int = 1000
    ) -> Comparison:
        runs = [one for one in (await self.list(actor, owner, limit=limit)).items if one.name == name]
        if not runs:
            raise NotFound(f"There is no run of '{name}'.")
        rows = [comparison.row(one, {each.name: each for each in one.steps if each.name in steps}) for one in runs]
        offered = tuple(one.name for one in runs[0].steps if comparison.numbers(one.outputs))
        return Comparison(owner=owner, name=name, rows=tuple(rows), steps=offered)

    async def cancel(self, actor: Actor, owner: str, run: str, *, on_exit: bool = False) -> Run:
        await self._things.say("run", run, "stopping")
        return self._things.runs[run]

    async def inputs(self, actor: Actor, owner: str, run: str, step: str) -> StepInputs:
        files = {"ropewalk_cells.py": "def train(depth):\n    return '<b>'\n", "tools/maths.py": "one = 1\n"}
        code = Bundle(files=files, entry="ropewalk_cells:train", origin={"ropewalk_cells.py": "cell [3]"})
        return StepInputs(bundle=code)

    async def artifact(self, actor: Actor, owner: str, run: str, digest: str) -> AsyncIterator[bytes]:
        async def content() -> AsyncIterator[bytes]:
            yield PAGE

        return content()

    async def spec(self, actor: Actor, owner: str, run: str) -> RunSpec:
        inputs = await self.inputs(actor, owner, run, "")
        template = {"name": "main", "container": {"image": "busybox", "args": ["<b>"]}}
        manifest = {"metadata": {"name": "a"}, "spec": {"entrypoint": "main", "templates": [template]}}
        return RunSpec(name="a", manifest=manifest, bundles={"0": inputs.bundle})

    async def suspend(self, actor: Actor, owner: str, run: str) -> Run:
        return await self._hold(run, suspended=True)

    async def resume(self, actor: Actor, owner: str, run: str) -> Run:
        return await self._hold(run, suspended=False)

    async def _hold(self, run: str, *, suspended: bool) -> Run:
        found = self._things.runs[run]
        status = found.status.model_copy(update={"note": "suspended" if suspended else ""})
        self._things.runs[run] = found.model_copy(update={"status": status})
        await self._things.say("run", run, "held")
        return self._things.runs[run]

    async def remove(self, actor: Actor, owner: str, run: str) -> Run:
        await self._things.say("run", run, "removed")
        return self._things.runs[run]

    async def retry(self, actor: Actor, owner: str, run: str) -> Run:
        await self._things.say("run", run, "asked")
        return self._things.runs[run]

    def logs(self, actor: Actor, owner: str, run: str, step: str, **more: Any) -> AsyncIterator[LogLine]:
        return _lines(self._things.log, **more)


class _Storage:
    async def usage(self, actor: Actor, owner: str) -> Usage:
        return Usage(used=3 * 2**30, limit=20 * 2**30)


@dataclasses.dataclass
class Stage:
    """The application, a signed-in administrator's client, and what they have."""

    platform: Platform
    app: FastAPI
    things: Things
    cookie: str

    def client(self, *, signed: bool = True) -> httpx.AsyncClient:
        """Return a client as a browser on our own page would be."""
        origin = self.platform.settings.door.origin
        name = cookie_name(self.platform.settings.door)
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app),
            base_url=origin,
            headers={"origin": origin, "accept": "text/html"},
            cookies={name: self.cookie} if signed else {},
        )


def make(home: Path, port: int = 8000) -> Stage:
    """Build the platform with a first administrator and nothing else."""
    settings: Settings = load(home, environ={}, door_port=port)
    cheap = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    platform = build(settings, Addresses(1, 2, 3), passwords=cheap)
    things = Things(platform.journal, f"http://{OWNER}.localhost:{port}")
    link = platform.issuer.first_link() or ""
    _, cookie = platform.issuer.use_first(link.rpartition("/")[2], OWNER, PASSWORD, full_name="Ada Lovelace")
    inventory = Inventory(nodes=(Node(name="here", arch="amd64", cpu=8, memory=32 * 2**30, accelerators={"a100": 1}),))
    platform = dataclasses.replace(
        platform,
        backend=dataclasses.replace(platform.backend, inventory=lambda: inventory),
        notebooks=guard.GuardedNotebooks(_Notebooks(things)),  # type: ignore[arg-type]
        services=guard.GuardedServices(_Services(things, platform)),  # type: ignore[arg-type]
        functions=guard.GuardedFunctions(_Functions(things)),  # type: ignore[arg-type]
        workflows=GuardedWorkflows(_Workflows(things)),  # type: ignore[arg-type]
        storage=guard.GuardedStorage(_Storage()),  # type: ignore[arg-type]
    )
    return Stage(platform, create_app(platform), things, cookie)


def deployed(things: Things, name: str, source: str) -> None:
    """Give the person a function whose source is this one."""
    spec = FunctionSpec(name=name, bundle=Bundle(files={"cell.py": source}, entry="cell:handler"))
    things.functions[name] = Function(
        owner=OWNER,
        name=name,
        revision=Revision(id=name, number=1, spec=spec),
        status=Status(state=State.IDLE),
        address=f"http://{name}--fn--{OWNER}.localhost:8001/",
    )


def furnish(things: Things, text: str = "") -> None:
    """Give the person one of everything, with ``text`` wherever people write."""
    now, word = time.time(), text or "digits"
    why = Why(
        cause=f"The step 'train(3)' ended with ValueError: {word}",
        next="Look at its traceback.",
        code="RW-USER-CODE",
        raw=text or "exit code 1",
    )
    things.notebook = things.notebook.model_copy(update={"status": Status(state=State.RUNNING, since=now - 4000)})
    things.log = [text or "epoch 1: loss 0.412", "epoch 2: loss 0.233", "epoch 3: loss 0.171"]
    for name, template, state, values in [
        ("board", "tensorboard", State.RUNNING, {"folder": text or "logs", "reload_seconds": 5}),
        ("report", "voila", State.STARTING, {"notebook": "reports/sales.ipynb", "show_code": False, "theme": "light"}),
        ("notes", "editor", State.FAILED, {"folder": ""}),
    ]:
        status = Status(state=state, since=now - 90, why=why if state is State.FAILED else None, note=text)
        spec = ServiceSpec(name=name, template=template, values=values)
        address = f"http://{name}--{OWNER}.localhost:8001/"
        things.services[name] = Service(owner=OWNER, spec=spec, status=status, address=address, created=now - 3600)
    source = f"{text or '# a model of digits'}\nimport numpy as np\n\ndef handle(pixels):\n    return {{'digit': 7}}\n"
    bundle = Bundle(
        files={"digits.py": source},
        entry="digits:handle",
        origin={"digits.py": f"cell 12 {text}".strip()},
        imports=("numpy", "sklearn"),
    )
    for number, (name, state) in enumerate([("digits", State.RUNNING), ("hello", State.IDLE)]):
        spec_ = FunctionSpec(name=name, bundle=bundle, placement=Placement(memory=2**30))
        revision = Revision(
            id=f"r{number}4f2a", number=3, spec=spec_, environment="9f86d081884c7d65", created=now - 7200
        )
        older = [("6b86b273", 30.0), ("4e074085", 60.0)]
        things.revisions[name] = [revision] + [
            Revision(
                id=f"r{number}{digest}",
                number=2 - at,
                spec=spec_.model_copy(
                    update={"bundle": bundle.model_copy(update={"digest": digest}), "timeout": timeout}
                ),
                environment=text or "old",
                created=now - 86400 * (at + 1),
            )
            for at, (digest, timeout) in enumerate(older)
        ]
        status = Status(state=state, note=text)
        things.functions[name] = Function(
            owner=OWNER,
            name=name,
            revision=revision,
            status=status,
            address=f"http://{name}--fn--{OWNER}.localhost:8001/",
        )
        things.calls[name] = [
            Call(
                id=f"c{i}",
                function=name,
                owner=OWNER,
                revision=revision.id,
                started=now - 47 * i - 3,
                ended=now - 47 * i - 2.98,
                state=State.FAILED if i % 9 == 4 else State.DONE,
                cold=i == 20,
                status=500 if i % 9 == 4 else 200,
                error=(text or "ValueError: pixels") if i % 9 == 4 else "",
                traceback='Traceback (most recent call last):\n  File "cell 12", line 4, in handle\n'
                f"ValueError: {text or 'pixels'}"
                if i % 9 == 4
                else "",
                logs=text,
            )
            for i in range(24 if not number else 0)
        ]
    _runs(things, now, text, why)


PAGE = b"<p>told</p><script>alert(1)</script>"
"""What the page of an executed notebook holds."""
_PAGE = Artifact(name="page", digest="cd" * 32, size=30, media_type="text/html")


def _artifact(text: str) -> Artifact:
    seen = Preview(
        text=text or "a table of scores",
        facts={text or "rows": text or "2"},
        columns=(text or "depth", "score"),
        rows=((text or "3", "0.91"), ("5", text or "0.93")),
    )
    return Artifact(name=text or "model", digest="ab" * 32, size=123456, preview=seen)


def _frames(text: str) -> str:
    raised = text or "depth must be odd"
    where = '  File "cell 7", line 9, in train\n    raise ValueError'
    return f"Traceback (most recent call last):\n{where}\nValueError: {raised}"


def _runs(things: Things, now: float, text: str, why: Why) -> None:
    def step(
        id: str, name: str, state: State, needs: tuple[str, ...], start: float, end: float | None, **more: Any
    ) -> Step:
        return Step(
            id=id,
            name=name,
            template=name.split("(")[0],
            status=Status(state=state),
            needs=needs,
            attempt=1,
            started=now - start,
            ended=None if end is None else now - end,
            **more,
        )

    first = [step("load", "load", State.DONE, (), 95, 93, outputs={"rows": 1797, "note": text})]
    train = [
        step(
            f"train{i}",
            f"train({i})",
            State.FAILED if i == 3 else State.DONE,
            ("load",),
            93,
            80 - 6 * i,
            inputs={"depth": i, "note": text},
            outputs={} if i == 3 else {"score": 0.9 + i / 100},
            error=f"ValueError: {text or 'depth must be odd'}" if i == 3 else "",
            traceback=_frames(text) if i == 3 else "",
            artifacts=() if i == 3 else (_artifact(text), *([_PAGE] if i == 2 else [])),
        )
        for i in range(5)
    ]
    last = [
        step("best", "pick_best", State.STOPPED, tuple(f"train{i}" for i in range(5)), 1, 0).model_copy(
            update={"started": None, "ended": None}
        )
    ]
    things.runs["run-5k2m9qv0w3"] = Run(
        id="run-5k2m9qv0w3",
        owner=OWNER,
        name=text or "tune",
        status=Status(state=State.FAILED, why=why, since=now - 50),
        steps=(*first, *train, *last),
        created=now - 96,
        ended=now - 50,
        arguments={"note": text or "x"},
    )
    wide = [step("split", "split", State.DONE, (), 60, 59)]
    wide += [
        step(
            f"part{i}",
            f"score({i})",
            State.RUNNING if i % 7 == 6 else State.DONE,
            ("split",),
            59,
            None if i % 7 == 6 else 40,
        )
        for i in range(40)
    ]
    wide += [
        step("join", "join", State.WAITING, tuple(f"part{i}" for i in range(40)), 0, 0).model_copy(
            update={"started": None, "ended": None}
        )
    ]
    things.runs["run-000000wide"] = Run(
        id="run-000000wide",
        owner=OWNER,
        name=text or "score-all",
        status=Status(state=State.RUNNING),
        steps=tuple(wide),
        created=now - 61,
    )
    chain = [
        step(f"s{i}", f"stage_{i}", State.DONE, (f"s{i - 1}",) if i else (), 500 - i * 10, 492 - i * 10)
        for i in range(9)
    ]
    things.runs["run-00000chain"] = Run(
        id="run-00000chain",
        owner=OWNER,
        name="nightly",
        steps=tuple(chain),
        status=Status(state=State.DONE),
        created=now - 500,
        ended=now - 410,
    )


def study(things: Things, count: int, text: str = "") -> None:
    """Give the person many runs of one workflow, which differ in what they were given and what they returned."""
    now, done = time.time(), Status(state=State.DONE)
    for at in range(count):
        score = Step(id="score", name="score", status=done, outputs={"result": at * 2})
        run = Run(
            id=f"run-0000study{at:02}",
            owner=OWNER,
            name=text or "study",
            status=Status(state=State.FAILED) if at == 7 else done,
            steps=(score,),
            created=now - 90000 + at,
            ended=now - 90000 + 3 * at,
            arguments={"rate": 10 ** (-4 + at % 9 / 2), text or "model": text or "forest", "rows": 1797},
            outputs={} if at == 7 else {"result": {"accuracy": 0.8 + at % 13 / 100, text or "loss": 1 / (at + 1)}},
        )
        things.runs[run.id] = run


SCORE = """
import enum
from dataclasses import dataclass
from typing import Literal


class Shade(enum.Enum):
    DARK = "dark"
    LIGHT = "light"


@dataclass
class Point:
    x: float
    y: float = 0.5


def handler(
    count: int,
    title: str,
    at: Point,
    rate: float = 0.5,
    shade: Shade = Shade.LIGHT,
    mode: Literal["fast", "slow", 3] | None = None,
    exact: bool = True,
    note: str | None = None,
    rows: list[list[int]] = [],
) -> dict[str, float]:
    \"\"\"Score what there is.\"\"\"
    return {}
"""
FAILURE = UserCodeFailed("The function 'digits' raised ValueError.", details={"traceback": "ValueError: <b>x</b>"})


def main() -> None:
    """Serve a furnished stage on a port."""
    with tempfile.TemporaryDirectory() as home:
        stage = make(Path(home), int(sys.argv[1]))
        if "--empty" not in sys.argv:
            furnish(stage.things)
            deployed(stage.things, "score", SCORE)
            study(stage.things, 60)
        for name in ("grace", "alan"):
            stage.platform.issuer.sign_up(name, PASSWORD, full_name=f"{name.title()} Example")
        sys.stdout.write(f"{cookie_name(stage.platform.settings.door)}={stage.cookie}\n")
        sys.stdout.flush()
        asyncio.run(uvicorn.Server(uvicorn.Config(stage.app, port=int(sys.argv[1]), log_level="warning")).serve())


if __name__ == "__main__":
    main()
