"""A walk of chance over functions while everything under them is killed, held against a small model of what may answer.

Each revision answers with a mark of its own. While something is changed, calls go on from several sides: one that ends
is answered by a revision that was allowed before or is after; one that begins after the change by one that is allowed
now, and by nothing else unless something was killed meanwhile. `SEED=n` walks as another time did, `STEPS=n` further.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from ropewalk_core.errors import NotFound, RopewalkError, Unavailable
from ropewalk_core.functions import roll_back
from ropewalk_core.local import sandbox
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import FunctionSpec
from ropewalk_core.testing import ADA
from tests.faults.test_functions import processes
from tests.function_rig import Rig, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not sandbox.probe().works, reason=f"no working bubblewrap: {sandbox.probe().why}"),
]
NAMES = ("one", "two")
LASTING = "lasting"
SOURCE = "import time\ndef handler(pause: float = 0.0):\n    time.sleep(pause)\n    return {mark!r}\n"
HANGS = 45.0
"""Seconds after which a change counts as hanging; all patience that the platform asks for is shorter by then."""
HOST, GATEWAY = "ropewalk_hub.host", "ropewalk_hub.gateway"


# The model


@dataclass
class Told:
    """One function as it was acknowledged."""

    marks: dict[int, str]
    latest: int
    shares: dict[int, int] = field(default_factory=lambda: {0: 100})

    def allowed(self) -> set[str]:
        """Return the marks that may answer a call."""
        return {self.at(number) for number, share in self.shares.items() if share}

    def at(self, number: int) -> str:
        """Return the mark of a revision, of the latest for 0."""
        return self.marks[number or self.latest]


class Model:
    """All functions as they were acknowledged."""

    def __init__(self) -> None:
        self.functions: dict[str, Told] = {}

    def allowed(self, name: str) -> set[str]:
        """Return what may answer a call of this name; nothing means that there is no such function."""
        return self.functions[name].allowed() if name in self.functions else set()

    def deployed(self, name: str, number: int, mark: str) -> None:
        if name not in self.functions:
            assert number == 1, "a function of a removed one's name begins anew"
            self.functions[name] = Told({}, 0)
        told = self.functions[name]
        assert number == told.latest + 1, "each revision has the next number"
        told.marks[number], told.latest = mark, number

    def rolled_back(self, name: str, to: int, number: int) -> None:
        told = self.functions[name]
        if told.marks[to] != told.marks[told.latest]:
            self.deployed(name, number, told.marks[to])
        assert number == told.latest
        if told.shares[0] < 100:
            told.shares = dict.fromkeys(told.shares, 0) | {0: 100}

    def split(self, name: str, weights: dict[int, int]) -> None:
        self.functions[name].shares = {0: 0} | weights

    def removed(self, name: str) -> None:
        del self.functions[name]


# The walk


@dataclass(frozen=True)
class Answered:
    """One call and what came of it: a mark, a code, or the end of its connection."""

    name: str
    mark: str
    code: str
    status: int


class Walk:
    """The real thing beside the model."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig, self.chance, self.model = rig, random.Random(seed), Model()
        self.made = 0
        self.killed: list[str] = []
        self.kills: Counter[str] = Counter()
        self.spawned: list[str] = []
        self.lasting: set[str] = set()

    # What is done

    def spec(self, name: str) -> tuple[FunctionSpec, str]:
        """Return another revision, of any scale."""
        self.made += 1
        mark = f"{name} {self.made}"
        scale = {"concurrency": self.chance.choice((1, 1, 3)), "max_workers": self.chance.choice((1, 2, 4))}
        idle = self.chance.choice((0.0, 0.5, 60.0))
        return self.rig.spec(SOURCE.format(mark=mark), name, idle=idle, retries=20, retry_wait=0.1, **scale), mark

    async def deploy(self, name: str) -> None:
        spec, mark = self.spec(name)
        if name == LASTING:
            self.lasting.add(mark)
        function = await self.rig.functions.deploy(ADA, "ada", spec)
        self.model.deployed(name, function.revision.number, mark)

    async def roll_back(self, name: str) -> None:
        to = self.chance.choice(sorted(self.model.functions[name].marks))
        function = await roll_back(self.rig.functions, ADA, "ada", name, to)
        self.model.rolled_back(name, to, function.revision.number)

    async def split(self, name: str) -> None:
        numbers = sorted(self.model.functions[name].marks)
        chosen = self.chance.sample(numbers, min(len(numbers), self.chance.randint(1, 2)))
        first = self.chance.choice((0, 30, 100))
        weights = {0: 100 - first, chosen[0]: first} | dict.fromkeys(chosen[1:], 0)
        await self.rig.functions.traffic(ADA, "ada", name, weights)
        self.model.split(name, weights)

    async def remove(self, name: str) -> None:
        await self.rig.functions.remove(ADA, "ada", name)
        self.model.removed(name)

    async def restart(self, _name: str) -> None:
        await self.rig.functions._tasks.end()  # what a killed process would do no more
        await self.rig.restart_platform()

    async def spawn(self, _name: str) -> None:
        for _ in range(3):
            self.spawned.append((await self.rig.desk.spawn(ADA, "ada", LASTING, b"0.05")).id)

    def wish(self) -> tuple[str, str, Callable[[str], Awaitable[None]]]:
        """Choose what is done next, and to which function."""
        name = self.chance.choice(NAMES)
        there: list[Callable[[str], Awaitable[None]]] = [
            self.deploy,
            self.deploy,
            self.roll_back,
            self.split,
            self.remove,
        ]
        action = self.chance.choice(there) if name in self.model.functions else self.deploy
        draw = self.chance.random()
        if draw < 0.2:
            action = self.restart if draw < 0.05 else self.spawn
        elif draw < 0.3:
            name, action = LASTING, self.deploy
        return name, action.__name__, action

    # What is killed

    def kill(self, part: str) -> None:
        """Kill every process of a part that this process did not start itself."""
        keepers = processes(self.rig, lambda line: "ropewalk_runtime.keeper" in line and "bwrap" not in line)
        forked = processes(self.rig, lambda line: "ropewalk_runtime.zygote" in line)
        own = {space(pid) for pid in keepers}
        zygotes = [pid for pid in forked if space(pid) in own]
        which = {"keeper": keepers, "zygote": zygotes, "worker": [pid for pid in forked if pid not in zygotes]}
        for pid in which[part]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    async def strike(self) -> None:
        """Kill something after a moment, and start again what the supervisor would."""
        part = self.chance.choice(("worker", "zygote", "keeper", "host", "gateway"))
        await asyncio.sleep(self.chance.random() * 0.3)
        self.killed.append(part)
        self.kills[part] += 1
        if part == "host":
            await self.rig.kill(HOST)
            await self.rig.start_host(apart=True)
        elif part == "gateway":
            await self.rig.kill(GATEWAY)
            await self.rig.start_gateway(apart=True)
        else:
            await asyncio.to_thread(self.kill, part)

    # What is seen

    async def call(self, name: str, label: str = "", pause: float = 0.0) -> Answered:
        try:
            answer = await self.rig.call(json.dumps(pause).encode(), function=label or name)
        except httpx.TransportError:
            return Answered(name, "", "gone", 0)
        said = answer.json()
        if answer.status_code == 200:
            return Answered(name, str(said), "", 200)
        return Answered(name, "", str(said["code"]), answer.status_code)

    async def lane(self, over: asyncio.Event, found: list[Answered]) -> None:
        chance = random.Random(self.chance.random())
        while not over.is_set():
            found.append(await self.call(chance.choice((*NAMES, LASTING)), pause=chance.choice((0.0, 0.05))))

    async def step(self, number: int) -> None:
        """Do one thing while calls go on, with or without a kill, and look at everything afterwards."""
        name, word, action = self.wish()
        strikes = self.chance.random() < 0.5 and word != "restart"
        before, self.killed = deepcopy(self.model), []
        over, found = asyncio.Event(), list[Answered]()
        lanes = [asyncio.create_task(self.lane(over, found)) for _ in range(3)]
        striking = asyncio.create_task(self.strike()) if strikes else None
        failed = ""
        try:
            await asyncio.wait_for(action(name), HANGS)
        except Unavailable as error:
            failed = error.message
        finally:
            if striking is not None:
                await striking
            over.set()
            await asyncio.wait_for(asyncio.gather(*lanes), HANGS)
        say(f"step {number}: {word} {name}: {failed or 'done'} (killed: {self.killed}, calls: {len(found)})")
        assert not failed or self.killed, (word, name, failed)
        if word == "roll_back" and failed:
            await self.looked_up(name, before)
        for one in found:
            self.judge(one, before)
        await self.settled()

    def judge(self, one: Answered, before: Model) -> None:
        """Hold a call that ran while something changed against what was allowed before and is allowed now."""
        then, now = before.allowed(one.name), self.model.allowed(one.name)
        if one.status == 200:
            assert one.mark in then | now, (one, then, now)
        elif one.status == 404:
            assert not then or not now, (one, then, now)
        elif one.status == 503 and one.name not in self.model.functions:
            assert one.name in before.functions, one  # it was removed meanwhile
        else:
            assert self.killed and (one.status in (0, 503)), (one, self.killed)

    async def looked_up(self, name: str, before: Model) -> None:
        """A rollback is two changes, of which a kill may have left one: see which, and believe it if it is one."""
        function = await self.rig.functions.get(ADA, "ada", name)
        told = before.functions[name]
        assert function.revision.number in (told.latest, told.latest + 1)
        if function.revision.number > told.latest:
            source = function.revision.spec.bundle.files["cell.py"]
            [mark] = {one for one in told.marks.values() if SOURCE.format(mark=one) == source}
            self.model.deployed(name, function.revision.number, mark)

    async def settled(self) -> None:
        """Wait until all that was killed is back, and see that nothing but what is allowed answers, and all is kept."""
        async with asyncio.timeout(HANGS):
            for name in (*NAMES, LASTING):
                while (first := await self.call(name)).status in (0, 503) and self.killed:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                seen = [first, *(await asyncio.gather(*(self.call(name) for _ in range(2))))]
                allowed = self.model.allowed(name)
                if allowed:
                    assert {one.mark for one in seen} <= allowed and {one.status for one in seen} == {200}, (
                        seen,
                        allowed,
                    )
                else:
                    assert {one.status for one in seen} == {404}, seen
                await self.kept(name)

    async def kept(self, name: str) -> None:
        """See that the record of a function is what was acknowledged."""
        if name not in self.model.functions:
            with pytest.raises(NotFound):
                await self.rig.functions.get(ADA, "ada", name)
            return
        told, function = self.model.functions[name], await self.rig.functions.get(ADA, "ada", name)
        assert function.revision.number == told.latest
        shares = {0: function.traffic.latest} | {one.number: one.weight for one in function.traffic.shares}
        assert shares == told.shares
        assert {one.number for one in (await self.rig.functions.revisions(ADA, "ada", name)).items} == set(told.marks)
        for number in list(told.shares)[1:]:
            assert (await self.call(name, f"r{number}--{name}")).mark == told.at(number)

    async def ended(self) -> None:
        """See that every accepted call gave one result, and that nothing of all that is left behind."""
        for identifier in self.spawned:
            result = await self.rig.desk.result(ADA, "ada", identifier, wait=60)
            assert json.loads(result.body or b"null") in self.lasting, result.call.status
        for name in (*NAMES, LASTING):
            await self.deploy(name)  # so that its code is there and then gone, whatever kept that of an earlier one
            await self.remove(name)
        folder = AccountPaths(self.rig.settings.home, "ada").root / "functions"
        async with asyncio.timeout(HANGS):
            while set(os.listdir(folder)) & {*NAMES, LASTING}:  # noqa: ASYNC110 - a folder tells nobody
                await asyncio.sleep(0.05)
        await self.rig.client.end_account("ada")
        left = processes(self.rig, lambda line: "ropewalk_runtime" in line)
        assert not left, left
        assert {path.name for path in self.rig.settings.run.glob("*.sock")} == {"host.sock"}
        assert not list((self.rig.settings.run / "processes").glob("keeper.*.json"))
        open_files = await self.open_files()
        assert all(count < 60 for count in open_files.values()), open_files

    async def open_files(self) -> dict[str, int]:
        """Return how many descriptors the long-lived processes hold, once connections of callers are gone."""
        await asyncio.sleep(1.0)
        found = {name: one.pid for name, one in self.rig.processes.items()}
        return {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in found.items()}


def space(pid: int) -> str:
    """Return the namespace of processes that one is in, by which a worker differs from its zygote."""
    try:
        return os.readlink(Path(f"/proc/{pid}/ns/pid"))
    except OSError:
        return ""


def say(text: str) -> None:
    """Say something that is shown when the walk fails."""
    sys.stdout.write(f"{text}\n")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running(apart=True) as one:
        yield one


async def test_whatever_is_killed_only_what_was_accepted_answers(rig: Rig) -> None:
    seed = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    say(f"SEED={seed}")
    walk = Walk(rig, seed)
    try:
        await walk.deploy(LASTING)
        await walk.settled()
        for number in range(int(os.environ.get("STEPS", "40"))):
            await walk.step(number)
        walk.killed = []
        await walk.ended()
    except RopewalkError as error:
        raise AssertionError(f"{error} {error.details}") from error
    say(f"killed: {dict(walk.kills)}")


@pytest.mark.parametrize("part", ["keeper", "zygote"])
async def test_no_deploy_hangs_while_what_it_waits_for_is_killed_again_and_again(rig: Rig, part: str) -> None:
    """Each is done, or is refused with a reason, long before the time that code has to load."""
    walk = Walk(rig, 1)
    deploying = True

    async def fire() -> None:
        chance = random.Random(2)
        while deploying:
            await asyncio.sleep(0.1 + 2.5 * chance.random())
            await asyncio.to_thread(walk.kill, part)

    firing, outcomes = asyncio.create_task(fire()), list[str]()
    try:
        for _ in range(8):
            try:
                await asyncio.wait_for(walk.deploy("one"), HANGS)
                outcomes.append("done")
            except Unavailable as error:
                outcomes.append(error.message)
    finally:
        deploying = False
        await firing
    say(f"{part}: {outcomes}")
    walk.killed = [part]
    if "done" not in outcomes:
        await walk.deploy("one")
    await walk.settled()
