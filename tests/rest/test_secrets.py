"""Secrets over REST, the client and the command line: stored, listed by name, removed, and never given back."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import pytest

from ropewalk_core.errors import NotFound
from ropewalk_core.local.safe import read
from ropewalk_hub.platform import Platform
from tests.rest.test_cli import Shell, shell

__all__ = ["shell"]
VALUE = "open-sesame-4711"


async def test_rest_stores_lists_and_removes_and_repeats_no_value(platform: Platform, http: httpx.AsyncClient) -> None:
    where = "/api/v1/secrets/ada"
    stored = await http.put(f"{where}/DB_PASSWORD", json={"value": VALUE})
    assert stored.status_code == 200 and set(stored.json()) == {"owner", "name", "stored"}
    assert read(platform.settings, "ada", ["DB_PASSWORD"]) == {"DB_PASSWORD": VALUE}
    listed = await http.get(where)
    assert [one["name"] for one in listed.json()["items"]] == ["DB_PASSWORD"] and VALUE not in listed.text
    assert (await http.get(f"{where}/DB_PASSWORD")).status_code in (404, 405)
    for wish in ({"value": [VALUE]}, {"other": VALUE}, {"value": VALUE + "\0"}, {"value": VALUE * 1000}):
        refused = await http.put(f"{where}/DB_PASSWORD", content=json.dumps(wish))
        assert refused.status_code in (413, 422) and VALUE not in refused.text, wish
    assert (await http.put("/api/v1/secrets/bob/DB_PASSWORD", json={"value": VALUE})).status_code in (403, 404)
    assert (await http.delete(f"{where}/DB_PASSWORD")).status_code == 200
    assert (await http.delete(f"{where}/DB_PASSWORD")).json()["code"] == "RW-NOT-FOUND"
    assert VALUE not in "".join(str(one.body) for one in platform.journal.events(kind="secret"))


async def test_the_client_says_what_the_platform_says(client_of: Any) -> None:
    client = client_of()
    assert (await client.secrets.set("TOKEN", VALUE)).name == "TOKEN"
    assert [one.name for one in (await client.secrets.list()).items] == ["TOKEN"]
    await client.secrets.remove("TOKEN")
    with pytest.raises(NotFound):
        await client.secrets.remove("TOKEN")


def test_the_command_takes_a_value_from_standard_input(
    shell: Shell, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "ropewalk secrets set NAME" in shell("secrets", "list")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{VALUE}\n"))
    assert VALUE not in shell("secrets", "set", "DB_PASSWORD") and "--secret DB_PASSWORD" in shell.out
    assert read(platform.settings, "ada", ["DB_PASSWORD"]) == {"DB_PASSWORD": VALUE}
    assert "DB_PASSWORD" in shell("secrets", "list") and VALUE not in shell.out
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    shell("secrets", "set", "DB_PASSWORD", code=2)
    assert "is removed" in shell("secrets", "remove", "DB_PASSWORD")
    assert shell.json("secrets", "list") == []


def test_the_command_asks_without_an_echo_where_somebody_sits(
    shell: Shell, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda _asked: VALUE)
    shell("secrets", "set", "ASKED")
    assert read(platform.settings, "ada", ["ASKED"]) == {"ASKED": VALUE}


def test_a_program_is_deployed_with_limits_and_surroundings(
    shell: Shell, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("#!/bin/sh\ncat\n"))
    limits = ["--cpu-time", "3", "--min-workers", "1", "--files", "read", "--scratch", "64Mi"]
    around = ["--environment", "MODE=a=b", "--environment", "EMPTY=", "--secret", "TOKEN"]
    deployed = shell.json("functions", "deploy", "-", "--name", "count", *limits, *around)
    spec = deployed["revision"]["spec"]
    assert (spec["cpu_time"], spec["min_workers"], spec["files"], spec["secrets"]) == (3, 1, "read", ["TOKEN"])
    assert spec["placement"]["scratch"] == "64Mi"
    assert "1 kept worker, files read-only, variables EMPTY MODE" in shell("functions", "get", "count")
    assert spec["environment"] == {"MODE": "a=b", "EMPTY": ""}
    monkeypatch.setattr("sys.stdin", io.StringIO("#!/bin/sh\ncat\n"))
    shell("functions", "deploy", "-", "--name", "count", "--environment", "MODE", code=2)
    assert "NAME=VALUE" in shell.err
