"""Durable calls in a notebook: spawned, found again, waited for, canceled."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest

from ropewalk_core import sync
from ropewalk_core.errors import BadInput, NotFound, RopewalkError, TimedOut, Unavailable, UserCodeFailed
from ropewalk_core.model import DurableCall, State, Status
from ropewalk_kernel import calls
from ropewalk_kernel.functions import functions
from ropewalk_kernel.posts import Answer
from tests.kernel.conftest import Notebook
from tests.kernel.fake import FakePlatform

DOUBLE = "%%function --retries 5 --retry-errors --retry-wait 2\ndef double(x: int) -> int:\n    return 2 * x\n"
REAL = calls.spawn


@pytest.fixture(autouse=True)
def deployed(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    spec = platform.functions["double"].revision.spec
    assert (spec.retries, spec.retry_errors, spec.retry_wait) == (5, True, 2.0)


def test_the_result_comes_later_and_from_anywhere(platform: FakePlatform) -> None:
    call = functions.get("double").spawn(21)
    assert call.state is State.WAITING
    again = functions.spawned(call.id)
    assert again.result() == 42 and again.state is State.DONE
    assert pickle.loads(pickle.dumps(again)).result() == 42
    assert asyncio.run(functions.get("double").spawn(x=4).aio_result()) == 8
    with pytest.raises(NotFound):
        functions.spawned("double.000000000000000999")


def test_a_handle_that_was_kept_is_the_first_thing_that_another_kernel_asks_for(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = pickle.dumps(functions.get("double").spawn(21))
    portal = sync.portal()
    client, portal.client, found = portal.client, None, list[int]()
    monkeypatch.setattr(sync, "connect", lambda **_: client)
    asking = threading.Thread(target=lambda: found.append(pickle.loads(kept).result()), daemon=True)
    asking.start()
    asking.join(10)
    portal.client = client
    assert found == [42]


def test_a_key_names_one_call(platform: FakePlatform) -> None:
    double = functions.get("double")
    assert double.spawn_once("monday", 1).id == double.spawn_once("monday", 1).id
    assert double.spawn(1).id != double.spawn(1).id
    with pytest.raises(BadInput):
        double.spawn_once("", 1)


def test_cancel_replay_forget(platform: FakePlatform) -> None:
    call = functions.get("double").spawn(1)
    assert call.cancel().state is State.STOPPED
    platform.durable[call.id] = platform.durable[call.id].model_copy(update={"status": Status(state=State.FAILED)})
    with pytest.raises(UserCodeFailed):
        call.result()
    assert call.replay().result() == 2
    call.forget()
    with pytest.raises(NotFound):
        call.info()


def test_a_time_that_is_over(platform: FakePlatform) -> None:
    call = functions.get("double").spawn(1)
    with pytest.raises(TimedOut, match="goes on"):
        call.result(timeout=0)
    assert call.result(timeout=5) == 2


def test_the_list_reads_well(platform: FakePlatform, notebook: Notebook) -> None:
    double = functions.get("double")
    assert "f.spawn" in repr(double.spawned())
    call = double.spawn(1)
    assert call.id in notebook.run("double.spawned()") and [one.id for one in double.spawned()] == [call.id]
    assert (
        "waiting" in notebook.run(f"import ropewalk\nropewalk.functions.spawned({call.id!r})")
        and len(double.spawned("open")) == 1
    )
    with pytest.raises(BadInput):
        double.spawned("nonsense")  # type: ignore[arg-type]


async def test_a_gateway_that_is_away_is_asked_again_with_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    made = DurableCall(id="f.x", owner="ada", function="f", status=Status(state=State.WAITING), created=1.0)

    async def ask(client: Any, address: str, body: bytes, more: Any = ()) -> Answer:
        seen.append(dict(more))
        if len(seen) < 3:
            raise Unavailable("away")
        return Answer(202, [], made.model_dump_json().encode())

    monkeypatch.setattr(calls, "ask", ask)
    client: Any = None
    assert (await REAL(client, "http://f", b"", "key-1")).id == "f.x"
    assert seen == [{"Prefer": "respond-async", "Idempotency-Key": "key-1"}] * 3
    monkeypatch.setattr(calls, "_PATIENCE", 0.2)
    seen[:] = []
    with pytest.raises(RopewalkError):
        await REAL(client, "http://f", b"", "key-2")
