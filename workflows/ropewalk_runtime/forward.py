"""Runs a service's program inside its sandbox and relays to it from a socket that the platform opened outside.

The sandbox has a network of its own, so nobody else on the machine reaches the program's port; the listening unix
socket comes in as an open descriptor, so the program can neither choose nor replace what the platform connects to.
It must not know HTTP. Standard library only. Rejected: letting programs listen on a unix socket themselves (most
cannot), and a socket in the account's folder (its owner could put a link there).

Use: ``python -I -m ropewalk_runtime.forward --listen FD --port PORT -- PROGRAM ARGUMENT...``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys

from ropewalk_runtime.loopback import listens

_BLOCK = 64 * 1024
_GRACE = 5.0
_POLL = 0.05


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end of the stream, then pass the end on: a half-closed connection stays half open."""
    try:
        while block := await reader.read(_BLOCK):
            writer.write(block)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except (ConnectionError, OSError):  # either side went away; the relay closes both
        writer.close()


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    """Join one connection with a new one to an address, and close both when either side ends."""
    try:
        inner_reader, inner_writer = await asyncio.open_connection(host, port)
    except OSError:  # nobody is listening there (any more): the caller sees a closed connection
        writer.close()
        return
    try:
        await asyncio.gather(_pipe(reader, inner_writer), _pipe(inner_reader, writer))
    finally:
        for one in (writer, inner_writer):
            one.close()


async def _end(program: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        program.terminate()
    try:
        await asyncio.wait_for(program.wait(), _GRACE)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            program.kill()


async def forward(listener: socket.socket, port: int, command: list[str]) -> int:
    """Start the program, relay while it runs, and return its exit code (128 + signal when it was killed)."""
    try:
        program = await asyncio.create_subprocess_exec(*command)
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}\n")
        return 127
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    ended = asyncio.ensure_future(program.wait())
    stopped = asyncio.ensure_future(stop.wait())
    serving = asyncio.ensure_future(_serve(listener, port))
    await asyncio.wait((ended, stopped, serving), return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
    if serving.done() and not serving.cancelled() and (broken := serving.exception()) is not None:
        sys.stderr.write(f"The service's socket cannot be served: {broken}\n")
    if not ended.done():
        await _end(program)
    code = await ended
    stopped.cancel()
    return 128 - code if code < 0 else code


async def _serve(listener: socket.socket, port: int) -> None:
    """Wait for the program's port, then answer; connections made before wait in the socket's queue."""
    while not await listens(port):  # noqa: ASYNC110  # a program in another process has no event to wait for
        await asyncio.sleep(_POLL)
    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await relay(reader, writer, "127.0.0.1", port)
        except asyncio.CancelledError:  # we are ending; the stream's own callback would report it as a failure
            pass
        finally:
            connections.discard(task)

    server = await asyncio.start_unix_server(accept, sock=listener)
    try:
        await server.serve_forever()
    finally:
        for task in list(connections):
            task.cancel()


def main(arguments: list[str] | None = None) -> int:
    """Run from a command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="ropewalk_runtime.forward", description="run a service behind a socket")
    parser.add_argument("--listen", type=int, required=True, help="descriptor of a listening unix socket")
    parser.add_argument("--port", type=int, required=True, help="port on which the program will listen")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args(arguments)
    command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
    if not command:
        parser.error("the program is missing")
    listener = socket.socket(fileno=chosen.listen)
    listener.setblocking(False)
    return asyncio.run(forward(listener, chosen.port, command))


if __name__ == "__main__":
    sys.exit(main())
