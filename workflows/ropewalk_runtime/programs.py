"""Programs in any language as handlers: a process for each call, with the payload on its standard input.

What it writes to standard output is the answer, what it writes to standard error its log, and any exit code but 0 a
failure. A caller that leaves, and the end of the worker, end the program and all that it started. It runs inside the
worker's walls and under the worker's limits. Not here: programs that listen on a port (``listening``). Rejected: a
shell around each program (its ``#!`` line says what runs it), and standard error in the answer.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Mapping
from typing import Any

from ropewalk_runtime import bundle, packed
from ropewalk_runtime import exec as execution
from ropewalk_runtime.formats import Unformed
from ropewalk_runtime.handler import CALL_TYPE, BadPayload, TooLong, answer, plain, problem
from ropewalk_runtime.packed import PACKED
from ropewalk_runtime.printed import MAX_CALL_LOG, CallLog
from ropewalk_runtime.serving import Call, Coroutines
from ropewalk_runtime.streams import Answer

SHELL = "/bin/sh"
_TO_END = 2.0
"""Seconds between the two signals that end a program."""
_TO_READ = 1.0
"""Seconds in which what a program wrote is read after its end, when others hold its output open."""


class NotRunnable(Exception):
    """The program cannot be started; the message says why."""


class Program:
    """A program of a bundle; in a worker it has the place of a handler.

    Parameters
    ----------
    path
        Its file.
    """

    is_async = True

    def __init__(self, path: str) -> None:
        self.path = path
        self.argv = command(path)
        self.parameters: list[dict[str, Any]] = []


def command(path: str) -> list[str]:
    """Return what runs a file, by its first line as the kernel reads it, or a shell when it has none.

    Raises
    ------
    NotRunnable
        If the interpreter is not here.
    """
    with open(path, "rb") as file:
        first = file.readline(4096).decode(errors="replace")
    words = first[2:].strip().split(None, 1) if first.startswith("#!") else [SHELL]
    if not words:
        raise NotRunnable("Its first line names no interpreter after `#!`.")
    if shutil.which(words[0]) is None:
        raise NotRunnable(f"Its first line names {words[0]}, which is not here.")
    named = words[1].split()[-1:] if os.path.basename(words[0]) == "env" and len(words) > 1 else []
    if named and words[1].split()[0] in named and shutil.which(named[0]) is None:
        raise NotRunnable(f"Its first line names {named[0]}, which is not here.")
    return [*words, path]


class Calls(Coroutines):
    """The loop over calls, each a process."""

    async def _run(self, call: Call, body: bytes) -> Answer:
        program = self._handler
        assert isinstance(program, Program)
        given = _input(call, body)
        transport, running = await self._started(program, call)
        try:
            running.feed(given)
            await running.done
        finally:
            await running.end()
            transport.close()
            _collect(running=len(self._calls))
        if len(running.out) > self._limit:
            raise TooLong(f"The answer is over the limit of {self._limit} bytes.")
        if code := running.exited.result():
            return {"error": ended(code, bytes(running.err))}, b""
        return _answered(call, bytes(running.out))

    def _clock(self) -> Callable[[], float] | None:
        return _spent if self._concurrency == 1 else None

    async def _started(self, program: Program, call: Call) -> tuple[asyncio.SubprocessTransport, _Running]:
        """Start a program. One whose caller leaves meanwhile is waited for, so that all that it started ends too."""
        environment = execution.environment(_environment(call))
        starting = asyncio.ensure_future(
            asyncio.get_running_loop().subprocess_exec(
                lambda: _Running(self._limit, call.log), *program.argv, env=environment, start_new_session=True
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            transport, running = await starting
            await running.end()
            transport.close()
            _collect(running=len(self._calls))
            raise


class _Running(asyncio.SubprocessProtocol):
    """One process: its output as far as it may go, and when it is over.

    It is over when it has ended and its output was read; or a moment after it ended, when a process that it left
    behind holds its output open.
    """

    def __init__(self, limit: int, log: CallLog) -> None:
        self.out, self.err = bytearray(), bytearray()
        self._log, self._decoder = log, codecs.getincrementaldecoder("utf-8")("replace")
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._limit, self._open = limit, {1, 2}
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1 and len(self.out) <= self._limit:
            self.out += data
            if len(self.out) > self._limit:
                self._finish()
        elif fd == 2:
            self.err += data[: MAX_CALL_LOG - len(self.err)]
            self._log.write(self._decoder.decode(data))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open and self.exited.done():
            self._finish()

    def process_exited(self) -> None:
        assert self._transport is not None
        self.exited.set_result(self._transport.get_returncode() or 0)
        if self._open:
            asyncio.get_running_loop().call_later(_TO_READ, self._finish)
        else:
            self._finish()

    def feed(self, data: bytes) -> None:
        """Give it its input."""
        assert self._transport is not None
        pipe = self._transport.get_pipe_transport(0)
        if isinstance(pipe, asyncio.WriteTransport):
            pipe.write(data)
            pipe.write_eof()

    async def end(self) -> None:
        """End it and all that it started."""
        assert self._transport is not None
        pid = self._transport.get_pid()
        if not self.exited.done():
            _signal(pid, signal.SIGTERM)
            await asyncio.wait([self.exited], timeout=_TO_END)
        _signal(pid, signal.SIGKILL)
        await asyncio.wait([self.exited], timeout=_TO_END)

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def start(argv: list[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    """Start a program in a process group of its own; all that it prints goes where ours goes."""
    return await asyncio.create_subprocess_exec(
        *argv, env=execution.environment(environment), stdin=asyncio.subprocess.DEVNULL, start_new_session=True
    )


async def end(process: asyncio.subprocess.Process) -> None:
    """End a program and all that it started."""
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _TO_END)
    _signal(process.pid, signal.SIGKILL)
    await process.wait()


def ended(code: int, err: bytes) -> dict[str, Any]:
    """Return the failure of a program that ended with a code other than 0."""
    text = err.decode(errors="replace").strip()
    if code == -signal.SIGXCPU:
        used = "The program used more processor time than its limit."
        return problem("RW-USER-CODE", used, hint="Ask for more `cpu_time`.", field="cpu_time")
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    hint = "Its log holds what it wrote to standard error." if text else "It wrote nothing to standard error."
    said = problem("RW-USER-CODE", f"The program {how}.", hint=hint, traceback=text[-MAX_CALL_LOG:])
    said["details"]["error"] = text.rpartition("\n")[2][:2000]
    return said


def path_of(folder: str) -> str:
    """Return the file of a bundle's program.

    Raises
    ------
    NotRunnable
        If there is none.
    """
    name = str(bundle.read(folder).get("entry", "")).rpartition(":")[0]
    try:
        path = os.path.join(folder, bundle.inside(name))
    except ValueError as error:
        raise NotRunnable(str(error)) from error
    if not os.path.isfile(path):
        raise NotRunnable(f"There is no file {name!r}.")
    return path


def _input(call: Call, body: bytes) -> bytes:
    """Return what a program reads: the payload as it is; of a Python call its one argument, or its keywords."""
    if not _by_python(call):
        return body
    try:
        said = json.loads(body) if body[:1] == b"{" else packed.read(memoryview(body), call.files)
        args, kwargs = list(said.get("args", [])), dict(said.get("kwargs", {}))
    except (ValueError, AttributeError, TypeError):
        raise BadPayload("The payload of a Python call cannot be read.") from None
    except Unformed as error:
        hint = "A program reads text and JSON: send frame.to_dict('records'), array.tolist(), or the path of a file."
        raise BadPayload(f"The payload cannot be read: {error}", hint=hint) from None
    if len(args) > 1 or (args and kwargs):
        raise BadPayload("A program takes one argument, or keywords.", hint="Send one value: it is its input.")
    value = args[0] if args else kwargs
    if not args and not kwargs:
        return b""
    return value.encode() if isinstance(value, str) else json.dumps(value, default=plain).encode()


def _answered(call: Call, out: bytes) -> Answer:
    """Return what a program wrote: JSON and text under their own types, and to Python as a value."""
    exact = _by_python(call)
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(out)
        return {"status": 200, "type": CALL_TYPE if exact else "application/json"}, out
    try:
        text = out.decode()
    except UnicodeDecodeError:
        return {"status": 200, "type": "application/octet-stream"}, out
    if exact:
        body, kind = answer(text, content_type=CALL_TYPE)
        return {"status": 200, "type": kind}, body
    return {"status": 200, "type": "text/plain; charset=utf-8"}, out


def _by_python(call: Call) -> bool:
    return call.type.split(";")[0].strip().lower() in (CALL_TYPE, PACKED)


def _environment(call: Call) -> dict[str, str]:
    """Return what a program may want to know of its call, under the names that other platforms use too."""
    said = {"Http_Query": call.query, "Http_Content_Type": call.type, "Http_Accept": call.accept}
    said |= {name.upper(): value for name, value in call.trace.items()}
    return {key: value.replace("\0", "") for key, value in said.items() if value}


def _spent() -> float:
    """Return the CPU seconds of programs that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def _collect(*, running: int) -> None:
    """Collect what programs left behind; not while others run, whose end somebody waits for."""
    with contextlib.suppress(ChildProcessError):
        while running <= 1 and os.waitpid(-1, os.WNOHANG)[0]:
            continue


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
