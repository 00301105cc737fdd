"""What the gateway tells the platform of calls: a note of each, and counts of all, in batches and never awaited.

A `Note` is a few fields that are set while a call goes on; when it is over it is counted in the cell of its function
and minute (``figures``) and waits for the next batch. The buffer is bounded in notes and in characters: the oldest go,
and are counted as calls without a record, so figures are right where records are missing. A call that takes long is
told of while it goes on, with what it printed so far where somebody watches. A batch whose answer is lost
is sent again as it was, under the same number. Not here: the calls. Rejected: one request per call (the path of a call
must not wait for anybody), and a model that is validated and copied for each call (it took longer than the counting).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ropewalk_core.errors import RopewalkError, Unavailable
from ropewalk_core.figures import Cell
from ropewalk_core.model import FunctionRoute, State
from ropewalk_core.tasks import heard
from ropewalk_hub.gateway.directory import Directory
from ropewalk_hub.gateway.link import LONGEST_LOG, text_of
from ropewalk_runtime.streams import Exchange

log = logging.getLogger("ropewalk.gateway")
MOST = 1000
"""Notes that wait for the platform at most."""
MOST_TEXT = 8 * 2**20
"""Characters of logs and tracebacks in them."""
MOST_CELLS = 10_000
"""Functions and minutes that are counted while the platform is away; what comes beyond is lost."""
TICK, LONG = 0.5, 1.0
"""Seconds between two looks at calls that go on, and after which a call is worth one."""
SHOWN = 64
"""Calls that go on of which the platform is told; accounts take turns for them."""
_ROOM = 2**18
"""Characters of logs and tracebacks after which a report holds no more, of calls that go on as of others: to write and
to read it takes the event loops of gateway and platform, and all other calls wait meanwhile."""
_LOST = 300.0
"""Seconds beyond its own time after which a call that nobody ended is forgotten."""
_BATCH = 200
_UNTOLD = -1
_PAUSE, _BEAT, _AWAY = 0.01, 5.0, 0.5
"""Seconds after a report: people look for a call as soon as it has answered, so the first of them is short."""
_CORES = float(os.cpu_count() or 1)
_MOST_CORES = 1024.0
_WORKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(slots=True, eq=False)
class Note:
    """One call, from its admission to its end. Times are Unix seconds; ``started`` is 0 until a worker has it.

    The clock is asked once, and from then on steady time is counted: a clock that is set costs nobody anything.
    """

    id: str
    route: FunctionRoute
    caller: str
    queued: float
    received: int
    memory: int = 0
    traceparent: str = ""
    durable: str = ""
    agent: str = ""
    started: float = 0.0
    ended: float = 0.0
    worker: str = ""
    accelerator: str = ""
    cold: bool = False
    state: State = State.RUNNING
    status: int = 0
    error: str = ""
    code: str = ""
    sent: int = 0
    cpu: float = 0.0
    gb_seconds: float = 0.0
    traceback: str = ""
    logs: str = ""
    exchange: Exchange | None = None
    told: int = _UNTOLD
    came: float = field(default_factory=time.monotonic)
    """When it was queued, in steady time."""

    def now(self) -> float:
        """Return the time as the clock would show it had nobody set it since the call came."""
        return self.queued + time.monotonic() - self.came

    def began(self, worker: str, cold: bool, accelerator: str = "") -> None:
        """Note which worker has it, whether it was started for it, and its accelerator if one was asked for."""
        self.started, self.worker, self.cold, self.accelerator = self.now(), worker, cold, accelerator

    def over(self, state: State, status: int, said: dict[str, Any] | None) -> None:
        """Note its end, and what its worker said of it, which is held: a worker is user code."""
        self.ended, self.state, self.status = self.now(), state, status
        header = said or {}
        if header.get("logs"):
            self.logs = text_of(header["logs"], LONGEST_LOG)
        elif self.exchange is not None and self.exchange.printed:  # its worker ended without a word
            self.logs = text_of(self.exchange.printed, LONGEST_LOG)
        self.exchange = None
        if self.route.url:
            self._afar(header)
        ran = self.ended - self.started if self.started else 0.0
        spec = self.route.spec
        cpu = amount(header.get("cpu"), ran * (_MOST_CORES if self.route.url else _CORES))
        self.cpu = ran * (spec.placement.cpu or 1.0) / spec.concurrency if cpu is None else cpu
        self.gb_seconds = ran * self.memory / 2**30 / spec.concurrency

    def _afar(self, header: dict[str, Any]) -> None:
        """Note what only a server in the cluster knows: its name, and how long it had the call."""
        worker = header.get("worker")
        if isinstance(worker, str) and _WORKER.fullmatch(worker):
            self.worker = worker
        if (took := amount(header.get("took"), self.ended - self.queued)) is not None:
            self.started = self.ended - took

    @property
    def text(self) -> int:
        """Characters that it holds."""
        return len(self.logs) + len(self.traceback) + len(self.error)

    def count(self, cell: Cell) -> None:
        """Count it."""
        cell.calls += 1
        cell.cold += self.cold
        cell.cpu += self.cpu
        cell.gb_seconds += self.gb_seconds
        if self.state is State.STOPPED:
            cell.left += 1
            return
        cell.errors += self.state is State.FAILED
        if self.started:
            cell.took(self.ended - self.queued)

    def record(self) -> dict[str, Any]:
        """Return it as a `Call` in JSON; what is as usual is left out."""
        route = self.route
        facts = {
            "id": self.id,
            "function": route.name,
            "owner": route.owner,
            "revision": route.revision,
            "queued": self.queued,
            "started": self.started or self.ended or self.queued,
            "ended": self.ended or None,
            "state": self.state.value if self.started or self.ended else State.WAITING.value,
        }
        more = {name: value for name in _MORE if (value := getattr(self, name))}
        return facts | more


_MORE = (
    *("caller", "agent", "cold", "worker", "accelerator", "status", "error", "code", "received", "sent", "durable"),
    *("traceparent", "cpu", "gb_seconds", "traceback", "logs"),
)


class Records:
    """A short buffer of notes, and counts.

    Parameters
    ----------
    directory
        Reaches the platform.
    state
        Returns how the gateway is, as numbers by name.
    """

    def __init__(self, directory: Directory, state: Callable[[], dict[str, int]] = dict) -> None:
        self._directory, self._state = directory, state
        self._life, self._number = secrets.token_hex(8), 0
        self._buffer: deque[Note] = deque()
        self._text = 0
        self._cells: dict[tuple[str, str, int], Cell] = {}
        self._pending: bytes | None = None
        self._filled = asyncio.Event()
        self._running: set[Note] = set()
        self._shown: dict[str, Note] = {}
        self._watched: frozenset[tuple[str, str]] = frozenset()

    def open(self, note: Note) -> None:
        """Keep an eye on a call that begins."""
        self._running.add(note)

    def drop(self, note: Note) -> None:
        """Forget a call that did not begin."""
        self._running.discard(note)

    def add(self, note: Note) -> None:
        """Count a call that is over, and keep its note until the next batch."""
        self._running.discard(note)
        note.count(self._cell(note))
        self._buffer.append(note)
        self._text += note.text
        while len(self._buffer) > MOST or (self._text > MOST_TEXT and len(self._buffer) > 1):
            oldest = self._buffer.popleft()
            self._text -= oldest.text
            self._cell(oldest).unkept += 1
        self._filled.set()

    async def send(self) -> None:
        """Send batches for ever: the first note at once, those that come meanwhile together, after a pause.

        Without the pause each call that comes alone would cost a report of its own, which takes longer than the call.
        """
        while True:
            await heard(self._filled, 1.0 if self._shown else _BEAT)
            self._filled.clear()
            await asyncio.sleep(_PAUSE if await self.flush() else _AWAY)

    async def look(self) -> None:
        """See what long calls have printed so far, for ever; workers are asked only where somebody watches."""
        while True:
            await asyncio.sleep(TICK)
            self.glance(time.monotonic())

    def glance(self, now: float) -> None:
        """Take a look at long calls. ``now`` is steady time."""
        self._running.difference_update(
            [one for one in self._running if now - one.came > _LOST + one.route.spec.timeout]
        )
        long = [one for one in self._running if now - one.came > LONG]
        before, self._shown = self._shown, {one.id: one for one in self._in_turns(long)[:SHOWN]}
        for one in before.values():
            if one.id not in self._shown:
                one.told = _UNTOLD
        for one in self._shown.values():
            if one.exchange is not None and self._is_watched(one):
                one.exchange.look()
            if one.told != _told(one):
                self._filled.set()

    def _in_turns(self, calls: list[Note]) -> list[Note]:
        """Return a call of each account, then a second of each, and so on: first those at which somebody looks."""
        turns: Counter[str] = Counter()
        placed: list[tuple[int, Note]] = []
        for one in sorted(calls, key=lambda one: (not self._is_watched(one), one.came)):
            placed.append((turns[one.route.owner], one))
            turns[one.route.owner] += 1
        return [one for _, one in sorted(placed, key=lambda pair: pair[0])]

    def _is_watched(self, note: Note) -> bool:
        return (note.route.owner, note.route.name) in self._watched

    async def flush(self) -> bool:
        """Send what there is, and how the gateway is, until less than a whole report is left.

        What is not sent because the platform is away is kept; False says so.
        """
        while True:
            if self._pending is None:
                self._pending = self._report()
            try:
                answer = await self._directory.exchange("POST", "/internal/calls", self._pending)
                self._watched = frozenset((owner, name) for owner, name in json.loads(answer)["watch"])
            except Unavailable:
                for one in self._shown.values():  # a platform that begins anew knows of none
                    one.told = _UNTOLD
                self._filled.set()
                return False
            except RopewalkError as error:
                log.warning("the platform does not take what became of calls: %s", error)
            self._pending = None
            if len(self._buffer) < _BATCH and self._text < _ROOM:
                if self._buffer:
                    self._filled.set()
                return True

    def _under_way(self) -> list[dict[str, Any]]:
        """Return the records of long calls that go on, of which something is new, as far as there is room."""
        found: list[dict[str, Any]] = []
        room = _ROOM
        for one in self._shown.values():
            if one.ended or one.told == _told(one) or room < 0:
                continue
            one.told = _told(one)
            one.logs = text_of(one.exchange.printed if one.exchange else "", LONGEST_LOG)
            room -= len(one.logs)
            found.append(one.record())
        return found

    def _cell(self, note: Note) -> Cell:
        """Return where a call counts; nowhere, if the platform is away for too long."""
        key = (note.route.owner, note.route.name, int(note.ended // 60))
        found = self._cells.get(key)
        if found is None:
            found = Cell()
            if len(self._cells) < MOST_CELLS:
                self._cells[key] = found
        return found

    def _batch(self) -> list[Note]:
        """Take the oldest notes out of the buffer, as many as one report holds."""
        batch: list[Note] = []
        room = _ROOM
        while self._buffer and len(batch) < _BATCH and room >= 0:
            batch.append(self._buffer.popleft())
            room -= batch[-1].text
        self._text -= sum(note.text for note in batch)
        return batch

    def _report(self) -> bytes:
        batch = self._batch()
        cells, self._cells = self._cells, {}
        self._number += 1
        report = {
            "life": self._life,
            "number": self._number,
            "calls": [*self._under_way(), *(note.record() for note in batch)],
            "running": [one.id for one in self._shown.values() if not one.ended],
            "cells": [[*key, cell.packed()] for key, cell in cells.items()],
            "state": self._state(),
        }
        return json.dumps(report, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")


def _told(note: Note) -> int:
    """Return what there is to tell of a call that goes on: whether it began, and how much it printed."""
    return 0 if not note.started else 1 + (len(note.exchange.printed) if note.exchange else 0)


def amount(said: object, most: float) -> float | None:
    """Return a number that a worker told, no larger than may be; None if it is none that counts: NaN, a text ..."""
    if isinstance(said, bool) or not isinstance(said, int | float) or not said >= 0:
        return None
    return float(min(said, max(0.0, most)))
