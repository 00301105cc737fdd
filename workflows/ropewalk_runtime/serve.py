"""The server in a function's container: HTTP outside, one worker inside, which is the same worker as on a machine.

The first process loads no code of the person's. It forks a worker, listens once that has loaded the bundle, and hands
it calls as frames; so payloads, answers, logs and tracebacks are what they are everywhere. A call that runs over its
time ends with its worker, and a fresh one takes the next. Code that does not load leaves what is wrong with it as the
container's last words (``/dev/termination-log``), where whoever deploys reads it. Standard library only. Not here: who
may call (the gateway). Rejected: handlers in the server's own threads (nothing ends a thread), and a fork for each call
(models would load for each).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any

from ropewalk_runtime import bundle, worker
from ropewalk_runtime import exec as execution
from ropewalk_runtime.frames import MAX_HEADER, FrameError, pack, read_object
from ropewalk_runtime.handler import problem
from ropewalk_runtime.served import FRAME, Parts, Reader, WorkerGone, facts_of, here, http_of, leaving, status_of, told
from ropewalk_runtime.streams import Exchange
from ropewalk_runtime.wire import BadRequest, Request, read, respond

BUNDLE, PACKED, HOME = "/ropewalk/bundle", "bundle.json.gz", "/home/work"
LAST_WORDS, LONGEST_WORDS = "/dev/termination-log", 4000
DOES_NOT_LOAD = 65
"""Exit code when the code cannot be loaded; the last words say why."""
GRACE = 5.0
"""Seconds that a call whose caller left has for its own end, before its worker is ended."""
QUEUE = 100
"""Calls that may wait for a place; further ones are refused."""
OWN_MEMORY = 32 * 2**20
"""Bytes of the container's memory that the worker does not get, because this server lives on them."""
_READY = "/_ropewalk/ready"
_LINGER = 1.0
_CRASHES = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV"}
_STATUS = {
    "RW-BAD-INPUT": 422,
    "RW-TOO-LARGE": 413,
    "RW-USER-CODE": 500,
    "RW-OUT-OF-MEMORY": 500,
    "RW-TIMED-OUT": 504,
    "RW-LIMITED": 429,
}
_Answer = tuple[dict[str, Any], bytes]


class Worker:
    """A forked worker and the calls that wait for it.

    Parameters
    ----------
    order
        What `worker.main` is told.
    folder
        The working directory.
    memory
        Bytes that it may use; 0 leaves it to the container's limit.
    cpu
        Cores for numeric libraries; 0 means those of the machine.
    """

    def __init__(self, order: dict[str, Any], folder: str, memory: int, cpu: float) -> None:
        ours, theirs = socket.socketpair()
        self._sock = ours
        self._waiting: dict[int, Exchange] = {}
        self._next, self._memory, self._nonsense, self._killed = 0, memory, False, False
        self._processor, self._peak = int(order.get("cpu_time") or 0), 0
        self._writer: asyncio.StreamWriter | None = None
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.pid = os.fork()
        if not self.pid:
            _be_worker(theirs, order, folder, memory, cpu)
        theirs.close()

    async def load(self) -> dict[str, Any]:
        """Return the worker's first word: that it is ready, or what is wrong with the code."""
        reader, self._writer = await asyncio.open_connection(sock=self._sock)
        try:
            hello, _ = await _frame(reader)
        except (FrameError, EOFError, ConnectionError):
            code = await self.ended
            if code in (execution.MEMORY_EXIT, -signal.SIGKILL):
                said = "The function needs more memory to load than its placement allows."
                return {"op": "failed", "error": problem("RW-BAD-CODE", said, field="placement.memory")}
            said = f"The function's code ended Python while it was loaded (exit code {code})."
            return {"op": "failed", "error": problem("RW-BAD-CODE", said, field="code")}
        self._reading = asyncio.create_task(self._read(reader))
        return hello

    def send(self, header: dict[str, Any], body: bytes) -> Exchange:
        """Send a call; what comes back is in its exchange, until that is forgotten. Raises `WorkerGone`."""
        if self._writer is None or not self.usable:
            raise WorkerGone(problem("RW-UNAVAILABLE", "The worker that ran this call was ended."))
        self._next += 1
        number = self._next
        exchange = self._waiting[number] = Exchange(number, self._tell)
        self._writer.write(pack({**header, "id": number}, body))
        return exchange

    def forget(self, exchange: Exchange) -> None:
        """Take nothing more of a call."""
        self._waiting.pop(exchange.number, None)

    def _tell(self, header: dict[str, Any]) -> None:
        if self._writer is not None and self.usable:
            self._writer.write(pack(header))

    @property
    def usable(self) -> bool:
        """Whether it may be given calls."""
        return not self._killed and not self.ended.done()

    def kill(self) -> None:
        """End it, and everything that its code started."""
        self._killed = True
        self._sweep()

    def reaped(self, code: int, peak: int) -> None:
        """Note that it ended, and the most bytes it used; what its code left behind ends before another starts."""
        self._peak = peak
        if not self._killed:
            self._sweep()
        self.ended.set_result(code)

    def _sweep(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if os.getpid() == 1:  # of the container: whatever else runs here was left behind by a call
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                header, body = await _frame(reader)
                number = header.get("id")  # of a worker, whose code may write anything
                exchange = self._waiting.get(number) if isinstance(number, int) else None
                if exchange is not None:
                    exchange.take(header, body)
        except FrameError:
            self._nonsense = True
        except (EOFError, ConnectionError):
            pass
        if not self.ended.done():
            await asyncio.wait([self.ended], timeout=0.0 if self._nonsense else 2.0)
        facts = self._why()
        if self.usable:
            self.kill()
        for exchange in self._waiting.values():
            exchange.fail(WorkerGone(facts))

    def _why(self) -> dict[str, Any]:
        code = self.ended.result() if self.ended.done() else None
        if self._killed:
            return problem("RW-UNAVAILABLE", "The worker that ran this call was ended.", hint="Call again.")
        if code == execution.MEMORY_EXIT or code == -signal.SIGKILL:
            limit = f"its limit of {self._memory // 2**20}Mi" if self._memory else "its placement allows"
            used = f" (it had used {self._peak // 2**20} MiB)" if self._peak else ""
            said = f"The function needed more memory than {limit}{used}."
            return problem("RW-OUT-OF-MEMORY", said, field="placement.memory")
        if self._processor and code == execution.PROCESSOR_EXIT:
            said = f"The call used more processor time than its limit of {self._processor} s."
            hint = f"Ask for more: `cpu_time={2 * self._processor}`, or compute less in one call."
            return problem("RW-USER-CODE", said, hint=hint, field="cpu_time")
        if code is not None and -code in _CRASHES:
            hint = "A library with compiled code failed. Run the same call in your notebook with .local(...)."
            return problem("RW-USER-CODE", f"The function crashed Python ({_CRASHES[-code]}).", hint=hint)
        if self._nonsense:
            hint = "The code must leave the worker's own socket alone; return the answer instead."
            return problem("RW-USER-CODE", "The function wrote into the connection to its worker.", hint=hint)
        hint = "Something in it calls os._exit() or replaces the process; return or raise instead."
        return problem("RW-USER-CODE", f"The function ended its process with exit code {code}.", hint=hint)


class Server:
    """Answers calls, and keeps a worker that can.

    Parameters
    ----------
    order
        ``bundle``, ``concurrency`` and ``payload``, as a worker is told.
    folder, memory, cpu
        As of `Worker`.
    timeout
        Seconds that a call may take.
    """

    def __init__(self, order: dict[str, Any], folder: str, memory: int, cpu: float, timeout: float) -> None:
        self._order, self._folder, self._memory, self._cpu, self._timeout = order, folder, memory, cpu, timeout
        self._raw = bundle.read(order["bundle"]).get("form") in bundle.RAW
        self._places = asyncio.Semaphore(order["concurrency"])
        self._waiting = self._busy = 0
        self._workers: dict[int, Worker] = {}
        self._worker: asyncio.Task[Worker] | None = None
        self.broken: dict[str, Any] = {}
        self.draining = False
        self.failed = asyncio.Event()

    async def start(self) -> dict[str, Any]:
        """Load the code; return what is wrong with it, or nothing."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)
        with contextlib.suppress(WorkerGone):
            await self._ready()
        return self.broken

    async def drained(self, seconds: float) -> None:
        """Take calls a moment longer, until nobody sends any here, and wait for those that run."""
        await asyncio.sleep(_LINGER)
        self.draining = True
        end = time.monotonic() + seconds
        while (self._busy or self._waiting) and time.monotonic() < end:  # noqa: ASYNC110 - it ends with the process
            await asyncio.sleep(0.05)
        for one in self._workers.values():
            one.kill()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while not self.draining and (request := await read(reader, writer, self._order["payload"])) is not None:
                keep = request.keep and not self.draining
                with leaving(reader):
                    keep = await self._answer(request, writer, keep)
                if not keep:
                    break
        except BadRequest as error:
            facts = problem("RW-TOO-LARGE" if error.status == 413 else "RW-BAD-INPUT", str(error), field=error.field)
            with contextlib.suppress(ConnectionError):
                await respond(writer, error.status, "application/problem+json", json.dumps(facts).encode(), keep=False)
        except (ConnectionError, EOFError, FrameError):
            pass  # the caller is gone, or the worker's words do not fit into a frame of ours
        finally:
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter, keep: bool) -> bool:
        """Answer a request, and say whether the connection can be used again."""
        path, _, query = request.target.partition("?")
        if urllib.parse.unquote(path) == _READY:
            await respond(writer, 200, "text/plain", b"ready", keep=keep)
            return keep
        framed = request.headers.get("accept") == FRAME
        header = told(request, query, framed)
        if self._raw:
            header["http"] = http_of(request, path, framed)
        try:
            async with self._place():
                return await self._called(writer, header, request.body, framed=framed, keep=keep)
        except WorkerGone as error:
            await self._said(writer, {"error": error.facts}, b"", framed=framed, keep=keep)
            return keep

    async def _called(
        self, writer: asyncio.StreamWriter, header: dict[str, Any], body: bytes, *, framed: bool, keep: bool
    ) -> bool:
        until = asyncio.get_running_loop().time() + self._timeout
        late = problem("RW-TIMED-OUT", f"The call took longer than {self._timeout:g} seconds.", field="timeout")
        one = await self._ready()
        exchange = one.send(header, body)
        try:
            try:
                async with asyncio.timeout_at(until):
                    said, answer = await exchange.first
            except TimeoutError:
                one.kill()
                said, answer = {"error": late}, b""
            if not exchange.streams:
                await self._said(writer, said, answer, framed=framed, keep=keep)
                return keep
            again = await Parts(writer, exchange, said, framed=framed, keep=keep).send(until, late)
            if exchange.last is None:
                await self._left(one, exchange)
            return again
        except (asyncio.CancelledError, ConnectionError):
            await self._left(one, exchange)
            raise
        finally:
            _print(exchange.last or {})
            one.forget(exchange)

    async def _left(self, one: Worker, exchange: Exchange) -> None:
        """Have a call ended that nobody waits for; a worker that runs nothing else and does not end it is ended."""
        exchange.cancel()
        try:
            async with asyncio.timeout(GRACE):
                await exchange.ended()
        except TimeoutError:
            if self._order["concurrency"] == 1:
                one.kill()
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._timeout):
                        await exchange.ended()

    async def _said(
        self, writer: asyncio.StreamWriter, said: dict[str, Any], body: bytes, *, framed: bool, keep: bool
    ) -> None:
        if framed:
            answer = pack({**said, **here()}, body)
            await respond(writer, 200, FRAME, answer, keep=keep)
        elif (facts := facts_of(said)) is not None:
            status = _STATUS.get(str(facts.get("code")), 503)
            await respond(writer, status, "application/problem+json", json.dumps(facts).encode(), keep=keep)
        else:
            kind = str(said.get("type") or "application/octet-stream")
            await respond(writer, status_of(said), kind, body, keep=keep)

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait for a place among the calls that may run. Raises `WorkerGone` if there is none."""
        if self._waiting >= QUEUE:
            raise WorkerGone(problem("RW-LIMITED", f"{QUEUE} calls wait already.", field="queue"))
        self._waiting += 1
        try:
            await asyncio.wait_for(self._places.acquire(), self._timeout)
        except TimeoutError:
            raise WorkerGone(problem("RW-LIMITED", f"No worker became free in {self._timeout:g} seconds.")) from None
        finally:
            self._waiting -= 1
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._places.release()

    async def _ready(self) -> Worker:
        """Return a worker that has loaded the code, started when there is none."""
        task = self._worker
        if task is None or (task.done() and (task.exception() or not task.result().usable)):
            task = self._worker = asyncio.create_task(self._load())
        return await asyncio.shield(task)

    async def _load(self) -> Worker:
        one = Worker(self._order, self._folder, self._memory, self._cpu)
        self._workers[one.pid] = one
        hello = await one.load()
        if hello.get("op") != "ready":
            one.kill()
            self.broken = hello.get("error") or problem("RW-BAD-CODE", "The function does not load.")
            self.failed.set()
            raise WorkerGone(self.broken)
        return one

    def _reap(self) -> None:
        """Take note of every child that ended, orphans too: in a container we are their init."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            one = self._workers.pop(pid, None)
            if one is not None:
                one.reaped(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)


def _print(said: dict[str, Any]) -> None:
    """Print what a call printed, for the container's own log."""
    if text := str(said.get("logs") or ""):
        line = text if text.endswith("\n") else text + "\n"
        sys.stdout.buffer.write(line.encode(errors="replace"))  # it may hold halves of characters
        sys.stdout.buffer.flush()


def main() -> None:
    """Serve the mounted bundle until told to end."""
    given = _arguments()
    sys.exit(asyncio.run(_run(given)))


async def _run(given: argparse.Namespace) -> int:
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    memory = given.memory or max(0, _container_memory() - OWN_MEMORY)
    order = {"bundle": _unpacked(given.bundle), "concurrency": given.concurrency, "payload": given.payload}
    order |= {"cpu_time": given.cpu_time, "secrets": [one for one in given.secrets.split(",") if one]}
    one = Server(order, os.path.join(given.home, given.folder), memory, given.cpu, given.timeout)
    if facts := await one.start():
        _last_words(facts, given.last_words)
        return DOES_NOT_LOAD
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: asyncio.StreamReaderProtocol(Reader(), one.serve), given.host, given.port, backlog=256
    )
    failed, told = asyncio.create_task(one.failed.wait()), asyncio.create_task(end.wait())
    await asyncio.wait([failed, told], return_when=asyncio.FIRST_COMPLETED)
    for task in (failed, told):
        task.cancel()
    if not end.is_set():  # loaded once and not again: the container starts anew, and says why when that fails too
        _last_words(one.broken, given.last_words)
        return DOES_NOT_LOAD
    draining = asyncio.create_task(one.drained(given.grace))
    await asyncio.sleep(_LINGER)
    listener.close()
    await draining
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ropewalk_runtime.serve", description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", default=BUNDLE, help=f"its folder, or one that holds {PACKED}")
    parser.add_argument("--home", default=HOME, help="the account's files")
    parser.add_argument("--folder", default="", help="working directory inside them")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 - a pod's own
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that a call may take")
    parser.add_argument("--grace", type=float, default=30.0, help="seconds for calls that run when told to end")
    parser.add_argument("--concurrency", type=int, default=1, help="calls at a time")
    parser.add_argument("--payload", type=int, default=32 * 2**20, help="bytes of a request or an answer")
    parser.add_argument("--memory", type=int, default=0, help="bytes for the worker; 0 means what the container has")
    parser.add_argument("--cpu", type=float, default=0.0, help="cores for numeric libraries")
    parser.add_argument("--cpu-time", type=int, default=0, help="seconds of processor time of a call; 0 sets no limit")
    parser.add_argument("--secrets", default="", help="variables whose values it does not tell, with commas between")
    parser.add_argument("--last-words", default=LAST_WORDS, help="where to say why the code does not load")
    return parser.parse_args()


def _be_worker(sock: socket.socket, order: dict[str, Any], folder: str, memory: int, cpu: float) -> None:
    """Become the worker; never returns."""
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        execution.default_signals()
        execution.redirect(os.dup(2))
        execution.close_others([sock.fileno()])
        execution.limit(memory or None)
        execution.set_threads(cpu or None)
        execution.reseed()
        execution.enter(folder)
        code = worker.main(sock, order)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except MemoryError:
        code = execution.MEMORY_EXIT
    finally:
        os._exit(code)


def _unpacked(folder: str) -> str:
    """Return the bundle's folder, written from the packed one where a mount cannot hold folders."""
    packed = os.path.join(folder, PACKED)
    if not os.path.exists(packed):
        return folder
    with gzip.open(packed) as file:
        content = json.load(file)
    return str(bundle.write(os.path.join(tempfile.mkdtemp(prefix="ropewalk-"), "bundle"), content))


def _last_words(facts: dict[str, Any], path: str) -> None:
    """Leave what is wrong where the cluster shows it; a long traceback loses its middle."""
    sys.stderr.write(f"{facts.get('message')}\n{(facts.get('details') or {}).get('traceback', '')}\n")
    sys.stderr.flush()
    text = json.dumps(facts)
    shown = str((facts.get("details") or {}).get("traceback", ""))
    while len(text) > LONGEST_WORDS and len(shown) > 100:
        half = len(shown) * 2 // 5
        shown = f"{shown[:half]}\n[...]\n{shown[-half:]}" if half > 60 else ""
        text = json.dumps({**facts, "details": {"traceback": shown}})
    with contextlib.suppress(OSError), open(path, "w") as file:
        file.write(text[:LONGEST_WORDS])


def _container_memory() -> int:
    """Return the container's limit of memory in bytes; 0 when there is none, or nobody tells."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError), open(path) as file:
            text = file.read().strip()
            if re.fullmatch(r"\d{1,15}", text):  # "max", or a number that no machine has, is no limit
                return int(text)
    return 0


async def _frame(reader: asyncio.StreamReader) -> _Answer:
    """Return the worker's next frame; its lengths are checked first, because it is the person's code that writes."""
    head = await _exactly(reader, 8)
    header, body = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
    if header > MAX_HEADER or body > 256 * 2**20:
        raise FrameError("A frame is over its limit.")
    return read_object(await _exactly(reader, header)), await _exactly(reader, body)


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise EOFError from error


if __name__ == "__main__":
    main()
