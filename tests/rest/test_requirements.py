"""Requirements over REST, by the client and at the prompt: the log as it is said, and what went wrong at its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from ropewalk_core.client import Client
from ropewalk_core.errors import BadInput, NotFound
from ropewalk_core.model import Bundle, FunctionSpec
from ropewalk_core.testing import ADA
from ropewalk_hub.platform import Platform
from tests.rest.conftest import bearer
from tests.rest.memory import MemoryFunctions
from tests.rest.test_cli import Shell, shell  # noqa: F401 - a fixture

Make = Callable[..., Client]


def spec(*lines: str) -> FunctionSpec:
    bundle = Bundle(files={"cell.py": "x"}, entry="cell:x")
    return FunctionSpec(name="double", bundle=bundle, requirements=lines)


async def test_the_log_is_lines_of_json(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/v1/requirements/ada", json={"requirements": ["pandas==2.2", "numpy"]})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-ndjson"
    said = [json.loads(line) for line in answer.text.splitlines() if line]
    assert [one["text"] for one in said] == ["installing numpy", "installing pandas==2.2"]
    failed = await http.post("/api/v1/requirements/ada", json={"requirements": ["fails"]})
    problem = json.loads(failed.text.splitlines()[-1])["problem"]
    assert (problem["code"], problem["field"]) == ("RW-BAD-INPUT", "requirements") and problem["type"].startswith(
        "http"
    )
    wrong = await http.post("/api/v1/requirements/ada", json={"requirements": "pandas"})
    assert wrong.status_code == 422 and wrong.json()["message"] == "'requirements' must be a list."


async def test_only_their_owner_may(client_of: Make) -> None:
    with pytest.raises(NotFound):
        _ = [line async for line in client_of("bob").functions.prepare(spec("numpy"), owner="ada")]


async def test_the_client_yields_the_log_and_raises_what_went_wrong(client_of: Make) -> None:
    ada = client_of()
    assert [one.text async for one in ada.functions.prepare(spec("numpy"))] == ["installing numpy"]
    assert [one async for one in ada.functions.prepare(spec())] == []
    with pytest.raises(BadInput) as caught:
        _ = [one async for one in ada.functions.prepare(spec("fails"))]
    assert caught.value.message == "The requirements cannot be met: fails."
    with pytest.raises(BadInput):
        await ada.functions.deploy(spec("fails"))  # it is prepared first
    assert (await ada.functions.deploy(spec("numpy"))).revision.spec.requirements == ("numpy",)


async def test_who_leaves_ends_it(app: FastAPI, platform: Platform) -> None:
    functions: Any = platform.functions
    memory: MemoryFunctions = functions._inner
    memory.begun.clear()
    memory.left.clear()
    body = json.dumps({"requirements": ["waits"]}).encode()
    token = bearer(platform, "ada").encode()
    headers = [
        (b"authorization", b"Bearer " + token),
        (b"content-type", b"application/json"),
        (b"host", b"localhost:8000"),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/api/v1/requirements/ada",
        "raw_path": b"/api/v1/requirements/ada",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 8000),
    }
    said = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if said:
            return said.pop()
        await memory.begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        return

    async with asyncio.timeout(10):
        await app(scope, receive, send)  # type: ignore[arg-type]
        await memory.left.wait()


def test_at_the_prompt(shell: Shell, platform: Platform, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "count.py"
    file.write_text(
        "#!/usr/bin/env python3\n# /// script\n# dependencies = ['numpy']\n# requires-python = '>=3.9'\n# ///\n"
    )
    said = shell("functions", "deploy", str(file), "-r", "pandas==2.2")
    assert said.startswith("count is deployed") and "installing pandas==2.2" in shell.err
    deployed = asyncio.run(platform.functions.get(ADA, "ada", "count")).revision.spec
    assert deployed.requirements == ("numpy", "pandas==2.2") and deployed.requires_python == ">=3.9"
    assert "numpy, pandas==2.2" in shell("functions", "get", "count")
    shell("functions", "deploy", str(file), "-r", "-e .", code=2)
    assert "option" in shell.err
    shell("functions", "deploy", str(file), "-r", "fails", code=2)
    assert "cannot be met" in shell.err
