"""What durable calls must do on any backend of functions, with a gateway that carries them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from ropewalk_core.errors import Conflict, Denied, NotFound, UserCodeFailed
from ropewalk_core.guard import GuardedDurable, GuardedFunctions
from ropewalk_core.model import Bundle, DurableCall, FunctionSpec, State
from ropewalk_core.ports import Durable, Functions
from ropewalk_core.testing.people import ADA, BOB, EVE

_PATIENCE = 60.0


class DurableContract:
    """Subclass it and override the fixture ``ports``; where handlers look otherwise, ``source`` too."""

    source = "def handler(value):\n    return 2 * value\n"
    failing = "def handler(value):\n    raise ValueError('no good')\n"
    slow = "import time\ndef handler(value):\n    time.sleep(value)\n    return value\n"

    @pytest.fixture
    def ports(self) -> tuple[Functions, Durable]:
        """Return the functions port and the desk of durable calls, without guards, beside a gateway that runs."""
        raise NotImplementedError

    @pytest.fixture
    def functions(self, ports: tuple[Functions, Durable]) -> GuardedFunctions:
        """Return functions behind policy."""
        return GuardedFunctions(ports[0])

    @pytest.fixture
    def durable(self, ports: tuple[Functions, Durable]) -> GuardedDurable:
        """Return durable calls behind policy."""
        return GuardedDurable(ports[1])

    def spec(self, name: str = "double", source: str = "", **changes: Any) -> FunctionSpec:
        """Return a function that the backend can run."""
        bundle = Bundle(files={"cell.py": source or self.source}, entry="cell:handler")
        return FunctionSpec(name=name, bundle=bundle, **changes)

    async def ended(self, durable: GuardedDurable, call: DurableCall) -> DurableCall:
        """Return the call once it has ended."""
        async with asyncio.timeout(_PATIENCE):
            while not (found := await durable.get(ADA, "ada", call.id)).status.state.terminal:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return found

    async def test_what_was_accepted_gives_its_result(
        self, functions: GuardedFunctions, durable: GuardedDurable
    ) -> None:
        """It answers at once; its result comes later, is kept, and names the revision that ran."""
        deployed = await functions.deploy(ADA, "ada", self.spec())
        call = await durable.spawn(ADA, "ada", "double", b"21")
        assert call.status.state is State.WAITING and call.attempt == 0
        found = await durable.result(ADA, "ada", call.id, wait=_PATIENCE)
        assert found.body is not None and json.loads(found.body) == 42
        assert found.call.revision == deployed.revision.id and found.call.attempt == 1
        assert (await durable.result(ADA, "ada", call.id)).body == found.body

    async def test_a_call_has_a_record_as_any_call(self, functions: GuardedFunctions, durable: GuardedDurable) -> None:
        """It goes the way of every call: limits, records and scaling hold for it."""
        await functions.deploy(ADA, "ada", self.spec())
        found = await self.ended(durable, await durable.spawn(ADA, "ada", "double", b"21"))
        for _ in range(100):
            if records := (await functions.calls(ADA, "ada", "double")).items:
                break
            await asyncio.sleep(0.05)
        assert [one.id for one in records] == [found.call]

    async def test_many_have_each_their_own_result(self, functions: GuardedFunctions, durable: GuardedDurable) -> None:
        """None is lost, none is mixed up."""
        await functions.deploy(ADA, "ada", self.spec(max_workers=2))
        calls = [await durable.spawn(ADA, "ada", "double", str(number).encode()) for number in range(20)]
        for number, call in enumerate(calls):
            found = await durable.result(ADA, "ada", call.id, wait=_PATIENCE)
            assert found.body is not None and json.loads(found.body) == 2 * number
        assert len((await durable.list(ADA, "ada", "double", shelf="ended")).items) == 20

    async def test_a_key_makes_one_call(self, functions: GuardedFunctions, durable: GuardedDurable) -> None:
        """The same key again is the same call, also after its end; with other arguments it is refused."""
        await functions.deploy(ADA, "ada", self.spec())
        call = await durable.spawn(ADA, "ada", "double", b"21", key="one")
        await self.ended(durable, call)
        again = await durable.spawn(ADA, "ada", "double", b"21", key="one")
        assert again.id == call.id and again.status.state is State.DONE
        with pytest.raises(Conflict):
            await durable.spawn(ADA, "ada", "double", b"22", key="one")

    async def test_the_persons_own_exception_is_a_dead_letter(
        self, functions: GuardedFunctions, durable: GuardedDurable
    ) -> None:
        """It is not tried again, keeps its arguments, and a replay runs the revision that is live then."""
        await functions.deploy(ADA, "ada", self.spec(source=self.failing))
        call = await durable.spawn(ADA, "ada", "double", b"21")
        dead = await self.ended(durable, call)
        assert dead.status.state is State.FAILED and dead.attempt == 1
        with pytest.raises(UserCodeFailed) as caught:
            await durable.result(ADA, "ada", call.id)
        assert "no good" in str(caught.value.details["traceback"])
        await functions.deploy(ADA, "ada", self.spec())
        await durable.replay(ADA, "ada", call.id)
        found = await durable.result(ADA, "ada", call.id, wait=_PATIENCE)
        assert found.body is not None and json.loads(found.body) == 42

    async def test_what_took_too_long_is_tried_as_often_as_the_function_says(
        self, functions: GuardedFunctions, durable: GuardedDurable
    ) -> None:
        """A time-out is worth a retry; after the last one it is a dead letter."""
        await functions.deploy(ADA, "ada", self.spec(source=self.slow, timeout=0.3, retries=1, retry_wait=0.1))
        dead = await self.ended(durable, await durable.spawn(ADA, "ada", "double", b"30"))
        assert (dead.status.state, dead.attempt) == (State.FAILED, 2)
        assert dead.status.why is not None and dead.status.why.code == "RW-TIMED-OUT"

    async def test_a_canceled_call_gives_nothing(self, functions: GuardedFunctions, durable: GuardedDurable) -> None:
        """Whether it runs or waits; what waits behind it goes on."""
        await functions.deploy(ADA, "ada", self.spec(source=self.slow, max_workers=1))
        calls = [await durable.spawn(ADA, "ada", "double", one) for one in (b"30", b"31", b"0")]
        async with asyncio.timeout(_PATIENCE):
            while (await durable.get(ADA, "ada", calls[0].id)).status.state is not State.RUNNING:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for call in calls[:2]:
            assert (await durable.cancel(ADA, "ada", call.id)).status.state is State.STOPPED
            with pytest.raises(Conflict):
                await durable.result(ADA, "ada", call.id)
        assert (await durable.result(ADA, "ada", calls[2].id, wait=_PATIENCE)).body == b"0"
        await durable.forget(ADA, "ada", calls[0].id)
        with pytest.raises(NotFound):
            await durable.get(ADA, "ada", calls[0].id)

    async def test_somebody_elses_is_not_found(self, functions: GuardedFunctions, durable: GuardedDurable) -> None:
        """A stranger learns nothing, and an administrator reads neither arguments nor results."""
        await functions.deploy(ADA, "ada", self.spec())
        call = await durable.spawn(ADA, "ada", "double", b"21")
        with pytest.raises(NotFound):
            await durable.spawn(BOB, "ada", "double", b"21")
        for act in (durable.get, durable.result, durable.cancel, durable.replay, durable.forget):
            with pytest.raises(NotFound):
                await act(BOB, "ada", call.id)
        with pytest.raises(NotFound):
            await durable.list(BOB, "ada", "double")
        with pytest.raises(NotFound):
            await durable.get(BOB, "bob", call.id)
        with pytest.raises(Denied):
            await durable.result(EVE, "ada", call.id)
        await self.ended(durable, call)
