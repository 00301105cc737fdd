"""Triggers through REST, the client and the command line, over the real desks; what they fire is a durable call."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from ropewalk_core.client import Client
from ropewalk_core.errors import BadInput, NotFound
from ropewalk_core.model import Bundle, FunctionSpec, TriggerSpec
from ropewalk_core.testing import ADA
from ropewalk_hub.platform import Platform
from tests.rest.test_cli import Shell, shell

__all__ = ["shell"]
AT = "/api/v1/functions/ada/digits/triggers"


@pytest.fixture
async def deployed(platform: Platform) -> None:
    for name in ("digits", "clean"):
        spec = FunctionSpec(name=name, bundle=Bundle(files={"cell.py": "x = 1\n"}, entry="cell:x", digest="a"))
        await platform.functions.deploy(ADA, "ada", spec)
    await platform.triggers.choose(ADA, "ada", "digits", ())


async def test_rest_from_the_first_word_to_the_call(http: httpx.AsyncClient, deployed: None) -> None:
    made = await http.post(AT, json={"every": "*/5 * * * *", "zone": "Europe/Athens"})
    assert made.status_code == 201 and made.json()["next"] % 300 == 0
    one = made.json()["id"]
    assert (await http.post(AT, json={"every": "*/5 * * * *", "zone": "Europe/Athens"})).json()["id"] == one
    assert [each["id"] for each in (await http.get(AT)).json()["items"]] == [one]
    assert (await http.post(f"{AT}/{one}/pause")).json()["paused"] is True
    assert (await http.post(f"{AT}/{one}/resume")).json()["paused"] is False
    fired = await http.post(f"{AT}/{one}/fire", headers={"Idempotency-Key": "k"})
    assert fired.status_code == 202 and fired.json()["trigger"] == one
    assert (await http.post(f"{AT}/{one}/fire", headers={"Idempotency-Key": "k"})).json()["id"] == fired.json()["id"]
    shown = (await http.get(AT)).json()["items"][0]
    assert (shown["call"], shown["outcome"]) == (fired.json()["id"], "waiting")
    assert (await http.delete(f"{AT}/{one}")).json()["id"] == one
    assert (await http.delete(f"{AT}/{one}")).status_code == 404
    chosen = await http.put(AT, json={"triggers": [{"after": "clean", "when": "always"}, {"every": "@daily"}]})
    assert [each["spec"]["after"] for each in chosen.json()["items"]] == ["function:clean", ""]
    again = await http.put(AT, json={"triggers": [{"every": "@daily"}]})
    assert [each["id"] for each in again.json()["items"]] == [chosen.json()["items"][1]["id"]]


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({}, "every"),
        ({"every": "61 * * * *"}, "every"),
        ({"every": "@daily", "zone": "Nowhere"}, "zone"),
        ({"every": "@daily", "after": "clean"}, "after"),
        ({"on_file": "../x"}, "on_file"),
        ({"after": "clean", "when": "sometimes"}, "when"),
        ({"nonsense": 1}, "nonsense"),
        ({"every": "x" * 201}, "every"),
    ],
)
async def test_wrong_wishes_name_their_field(
    http: httpx.AsyncClient, deployed: None, wish: dict[str, Any], field: str
) -> None:
    for answer in (await http.post(AT, json=wish), await http.put(AT, json={"triggers": [wish]})):
        assert answer.status_code == 422 and answer.json()["field"].rpartition(".")[2] == field, answer.text
    assert (await http.get(AT)).json()["items"] == []


async def test_what_is_not_there_is_not_found(http: httpx.AsyncClient, deployed: None) -> None:
    assert (await http.post(AT, json={"after": "nothing"})).status_code == 404
    assert (await http.get(AT.replace("digits", "nothing"))).status_code == 404
    assert (await http.post(f"{AT}/t-0/fire")).status_code == 404


async def test_a_stranger_finds_no_trigger(client_of: Any, deployed: None) -> None:
    made = await client_of().triggers.add("digits", TriggerSpec(every="@daily"))
    stranger: Client = client_of("bob")
    for act in (
        stranger.triggers.list("digits", owner="ada"),
        stranger.triggers.add("digits", TriggerSpec(every="@daily"), owner="ada"),
        stranger.triggers.choose("digits", (), owner="ada"),
        stranger.triggers.pause("digits", made.id, owner="ada"),
        stranger.triggers.fire("digits", made.id, owner="ada"),
        stranger.triggers.remove("digits", made.id, owner="ada"),
    ):
        with pytest.raises(NotFound):
            await act
    assert len((await client_of().triggers.list("digits")).items) == 1


async def test_a_function_cannot_follow_somebody_elses(client_of: Any, platform: Platform, deployed: None) -> None:
    client: Client = client_of()
    with pytest.raises(BadInput):
        await client.triggers.add("digits", TriggerSpec(after="bob/clean"))


def test_the_command_line(shell: Shell, platform: Platform, deployed: None) -> None:
    assert "No triggers" in shell("functions", "trigger", "list", "digits")
    said = shell("functions", "trigger", "add", "digits", "--every", "0 2 * * mon-fri", "--zone", "Europe/Athens")
    assert "fires every 0 2 * * mon-fri, Europe/Athens. Next: " in said and "02:00 Europe/Athens" in said
    one = said.partition(" ")[0]
    assert one in shell("functions", "trigger", "list", "digits")
    assert "It is paused." in shell("functions", "trigger", "pause", "digits", one)
    assert "paused" in shell("functions", "trigger", "list", "digits")
    assert "Next: " in shell("functions", "trigger", "resume", "digits", one)
    call = shell("functions", "trigger", "fire", "digits", one).strip()
    assert f"by trigger {one}" in shell("durable", "get", call)
    assert "last call waiting" in shell("functions", "trigger", "list", "digits")
    assert shell.json("functions", "trigger", "list", "digits")[0]["call"] == call
    assert shell("functions", "trigger", "remove", "digits", one) == f"{one} is removed.\n"
    shell("functions", "trigger", "remove", "digits", one, code=4)
    shell("functions", "trigger", "add", "digits", "--every", "no", code=2)
    shell("functions", "trigger", "add", "digits", "--zone", "x" * 65, code=2)
    shell("functions", "trigger", "add", "digits", code=2)
    asyncio.run(platform.durable.cancel(ADA, "ada", call))
