"""The first process in an account's sandbox: starts zygotes, outlives them, and reports every exit to the host.

A single loop over sockets, pipes and deadlines; standard library only. It is the subreaper of all user processes of
the account, so none is lost sight of; when it ends, the sandbox's pid namespace ends with it. It holds no secret and
trusts nobody: its orders come from the host alone, through the one socket it was started with. Not here: forking user
code (``zygote``). Rejected: the zygote as first process (killing it would kill everything in the sandbox).
"""

from __future__ import annotations

import contextlib
import heapq
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ropewalk_runtime import isolate
from ropewalk_runtime.exec import MEMORY_EXIT, SINGLE_THREAD
from ropewalk_runtime.frames import MAX_SAID, FrameError, receive_packet, send_packet

MOST_ZYGOTES = 3
"""How many zygotes one account keeps; the one not used for longest retires, and a new one loads what that had too."""
ZYGOTE_IDLE = 600.0
"""Seconds after which an unused zygote retires."""
SLOWEST_START = 10.0
"""Seconds after which a zygote that is not ready counts as stuck once somebody gives up waiting for it."""
_FULL_PIPE = 16
"""How many reads empty a pipe, and some more."""
CUT_MARK = b"\n[the log is longer than its limit; the rest was left out]\n"


@dataclass
class Child:
    """One worker or step."""

    order: dict[str, Any]
    descriptors: list[int]
    pid: int = 0
    reason: str = ""
    pipe: int = -1
    said: int = -1
    log: int = -1
    room: int = 0
    tries: int = 0
    exit: tuple[int, int] | None = None

    @property
    def id(self) -> str:
        """The order's identifier."""
        return str(self.order["id"])


@dataclass
class Zygote:
    """One zygote: what it can fork, and whom it is forking."""

    key: tuple[str, str]
    wanted: frozenset[str]
    pid: int
    control: socket.socket
    number: int
    ready: bool = False
    born: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    waiting: dict[str, Child] = field(default_factory=dict)
    backlog: list[Child] = field(default_factory=list)


class Keeper:
    """The loop.

    Parameters
    ----------
    host
        Packet socket to the zygote host; when it closes, the keeper ends.
    idle
        Seconds without children after which the keeper ends by itself.
    boot
        Python source that puts the runtime on a zygote's path.
    """

    def __init__(self, host: socket.socket, idle: float, boot: str) -> None:
        self._host = host
        self._idle = idle
        self._boot = boot
        self._selector = selectors.DefaultSelector()
        self._zygotes: list[Zygote] = []
        self._children: dict[str, Child] = {}
        self._pids: dict[int, Child] = {}
        self._early: dict[int, tuple[int, int]] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._unsafe: set[tuple[tuple[str, str], frozenset[str]]] = set()
        self._busy = time.monotonic()
        self._ended = False
        self._spawned = 0

    def run(self) -> None:
        """Serve until the host closes the socket, or nothing was asked for a while."""
        isolate.become_subreaper()
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._watch(read, lambda: self._reap(os.read(read, 4096)))
        self._watch(self._host.fileno(), self._from_host)
        self._tell({"op": "ready", "pid": os.getpid()})
        while not self._ended:
            for key, _ in self._selector.select(self._pause()):
                key.data()
            self._keep_time()
        for child in self._pids.values():
            _kill(child.pid)
        for zygote in self._zygotes:
            _kill(zygote.pid)

    # The host's orders

    def _from_host(self) -> None:
        packet = receive_packet(self._host)
        if packet is None:
            self._ended = True
            return
        message, descriptors = packet
        if message["op"] == "start":
            self._start(message, descriptors)
            return
        if message["op"] == "ahead":
            self._pass_on(message, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if message["op"] == "end":
            self._end(str(message["id"]), "ended")
        elif message["op"] == "close":
            self._ended = True

    def _start(self, order: dict[str, Any], descriptors: list[int]) -> None:
        child = Child(order, descriptors)
        self._children[child.id] = child
        self._busy = time.monotonic()
        try:
            self._open_log(child)
            if order.get("kind") == "python":
                self._listen(child)
        except OSError as error:
            self._fail(child, f"its log {error.filename}: {error.strerror}")
            return
        self._try_to_assign(child)

    def _try_to_assign(self, child: Child) -> None:
        try:
            self._assign(child)
        except OSError as error:
            self._fail(child, f"your Python: {error.strerror}", python=True)

    def _open_log(self, child: Child) -> None:
        """Put a pipe between the child and its log, so that the log can be cut at its limit."""
        path = child.order.get("log")
        if not path:
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            child.descriptors.insert(0, null)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO waits
        child.log = os.open(path, flags, 0o640)
        child.room = int(child.order["log_limit"]) - os.fstat(child.log).st_size
        child.pipe, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(child.pipe, False)
        child.descriptors.insert(0, write)
        self._watch(child.pipe, lambda: self._copy_log(child))

    def _copy_whole_log(self, child: Child) -> None:
        """Copy what a child has written to its log; whoever hears of its outcome may read that next."""
        for _ in range(_FULL_PIPE):  # who writes on and on is not waited for
            if child.pipe < 0 or not self._copy_log(child):
                return

    def _copy_log(self, child: Child) -> bool:
        """Copy a part of a child's log and say whether there was any."""
        if child.pipe < 0:  # closed since the loop was told that there is something to read
            return False
        try:
            data = os.read(child.pipe, 65536)
        except BlockingIOError:
            return False
        if not data:
            self._close_log(child)
            self._finish(child)
            return False
        if child.room > 0:
            try:
                os.write(child.log, data[: child.room])
                child.room -= len(data)
                if child.room <= 0:
                    os.write(child.log, CUT_MARK)
            except OSError:  # the disk is full: the step goes on without its log
                child.room = 0
        return True

    def _close_log(self, child: Child) -> None:
        if child.pipe >= 0:
            self._selector.unregister(child.pipe)
            os.close(child.pipe)
            os.close(child.log)
            child.pipe = child.log = -1

    def _end(self, identifier: str, reason: str) -> None:
        child = self._children.get(identifier)
        if child is None:
            return
        child.reason = child.reason or reason
        if child.pid:
            _kill(child.pid)
            return
        for zygote in [one for one in self._zygotes if child in one.backlog]:
            zygote.backlog.remove(child)
            self._fail(child, "it was ended before it started")
            if not zygote.ready and time.monotonic() - zygote.born > SLOWEST_START:
                self._unsafe.add((zygote.key, zygote.wanted))  # what it imports does not end
                self._retire(zygote)

    # Zygotes

    def _pass_on(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Give a zygote the control group of its next spare; without it, that joins its worker's group later."""
        for zygote in [one for one in self._zygotes if one.number == message["zygote"]]:
            with contextlib.suppress(OSError):
                send_packet(zygote.control, message, descriptors)

    def _assign(self, child: Child) -> None:
        order = child.order
        key = (str(order["python"]), str(order.get("fingerprint", "")))
        wanted = frozenset(order.get("preload") or ())
        if (key, wanted) in self._unsafe or child.tries:
            wanted = frozenset()
        for old in [one for one in self._zygotes if one.key[0] == key[0] and one.key != key]:
            self._retire(old)  # the environment changed: nothing more may be forked from what it was
        fitting = [one for one in self._zygotes if one.key == key and one.wanted >= wanted]
        fitting = fitting or [self._spawn(key, wanted, order["environment"])]
        zygote = min(fitting, key=lambda one: len(one.wanted))
        zygote.used = time.monotonic()
        zygote.backlog.append(child)
        self._feed(zygote)

    def _spawn(self, key: tuple[str, str], wanted: frozenset[str], environment: dict[str, str]) -> Zygote:
        while len(self._zygotes) >= MOST_ZYGOTES:
            old = min(self._zygotes, key=lambda one: one.used)
            if old.ready and old.key == key and (key, wanted | old.wanted) not in self._unsafe:
                wanted |= old.wanted  # else functions of many kinds, called in turn, would start a zygote each time
            self._retire(old)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        source = f"{self._boot}\nfrom ropewalk_runtime.zygote import main\nmain(3, {sorted(wanted)!r})"
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1)]
        actions.append((os.POSIX_SPAWN_DUP2, theirs.fileno(), 3))
        try:
            argv = [key[0], "-P", "-u", "-c", source]
            pid = os.posix_spawn(key[0], argv, {**environment, **SINGLE_THREAD}, file_actions=actions, setsid=True)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(null)
        ours.setblocking(False)
        self._spawned += 1
        zygote = Zygote(key, wanted, pid, ours, self._spawned)
        self._zygotes.append(zygote)
        self._watch(ours.fileno(), lambda: self._from_zygote(zygote))
        return zygote

    def _retire(self, zygote: Zygote) -> None:
        """Close a zygote; what it forked lives on, what it had not yet started goes to another."""
        if zygote not in self._zygotes:
            return
        self._zygotes.remove(zygote)
        self._tell({"op": "retired", "zygote": zygote.number})
        self._selector.unregister(zygote.control.fileno())
        self._hear_out(zygote)
        zygote.control.close()
        if zygote.pid:
            _kill(zygote.pid)
        orphans = [*zygote.waiting.values(), *zygote.backlog]
        zygote.waiting, zygote.backlog = {}, []
        for child in orphans:
            child.tries += 1
            if child.reason:
                self._fail(child, "it was ended before it started")
            elif child.tries > 2:
                self._fail(child, "your Python ends as soon as it starts", python=True)
            else:
                self._try_to_assign(child)

    def _hear_out(self, zygote: Zygote) -> None:
        """Take what a zygote has said, and let it say no more: a child of which it does not say so does not begin."""
        try:
            zygote.control.shutdown(socket.SHUT_RD)
            while (packet := receive_packet(zygote.control)) is not None:
                if packet[0]["op"] != "ready":
                    self._answered(zygote, packet[0])
        except (OSError, FrameError):
            return

    def _feed(self, zygote: Zygote) -> None:
        while zygote.ready and zygote.backlog:
            child = zygote.backlog[0]
            try:
                send_packet(zygote.control, child.order, child.descriptors)
            except BlockingIOError:
                return  # tried again when the zygote has answered an order
            except OSError:
                self._retire(zygote)
                return
            zygote.backlog.pop(0)
            zygote.waiting[child.id] = child

    def _from_zygote(self, zygote: Zygote) -> None:
        try:
            packet = receive_packet(zygote.control)
        except (OSError, FrameError):
            packet = None
        if packet is None:
            self._retire(zygote)
            return
        message, _ = packet
        if message["op"] == "ready":
            if message["threads"] > 1:  # a fork would leave its threads, and perhaps their locks, behind
                self._unsafe.add((zygote.key, zygote.wanted))
                self._retire(zygote)
                return
            zygote.ready = True
            self._tell({"op": "zygote", "loaded": message["loaded"], "isolated": message["isolated"], **_why(message)})
        else:
            self._answered(zygote, message)
        self._feed(zygote)

    def _answered(self, zygote: Zygote, message: dict[str, Any]) -> None:
        if (child := zygote.waiting.pop(str(message["id"]), None)) is not None:
            if message["op"] == "started":
                self._started(child, int(message["pid"]), zygote.number)
            else:
                self._fail(child, str(message["why"]))

    # Children

    def _started(self, child: Child, pid: int, zygote: int) -> None:
        _close(child.descriptors)
        child.pid = pid
        self._pids[pid] = child
        self._tell({"op": "started", "id": child.id, "pid": pid, "zygote": zygote})
        if child.order.get("timeout"):
            heapq.heappush(self._deadlines, (time.monotonic() + float(child.order["timeout"]), child.id))
        if child.reason:
            _kill(pid)
        if pid in self._early:
            self._exited(pid, *self._early.pop(pid))

    def _reap(self, _signals: bytes) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._pids:
                self._exited(pid, status, usage.ru_maxrss * 1024)
            elif (zygote := next((one for one in self._zygotes if one.pid == pid), None)) is not None:
                zygote.pid = 0  # somebody else may get that number
                self._retire(zygote)
            elif any(one.waiting for one in self._zygotes):
                self._early[pid] = (status, usage.ru_maxrss * 1024)

    def _exited(self, pid: int, status: int, peak: int) -> None:
        child = self._pids.pop(pid)
        _kill_group(pid)  # what it left behind; in a namespace of its own everything is gone already
        child.exit = (os.waitstatus_to_exitcode(status), peak)
        if child.pipe < 0:
            self._finish(child)
        else:  # read what is left; the pipe's end finishes the child
            heapq.heappush(self._deadlines, (time.monotonic() + 1.0, child.id))

    def _finish(self, child: Child) -> None:
        if child.exit is None or self._children.pop(child.id, None) is None:
            return
        self._hear(child)
        self._close_log(child)
        code, peak = child.exit
        reason = child.reason or ("memory" if code == MEMORY_EXIT else "")
        self._busy = time.monotonic()
        self._tell(
            {"op": "exit", "id": child.id, "code": code, "signal": max(0, -code), "reason": reason, "peak": peak}
        )

    def _listen(self, child: Child) -> None:
        child.said, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        child.descriptors.insert(1, write)
        self._watch(child.said, lambda: self._hear(child))

    def _hear(self, child: Child) -> None:
        """Pass on what a child says of its outcome, once and before it has ended: a moment later it must have.

        Only what JSON needs is passed on: whatever else user code writes there could be longer in our packet.
        """
        if child.said < 0:
            return
        self._selector.unregister(child.said)
        try:
            text = os.read(child.said, MAX_SAID + 1).decode("latin-1")
        except BlockingIOError:  # it said nothing, and something that it left behind could
            text = ""
        os.close(child.said)
        child.said = -1
        if not text or len(text) > MAX_SAID or not text.isascii() or not text.isprintable():
            return
        self._copy_whole_log(child)
        self._tell({"op": "said", "id": child.id, "said": text})
        heapq.heappush(self._deadlines, (time.monotonic() + 1.0, child.id))

    def _fail(self, child: Child, why: str, *, python: bool = False) -> None:
        _close(child.descriptors)
        self._close_log(child)
        self._hear(child)
        if self._children.pop(child.id, None) is not None:
            self._tell({"op": "failed", "id": child.id, "why": why, "python": python})

    # Time

    def _pause(self) -> float:
        until = self._deadlines[0][0] if self._deadlines else time.monotonic() + 30.0
        return max(0.0, min(30.0, until - time.monotonic()))

    def _keep_time(self) -> None:
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, identifier = heapq.heappop(self._deadlines)
            child = self._children.get(identifier)
            if child is not None and child.exit is not None:
                self._finish(child)  # somebody else holds its log open; we do not wait for them
            else:
                self._end(identifier, "time")
        if not any(one.waiting for one in self._zygotes):
            self._early.clear()
        for zygote in [one for one in self._zygotes if not one.waiting and now - one.used > ZYGOTE_IDLE]:
            self._retire(zygote)
        if not self._children and now - self._busy > self._idle:
            self._ended = True

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            send_packet(self._host, message)
        except OSError:  # the host is gone, and with it everybody who could want this
            self._ended = True

    def _watch(self, descriptor: int, call: Callable[[], object]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, call)


def _why(message: dict[str, Any]) -> dict[str, Any]:
    return {"why": message["why"]} if message.get("why") else {}


def _kill(pid: int) -> None:
    """Kill a child that was not collected yet, and its process group."""
    _kill_group(pid)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors.clear()


def main(control: int, idle: float, boot: str) -> None:
    """Run a keeper on an inherited packet socket, which nothing that it starts may inherit."""
    os.set_inheritable(control, False)
    Keeper(socket.socket(fileno=control), idle, boot).run()
