"""The forwarder: relays both ways, ends with its program, ends its program."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ropewalk_runtime import forward
from tests.ports import free_port

ECHO = """
import asyncio, sys
async def main():
    async def echo(reader, writer):
        data = await reader.read()
        writer.write(data[::-1]); await writer.drain(); writer.close()
    server = await asyncio.start_server(echo, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""


@asynccontextmanager
async def forwarded(folder: Path, *command: str, port: int) -> AsyncIterator[tuple[Process, str]]:
    path = str(folder / "s.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        arguments = ["-I", "-m", "ropewalk_runtime.forward", "--listen", str(listener.fileno()), "--port", str(port)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, "--", *command, pass_fds=(listener.fileno(),), stderr=asyncio.subprocess.PIPE
        )
    try:
        yield process, path
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_socket_that_cannot_be_served_ends_the_program_and_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(listener: socket.socket, port: int) -> None:
        raise OSError("no such socket")

    monkeypatch.setattr(forward, "_serve", serve)
    with socket.socket(socket.AF_UNIX) as listener:
        code = await forward.forward(listener, 1, ["sleep", "600"])
    assert code == 128 + signal.SIGTERM
    assert "cannot be served: no such socket" in capsys.readouterr().err


async def test_it_relays_both_ways_and_half_closed(tmp_path: Path) -> None:
    port = free_port()
    async with forwarded(tmp_path, sys.executable, "-c", ECHO, str(port), port=port) as (process, path):

        async def ask(text: bytes) -> bytes:
            reader, writer = await asyncio.open_unix_connection(path)  # before the program listens: it waits in line
            writer.write(text)
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            return answer

        big = bytes(range(256)) * 4000
        assert await asyncio.gather(ask(b"abc"), ask(big), ask(b"")) == [b"cba", big[::-1], b""]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 128 + signal.SIGTERM
        with socket.socket() as gone, pytest.raises(ConnectionRefusedError):
            gone.connect(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ((sys.executable, "-c", "raise SystemExit(3)"), 3),
        ((sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), 137),
        (("/no/such/program",), 127),
    ],
)
async def test_it_ends_as_its_program_does(tmp_path: Path, command: tuple[str, ...], code: int) -> None:
    async with forwarded(tmp_path, *command, port=free_port()) as (process, _):
        assert await asyncio.wait_for(process.wait(), 20) == code
