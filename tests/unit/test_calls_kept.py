"""What the platform remembers of calls, and holds of their answers, is bounded, whatever functions print and yield."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from ropewalk_core import called, settings
from ropewalk_core import functions as module
from ropewalk_core.errors import TooLarge
from ropewalk_core.journal import Journal
from ropewalk_core.local.functions import LocalFunctions
from ropewalk_core.model import Actor, Call, CallReport, State
from ropewalk_core.placement import Inventory
from ropewalk_core.testing import SimulatedClock


def call(number: int, function: str, owner: str = "ada", *, length: int = 100) -> Call:
    return Call(
        id=f"call-{number}",
        function=function,
        owner=owner,
        revision="r",
        started=0.0,
        ended=1.0,
        state=State.DONE,
        logs="x" * length,
    )


async def test_an_account_is_remembered_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(called, "KEPT", 1000)
    nothing = cast(Any, None)
    functions = LocalFunctions(
        settings.load(tmp_path, environ={}), nothing, Inventory(nodes=()), SimulatedClock(), host=nothing, token=nothing
    )
    functions._all_routes = cast(Any, lambda: {("ada", "f"), ("ada", "g"), ("bob", "f")})  # type: ignore[method-assign]
    functions._found = cast(Any, lambda owner, name: None)
    for calls in (
        [call(number, "f") for number in range(50)],
        [call(100, "f", "bob", length=900), call(101, "g", length=900)],
        [call(200 + number, "f", length=0) for number in range(500)],
    ):
        functions.record_calls(CallReport(calls=tuple(calls)))

    async def seen(owner: str, name: str) -> list[Call]:
        return list((await functions.calls(Actor(account=owner), owner, name, limit=1000)).items)

    assert len(await seen("ada", "f")) <= called.RING
    assert [one.id for one in await seen("ada", "g")] == ["call-101"]
    assert [one.id for one in await seen("bob", "f")] == ["call-100"]
    assert sum(len(one.logs) for one in [*await seen("ada", "f"), *await seen("ada", "g")]) <= 1000


async def test_what_one_function_prints_makes_another_forget_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(called, "KEPT", 1000)
    journal = Journal(tmp_path / "journal.db")
    book = called.CallBook(journal, SimulatedClock())
    known = {("ada", "f"), ("ada", "g"), ("ada", "h")}
    for number in range(100):
        book.record(
            CallReport(calls=(call(number, "f"), call(number, "g", length=5), call(number, "h", length=0))), known
        )
    assert len(book.latest("ada", "g", 1000)) >= 60 and len(book.latest("ada", "h", 1000)) == 100
    held = sum(len(one.logs) for name in "fgh" for one in book.latest("ada", name, 1000))
    assert 0 < held <= 2000 and book._texts["ada", ""] == held
    for name in "fgh":
        book.forget("ada", name)
    assert not +book._texts and not +book._functions
    journal.close()


async def test_an_answer_without_an_end_is_left_where_it_is_too_large(tmp_path: Path) -> None:
    nothing, sent = cast(Any, None), 0
    chosen = settings.load(tmp_path, environ={"ROPEWALK_LIMITS_PAYLOAD": "1000"})
    book = module.FunctionBook(chosen, nothing, SimulatedClock(), nothing)

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 100
            yield b'{"value":1}\n' * 10

    with pytest.raises(TooLarge) as caught:
        await book._body(httpx.Response(200, content=endless()))
    assert caught.value.field == "limits.payload" and sent < 2000
    assert await book._body(httpx.Response(200, content=b"x" * 1000)) == b"x" * 1000
