"""The file server and its client over a real connection of the loopback: content, refusals, and uploads that break."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from ropewalk_core.beneath import LONGEST
from ropewalk_core.errors import BadPath, Internal, NotFound, RopewalkError, StorageFull, Unavailable
from ropewalk_core.kube.file_client import FileClient, Server, broke, unreached
from ropewalk_core.local.storage import LocalStorage
from ropewalk_core.settings import Limits, Settings
from ropewalk_hub.file_server import CHUNK, FileServer, serve
from tests.ports import free_port

LIMIT = 64 * 2**20


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
async def server(files: Path) -> AsyncIterator[Server]:
    storage = LocalStorage(Settings(home=files, limits=Limits(files=LIMIT)), key=b"", volume=files)
    port, stop = free_port(), asyncio.Event()
    serving = asyncio.create_task(serve(FileServer(storage, "secret").application(), port, stop))
    one = Server(f"http://127.0.0.1:{port}", "secret")
    asking = FileClient()
    for _ in range(500):
        if await asking.ready(one):
            break
        await asyncio.sleep(0.01)
    await asking.close()
    yield one
    stop.set()
    await serving


@pytest.fixture
async def client() -> AsyncIterator[FileClient]:
    one = FileClient()
    yield one
    await one.close()


async def test_content_streams_both_ways(client: FileClient, server: Server, files: Path) -> None:
    block = os.urandom(CHUNK)
    entry = await client.write(server, "a folder/größe & 100%?#+.bin", chunks(*[block] * 80))
    assert entry.size == 80 * CHUNK and (files / "a folder" / "größe & 100%?#+.bin").read_bytes() == block * 80
    closed: list[None] = []
    file = await asyncio.to_thread(client.open, server, entry.path, lambda: closed.append(None))

    def read_all() -> bytes:
        with file:
            assert file.read(10) == block[:10]
            return file.read()

    assert await asyncio.to_thread(read_all) == (block * 80)[10:]
    assert closed == [None]
    assert (await client.usage(server)).used == 80 * CHUNK


async def test_the_longest_path_is_carried(client: FileClient, server: Server) -> None:
    path = "/".join(["\N{LION FACE}" * 60] * 16)
    assert 900 < len(path) <= LONGEST
    assert (await client.write(server, path, chunks(b"x"))).path == path
    assert len((await client.list(server, path.rpartition("/")[0], after="", limit=10)).items) == 1


async def test_an_empty_file_is_a_file(client: FileClient, server: Server) -> None:
    assert (await client.write(server, "empty", chunks())).size == 0
    with await asyncio.to_thread(client.open, server, "empty", lambda: None) as file:
        assert await asyncio.to_thread(file.read) == b""


async def test_errors_come_back_as_their_own_class(client: FileClient, server: Server, files: Path) -> None:
    (files / "link").symlink_to("/etc/passwd")
    (files / "folder").mkdir()
    for path, kind in (("nothing", NotFound), ("link", BadPath), ("folder", BadPath), ("../x", BadPath)):
        with pytest.raises(kind) as caught:
            await asyncio.to_thread(client.open, server, path, lambda: None)
        assert caught.value.message and caught.value.field == "path"
    with pytest.raises(StorageFull) as full:
        await client.write(server, "big", chunks(*[b"x" * 2**20] * 65))
    assert full.value.details["limit"] == LIMIT
    assert sorted(one.name for one in files.iterdir()) == ["folder", "link"]


async def test_only_who_has_the_secret_is_heard(server: Server, client: FileClient, files: Path) -> None:
    (files / "x").write_text("secret")
    async with httpx.AsyncClient(base_url=server.address, trust_env=False) as http:
        for shown in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic secret"}):
            for method, path in (("GET", "/file?path=x"), ("GET", "/list"), ("PUT", "/file?path=x"), ("GET", "/usage")):
                answer = await http.request(method, path, headers=shown)
                assert (answer.status_code, answer.json()["code"]) == (401, "RW-SIGN-IN"), (method, path)
        assert (await http.get("/nowhere", headers={"Authorization": "Bearer secret"})).status_code == 404
        assert (await http.get("/ready")).status_code == 204
    with pytest.raises(Unavailable, match="does not know the platform"):
        await client.usage(Server(server.address, "other"))
    assert (files / "x").read_text() == "secret"


@pytest.mark.parametrize("announced", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
async def test_an_upload_that_breaks_off_leaves_what_was_there(server: Server, files: Path, announced: bytes) -> None:
    (files / "kept").write_text("old")
    host, port = server.address.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    body = b"a\r\n0123456789\r\n" if b"chunked" in announced else b"0123456789"
    head = b"PUT /file?path=kept HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n" + announced + b"\r\n\r\n"
    writer.write(head + body)
    await writer.drain()
    await until(lambda: any(one.name.startswith(".partial-") and one.stat().st_size for one in files.iterdir()))
    writer.close()
    await writer.wait_closed()
    await until(lambda: len(list(files.iterdir())) == 1)
    assert (files / "kept").read_text() == "old"


async def test_a_file_that_shrinks_meanwhile_breaks_the_answer(client: FileClient, server: Server, files: Path) -> None:
    (files / "x").write_bytes(b"x" * 64 * 2**20)
    file = await asyncio.to_thread(client.open, server, "x", lambda: None)
    os.truncate(files / "x", 10)
    with file, pytest.raises(Unavailable, match="broke"):
        await asyncio.to_thread(file.read)


async def test_pages_have_any_name(client: FileClient, server: Server, files: Path) -> None:
    for name in ("a b", "ü", "z&after=b"):
        (files / name).touch()
    first = await client.list(server, "", after="", limit=1)
    rest = await client.list(server, "", after=first.next, limit=10)
    assert [one.path for one in (*first.items, *rest.items)] == ["a b", "z&after=b", "ü"]
    assert (await client.list(server, "", after="\ud800", limit=10)).items is not None


async def test_who_does_not_listen_is_not_reached(client: FileClient) -> None:
    nobody = Server(f"http://127.0.0.1:{free_port()}", "secret")
    assert not await client.ready(nobody)
    for act in (client.usage(nobody), client.write(nobody, "x", chunks(b"x"))):
        with pytest.raises(Unavailable) as caught:
            await act
        assert unreached(caught.value) and broke(caught.value)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (web.Response(text="<html>no</html>", status=502), Unavailable),
        (web.Response(text="[]", status=500), Unavailable),
        (web.Response(text='{"code": "RW-INTERNAL"}', status=500), Internal),
        (web.Response(text="no json"), Unavailable),
        (web.Response(text="x" * (9 * 2**20)), Unavailable),
        (web.Response(status=302, headers={"Location": "/usage"}), Unavailable),
    ],
)
async def test_whatever_a_server_answers_is_one_of_our_errors(
    client: FileClient, answer: web.Response, kind: type[RopewalkError]
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return answer

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        with pytest.raises(kind):
            await client.usage(Server(f"http://127.0.0.1:{runner.addresses[0][1]}", "secret"))
    finally:
        await runner.cleanup()
