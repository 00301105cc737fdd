"""A process that has imported what children need, and forks them. No thread, no event loop, no secret.

It runs the account's own Python inside the account's sandbox, takes orders from the keeper on a packet socket, and
forks twice for each: the first child leaves the namespaces, the second settles in its own and, once the keeper was told
of it, runs user code: what nobody knows of is started a second time elsewhere. Orphans go to the keeper (a subreaper),
which sees every exit. Not here: keeping books of children (``keeper``). Never train
or connect anything in here: threads and connections do not survive a fork.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

from ropewalk_runtime import exec as execution
from ropewalk_runtime import isolate, step, worker
from ropewalk_runtime.frames import FrameError, receive_packet, send_packet

NEVER_PRELOADED = frozenset({"torch", "tensorflow", "jax", "cupy", "pycuda", "numba", "ray", "pyspark", "dask"})
"""Modules that open a device or start threads at import; children import them themselves."""
FAILED_TO_START = 71
_ISOLATED, _SHARED = "1", "0"
_GO = b"1"


def main(control: int, preload: list[str]) -> None:
    """Serve the keeper until it closes the socket."""
    isolate.die_with_parent(signal.SIGKILL)
    keeper = socket.socket(fileno=control)
    keeper.setblocking(True)
    loaded = [name for name in preload if _preload(name)]
    isolated, why = _probe()
    threads = len(os.listdir("/proc/self/task"))
    gc.collect()
    gc.freeze()
    send_packet(keeper, {"op": "ready", "loaded": loaded, "threads": threads, "isolated": isolated, "why": why[:500]})
    while (packet := receive_packet(keeper)) is not None:
        order, descriptors = packet
        told, go = os.pipe()
        try:
            pid = _start(order, descriptors, isolated, keeper, (told, go))
            send_packet(keeper, {"op": "started", "id": order["id"], "pid": pid})
            os.write(go, _GO)
        except OSError as error:
            send_packet(keeper, {"op": "failed", "id": order["id"], "why": f"fork: {error.strerror}"})
        finally:
            for descriptor in [*descriptors, told, go]:
                os.close(descriptor)


def _preload(name: str) -> bool:
    if name.split(".")[0] in NEVER_PRELOADED:
        return False
    try:
        importlib.import_module(name)
    except (Exception, SystemExit):  # noqa: BLE001 - any failure is the child's to show, with the person's own line
        return False
    return True


def _probe() -> tuple[bool, str]:
    """Try in a throw-away child whether children can have namespaces of their own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        with os.fdopen(read) as answer:
            text = answer.read()
        os.waitpid(pid, 0)
        return text.startswith(_ISOLATED), text[1:]
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


def _start(
    order: dict[str, Any], descriptors: list[int], isolated: bool, keeper: socket.socket, leave: tuple[int, int]
) -> int:
    """Fork a child for the order and return its process id as the keeper sees it; it begins when it has our leave."""
    read, write = os.pipe()
    first = os.fork()
    if not first:
        os.close(leave[1])
        _first_child(order, descriptors, isolated, keeper, write, leave[0])
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(first, 0)
    if not text.isdigit():
        raise OSError(0, text or "the child ended at once")
    return int(text)


def _first_child(
    order: dict[str, Any], descriptors: list[int], isolated: bool, keeper: socket.socket, answer: int, leave: int
) -> NoReturn:
    try:
        network = bool(order.get("network", True))
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
    code = FAILED_TO_START
    try:
        os.close(answer)
        keeper.close()
        code = _second_child(order, descriptors, isolated, leave)
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


def _second_child(order: dict[str, Any], descriptors: list[int], isolated: bool, leave: int) -> int:
    """Settle, then run what was ordered. Runs in the child that user code will live in."""
    kind = order["kind"]
    os.setsid()
    execution.default_signals()
    log = descriptors[0] if descriptors else None
    execution.redirect(log)
    execution.close_others([*descriptors[1:], leave])
    if isolated:
        isolate.settle(int(order.get("scratch") or order["memory"]))
    execution.limit(int(order["memory"]), int(order["processes"]) if isolated else None)
    execution.replace_environment(order["environment"])
    execution.set_threads(order.get("cpu"))
    execution.reseed()
    execution.fresh_loop()
    trouble = execution.enter(order["cwd"])
    gc.unfreeze()
    if os.read(leave, 1) != _GO:  # the zygote ended before it could tell the keeper of us
        return FAILED_TO_START
    os.close(leave)
    if kind == "command":
        return execution.run_command(order["argv"])
    if kind == "worker":
        return worker.main(socket.socket(fileno=descriptors[1]), order, *descriptors[2:3])
    return int(step.main(order["folder"], trouble) or 0)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the log's reader is gone; nobody can be told
            continue
