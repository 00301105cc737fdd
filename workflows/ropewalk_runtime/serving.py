"""The loop over calls in a worker: one after another, several in threads, or side by side as coroutines.

What a handler yields is sent as it comes, `streams.WINDOW` bytes ahead of its reader at most. A caller that leaves ends
its call: a generator is closed where it stands, a coroutine is cancelled, and a function that runs alone is interrupted
by an exception, so that its ``finally`` runs. A function that shares its worker with others in threads runs on, because
nothing ends a thread. Not here: loading the code (``worker``), what values look like (``handler``, ``parts``).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
import types
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ropewalk_runtime import exec as execution
from ropewalk_runtime import hidden, parts, returned
from ropewalk_runtime.bell import Bell
from ropewalk_runtime.failing import CallerLeft, failed
from ropewalk_runtime.formats import Unformed
from ropewalk_runtime.frames import FrameError, Unpacker, pack, read_frame
from ropewalk_runtime.printed import CallLog, Output, current
from ropewalk_runtime.returned import Large, unsent
from ropewalk_runtime.streams import WINDOW, Answer, cost, pieces

_READ = 256 * 2**10
_END = object()


class Call:
    """One call in work: what it may still send, and whether its caller left."""

    def __init__(self, head: dict[str, Any]) -> None:
        self.id, self._head = head.get("id"), head
        self.type, self.query = str(head.get("type", "")), str(head.get("query", ""))
        self.accept = str(head.get("accept", ""))
        self._granted, self._sent = WINDOW, 0  # each is counted in one thread alone
        self.left = self.exposed = self.begun = self.wanted = self.pending = False
        self.ring: Callable[[], None] = _nothing
        self.kind = ""
        self.task: asyncio.Task[None] | None = None
        self.news: asyncio.Event | None = None
        self._clock: Callable[[], float] | None = None
        self.leave: Callable[[], None] | None = None

    @property
    def credit(self) -> int:
        """Bytes that may be sent before more are asked for."""
        return self._granted - self._sent

    @property
    def files(self) -> dict[str, str]:
        """Where the files lie that its payload may name, by digest."""
        found = self._head.get("files")
        return found if isinstance(found, dict) else {}

    @property
    def http(self) -> dict[str, Any]:
        """The request behind it, for handlers that want that."""
        found = self._head.get("http")
        return found if isinstance(found, dict) else {}

    @property
    def trace(self) -> dict[str, str]:
        """The trace context of its caller, as headers."""
        return {name: str(said) for name in ("traceparent", "tracestate") if (said := self._head.get(name))}

    def begin(self, clock: Callable[[], float] | None = None) -> None:
        """Keep what is printed from here on, in this thread or task; ``clock`` counts the CPU seconds of it alone."""
        self.log = CallLog()
        self.log.head = self._head
        self.begun = True
        current.set(self.log)
        self._clock, self._spent = clock, clock() if clock else 0.0
        self.started = time.perf_counter()

    def cost(self) -> dict[str, float]:
        """Return how long it took, and its CPU seconds where they can be told from others'."""
        took = {"took": time.perf_counter() - self.started}
        return took | {"cpu": self._clock() - self._spent} if self._clock else took

    def heed(self, head: dict[str, Any]) -> None:
        """Take what the gateway says of it while it runs."""
        if head.get("op") == "more":
            self._granted += int(head.get("bytes", 0))
            if self.news is not None:
                self.news.set()
        elif head.get("op") == "log":
            self.wanted = True
        elif head.get("op") == "cancel":
            self.left = True
            if self.leave is not None:
                self.leave()
            elif self.task is not None and self.begun:  # a task that is cancelled before it begins never says so
                self.task.cancel()

    def said(self) -> bytes:
        """Return the frame that tells what was printed since the last one."""
        self.wanted = False
        return pack({"op": "log", "id": self.id, "text": hidden.hide(self.log.news()) if self.begun else ""})

    def begins(self, kind: str, *, values: bool = True) -> bytes:
        """Return the frame that begins an answer in parts: ``values``, or one value in pieces."""
        self.kind = kind
        return pack({"op": "head", "id": self.id, "status": 200, "type": kind, "values": values})

    def part(self, piece: bytes) -> bytes:
        """Return the frame of a part, and count it."""
        self._sent += cost(piece)
        return pack({"op": "part", "id": self.id}, piece)


class Serving:
    """What all loops share.

    Parameters
    ----------
    sock
        The gateway's end is elsewhere; the loop ends when that is closed.
    handler
        Answers.
    output
        What is printed beside Python's own streams.
    concurrency
        How many calls may run at a time.
    limit
        Bytes that an answer, or a part of one, may have.
    runner
        Keeps the event loop that a class was started in.
    processor
        Seconds of processor time that a call may use, where calls come one at a time; 0 sets no limit.
    """

    def __init__(
        self,
        sock: socket.socket,
        handler: Any,
        output: Output,
        *,
        concurrency: int,
        limit: int,
        runner: asyncio.Runner,
        processor: int = 0,
    ) -> None:
        self._processor = processor
        self._sock, self._handler, self._output = sock, handler, output
        self._concurrency, self._limit, self._runner = concurrency, limit, runner

    def run(self) -> None:
        """Serve until the gateway closes the socket."""
        with contextlib.suppress(FrameError, ConnectionError):  # the gateway is gone; nobody waits for an answer
            self._serve()

    @abstractmethod
    def _serve(self) -> None: ...

    def _returned(self, call: Call, value: Any) -> Answer | Large:
        said = returned.answered(value, content_type=call.type, accept=call.accept, limit=self._limit)
        return said if isinstance(said, Large) else ({"status": 200, "type": said[1]}, said[0])

    def _encoded(self, call: Call, value: Any) -> tuple[bytes, bytes]:
        """Return a yielded value as bytes, and the frame that must go before it, if any."""
        kind = call.kind or parts.chosen(call.accept, call.type, value)
        data = parts.encode(kind, value, self._limit)
        return data, b"" if call.kind else call.begins(kind)

    def _finish(self, call: Call, done: Answer) -> Answer:
        current.set(None)
        beside = self._output.take()
        if beside:
            call.log.write(beside)
        head = {"logs": hidden.hide(call.log.getvalue()), **done[0]}
        if "error" in head:
            head["error"] = hidden.hide(head["error"])
        return {"id": call.id, **call.cost(), **head}, done[1]

    def _begin(self, call: Call) -> None:
        if self._processor:
            execution.allow_processor_time(self._processor)
        call.begin(self._clock())

    def _clock(self) -> Callable[[], float] | None:
        """Return what counts the CPU seconds of one call, None where calls share a thread."""
        return time.process_time if self._concurrency == 1 else None


class _Plain(Serving):
    """Handlers that are functions and generators."""

    @abstractmethod
    def _hear(self, call: Call) -> None:
        """Wait until the gateway says something of a call."""

    @abstractmethod
    def _send(self, frame: bytes) -> None: ...

    def _call(self, call: Call, body: bytes) -> Answer:
        self._begin(call)
        try:
            bound = self._handler.arguments(body, call.type, call.query, call.files)
            result = _exposed(call, self._handler.function, *bound.args, **bound.kwargs)
            give = self._stream if isinstance(result, types.GeneratorType) else self._give
            done = give(call, result)
        except BaseException as error:  # noqa: BLE001 - the person's code may raise anything
            done = {"error": failed(error)}, b""
        return self._finish(call, done)

    def _stream(self, call: Call, values: Generator[Any, Any, Any]) -> Answer:
        try:
            while (value := _exposed(call, next, values, _END)) is not _END:
                data, head = self._encoded(call, value)
                if head:
                    self._send(head)
                self._put(call, data)
        finally:
            values.close()
        if not call.kind:
            self._send(call.begins(parts.chosen(call.accept, call.type)))
        return {"status": 200}, b""

    def _give(self, call: Call, value: Any) -> Answer:
        said = self._returned(call, value)
        if not isinstance(said, Large):
            return said
        self._send(call.begins(said.type, values=False))
        try:
            for piece in said.pieces:
                self._put(call, piece)
        except Unformed as error:
            raise unsent(error) from None
        return {"status": 200}, b""

    def _put(self, call: Call, data: bytes | memoryview) -> None:
        for piece in pieces(data):
            while call.credit < cost(piece) and not call.left:
                self._hear(call)
            if call.left:
                raise CallerLeft
            self._send(call.part(piece))


class OneByOne(_Plain):
    """One call at a time, in the main thread."""

    def _serve(self) -> None:
        self._bell = bell = Bell(self._sock, self._output)
        while (frame := read_frame(self._sock)) is not None:
            head, body = frame
            if "op" in head:
                continue  # it was meant for a call that is over
            call = Call(head)
            call.ring = bell.ring
            bell.listen(call)
            try:
                done = self._call(call, body)
            finally:
                bell.rest()
            self._sock.sendall(pack(*done))

    def _hear(self, call: Call) -> None:
        with self._bell.aside():
            frame = read_frame(self._sock)
        if frame is None:
            raise ConnectionResetError
        if frame[0].get("id") == call.id:
            call.heed(frame[0])
        if call.wanted:
            self._sock.sendall(call.said())

    def _send(self, frame: bytes) -> None:
        self._sock.sendall(frame)


class Threads(_Plain):
    """Several calls at a time, each in a thread."""

    def _clock(self) -> Callable[[], float]:
        return time.thread_time

    def _serve(self) -> None:
        self._calls: dict[Any, Call] = {}
        self._news, self._sending = threading.Condition(), threading.Lock()
        with ThreadPoolExecutor(self._concurrency) as pool:
            try:
                while (frame := read_frame(self._sock)) is not None:
                    self._take(pool, *frame)
            finally:
                with self._news:
                    for call in list(self._calls.values()):  # others end meanwhile
                        call.left = True
                    self._news.notify_all()

    def _take(self, pool: ThreadPoolExecutor, head: dict[str, Any], body: bytes) -> None:
        if "op" not in head:
            call = self._calls[head.get("id")] = Call(head)
            pool.submit(self._call_and_send, call, body)
        elif (running := self._calls.get(head.get("id"))) is not None:
            with self._news:
                running.heed(head)
                self._news.notify_all()
            if running.wanted:
                self._send(running.said())

    def _call_and_send(self, call: Call, body: bytes) -> None:
        done = self._call(call, body)
        self._calls.pop(call.id, None)
        with contextlib.suppress(OSError):  # the gateway is gone; the reading loop ends us
            self._send(pack(*done))

    def _hear(self, call: Call) -> None:
        with self._news:
            if not call.left:
                self._news.wait(1.0)

    def _send(self, frame: bytes) -> None:
        with self._sending:
            self._sock.sendall(frame)


class Coroutines(Serving):
    """Several calls at a time, side by side in one event loop."""

    def _serve(self) -> None:
        self._runner.run(self._main())

    async def _main(self) -> None:
        reader, self._writer = await asyncio.open_connection(sock=self._sock)
        self._calls: dict[Any, Call] = {}
        unpacker = Unpacker()
        while data := await reader.read(_READ):
            for head, body in unpacker.feed(data):
                self._take(head, body)
        for call in self._calls.values():
            call.heed({"op": "cancel"})
        await self._end()

    async def _end(self) -> None:
        """Do what there is to do when no more calls come."""

    def _take(self, head: dict[str, Any], body: bytes) -> None:
        if "op" not in head:
            call = self._calls[head.get("id")] = Call(head)
            call.news = asyncio.Event()
            call.task = asyncio.create_task(self._await(call, body))
        elif (running := self._calls.get(head.get("id"))) is not None:
            running.heed(head)
            if running.wanted:
                self._writer.write(running.said())

    async def _await(self, call: Call, body: bytes) -> None:
        self._begin(call)
        try:
            if call.left:
                raise CallerLeft
            done = await self._run(call, body)
        except BaseException as error:  # noqa: BLE001 - also its own cancellation; if we end, nobody reads the answer
            done = {"error": failed(CallerLeft() if call.left else error)}, b""
        self._calls.pop(call.id, None)
        with contextlib.suppress(OSError):
            await self._send(pack(*self._finish(call, done)))

    async def _run(self, call: Call, body: bytes) -> Answer:
        bound = self._handler.arguments(body, call.type, call.query, call.files)
        result = self._handler.function(*bound.args, **bound.kwargs)
        if isinstance(result, types.AsyncGeneratorType):
            return await self._stream(call, result)
        return await self._give(call, await result)

    async def _stream(self, call: Call, values: AsyncGenerator[Any, Any]) -> Answer:
        try:
            async for value in values:
                data, head = self._encoded(call, value)
                if head:
                    await self._send(head)
                await self._put(call, data)
        finally:
            await values.aclose()
        if not call.kind:
            await self._send(call.begins(parts.chosen(call.accept, call.type)))
        return {"status": 200}, b""

    async def _give(self, call: Call, value: Any) -> Answer:
        said = self._returned(call, value)
        if not isinstance(said, Large):
            return said
        await self._send(call.begins(said.type, values=False))
        try:
            for piece in said.pieces:
                await self._put(call, piece)
        except Unformed as error:
            raise unsent(error) from None
        return {"status": 200}, b""

    async def _put(self, call: Call, data: bytes | memoryview) -> None:
        for piece in pieces(data):
            while call.credit < cost(piece) and call.news is not None:
                call.news.clear()
                await call.news.wait()
            await self._send(call.part(piece))

    async def _send(self, frame: bytes) -> None:
        self._writer.write(frame)  # at once and whole, also if who sends it is cancelled
        await self._writer.drain()


def _nothing() -> None:
    """Do nothing."""


def _exposed(call: Call, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run the person's code where a caller that leaves may interrupt it."""
    call.exposed = True
    try:
        if call.pending:
            call.ring()
        if call.left:
            raise CallerLeft
        return function(*args, **kwargs)
    finally:
        call.exposed = False
