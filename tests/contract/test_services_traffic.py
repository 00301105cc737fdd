"""The gateway between a browser and a service: who may pass, what the service sees, streams, websockets, sign-out."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from ropewalk_core.model import ServiceRoute, State
from ropewalk_hub.gateway.__main__ import listeners, serve
from tests.function_rig import Rig, scratch_home
from tests.ports import free_port

BOTH = pytest.mark.parametrize("stage", ["socket", "address"], indirect=True)
"""Where a service is: behind a socket of this machine, or at an address as on a cluster."""
PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}


async def _echo(request: web.Request) -> web.StreamResponse:
    if request.headers.get("Upgrade", "").lower() == "websocket":
        socket = web.WebSocketResponse(protocols=("chat",))
        await socket.prepare(request)
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                await socket.send_str(f"{request.headers['X-Forwarded-User']}:{message.data}")
            elif message.type == WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket
    if request.path == "/stream":
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(3):
            await response.write(f"{number}\n".encode())
            await asyncio.sleep(0.2)
        return response
    if request.path == "/endless":
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"tick\n")
            await asyncio.sleep(0.05)
    if request.path == "/dies":
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response
    body = await request.read()
    answer = web.json_response(
        {"headers": dict(request.headers), "path": request.raw_path, "method": request.method, "length": len(body)}
    )
    answer.headers.add("Set-Cookie", "own=1; Path=/; Domain=localhost; HttpOnly")
    answer.headers.add("Set-Cookie", "ropewalk-door=stolen; Path=/")
    answer.headers["Strict-Transport-Security"] = "max-age=1"
    answer.headers["Connection"] = "X-Hop"
    answer.headers["X-Hop"] = "1"
    return answer


class Stage(Rig):
    """A rig with a service and no host."""

    socket: Path
    url = ""

    async def serve_service(self, way: str) -> web.AppRunner:
        self.socket = self.settings.run / "service-test.sock"
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{path:.*}", _echo)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        if way == "socket":
            await web.UnixSite(runner, str(self.socket)).start()
        else:
            port = free_port()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            self.url = f"http://127.0.0.1:{port}"
        self.show(State.RUNNING)
        return runner

    def show(self, state: State, socket: Path | None = None) -> None:
        at, url = (str(socket), "") if socket else ("" if self.url else str(self.socket), self.url)
        self.services = (ServiceRoute(owner="ada", name="web", socket=at, state=state, url=url),)
        self.cursor += 1

    async def sign_in(self, account: str = "ada", label: str = "web--ada") -> dict[str, str]:
        away = await self.request("GET", label, headers=PAGE)
        state = away.cookies["ropewalk-door-state"]
        self.doors["code"] = {"account": account, "sid": f"ses-{account}", "state": state}
        headers = {"Cookie": f"ropewalk-door-state={state}"}
        back = await self.request("GET", label, "/_ropewalk/door?code=code&next=//evil.example/", headers=headers)
        assert back.headers["location"] == "/"
        return {"Cookie": f"ropewalk-door={back.cookies['ropewalk-door']}"}


@pytest.fixture
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    with scratch_home() as home:
        stage = Stage(home)
        async with stage.platform():
            runner = await stage.serve_service(getattr(request, "param", "socket"))
            stage._gateway = asyncio.create_task(serve(stage.settings, listeners(stage.settings), stage._stop))
            await stage._until(stage._gateway_answers)
            await stage.settled()
            try:
                yield stage
            finally:
                await stage.close()
                await runner.cleanup()


async def test_only_its_owner_passes(stage: Stage) -> None:
    assert (await stage.request("GET", "web--ada")).status_code == 401
    assert (await stage.request("GET", "web--ada", headers=PAGE)).status_code == 302
    mine = await stage.sign_in()
    assert (await stage.request("GET", "web--ada", headers=mine)).status_code == 200
    assert (await stage.request("GET", "none--ada", headers=mine)).status_code == 401  # the cookie is this host's alone
    bobs = await stage.sign_in("bob")
    assert (await stage.request("GET", "web--ada", headers=bobs)).status_code == 404
    bearer = {"Authorization": f"Bearer {stage.token()}"}
    assert (await stage.request("GET", "web--ada", headers=bearer)).status_code == 401


@BOTH
async def test_the_service_sees_who_asks_and_no_credential(stage: Stage) -> None:
    cookie = await stage.sign_in()
    headers = {
        "Cookie": cookie["Cookie"] + "; own=1; ropewalk-door-state=x",
        "Authorization": "Bearer secret",
        "X-Forwarded-User": "root",
        "X-Ropewalk-Account": "root",
        "Remote-User": "root",
        "Connection": "X-Secret-Hop",
        "X-Secret-Hop": "1",
        "X-Custom": "kept",
    }
    answer = await stage.request("GET", "web--ada", "/a%2Fb?x=%20y", headers=headers)
    facts = answer.json()
    seen = {name.lower(): value for name, value in facts["headers"].items()}
    assert facts["path"] == "/a%2Fb?x=%20y"
    assert seen["x-forwarded-user"] == seen["x-ropewalk-account"] == "ada" and seen["x-custom"] == "kept"
    assert seen["cookie"] == "own=1" and seen["host"] == stage.host_of("web--ada")
    assert not {"authorization", "remote-user", "x-secret-hop"} & set(seen)
    cookies = answer.headers.get_list("set-cookie")
    assert len(cookies) == 1 and cookies[0].startswith("own=1") and "omain" not in cookies[0]
    assert not {"strict-transport-security", "x-hop"} & set(answer.headers)


@BOTH
@pytest.mark.parametrize("target", ["http://{host}/x", "http://127.0.0.1:1/x", "a://{host}/x"])
async def test_what_is_asked_for_is_a_path_and_no_address(stage: Stage, target: str) -> None:
    cookie, host = await stage.sign_in(), stage.host_of("web--ada")
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.settings.door.people_port)
    lines = [
        f"GET {target.format(host=host)} HTTP/1.1",
        f"Host: {host}",
        f"Cookie: {cookie['Cookie']}",
        "Connection: close",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    status = (await reader.read()).split(b"\r\n")[0]
    writer.close()
    assert b" 400 " in status


@BOTH
async def test_bodies_stream_both_ways(stage: Stage) -> None:
    cookie = await stage.sign_in()
    origin = {"Origin": f"http://{stage.host_of('web--ada')}"}
    big = await stage.request("POST", "web--ada", headers=cookie | origin, content=b"x" * (40 * 2**20))
    assert big.json()["length"] == 40 * 2**20
    times = []
    async with aiohttp.ClientSession() as client:
        headers = {**cookie, "Host": stage.host_of("web--ada")}
        address = f"http://127.0.0.1:{stage.settings.door.people_port}/stream"
        async with client.get(address, headers=headers) as answer:
            async for _ in answer.content:
                times.append(asyncio.get_running_loop().time())
    assert times[-1] - times[0] > 0.2  # they came one by one


@BOTH
async def test_half_an_answer_is_not_taken_as_whole(stage: Stage) -> None:
    import httpx

    with pytest.raises(httpx.TransportError):
        await stage.request("GET", "web--ada", "/dies", headers=await stage.sign_in())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil--bob.localhost"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
async def test_another_page_cannot_write(stage: Stage, headers: dict[str, str], status: int) -> None:
    answer = await stage.request("POST", "web--ada", headers=await stage.sign_in() | headers, content=b"x")
    assert answer.status_code == status


async def _socket(stage: Stage, client: aiohttp.ClientSession, cookie: dict[str, str], **headers: str) -> Any:
    address = f"http://127.0.0.1:{stage.settings.door.people_port}/ws"
    host = stage.host_of("web--ada")
    return await client.ws_connect(
        address, headers={**cookie, "Host": host, "Origin": f"http://{host}", **headers}, protocols=("chat", "other")
    )


@BOTH
async def test_websockets_pass_and_end_with_the_sign_in(stage: Stage) -> None:
    cookie = await stage.sign_in()
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await _socket(stage, client, cookie, Origin="http://evil--bob.localhost")
        assert refused.value.status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await _socket(stage, client, {})
        assert refused.value.status == 401
        socket = await _socket(stage, client, cookie)
        assert socket.protocol == "chat"
        await socket.send_str("hi")
        assert (await socket.receive(5)).data == "ada:hi"
        await socket.send_bytes(b"x" * (3 * 2**20))
        assert len((await socket.receive(5)).data) == 3 * 2**20
        stage.ended = ("ses-ada",)
        stage.cursor += 1
        message = await socket.receive(5)
        assert message.type == WSMsgType.CLOSE and message.data == 4401
    assert (await stage.request("GET", "web--ada", headers=cookie)).status_code == 401


async def test_an_answer_that_streams_ends_with_the_sign_in(stage: Stage) -> None:
    cookie = await stage.sign_in()
    address = f"http://127.0.0.1:{stage.settings.door.people_port}/endless"
    async with (
        aiohttp.ClientSession() as client,
        client.get(address, headers={**cookie, "Host": stage.host_of("web--ada")}) as answer,
    ):
        assert await answer.content.readline() == b"tick\n"
        stage.ended = ("ses-ada",)
        stage.cursor += 1
        with pytest.raises(aiohttp.ClientError):
            async with asyncio.timeout(5):
                await answer.content.read()


@BOTH
async def test_a_packed_body_arrives_whole_and_as_one_request(stage: Stage) -> None:
    cookie = await stage.sign_in()
    headers = cookie | {"Origin": f"http://{stage.host_of('web--ada')}", "Content-Encoding": "gzip"}
    answer = await stage.request("POST", "web--ada", headers=headers, content=gzip.compress(b"x" * 100_000))
    said = answer.json()
    assert said["length"] == 100_000
    assert "Content-Encoding" not in said["headers"]


async def test_a_message_without_end_does_not_fill_the_gateway(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ropewalk_hub.gateway.services._LARGEST_MESSAGE", 100_000)
    cookie = await stage.sign_in()
    async with aiohttp.ClientSession() as client:
        socket = await _socket(stage, client, cookie)
        await socket.send_bytes(b"x" * 100_001)
        assert (await socket.receive(5)).type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)


async def test_a_service_that_is_not_there_says_so(stage: Stage) -> None:
    cookie = await stage.sign_in()
    for state, words in ((State.STARTING, "is starting"), (State.FAILED, "is failed")):
        stage.show(state)
        await stage.settled()
        page = await stage.request("GET", "web--ada", headers=cookie | PAGE)
        assert page.status_code == 503 and words in page.text
    stage.show(State.RUNNING, stage.settings.run / "service-none.sock")
    await stage.settled()
    answer = await stage.request("GET", "web--ada", headers=cookie)
    assert answer.status_code == 503 and answer.headers["retry-after"]
    stage.url = f"http://127.0.0.1:{free_port()}"
    stage.show(State.RUNNING)
    await stage.settled()
    page = await stage.request("GET", "web--ada", headers=cookie | PAGE)
    assert page.status_code == 503 and "is starting" in page.text
    stage.show(State.RUNNING, stage.settings.home / "accounts" / "ada" / "service.sock")
    await stage.settled()
    assert (await stage.request("GET", "web--ada", headers=cookie)).status_code == 503


async def test_unknown_hosts_and_notebook_hosts_have_nothing_here(stage: Stage) -> None:
    for label in ("ada", "a--b--c--d", "x--fn"):
        assert (await stage.request("GET", label)).status_code in (401, 404)
    answer = await stage.request("GET", "ada", headers={"Host": "evil.example"})
    assert answer.status_code == 404 and json.loads(answer.content)["hint"]
