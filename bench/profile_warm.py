"""Where each microsecond of a warm call goes: `python -m bench.profile_warm [--json] [--calls 5000]`.

It runs a host and a gateway, with a stand-in for the platform's socket (`tests/function_rig.py`), calls a function one
call after another over one connection from another core, and notes the monotonic clock at the borders between the
steps: in the client, around the gateway's own functions (wrapped for this run alone), and in the handler, which returns
when it began and ended. The clock is the same for all processes of a machine. Each figure is a median, so their sum is
not quite the median of the whole. A worker on the gateway's core often begins before the gateway's write returns, so
these two are one step. Notes cost time too: the same calls are made before any function is wrapped, and both medians
are printed. Rejected: a sampling profiler, which sees one process and nothing between them.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from bench.parts import request_of
from ropewalk_core.model import Actor
from ropewalk_hub.gateway import front, functions, link, pool, tokens
from tests.function_rig import Rig, running

HANDLER = """import time

def handler(v):
    began = time.monotonic_ns()
    return [began, time.monotonic_ns()]
"""
WARM_UP = 300
CHECKOUT = Path(__file__).parent.parent
STEPS = (
    ("sent", "the client writes; the gateway wakes and reads"),
    ("read", "read to parsed: the head is the one before"),
    ("parsed", "the token: found by its digest; its end, account and session checked"),
    ("token", "admission: route, who may call, which revision"),
    ("admitted", "room for the call is kept"),
    ("begun", "a worker is taken, the record opened"),
    ("sending", "the frame is packed and written; the worker wakes, reads it, binds the arguments"),
    ("called", "the handler"),
    ("returned", "the worker answers; the gateway wakes and reads"),
    ("heard", "the frame is read and matched; the call gets its turn"),
    ("woken", "the worker is given back, the record kept, the reply made"),
    ("replied", "the head is made, the answer written"),
    ("written", "the client wakes and reads"),
)
"""What begins at each note and lasts until the next; the last one ends when the client has the answer."""
Notes = dict[str, Any]


class Tape:
    """The notes of all calls in order; one call is under way at a time."""

    def __init__(self) -> None:
        self.calls: list[Notes] = []
        self._notes: Notes = {}

    def wrap(self) -> None:
        """Note when the gateway's own functions begin and end."""
        self._wrap(front.Connection, "data_received", before=self._first)
        self._wrap(front.Connection, "_read", after=self._note("parsed"))
        self._wrap(tokens.Verifier, "caller", after=self._note("token"))
        self._wrap(functions.Functions, "admit", after=self._note("admitted"))
        self._wrap(functions.Functions, "begin", before=self._note("begun"))
        self._wrap(pool.Pool, "send", before=self._note("sending"))
        self._wrap(link.Link, "data_received", before=self._note("heard"))
        self._wrap(front._Call, "_answered", before=self._note("woken"))
        self._wrap(front._Call, "_send", before=self._reply, after=self._note("written"))

    def _first(self, *_: Any) -> None:
        self._notes = {"read": time.monotonic_ns()}
        self.calls.append(self._notes)

    def _note(self, name: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            self._notes[name] = time.monotonic_ns()

        return note

    def _reply(self, _call: Any, reply: Any) -> None:
        self._notes["replied"] = time.monotonic_ns()
        self._notes["body"] = reply.body

    @staticmethod
    def _wrap(owner: type, name: str, before: Any = None, after: Any = None) -> None:
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                before(*args)
            result = inner(*args, **kwargs)
            if after is not None:
                after()
            return result

        setattr(owner, name, wrapped)


def whole(tape: Tape, client: list[list[int]]) -> list[Notes]:
    """Return the calls of which everything was noted, with what client and handler say of them."""
    if len(tape.calls) != len(client):
        raise RuntimeError(f"the gateway saw {len(tape.calls)} calls and the client {len(client)}")
    found = []
    for notes, (sent, received) in zip(tape.calls, client, strict=True):
        called, returned = json.loads(notes.get("body", b"[0, 0]"))
        notes |= {"sent": sent, "received": received, "called": called, "returned": returned}
        if all(name in notes for name, _ in STEPS):
            found.append(notes)
    return found[WARM_UP:]


def table(calls: list[Notes]) -> list[tuple[str, float]]:
    """Return the steps and their medians in microseconds."""
    ends = [name for name, _ in STEPS[1:]] + ["received"]
    return [
        (said, statistics.median((one[end] - one[begin]) / 1e3 for one in calls))
        for (begin, said), end in zip(STEPS, ends, strict=True)
    ]


async def profiled(count: int, core: int) -> tuple[list[tuple[str, float]], float, float]:
    """Return the table, and the median of the whole call without notes and with them, in microseconds."""
    async with asyncio.timeout(300), running() as rig:
        for name in ("plain", "noted"):  # the second one's worker is connected after everything is wrapped
            spec = rig.spec(HANDLER, name, idle=600.0, max_workers=1)
            await rig.functions.deploy(Actor(account="ada"), "ada", spec)
        await rig.settled()
        before = _median(await client(rig, "plain", count, core))
        tape = Tape()
        tape.wrap()
        told = await client(rig, "noted", count, core)
        return table(whole(tape, told)), before, _median(told)


async def client(rig: Rig, name: str, count: int, core: int) -> list[list[int]]:
    """Have another process, on this core, make the calls; return when each was sent and answered."""
    words = [str(rig.settings.door.people_port), rig.host_of(f"{name}--fn--ada"), rig.token(), str(count)]
    argv = ["taskset", "-c", str(core), sys.executable, "-m", "bench.profile_warm", "--client", *words]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, cwd=CHECKOUT)
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the client ended with {process.returncode}")
    found: list[list[int]] = json.loads(out)
    return found


def calls_of(port: int, host: str, token: str, count: int) -> list[list[int]]:
    """Make the calls over one connection."""
    asked = request_of({"Host": host, "Authorization": f"Bearer {token}"})
    found = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            sent = time.monotonic_ns()
            line.sendall(asked)
            answer = line.recv(65536)
            received = time.monotonic_ns()
            if not answer.startswith(b"HTTP/1.1 200") or not answer.endswith(b"]"):
                raise RuntimeError(f"a call was answered with {answer[:500]!r}")
            found.append([sent, received])
    return found


def cores() -> list[int]:
    """Return the core of the gateway and its worker, and that of the client."""
    found = sorted(os.sched_getaffinity(0))
    return found[:2] if len(found) > 1 else found * 2


def _median(calls: list[list[int]]) -> float:
    return statistics.median((received - sent) / 1e3 for sent, received in calls[WARM_UP:])


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile_warm", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--calls", type=int, default=5_000, help="calls that are noted, beside the first 300")
    parser.add_argument("--client", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.client:
        port, host, token, count = chosen.client
        sys.stdout.write(json.dumps(calls_of(int(port), host, token, int(count))))
        return 0
    ours, theirs = cores()
    os.sched_setaffinity(0, {ours})
    found, before, noted = uvloop.run(profiled(chosen.calls + WARM_UP, theirs))
    if chosen.json:
        steps = [{"step": said, "us": round(value, 2)} for said, value in found]
        sys.stdout.write(json.dumps({"steps": steps, "p50": round(before, 2), "p50_noted": round(noted, 2)}) + "\n")
        return 0
    for said, value in found:
        sys.stdout.write(f"{value:>8.1f} us  {said}\n")
    sys.stdout.write(f"{noted:>8.1f} us  the whole call, noted; {before:.1f} us without notes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
