"""A machine of the cluster that vanishes without a word: calls to it end soon, kept connections and waiting ones alike.

The loopback of a network namespace of its own is taken away, so that what is sent is neither answered nor refused.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PLAY = """
import asyncio, fcntl, socket, struct, time
from pathlib import Path
from types import SimpleNamespace

from aiohttp import web

from ropewalk_core.errors import Unavailable
from ropewalk_core.model import Bundle, FunctionRoute, FunctionSpec
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway import tcp
from ropewalk_hub.gateway.remote import Remote
from ropewalk_hub.gateway.room import Room
from ropewalk_runtime.frames import pack
from ropewalk_runtime.served import FRAME

NOTE = SimpleNamespace(began=lambda *_: None, exchange=None, sent=0)
HEADER = {"type": "", "query": "", "caller": "ada", "call": "call-1"}
tcp._IDLE, tcp._BETWEEN, tcp._TIMES = 1, 1, 2

def loopback(up):
    with socket.socket() as one:
        fcntl.ioctl(one, 0x8914, struct.pack("16sh22x", b"lo", 0x49 if up else 0x48))

async def main():
    loopback(True)
    arrived = asyncio.Event()

    async def function(request):
        if await request.read() == b"slow":
            arrived.set()
            await asyncio.sleep(1000)
        return web.Response(body=pack({"status": 200}, b"1"), content_type=FRAME)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", function)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = Settings(home=Path("/home"))
    remote, room = Remote(settings), Room(settings)
    spec = FunctionSpec(name="f", bundle=Bundle(files={}, entry="c:h"), timeout=60)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def call(payload):
        with room.call("ada", 1) as place:
            route = FunctionRoute(owner="ada", name="f", revision="r", spec=spec, url=url)
            return (await remote.call(route, HEADER, payload, place, lambda *_: None, NOTE)).body

    assert await call(b"quick") == b"1"  # its connection is kept
    large = asyncio.create_task(call(b"slow"))
    await arrived.wait()
    assert await call(b"quick") == b"1"
    await asyncio.sleep(0.2)
    loopback(False)
    began = time.monotonic()
    for one in await asyncio.gather(call(b"kept"), large, return_exceptions=True):
        assert isinstance(one, Unavailable) and "broke off" in one.message, one
    assert time.monotonic() - began < 20
    await remote.close()

asyncio.run(main())
print("noticed")
"""


def test_a_machine_that_vanishes_is_noticed() -> None:
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no network namespace may be made here")
    done = subprocess.run(
        [*alone, sys.executable, "-c", textwrap.dedent(PLAY)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "noticed\n", done.stderr
