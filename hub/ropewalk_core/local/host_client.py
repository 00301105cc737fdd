"""Asking the zygote host for workers and steps, over ``run/host.sock``.

An order names an account and what to run; the host answers when it started and when it ended. A worker's socket is
made here and its other end travels to the worker by SCM_RIGHTS, so a call never passes through the host. What this
client ordered ends with its connection: nobody would read the answers. Not here: keepers and zygotes
(``ropewalk_hub.host``, ``ropewalk_runtime``), when to run what (gateway, engine). Rejected: adopting steps after the
engine restarts (two attempts could run at once).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ropewalk_core.errors import Conflict, RopewalkError, Unavailable, from_problem
from ropewalk_core.local.channel import Channel

Reason = Literal["", "memory", "time", "ended", "lost"]
_PATIENCE = 10.0
"""Seconds that an order waits for a host that is being restarted."""


@dataclass(frozen=True)
class Order:
    """What workers and steps have in common.

    Parameters
    ----------
    id
        Unique among what this client has running.
    account
        Whose sandbox it runs in.
    cwd
        Working directory as seen in the sandbox; empty means the account's files.
    environment
        Further variables; they are visible to the account's processes, so no secrets of the platform.
    memory, cpu, scratch
        Bytes, cores and bytes of /tmp; None asks for the settings' limits.
    preload
        Modules worth having in the zygote.
    accelerator
        Names in order of preference, as in `Placement`.
    patience
        Seconds that it waits for one to be free; None waits for ever.
    what
        What holds the accelerator, for its owner to read: ``function 'digits'``.
    requirements
        Key of the environment that it runs in; empty means the account's own.
    """

    id: str
    account: str
    cwd: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    memory: int | None = None
    cpu: float | None = None
    scratch: int | None = None
    preload: tuple[str, ...] = ()
    accelerator: tuple[str, ...] = ()
    patience: float | None = None
    what: str = ""
    requirements: str = ""


@dataclass(frozen=True)
class WorkerOrder(Order):
    """A worker for one revision of a function.

    Parameters
    ----------
    bundle
        Folder of the captured code.
    concurrency
        Calls it takes at a time.
    network
        False gives it a network of its own with nothing but loopback, in which a program may listen.
    files
        ``read`` lets it only read the account's files.
    secrets
        Names of secrets of the account's, which the host puts into its environment.
    cpu_time
        Seconds of processor time that a call may use; None sets no limit.
    content
        The bundle as JSON, to be written to ``bundle`` first. The worker writes it, as the account and inside the
        sandbox: whoever writes below an account's folder from outside can be led astray by links.
    """

    bundle: str = ""
    concurrency: int = 1
    network: bool = True
    files: Literal["write", "read"] = "write"
    secrets: tuple[str, ...] = ()
    cpu_time: int | None = None
    content: bytes | None = None


@dataclass(frozen=True)
class StepOrder(Order):
    """One attempt of a step.

    Parameters
    ----------
    folder
        The attempt's folder; output goes to ``<folder>/log``.
    kind
        ``python`` runs ``ropewalk_runtime.step.main(folder)`` in a fork of a zygote, ``command`` runs ``argv``.
    argv
        The command line of a ``command``.
    timeout
        Seconds after which it is ended; None means no limit.
    inputs
        What a ``python`` step is given; None where that is in the folder, because it is long.
    secrets
        Names of secrets of the account's, which the host puts into its environment.
    """

    folder: str = ""
    kind: Literal["python", "command"] = "python"
    argv: tuple[str, ...] = ()
    timeout: float | None = None
    inputs: Mapping[str, Any] | None = None
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepExit:
    """How something ended.

    Parameters
    ----------
    code
        Exit code; negative for a signal.
    signal
        The signal that ended it, or 0.
    reason
        ``memory``, ``time``, ``ended`` (asked by us), ``lost`` (its keeper or host died), or empty.
    peak_memory
        Most bytes of resident memory it used.
    said
        JSON that a step said of its outcome, from a sandbox; then nothing else is known, because it ends only now.
    """

    code: int
    signal: int = 0
    reason: Reason = ""
    peak_memory: int = 0
    said: str = ""


@dataclass(frozen=True)
class Worker:
    """A worker that was ordered: its socket, usable at once, and how it will end.

    The socket's end tells that the worker is gone; ``exit`` tells why. ``started`` gives the name of its accelerator,
    empty without one.
    """

    id: str
    socket: socket.socket
    exit: asyncio.Future[StepExit]
    started: asyncio.Future[str]


@dataclass
class _Pending:
    started: asyncio.Future[str]
    exit: asyncio.Future[StepExit]


class HostClient:
    """A connection to the host, made when needed and again after a restart.

    Parameters
    ----------
    path
        The host's socket, ``settings.run / "host.sock"``.
    patience
        Seconds that an order waits for a host that is away.
    """

    def __init__(self, path: Path, *, patience: float = _PATIENCE) -> None:
        self._path = path
        self._patience = patience
        self._channel: Channel | None = None
        self._pending: dict[str, _Pending] = {}
        self._ended: dict[str, list[asyncio.Future[None]]] = {}
        self._asked: list[asyncio.Future[set[str]]] = []
        self._connecting = asyncio.Lock()

    async def start_worker(self, order: WorkerOrder) -> Worker:
        """Order a worker. Returns as soon as the order is sent; the first frame on its socket says whether it loaded.

        Raises
        ------
        Unavailable
            If the host does not come back in time.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            content = [] if order.content is None else [_memory_file(order.content)]
            pending = await self._order(replace(order, content=None), "worker", [theirs.detach(), *content])
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        return Worker(order.id, ours, pending.exit, pending.started)

    async def run_step(self, order: StepOrder, on_started: Callable[[], None] | None = None) -> StepExit:
        """Run a step to its end. Cancelling the task ends the step.

        Raises
        ------
        Unavailable
            If the host or the account's keeper died meanwhile, or the host does not come back in time; the attempt is
            lost and may be tried again.
        """
        pending = await self._order(order, order.kind)
        try:
            await pending.started
            if on_started is not None:
                on_started()
            ended = await asyncio.shield(pending.exit)
        except asyncio.CancelledError:
            await self.end(order.id)
            raise
        if ended.reason == "lost":
            raise Unavailable("The process that ran this step ended.", hint="The step is tried again.")
        return ended

    async def end(self, identifier: str) -> None:
        """End a worker or step and everything it started. Ending what is not there is done already."""
        if identifier in self._pending and self._channel is not None and self._channel.is_open:
            self._channel.send({"op": "end", "id": identifier})

    async def end_account(self, account: str) -> None:
        """End everything of the account, its keeper and zygotes too, whoever ordered it. Returns when done."""
        channel = await self._connect()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended.setdefault(account, []).append(done)
        channel.send({"op": "end_account", "account": account})
        await done

    async def environments(self) -> set[str]:
        """Return the keys of the environments of requirements that anything uses which runs now, whoever ordered it.

        Raises
        ------
        Unavailable
            If the host does not come back in time.
        """
        channel = await self._connect()
        answer: asyncio.Future[set[str]] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_seen)
        self._asked.append(answer)
        channel.send({"op": "environments"})
        return await answer

    async def close(self) -> None:
        """Close the connection; what this client ordered ends."""
        if self._channel is not None:
            self._channel.close()
        self._lost()

    async def _order(self, order: WorkerOrder | StepOrder, kind: str, descriptors: list[int] | None = None) -> _Pending:
        try:
            channel = await self._connect()
            if order.id in self._pending:
                raise Conflict(f"The order '{order.id}' runs already.", field="id")
        except BaseException:
            for one in descriptors or ():
                socket.close(one)
            raise
        loop = asyncio.get_running_loop()
        pending = _Pending(loop.create_future(), loop.create_future())
        for future in (pending.started, pending.exit):
            future.add_done_callback(_seen)
        self._pending[order.id] = pending  # not before: the end of an earlier connection would end it, and it would run
        try:
            # Not asdict: it copies all of it, which takes a tenth of a millisecond of a cold call.
            channel.send({"op": "start", "kind": kind, **vars(order)}, descriptors or ())
        except RopewalkError:
            self._pending.pop(order.id, None)
            raise
        return pending

    async def _connect(self) -> Channel:
        async with self._connecting:
            if self._channel is not None and self._channel.is_open:
                return self._channel
            until = asyncio.get_running_loop().time() + self._patience
            while True:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                try:
                    sock.connect(str(self._path))
                except OSError as error:
                    sock.close()
                    if asyncio.get_running_loop().time() >= until:
                        raise Unavailable("The process that runs functions and steps is away.") from error
                    await asyncio.sleep(0.05)
                    continue
                self._channel = Channel(sock, self._packet, self._lost)
                return self._channel

    def _packet(self, message: dict[str, Any], descriptors: list[int]) -> None:
        for one in descriptors:  # the host sends none
            socket.close(one)
        if message["op"] == "ended_account":
            for done in self._ended.pop(str(message["account"]), []):
                if "problem" in message:
                    _fail(done, from_problem(message["problem"]))
                else:
                    _settle(done, None)
            return
        if message["op"] == "environments":
            asked, self._asked = self._asked, []
            for one_asked in asked:
                _settle(one_asked, set(message["keys"]))
            return
        identifier = str(message["id"])
        pending = self._pending.get(identifier)
        if pending is None:
            return
        if message["op"] == "started":
            _settle(pending.started, str(message.get("accelerator", "")))
            return
        del self._pending[identifier]
        if message["op"] == "failed":
            error = from_problem(message["problem"])
            _fail(pending.started, error)
            _fail(pending.exit, error)
            return
        if message["op"] == "said":  # it ends now, and nobody waits for that
            ended = StepExit(0, said=str(message["said"]))
        else:
            ended = StepExit(int(message["code"]), int(message["signal"]), message["reason"], int(message["peak"]))
        _settle(pending.started, "")
        _settle(pending.exit, ended)

    def _lost(self) -> None:
        """The host died, and what it ran with it."""
        pending, self._pending = self._pending, {}
        for one in pending.values():
            _fail(one.started, Unavailable("The process that runs functions and steps was restarted."))
            _settle(one.exit, StepExit(-9, 9, "lost"))
        asked, self._asked = self._asked, []
        for waiting in asked:
            _fail(waiting, Unavailable("The process that runs functions and steps was restarted."))
        ended, self._ended = self._ended, {}
        for futures in ended.values():
            for done in futures:
                _settle(done, None)


def _memory_file(content: bytes) -> int:
    """Return a descriptor of a file in memory that starts with the content."""
    descriptor = os.memfd_create("bundle")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: RopewalkError) -> None:
    if not future.done():
        future.set_exception(error)


def _seen(future: asyncio.Future[Any]) -> None:
    """Take note of an exception that perhaps nobody awaits."""
    if not future.cancelled():
        future.exception()
