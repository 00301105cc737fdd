"""What was opened with a sign-in ends with it: streams of log lines, and addresses that were signed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from ropewalk_core.errors import NotFound, RopewalkError, Unavailable
from ropewalk_core.model import Actor, LogLine
from ropewalk_hub.api import common
from ropewalk_hub.platform import Platform
from tests.rest.conftest import bearer


async def three_lines(platform: Platform, end: str) -> AsyncIterator[LogLine]:
    yield LogLine(offset=1, text="before")
    if end == "deactivated":
        platform.issuer.accounts.set_state("bob", "deactivated")
    elif end == "password":
        platform.issuer.accounts.set_password("bob", "a very new password")
    yield LogLine(offset=2, text="after")
    yield LogLine(offset=3, text="later")


@pytest.mark.parametrize(("end", "seen"), [("", 3), ("password", 1), ("deactivated", 1)])
async def test_a_followed_log_ends_with_the_sign_in(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, end: str, seen: int
) -> None:
    monkeypatch.setattr(common, "LOOK_AGAIN", 0.0)
    platform.issuer.accounts.set_state("bob", "active")
    actor = Actor(account="bob", session="server:bob")
    answer = common.ndjson(three_lines(platform, end), platform, actor)
    assert len([piece async for piece in answer.body_iterator]) == seen


async def broken(error: RopewalkError, *lines: LogLine) -> AsyncIterator[LogLine]:
    for line in lines:
        yield line
    raise error


@pytest.mark.parametrize(
    ("error", "cut"),
    [(Unavailable("The artifact store does not answer: ConnectTimeout."), True), (NotFound("x"), False)],
)
async def test_a_log_that_breaks_after_its_begin_says_why_in_its_last_line(
    platform: Platform, error: RopewalkError, cut: bool
) -> None:
    platform.issuer.accounts.set_state("bob", "active")
    actor = Actor(account="bob", session="server:bob")
    for lines, offset in (((), 3), ((LogLine(offset=7, text="one"),), 7)):
        answer = common.ndjson(broken(error, *lines), platform, actor, 3)
        *_, last = [LogLine.model_validate_json(str(piece)) async for piece in answer.body_iterator]
        assert last == LogLine(offset=offset, text=error.message, stream="platform", cut=cut)


async def test_a_signed_address_ends_with_the_account(platform: Platform, anonymous: httpx.AsyncClient) -> None:
    platform.issuer.accounts.set_state("bob", "active")
    headers = {"Authorization": f"Bearer {bearer(platform, 'bob')}"}
    await anonymous.put("/api/v1/files/bob/data", content=b"mine", headers=headers)
    asked = await anonymous.post("/api/v1/files/bob", json={"path": "data"}, headers=headers)
    address = asked.json()["address"]
    assert (await anonymous.get(address)).content == b"mine"
    platform.issuer.accounts.set_state("bob", "deactivated")
    assert (await anonymous.get(address)).status_code == 401
