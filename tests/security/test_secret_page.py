"""A secret's value leaves by no answer and no log of the page that stores it, whatever is sent and whoever sends it."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from ropewalk_core.local.safe import folder_of
from ropewalk_core.model import Actor
from ropewalk_core.testing import take
from ropewalk_hub.issuer.kept import Kept
from tests.held import holding
from tests.pages.stage import OWNER, PASSWORD, Stage, furnish, make
from tests.pages.test_pages import PAGES, THINGS, events

VALUE = "xyzzy-plover-4711"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = make(tmp_path / "home")
    furnish(made.things)
    yield made
    await made.platform.close()


def told(answer: httpx.Response) -> str:
    """Return all that an answer says."""
    return f"{answer.headers} {answer.text}"


def attempts() -> list[dict[str, Any]]:
    """Return everything that a browser, a mistake or a program may send to the form."""
    form = [
        {"name": "GOOD", "secret": VALUE},
        {"name": "GOOD", "secret": VALUE + "\0"},
        {"name": "GOOD", "secret": VALUE * 1000},
        {"name": "GOOD", "secret": VALUE * 70_000},
        {"name": "PYTHONPATH", "secret": VALUE},
        {"name": "not a name", "secret": VALUE},
        {"secret": VALUE},
        {"name": "GOOD", "secret": [VALUE, VALUE]},
        {"name": "GOOD", "secret": VALUE, "value": VALUE, "password": VALUE},
    ]
    sent: list[dict[str, Any]] = [{"data": one} for one in form]
    sent += [{"files": {"secret": ("x", VALUE.encode()), "name": (None, "GOOD")}}]
    sent += [{"json": {"name": "GOOD", "secret": VALUE}}, {"content": f"name=GOOD&secret={VALUE}".encode()}]
    sent += [{"content": f"name=GOOD&secret=%ff{VALUE}".encode(), "headers": {"content-type": FORM}}]
    return [*sent, {"data": form[0], "headers": {"origin": "http://evil--ada.localhost:8001"}}]


@pytest.mark.parametrize("signed", [True, False])
async def test_no_answer_and_no_log_holds_it(stage: Stage, caplog: pytest.LogCaptureFixture, signed: bool) -> None:
    caplog.set_level(logging.DEBUG)
    async with stage.client(signed=signed) as browser:
        for one in attempts():
            for more in ({}, {"hx-request": "true"}, {"accept": "application/json"}):
                answer = await browser.post("/secrets", **(one | {"headers": one.get("headers", {}) | more}))
                assert VALUE not in told(answer), (one.keys(), answer.status_code)
                assert answer.status_code in (200, 303, 401, 403, 413, 422), answer.status_code
    assert VALUE not in caplog.text
    async with stage.client() as browser:
        for path in (*PAGES, *THINGS, "/secrets?stored=GOOD", "/secrets?name=GOOD", "/account"):
            assert VALUE not in told(await browser.get(path)), path
        for path in (f"secrets/{OWNER}", f"functions/{OWNER}", "me"):
            assert VALUE not in told(await browser.get(f"/api/v1/{path}")), path
    lines = await take(events(stage, 0), 2)
    assert VALUE not in "".join(lines)
    if signed:  # it did arrive, and lies where it should and nowhere else: journal and its log are files of the home
        assert VALUE in (folder_of(stage.platform.settings, OWNER) / "GOOD").read_text()
        assert holding(stage.platform.settings.home, VALUE) == [f"secrets/accounts/{OWNER}/GOOD"]
    else:
        assert holding(stage.platform.settings.home, VALUE) == []


async def test_a_sign_in_that_had_ended_keeps_the_name_and_not_the_value(stage: Stage) -> None:
    async with stage.client(signed=False) as browser:
        typed = {"name": "DB_PASSWORD", "secret": VALUE, "note": "carried"}
        lost = await browser.post("/secrets", data=typed)
        kept = html.unescape(re.search(r'name="kept" value="([^"]*)"', lost.text)[1])  # type: ignore[index]
        fields = stage.platform.issuer.kept.unpack(kept)
        assert fields == ("/secrets", [("name", "DB_PASSWORD"), ("note", "carried")])  # what is no secret
        back = await browser.post("/sign-in", data={"account": OWNER, "password": PASSWORD, "kept": kept})
        assert 'action="/secrets"' in back.text and VALUE not in told(back)
        again = await browser.post("/secrets", data={"name": "DB_PASSWORD"})
        assert again.status_code == 422 and "The value is empty." in again.text
    assert (await stage.platform.secrets.list(Actor(account=OWNER), OWNER)).items == ()


@pytest.mark.parametrize("name", ["secret", "Secret", "client_secret", "password", "old", "new_PASSWORD"])
def test_what_is_named_like_a_secret_is_never_carried(stage: Stage, name: str) -> None:
    kept: Kept = stage.platform.issuer.kept
    assert kept.pack("/x", [(name, VALUE)]) == ""
    assert kept.unpack(kept.pack("/x", [(name, VALUE), ("older", "b")])) == ("/x", [("older", "b")])


async def test_strangers_and_other_pages_store_and_remove_nothing(stage: Stage) -> None:
    me = Actor(account=OWNER)
    await stage.platform.secrets.set(me, OWNER, "MINE", VALUE)
    stage.platform.issuer.sign_up("bob", PASSWORD, full_name="Bob")
    stage.platform.issuer.accounts.set_state("bob", "active")
    _, cookie = stage.platform.issuer.sign_in("bob", PASSWORD)
    async with Stage(stage.platform, stage.app, stage.things, cookie).client() as bob:
        assert "MINE" not in (await bob.get("/secrets")).text
        assert (await bob.post("/secrets/MINE/remove")).status_code == 404
    async with stage.client() as browser:
        for origin in ("http://evil--ada.localhost:8001", "null", "http://bob.localhost:8000"):
            for path, data in (("/secrets", {"name": "PLANTED", "secret": "x"}), ("/secrets/MINE/remove", {})):
                answer = await browser.post(path, data=data, headers={"origin": origin})
                assert answer.status_code == 403 and "RW-WRONG-ORIGIN" in answer.text
        assert (await browser.get(f"/secrets?name=PLANTED&secret={quote(VALUE)}")).text.count(VALUE) == 0
    assert [one.name for one in (await stage.platform.secrets.list(me, OWNER)).items] == ["MINE"]
