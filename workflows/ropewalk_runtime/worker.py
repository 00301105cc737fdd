"""A worker: loads one bundle, then answers calls that arrive as frames, until the gateway closes the socket.

The first frame says whether the bundle loaded; each further one answers a call by its ``id``. What a call prints or
logs goes back with its answer. Not here: who may call (``gateway``), turning payloads into arguments (``handler``).
Rejected: an HTTP server in every worker (the gateway speaks HTTP once, for all).
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from ropewalk_runtime import asgi, bundle, hidden, programs
from ropewalk_runtime.asgi import Application
from ropewalk_runtime.exec import MEMORY_EXIT
from ropewalk_runtime.failing import bad_code, memory
from ropewalk_runtime.frames import MAX_BODY, pack
from ropewalk_runtime.handler import Handler, problem
from ropewalk_runtime.listening import Forwarded, Listening
from ropewalk_runtime.printed import MAX_CALL_LOG, Output
from ropewalk_runtime.programs import Program
from ropewalk_runtime.serving import Coroutines, OneByOne, Serving, Threads

_Answering = Handler | Application | Program


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
    output = Output()
    hidden.know(order.get("secrets") or ())
    started, runner = time.perf_counter(), asyncio.Runner()
    concurrency = int(order.get("concurrency") or 1)
    try:
        if content is not None:
            os.lseek(content, 0, os.SEEK_SET)
            with open(content, "rb") as file:
                _write(order["bundle"], json.load(file))
        handler, kind = _loaded(order["bundle"], runner, concurrency)
    except _DiskFull:
        said = problem("RW-STORAGE-FULL", "The disk is full, so the function's code could not be kept.")
        _send(sock, {"op": "failed", "error": said, "logs": output.take()})
        return 1
    except MemoryError:
        _send(sock, {"op": "failed", "error": memory(), "logs": output.take()})
        return MEMORY_EXIT
    except _NotStarted as error:
        logs, said = output.take(), bad_code(error.cause, doing="does not start")
        if isinstance(error.cause, programs.NotRunnable):  # what matters are the program's own words, not our frames
            said["details"] = {"traceback": logs[-MAX_CALL_LOG:]}
        _send(sock, {"op": "failed", "error": said, "logs": logs})
        return 1
    except BaseException as error:  # noqa: BLE001 - whatever the person's module raises, they must see it
        _send(sock, {"op": "failed", "error": bad_code(error), "logs": output.take()})
        return 1
    loaded = time.perf_counter() - started
    hello = {"op": "ready", "parameters": handler.parameters, "loaded": loaded, "logs": output.take()}
    if not _send(sock, hello):
        return 0
    limit = min(int(order.get("payload") or MAX_BODY), MAX_BODY)
    processor = int(order.get("cpu_time") or 0)
    kind(sock, handler, output, concurrency=concurrency, limit=limit, runner=runner, processor=processor).run()
    runner.close()
    return 0


def _loaded(folder: str, runner: asyncio.Runner, concurrency: int) -> tuple[_Answering, type[Serving]]:
    """Return what answers calls, started, and the loop that it needs."""
    facts = bundle.read(folder)
    form = facts.get("form")
    if form == bundle.PROGRAM:
        return Program(programs.path_of(folder)), programs.Calls
    if form == bundle.SERVER:
        listening = Listening(programs.path_of(folder))
        _start(lambda: runner.run(listening.start()))
        return listening, Forwarded
    target = bundle.load(folder, facts)
    if form == bundle.ASGI:
        application = Application(asgi.made(target))
        _start(lambda: runner.run(application.start()))
        return application, asgi.Requests
    handler = Handler(made(target, runner))
    return handler, Coroutines if handler.is_async else Threads if concurrency > 1 else OneByOne


def made(target: Callable[..., Any], runner: asyncio.Runner) -> Callable[..., Any]:
    """Return what answers calls: of a class one object, made and started once, and its method.

    Parameters
    ----------
    target
        What the bundle's entry point names.
    runner
        Where a ``start`` that is a coroutine runs, and later the calls.

    Raises
    ------
    TypeError
        If the class has no method that answers, or cannot be made without arguments.
    """
    if not isinstance(target, type):
        return target
    name = "call" if hasattr(target, "call") else "__call__"
    if name not in {key for one in target.__mro__ for key in vars(one)}:
        raise TypeError(f"the class {target.__name__} has no method call or __call__")
    one = target()
    if callable(start := getattr(one, "start", None)):

        def run() -> None:
            begun = start()
            if inspect.iscoroutine(begun):
                runner.run(begun)

        _start(run)
    answering: Callable[..., Any] = getattr(one, name)
    return answering


def _start(start: Callable[[], object]) -> None:
    """Run what the person wrote to run before the first call."""
    try:
        start()
    except MemoryError:
        raise
    except BaseException as error:
        raise _NotStarted(error) from error


class _NotStarted(Exception):
    """The person's ``start`` failed with ``cause``."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _DiskFull(Exception):
    """There is no room for the bundle; the person's code is not to blame."""


def _write(folder: str, content: dict[str, Any]) -> None:
    try:
        bundle.write(folder, content)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _DiskFull from error
        raise


def _send(sock: socket.socket, head: dict[str, Any]) -> bool:
    try:
        sock.sendall(pack(hidden.hide(head)))
    except OSError:
        return False  # the gateway closed it while the bundle loaded
    return True
