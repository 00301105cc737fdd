"""What `bench.functions` runs for durable calls: a function, clients that spawn, and a bare journal; JSON at the end.

The home comes from ``ROPEWALK_HOME``. Each answer is a 202 that names a call which is on disk. While calls are accepted
those before are carried out, by one worker. The bare limit beside it is SQLite's own on the same disk: one row a call,
one commit for as many as there are connections, synchronous as the journal is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ropewalk
from bench.report import in_turn
from bench.tight import Wire
from ropewalk_core import settings, sync
from ropewalk_core.model import DurableCall
from ropewalk_kernel import places
from ropewalk_kernel.functions import FunctionHandle
from ropewalk_runtime.handler import CALL_TYPE


def echo(value: int) -> int:
    return value


class Spawning(Wire):
    """A connection on which each call has a key of its own, as `f.spawn` gives it."""

    good = b"HTTP/1.1 202 "

    async def spawn(self, item: int) -> str:
        body = json.dumps({"args": [item], "kwargs": {}}).encode()
        answer = await self.post(body, b"Idempotency-Key: %s\r\n" % secrets.token_hex(16).encode())
        return DurableCall.model_validate_json(answer).id


def place_of(function: FunctionHandle) -> tuple[int, bytes]:
    """Return the gateway's port and the head of a request without its end."""
    place, _, host = places.where(function.url)
    token = sync.wait(sync.client().token("functions")).text
    lines = {"Host": host, "Authorization": f"Bearer {token}", "Content-Type": CALL_TYPE, "Prefer": "respond-async"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return place.port, f"POST / HTTP/1.1\r\n{head}".encode()


async def spawned(function: FunctionHandle, count: int, connections: int) -> tuple[list[str], list[float]]:
    """Spawn so many calls and return their identifiers, and how long each took to be accepted."""
    port, head = place_of(function)
    loop, left = asyncio.get_running_loop(), iter(range(count))
    found: list[str] = []
    took: list[float] = []

    async def lane() -> None:
        wire: Any = (await loop.create_connection(lambda: Spawning(head), "127.0.0.1", port))[1]
        for item in left:
            begin = time.perf_counter()
            found.append(await wire.spawn(item))
            took.append(time.perf_counter() - begin)
        wire.close()

    await asyncio.gather(*(lane() for _ in range(connections)))
    if len(set(found)) != count:
        raise RuntimeError("not every call has an identifier of its own")
    return found, took


def accepted(function: FunctionHandle, count: int, connections: int) -> float:
    """Return how many calls are accepted in a second."""
    begin = time.perf_counter()
    asyncio.run(spawned(function, count, connections))
    return count / (time.perf_counter() - begin)


def single(function: FunctionHandle, count: int) -> float:
    """Return the milliseconds in which half of these calls were accepted, one after another."""
    return 1e3 * statistics.median(asyncio.run(spawned(function, count, 1))[1])


def bare(folder: Path, count: int, rows: int) -> float:
    """Return how many rows SQLite writes in a second, so many in one commit, each commit on disk."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        connection = sqlite3.connect(Path(name) / "bare.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE records (name TEXT PRIMARY KEY, body TEXT NOT NULL)")
        body = json.dumps({"text": "x" * 200})
        begin = time.perf_counter()
        for start in range(0, count, rows):
            connection.execute("BEGIN IMMEDIATE")
            for number in range(start, min(start + rows, count)):
                connection.execute("INSERT INTO records VALUES (?, ?)", (f"call-{number}", body))
            connection.execute("COMMIT")
        taken = time.perf_counter() - begin
        connection.close()
    return count / taken


def carried(function: FunctionHandle, count: int) -> float:
    """Return how many calls are carried out in a second, from the first wish to the last result."""
    begin = time.perf_counter()
    found, _ = asyncio.run(spawned(function, count, 64))
    for call in found:
        ropewalk.functions.spawned(call).result()
    return count / (time.perf_counter() - begin)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--connections", type=int, default=64)
    chosen = parser.parse_args()
    function = ropewalk.functions.deploy(echo, max_workers=1)
    figures: dict[str, Any] = {"connections": chosen.connections}
    figures["carried"] = carried(function, min(500, chosen.calls))
    figures["singles"] = [single(function, min(300, chosen.calls)) for _ in range(chosen.rounds)]
    home = settings.load().home
    figures["pairs"] = in_turn(
        lambda: accepted(function, chosen.calls, chosen.connections),
        lambda: bare(home, chosen.calls, chosen.connections),
        chosen.rounds,
    )
    sys.stdout.write("\n" + json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
