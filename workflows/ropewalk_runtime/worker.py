"""A worker: loads one bundle, then answers calls that arrive as frames, until the gateway closes the socket.

The first frame says whether the bundle loaded; each further one answers a call by its ``id``. What a call prints or
logs goes back with its answer. Not here: who may call (``gateway``), turning payloads into arguments (``handler``).
Rejected: an HTTP server in every worker (the gateway speaks HTTP once, for all).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import io
import json
import os
import resource
import socket
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ropewalk_runtime import bundle
from ropewalk_runtime.exec import MEMORY_EXIT
from ropewalk_runtime.frames import MAX_BODY, FrameError, pack, read_frame
from ropewalk_runtime.handler import (
    BadAnswer,
    BadPayload,
    Handler,
    TooLong,
    answer,
    problem,
    user_line,
)

MAX_CALL_LOG = 64 * 1024
"""Characters of output that one call's record keeps, and of a traceback."""
_Answer = tuple[dict[str, Any], bytes]
_log: contextvars.ContextVar[_CallLog | None] = contextvars.ContextVar("_log", default=None)


class _CallLog(io.StringIO):
    """What one call printed; cut at its limit."""

    room = MAX_CALL_LOG

    def write(self, text: str) -> int:
        if self.room > 0:
            super().write(text[: self.room])
            self.room -= len(text)
            if self.room <= 0:
                super().write("\n[the log of this call is longer than its limit; the rest was left out]\n")
        return len(text)


class _Router(io.TextIOBase):
    """A standard stream that writes into the log of the call it is used in; outside of calls, into the worker's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    encoding = "utf-8"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, text: str) -> int:
        log = _log.get()
        if log is not None:
            return log.write(text)
        os.write(self._descriptor, text.encode(errors="replace"))
        return len(text)


class _Output:
    """Descriptors 1 and 2 as a memory file, so that what C code and child processes print is seen too."""

    def __init__(self) -> None:
        self._file = os.memfd_create("output")
        os.dup2(self._file, 1)
        os.dup2(self._file, 2)
        sys.stdout, sys.stderr = _Router(1), _Router(2)

    def take(self) -> str:
        """Return what was written beside Python's own streams since the last time, and forget it."""
        size = os.lseek(self._file, 0, os.SEEK_CUR)
        if not size:
            return ""
        data = os.pread(self._file, MAX_CALL_LOG, 0)
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        return data.decode(errors="replace")


def main(sock: socket.socket, order: dict[str, Any], content: int | None = None) -> int:
    """Load and serve. Returns the exit code.

    Parameters
    ----------
    sock
        The gateway's end is elsewhere; the worker ends when that is closed.
    order
        Says where the bundle is and how many calls may run at a time.
    content
        Descriptor of the bundle as JSON, when it must be written first.
    """
    sock.setblocking(True)
    output = _Output()
    started = time.perf_counter()
    try:
        if content is not None:
            os.lseek(content, 0, os.SEEK_SET)
            with open(content, "rb") as file:
                _write(order["bundle"], json.load(file))
        handler = Handler(bundle.load(order["bundle"]))
    except _DiskFull:
        said = problem("RW-STORAGE-FULL", "The disk is full, so the function's code could not be kept.")
        _send(sock, {"op": "failed", "error": said, "logs": output.take()})
        return 1
    except MemoryError:
        _send(sock, {"op": "failed", "error": _memory(), "logs": output.take()})
        return MEMORY_EXIT
    except BaseException as error:  # noqa: BLE001 - whatever the person's module raises, they must see it
        _send(sock, {"op": "failed", "error": _bad_code(error, order), "logs": output.take()})
        return 1
    loaded = time.perf_counter() - started
    hello = {"op": "ready", "parameters": handler.parameters, "loaded": loaded, "logs": output.take()}
    if not _send(sock, hello):
        return 0
    limit = min(int(order.get("payload") or MAX_BODY), MAX_BODY)
    return _Serving(sock, handler, output, int(order.get("concurrency") or 1), limit).run()


class _Serving:
    """The loop over calls: one after another, or several at a time in threads or as coroutines."""

    def __init__(self, sock: socket.socket, handler: Handler, output: _Output, concurrency: int, limit: int) -> None:
        self._sock = sock
        self._handler = handler
        self._output = output
        self._concurrency = concurrency
        self._limit = limit
        self._lock = threading.Lock()

    def run(self) -> int:
        """Serve until the gateway closes the socket."""
        try:
            if self._handler.is_async:
                asyncio.run(self._run_async())
            elif self._concurrency > 1:
                self._run_threads()
            else:
                self._run_one_by_one()
        except (FrameError, ConnectionError):
            return 0  # the gateway is gone; nobody waits for an answer
        return 0

    def _run_one_by_one(self) -> None:
        while (frame := read_frame(self._sock)) is not None:
            head, body = self._call(*frame)
            self._sock.sendall(pack(head, body))

    def _run_threads(self) -> None:
        with ThreadPoolExecutor(self._concurrency) as pool:
            while (frame := read_frame(self._sock)) is not None:
                pool.submit(self._call_and_send, *frame)

    def _call_and_send(self, head: dict[str, Any], body: bytes) -> None:
        self._send(self._call(head, body))

    def _send(self, done: _Answer) -> None:
        frame = pack(*done)
        with self._lock, contextlib.suppress(OSError):  # the gateway is gone; the reading loop ends us
            self._sock.sendall(frame)

    async def _run_async(self) -> None:
        loop = asyncio.get_running_loop()
        pending: set[asyncio.Task[None]] = set()
        while (frame := await loop.run_in_executor(None, read_frame, self._sock)) is not None:
            task = asyncio.create_task(self._await_and_send(*frame))
            pending.add(task)
            task.add_done_callback(pending.discard)

    async def _await_and_send(self, head: dict[str, Any], body: bytes) -> None:
        log, started = self._begin()
        try:
            bound = self._arguments(head, body)
            result = await self._handler.function(*bound.args, **bound.kwargs)
            done = self._answered(head, result)
        except BaseException as error:  # noqa: BLE001 - also its own cancellation; if we end, nobody reads the answer
            done = _failed(error)
        self._send(self._finish(head, done, log, started))

    def _call(self, head: dict[str, Any], body: bytes) -> _Answer:
        log, started = self._begin()
        try:
            bound = self._arguments(head, body)
            done = self._answered(head, self._handler.function(*bound.args, **bound.kwargs))
        except BaseException as error:  # noqa: BLE001 - the person's code may raise anything
            done = _failed(error)
        return self._finish(head, done, log, started)

    def _arguments(self, head: dict[str, Any], body: bytes) -> Any:
        return self._handler.arguments(body, str(head.get("type", "")), str(head.get("query", "")))

    def _answered(self, head: dict[str, Any], value: Any) -> _Answer:
        body, kind = answer(value, content_type=str(head.get("type", "")), limit=self._limit)
        return {"status": 200, "type": kind}, body

    def _begin(self) -> tuple[_CallLog, float]:
        log = _CallLog()
        _log.set(log)
        return log, time.perf_counter()

    def _finish(self, head: dict[str, Any], done: _Answer, log: _CallLog, started: float) -> _Answer:
        _log.set(None)
        beside = self._output.take()
        if beside:
            log.write(beside)
        took = time.perf_counter() - started
        return {"id": head.get("id"), "took": took, "logs": log.getvalue(), **done[0]}, done[1]


def _failed(error: BaseException) -> _Answer:
    if isinstance(error, BadPayload):
        found = problem("RW-BAD-INPUT", str(error), hint=error.hint, field=error.field)
    elif isinstance(error, MemoryError):
        found = _memory() | {"details": {"traceback": _traceback(error)}}
    elif isinstance(error, BadAnswer):
        found = problem("RW-USER-CODE", str(error), hint=error.hint, field=error.field)
    elif isinstance(error, TooLong):
        hint = "Return less, or write a file and return its path."
        found = problem("RW-TOO-LARGE", str(error), hint=hint, field="limits.payload")
    else:
        name = type(error).__name__
        found = problem("RW-USER-CODE", f"The function raised {name}.", traceback=_traceback(error))
        found["details"]["error"] = f"{name}: {bundle.message(error)}"[:2000]
    return {"error": found}, b""


def _traceback(error: BaseException) -> str:
    shown = bundle.user_traceback(error)
    if len(shown) > MAX_CALL_LOG:  # the message of an error may hold a whole table
        shown = f"{shown[: MAX_CALL_LOG // 2]}\n[...]\n{shown[-MAX_CALL_LOG // 2 :]}"
    return shown


def _memory() -> dict[str, Any]:
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    most = "its placement allows" if limit == resource.RLIM_INFINITY else f"its limit of {limit // 2**20}Mi"
    message = f"The function needed more memory than {most} (it had used {peak} MiB)."
    return problem("RW-OUT-OF-MEMORY", message, field="placement.memory")


class _DiskFull(Exception):
    """There is no room for the bundle; the person's code is not to blame."""


def _write(folder: str, content: dict[str, Any]) -> None:
    try:
        bundle.write(folder, content)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _DiskFull from error
        raise


def _bad_code(error: BaseException, order: dict[str, Any]) -> dict[str, Any]:
    """Say what is wrong with code that does not load, with the cell's line."""
    place = user_line(error)
    field = f"cell line {place[1]}" if place else "code"
    said = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else bundle.message(error)}"[:500]
    message = f"The function does not load ({field}): {said}"
    if isinstance(error, SyntaxError):  # its frames are the compiler's; what matters is the line it shows
        return problem("RW-BAD-CODE", message, field=field, traceback="".join(traceback.format_exception_only(error)))
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = error.name.split(".")[0]
        return problem(
            "RW-BAD-CODE",
            message,
            field=field,
            hint=f"Install it: %pip install {missing}",
            traceback=_traceback(error),
        )
    return problem("RW-BAD-CODE", message, field=field, traceback=_traceback(error))


def _send(sock: socket.socket, head: dict[str, Any]) -> bool:
    try:
        sock.sendall(pack(head))
    except OSError:
        return False  # the gateway closed it while the bundle loaded
    return True
