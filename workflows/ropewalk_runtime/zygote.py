"""A process that has imported what children need, and forks them. No thread, no event loop, no secret.

It runs the account's own Python inside the account's sandbox, takes orders from the keeper on a packet socket, and
forks a child for each, in namespaces of its own (``clone``). Where the kernel does not do that in one it forks twice:
the first child leaves the namespaces, the second has its own. A child settles and, once the keeper was told of it, runs
user code: what nobody knows of is started a second time elsewhere. Children are the keeper's, as its own or as orphans
(it is a subreaper), so it sees every exit. A moment after a worker was ordered, and at once after a step, it forks a
*spare*, which settles and waits for the order of the next one, so that neither a cold call nor a step waits for a fork;
no user code ran in it. Not here: keeping books of children (``keeper``). Never train or connect anything in here:
threads and connections do not survive a fork. Rejected: several spares (what comes at once waits for the processor
anyway).
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from ropewalk_runtime import clone, isolate, rehearsal, step, worker
from ropewalk_runtime import exec as execution
from ropewalk_runtime.frames import FrameError, receive_packet, send_packet

NEVER_PRELOADED = frozenset({"torch", "tensorflow", "jax", "cupy", "pycuda", "numba", "ray", "pyspark", "dask"})
"""Modules that open a device or start threads at import; children import them themselves."""
FAILED_TO_START = 71
SPARE_NAME, WORKER_NAME = "ropewalk-spare", "ropewalk-worker"
"""What process tables call a spare, and one that has got its order."""
_SPARE_AFTER = {"worker": 0.05, "python": 0.0}
"""Seconds without an order after which a spare is forked: it takes no time from the call before it. The next step
often comes as soon as one ends, so its spare is forked while that runs. Kinds that are not here get no spare."""
_APART, _ISOLATED, _SHARED = "2", "1", "0"
_GO = b"1"


@dataclass(frozen=True)
class Like:
    """What was ordered last, and most likely will be next: its kind, and how large its /tmp is."""

    kind: str
    scratch: int


@dataclass
class Spare:
    """A child that waits for an order; ``scratch`` is how large its /tmp is."""

    pid: int
    control: socket.socket
    scratch: int


@dataclass(frozen=True)
class Way:
    """How children are forked: whether they get namespaces of their own, and whether they begin in them."""

    isolated: bool
    apart: bool


@dataclass
class Ahead:
    """The control group that the next spare joins, and the file by which it does; none at first."""

    group: str = ""
    door: int = -1

    def forget(self) -> None:
        """Let a worker have the group, or nobody."""
        if self.door >= 0:
            os.close(self.door)
        self.group, self.door = "", -1


def main(control: int, preload: list[str]) -> None:
    """Serve the keeper until it closes the socket."""
    isolate.die_with_parent(signal.SIGKILL)
    keeper = socket.socket(fileno=control)
    keeper.setblocking(True)
    loaded = [name for name in preload if _preload(name)]
    execution.numeric_libraries()
    way, why = _probe()
    threads = len(os.listdir("/proc/self/task"))
    execution.default_signals()  # whatever the libraries wanted; children have them from us
    gc.collect()
    gc.freeze()
    isolate.give_back()
    facts = {"loaded": loaded, "threads": threads, "isolated": way.isolated, "why": why[:500]}
    send_packet(keeper, {"op": "ready", **facts})
    _serve(keeper, way)


def _serve(keeper: socket.socket, way: Way) -> None:
    spare: Spare | None = None
    ahead = Ahead()
    like: Like | None = None
    while True:
        if like and spare is None and not select.select([keeper], [], [], _SPARE_AFTER[like.kind])[0]:
            spare, like = _forked_spare(like, ahead, keeper, way), None
            ahead.forget()
        packet = receive_packet(keeper)
        if packet is None:
            return
        order, descriptors = packet
        if order.get("op") == "ahead":
            ahead.forget()
            ahead = Ahead(str(order["group"]), *descriptors)
            continue
        if order.get("group") == ahead.group:
            ahead.forget()
        leave, go = os.pipe()
        pid = 0
        if way.isolated and order["kind"] in _SPARE_AFTER and order.get("network", True) and not order.get("read_only"):
            # with an accelerator it is the only one
            like = None if order.get("alone") else Like(order["kind"], _scratch_of(order))
            pid, spare = _given(spare, order, [*descriptors, leave]), None
        try:
            begin = functools.partial(_second_child, order, descriptors, leave, way.isolated)
            if order.get("read_only") and not way.isolated:
                raise OSError(0, "files that may only be read need namespaces, which this machine does not allow")
            pid = pid or _start(begin, order, way, keeper)
            send_packet(keeper, {"op": "started", "id": order["id"], "pid": pid})
            os.write(go, _GO)
        except OSError as error:
            send_packet(keeper, {"op": "failed", "id": order["id"], "why": f"fork: {error.strerror}"})
        finally:
            for descriptor in [*descriptors, leave, go]:
                os.close(descriptor)


def _scratch_of(order: dict[str, Any]) -> int:
    return int(order.get("scratch") or order["memory"])


def _forked_spare(like: Like, ahead: Ahead, keeper: socket.socket, way: Way) -> Spare | None:
    """Fork a spare; None where that fails, and the next worker or step is forked when it is ordered."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid = _start(functools.partial(_wait, ours, theirs, like, ahead), {}, way, keeper)
        return Spare(pid, ours, like.scratch)
    except OSError:
        ours.close()
        return None
    finally:
        theirs.close()


def _given(spare: Spare | None, order: dict[str, Any], descriptors: list[int]) -> int:
    """Give a spare its order and return its process id; 0 if there is none, it is gone, or it does not fit."""
    if spare is None:
        return 0
    with spare.control as control:  # closed, it ends one that does not fit
        if spare.scratch != _scratch_of(order):
            return 0
        try:
            send_packet(control, order, descriptors)
        except OSError:
            return 0
    return spare.pid


def _preload(name: str) -> bool:
    if name.split(".")[0] in NEVER_PRELOADED:
        return False
    try:
        importlib.import_module(name)
    except (Exception, SystemExit):  # noqa: BLE001 - any failure is the child's to show, with the person's own line
        return False
    return True


def _probe() -> tuple[Way, str]:
    """Try in throw-away children how children can have namespaces of their own; say what is wrong if they cannot."""
    said = _tried_apart()
    if said.startswith(_APART):
        return Way(isolated=True, apart=True), ""
    said = _tried_in_two()
    return Way(isolated=said.startswith(_ISOLATED), apart=False), said[1:]


def _tried_apart() -> str:
    uid, gid = os.getuid(), os.getgid()
    read, write = os.pipe()
    try:
        pid = clone.fork_apart()
    except OSError as error:
        os.close(read)
        os.close(write)
        return str(error)
    if pid:
        os.close(write)
        with os.fdopen(read) as answer:
            return answer.read()
    try:
        isolate.identify(uid, gid)
        isolate.settle(2**20)
        os.write(write, _APART.encode())
    finally:
        os._exit(0)


def _tried_in_two() -> str:
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        with os.fdopen(read) as answer:
            text = answer.read()
        os.waitpid(pid, 0)
        return text
    text = _ISOLATED
    try:
        isolate.leave()
        child = os.fork()
        if not child:
            isolate.settle(2**20)
            os._exit(0)
        text = _ISOLATED if os.waitpid(child, 0)[1] == 0 else _SHARED + "the child could not settle"
    except OSError as error:
        text = _SHARED + str(error)
    os.write(write, text.encode())
    os._exit(0)


def _start(begin: Callable[[], int], order: dict[str, Any], way: Way, keeper: socket.socket) -> int:
    """Fork a child that begins with this, and return its process id as the keeper sees it."""
    network = bool(order.get("network", True))
    if way.apart:
        uid, gid = os.getuid(), os.getgid()
        if pid := clone.fork_apart(network=network):
            return pid
        _live(lambda: isolate.identify(uid, gid, network=network), begin, keeper)
    read, write = os.pipe()
    first = os.fork()
    if not first:
        _first_child(begin, network, way.isolated, keeper, write)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(first, 0)
    if not text.isdigit():
        raise OSError(0, text or "the child ended at once")
    return int(text)


def _first_child(
    begin: Callable[[], int], network: bool, isolated: bool, keeper: socket.socket, answer: int
) -> NoReturn:
    try:
        if isolated:
            isolate.leave(network=network)
        elif not network:
            raise OSError(0, "a program that listens needs a network of its own, which this machine does not allow")
        second = os.fork()
    except OSError as error:
        os.write(answer, f"no: {error}".encode())
        os._exit(1)
    if second:
        os.write(answer, str(second).encode())
        os._exit(0)
    _live(lambda: os.close(answer), begin, keeper)


def _live(prepare: Callable[[], None], begin: Callable[[], int], keeper: socket.socket) -> NoReturn:
    """Live the child's whole life."""
    code = FAILED_TO_START
    try:
        prepare()
        keeper.close()
        code = begin()
    except MemoryError:
        code = execution.MEMORY_EXIT
    except (OSError, ValueError, KeyError, FrameError) as error:
        execution.say(f"The step could not be started: {error}")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except Exception:  # noqa: BLE001 - nothing is above us; the log must say why this child ends
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def _second_child(order: dict[str, Any], descriptors: list[int], leave: int, isolated: bool) -> int:
    """Settle, then run what was ordered. Runs in the child that user code will live in."""
    os.setsid()
    execution.redirect(descriptors[0] if descriptors else None)
    execution.close_others([*descriptors[1:], leave])
    if isolated:
        isolate.settle(_scratch_of(order), order.get("read_only") or ())
    _prepare()
    return _run(order, descriptors, leave, isolated)


def _wait(zygotes: socket.socket, control: socket.socket, like: Like, ahead: Ahead) -> int:
    """Settle, and run the order that comes; end when the zygote ends, or has no use for us."""
    zygotes.close()  # an object that believed it has a descriptor would have somebody else's
    os.setsid()
    execution.redirect(None)
    execution.close_others([control.fileno(), ahead.door])
    isolate.settle(like.scratch)
    group = ahead.group if ahead.group and execution.join([ahead.door]) else ""
    execution.set_threads(None)  # as most orders have it
    _prepare()
    rehearsal.call() if like.kind == "worker" else rehearsal.step()
    execution.redirect(None)
    execution.close_others([control.fileno()])
    isolate.call_ourselves(SPARE_NAME)
    packet = receive_packet(control)
    control.close()
    if packet is None:
        return 0
    isolate.call_ourselves(WORKER_NAME)
    order, (*descriptors, leave) = packet
    execution.redirect(descriptors[0])
    return _run(order, descriptors, leave, True, group)


def _prepare() -> None:
    """Make anew what no two children may share."""
    execution.reseed()
    execution.fresh_loop()


def _run(order: dict[str, Any], descriptors: list[int], leave: int, isolated: bool, group: str = "") -> int:
    """Limit ourselves as the order says, and run it when we have the zygote's leave; ``group`` is where we are."""
    kind, groups = order["kind"], int(order.get("groups") or 0)
    descriptors, doors = descriptors[: len(descriptors) - groups], descriptors[len(descriptors) - groups :]
    if not group or group != order.get("group"):
        execution.join(doors)
    for door in doors:
        os.close(door)
    execution.limit(int(order["memory"]), int(order["processes"]) if isolated else None)
    execution.replace_environment({**order["environment"], **(order.get("variables") or {})})
    execution.set_threads(order.get("cpu"))
    trouble = execution.enter(order["cwd"])
    gc.unfreeze()
    if os.read(leave, 1) != _GO:  # the zygote ended before it could tell the keeper of us
        return FAILED_TO_START
    os.close(leave)
    if kind == "command":
        return execution.run_command(order["argv"])
    if kind == "worker":
        return worker.main(socket.socket(fileno=descriptors[1]), order, *descriptors[2:3])
    return step.main(order["folder"], trouble, order.get("inputs"), *descriptors[1:2])


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the log's reader is gone; nobody can be told
            continue
