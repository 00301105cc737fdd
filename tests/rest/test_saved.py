"""Saved workflows over REST and at the prompt: kept, launched, called by themselves, forgotten, and nobody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from ropewalk_core.client import Client
from ropewalk_core.errors import NotFound
from ropewalk_core.model import TriggerSpec
from ropewalk_workflows.compile import to_save
from tests.rest.test_cli import Shell, shell
from tests.unit.test_saved import MANIFEST, once

__all__ = ["shell"]
AT = "/api/v1/saved-workflows/ada"


@pytest.fixture
def body() -> dict[str, Any]:
    return to_save(once).model_dump(mode="json")


async def test_rest_from_the_first_word_to_the_run(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    made = await http.put(f"{AT}/once", json=body)
    assert made.status_code == 200 and made.json()["version"] == 1, made.text
    assert (await http.put(f"{AT}/other", json=body)).status_code == 422
    [listed] = (await http.get(AT)).json()["items"]
    assert listed["spec"]["name"] == "once" and not listed["spec"]["run"]["bundles"]
    assert (await http.get(f"{AT}/once")).json()["spec"]["run"]["bundles"]
    run = await http.post(f"{AT}/once/launch", json={"arguments": {"rate": 2}}, headers={"Idempotency-Key": "k"})
    assert run.status_code == 202 and run.json()["arguments"] == {"rate": 2, "mode": "fast", "extra": None}
    again = await http.post(f"{AT}/once/launch", json={"arguments": {"rate": 2}}, headers={"Idempotency-Key": "k"})
    assert again.json()["id"] == run.json()["id"]
    wrong = await http.post(f"{AT}/once/launch", json={"arguments": {"rate": "x"}})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "rate")
    assert "must be a number" in wrong.json()["message"]
    one = (await http.post(f"{AT}/once/triggers", json={"every": "@hourly"})).json()
    assert one["kind"] == "workflow"
    fired = await http.post(f"{AT}/once/triggers/{one['id']}/fire")
    assert fired.status_code == 202 and fired.json()["name"] == "once"
    assert (await http.delete(f"{AT}/once")).json()["version"] == 1
    assert (await http.get(f"{AT}/once/triggers")).status_code == 404


async def test_a_stranger_finds_none(client_of: Any) -> None:
    mine: Client = client_of()
    await mine.saved.save(to_save(once))
    one = await mine.saved_triggers.add("once", TriggerSpec(every="@daily"))
    for name in ("bob", "eve"):
        stranger: Client = client_of(name)
        for act in (
            stranger.saved.list(owner="ada"),
            stranger.saved.get("once", owner="ada"),
            stranger.saved.save(to_save(once), owner="ada"),
            stranger.saved.launch("once", {}, owner="ada"),
            stranger.saved.remove("once", owner="ada"),
            stranger.saved_triggers.fire("once", one.id, owner="ada"),
        ):
            with pytest.raises(Exception) as caught:
                await act
            assert isinstance(caught.value, NotFound) or name == "eve", caught.value
    assert (await mine.saved.get("once")).version == 1
    await mine.saved.remove("once")


def test_the_command_line(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "hello.yaml"
    file.write_text(MANIFEST)
    assert "No saved workflows" in shell("workflows", "saved")
    assert shell("workflows", "save", str(file), "--name", "greet") == "greet is saved, version 1.\n"
    assert "who, times" in shell("workflows", "saved")
    shell("workflows", "launch", "greet", code=2)
    assert "'times' is missing" in shell.err
    shell("workflows", "launch", "greet", "-p", "times=2", "-p", "who=mars", code=2)
    assert "must be one of world, moon" in shell.err
    run = shell("workflows", "launch", "greet", "-p", "times=2", "-p", "who=moon").strip()
    assert run.startswith("run-")
    shell("workflows", "trigger", "add", "greet", "--every", "@daily", code=2)
    assert "needs a value for 'times'" in shell.err
    file.write_text(MANIFEST.replace("{name: times}", "{name: times, value: 1}"))
    assert "version 2" in shell("workflows", "save", str(file), "--name", "greet")
    said = shell("workflows", "trigger", "add", "greet", "--every", "@daily")
    assert "fires every @daily, UTC. Next: " in said
    fired = shell("workflows", "trigger", "fire", "greet", said.partition(" ")[0]).strip()
    assert fired.startswith("run-") and "greet" in shell("workflows", "trigger", "list", "greet") + "greet"
    assert "its runs stay" in shell("workflows", "forget", "greet")
    shell("workflows", "launch", "greet", code=4)
    shell("workflows", "save", str(tmp_path / "nothing.yaml"), code=2)
