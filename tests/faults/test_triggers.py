"""Triggers under kill -9 of the platform and of all of it: each occasion gives one call, and none is forgotten."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.local import sandbox
from tests.platform_rig import OWN, House, ended, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sandbox.probe().works, reason=f"no working bubblewrap: {sandbox.probe().why}"),
]
TELLS = "def handler(event):\n    return event\n"
DOUBLE = "import time\ndef handler(value):\n    time.sleep(0.3)\n    return 2 * value\n"
CALLS, FILES = 25, 25


@pytest.mark.timeout(300)
def test_the_platform_is_killed_while_triggers_are_due() -> None:
    with ended(House()) as house:
        house.sign_up(house.up()["first"])
        for name, source in (("tells", TELLS), ("double", DOUBLE)):
            spec = {"name": name, "bundle": {"files": {"cell.py": source}, "entry": "cell:handler"}}
            spec |= {"max_workers": 8, "retries": 10, "retry_wait": 0.1}
            until(lambda spec=spec, name=name: house.api("PUT", f"functions/ann/{name}", json=spec))  # type: ignore[misc]
        inbox = Path(house.home) / "accounts" / "ann" / "files" / "inbox"
        inbox.mkdir()
        (inbox / "old").write_text("old")
        wish = [{"every": "* * * * *"}, {"after": "double", "when": "always"}, {"on_file": "inbox/*"}]
        house.api("PUT", "functions/ann/tells/triggers", json={"triggers": wish})

        spawned: set[str] = set()
        kills = [("platform",)] * 6 + [("gateway", "platform"), (*OWN, "supervisor"), ("platform",)]
        for number in range(max(CALLS, FILES)):
            spawned.add(_spawn(house, number))
            (inbox / f".{number}").write_text(str(number))
            (inbox / f".{number}").rename(inbox / f"{number}")
            if number % 3 == 2 and kills:
                _kill(house, kills.pop(0))
            time.sleep(0.4)
        assert len(spawned) == CALLS

        known: dict[str, dict[str, Any]] = {}
        told = until(lambda: _all_told(house, known), patience=150)
        for kind, names in (
            ("after", Counter(one["ended"]["id"] for one in told if one["kind"] == "after")),
            ("on_file", Counter(one["file"]["path"] for one in told if one["kind"] == "on_file")),
            ("every", Counter(one["at"] for one in told if one["kind"] == "every")),
        ):
            assert names and set(names.values()) == {1}, (kind, names)
        assert {one["ended"]["id"] for one in told if one["kind"] == "after"} == spawned
        assert {one["file"]["path"] for one in told if one["kind"] == "on_file"} == {f"inbox/{n}" for n in range(FILES)}
        shown = house.api("GET", "functions/ann/tells/triggers")["items"]
        assert [one["why"] for one in shown] == [None] * 3


def _spawn(house: House, number: int) -> str:
    """Ask until somebody answers, with the same key."""
    headers, path = {"Idempotency-Key": f"key-{number}"}, "durable/ann?function=double"
    call = until(lambda: house.api("POST", path, content=str(number), headers=headers), patience=100)
    return str(call["id"])


def _all_told(house: House, known: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what all calls were told, once every end and file has been, and nothing is open; until then nothing."""
    calls: list[dict[str, Any]] = []
    after = ""
    while True:
        page = house.api("GET", f"durable/ann?function=tells&limit=200&after={after}")
        calls += page["items"]
        if not (after := page["next"]):
            break
    if any(one["status"]["state"] != "done" for one in calls):
        return []
    for one in calls:
        if one["id"] not in known:
            known[one["id"]] = house.api("GET", f"durable/ann/{one['id']}/result")
    kinds = Counter(one["kind"] for one in known.values())
    whole = kinds["after"] >= CALLS and kinds["on_file"] >= FILES and kinds["every"]
    return list(known.values()) if whole else []


def _kill(house: House, names: tuple[str, ...]) -> None:
    pids = [house.ropewalk("status")["pid"]] if "supervisor" in names else []
    for pid in [*pids, *(house.pid(one) for one in names if one != "supervisor")]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid or 2**22, signal.SIGKILL)
    if pids:
        house.up()
