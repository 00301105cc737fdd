"""Large arguments of functions on a cluster: refused by name, and smaller ones stay inside of the call."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from ropewalk_core.local import sent
from ropewalk_core.model import Access, FunctionRoute
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway.sent import VALUES, Sent
from ropewalk_hub.gateway.tokens import Caller
from ropewalk_runtime import packed
from ropewalk_runtime.formats import NPY
from ropewalk_runtime.packed import PACKED, Part
from tests.gateway_rig import SPEC, GatewayRig, gateway

DIGEST = "ab" * 32


async def ask(rig: GatewayRig, method: str, path: str, **more: Any) -> httpx.Response:
    headers = {"Host": rig.host("double--fn--ada"), **rig.bearer("ada"), **more.pop("headers", {})}
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        return await client.request(method, f"http://127.0.0.1:{rig.port}{path}", headers=headers, **more)


async def test_what_fits_lies_inside_and_more_is_refused_by_name(tmp_path: Path) -> None:
    async with gateway(tmp_path) as rig:
        rig.put(Access())
        limit = rig.settings.limits.payload
        small = await ask(rig, "GET", f"{VALUES}{DIGEST}?size={limit}")
        assert small.json() == {"inside": True}
        large = (await ask(rig, "GET", f"{VALUES}{DIGEST}?size={limit + 1}")).json()
        assert (large["code"], large["field"]) == ("RW-TOO-LARGE", "limits.payload")
        assert "cluster" in large["message"] and str(limit) in large["message"] and "path" in large["hint"]
        assert (await ask(rig, "PUT", VALUES + DIGEST, content=b"x")).status_code == 422
        listed = json.dumps([Part(NPY, "numpy", 1, DIGEST).as_dict()]).encode()
        body = packed.MAGIC + struct.pack("!II", len(listed), 2) + listed + b"{}"
        named = await ask(rig, "POST", "/", content=body, headers={"Content-Type": PACKED})
        assert (named.status_code, named.json()["code"]) == (413, "RW-TOO-LARGE")
        assert rig.seen == []


@pytest.mark.parametrize("size", ["", "x", "-1", "1e9", "9" * 19])
async def test_a_size_is_a_number(tmp_path: Path, size: str) -> None:
    async with gateway(tmp_path) as rig:
        rig.put(Access())
        refused = await ask(rig, "GET", f"{VALUES}{DIGEST}?size={size}")
        assert (refused.status_code, refused.json()["field"]) == (422, "size")


async def test_a_browsers_sign_in_sends_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path) as rig:
        rig.put(Access())
        headers = {"Host": rig.host("double--fn--ada"), **rig.cookie("ada")}
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            address = f"http://127.0.0.1:{rig.port}{VALUES}{DIGEST}"
            refused = await client.put(address, headers=headers, content=b"x")
        assert (refused.status_code, refused.json()["code"]) == (403, "RW-DENIED")


async def test_who_asks_often_has_what_they_sent_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    monkeypatch.setattr(sent, "weight", lambda _settings, account: counted.append(account) or 0)
    one = Sent(Settings(home=tmp_path))
    route = FunctionRoute(owner="ada", name="double", revision="r1", spec=SPEC)
    caller = Caller("bob", "subject-bob", "ses-bob", 0, 0.0)
    fates = await asyncio.gather(*(one._fate(route, caller, DIGEST, 1) for _ in range(20)))
    assert fates == [{"there": False}] * 20 and counted == ["bob"]


async def test_who_hangs_up_while_it_is_counted_takes_no_further_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_go, counted = threading.Event(), threading.Event(), []

    def slow(_settings: Settings, account: str) -> int:
        counted.append(account)
        begun.set()
        may_go.wait(20)
        return 0

    monkeypatch.setattr(sent, "weight", slow)
    one = Sent(Settings(home=tmp_path))
    route = FunctionRoute(owner="ada", name="double", revision="r1", spec=SPEC)
    caller = Caller("bob", "subject-bob", "ses-bob", 0, 0.0)
    asking = [asyncio.create_task(one._fate(route, caller, DIGEST, 1)) for _ in range(5)]
    assert await asyncio.to_thread(begun.wait, 20)
    for task in asking[:4]:
        task.cancel()
    await asyncio.wait(asking, timeout=0.2)
    assert counted == ["bob"]
    may_go.set()
    await asyncio.wait(asking)
    assert asking[4].result() == {"there": False}
