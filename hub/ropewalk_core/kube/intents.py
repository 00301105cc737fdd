"""Intents: what was accepted and the API server does not have yet. They survive a kill and are carried out once.

An intent is one journal record, written in the same batch as the noun that it is about, and removed in the same batch
as what became of it. Between the two anything may be killed: the next start carries it out again, which changes
nothing where it was done already, because names are deterministic and objects are applied. A newer intent for the same
thing takes the older one's place. Each account has a queue of its own for each kind of thing, so that ten broken
services of one hold up neither its functions nor anybody else. Not here: what an intent says and how it is done;
whoever registered for it knows. Rejected: comparing the journal with the cluster, which would make again what somebody
removed there on purpose.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ropewalk_core.errors import Conflict, RopewalkError
from ropewalk_core.journal import Journal, Operation, Put, Record, Remove
from ropewalk_core.kube.transient import passes
from ropewalk_core.ports import Clock
from ropewalk_core.reconcile import KeyedQueue

KIND = "intent"
AT_ONCE = 2
"""Intents of one account and kind that are carried out at the same time."""
OF_ALL = 64
"""Intents of one kind that are, of all accounts: an API server that has just come back gets no more at once."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Intent:
    """One accepted wish: ``what`` kind of thing, whose, which, and what is to be done with it."""

    what: str
    owner: str
    name: str
    wish: dict[str, Any]


Carry = Callable[[Intent], Awaitable[Iterable[Operation]]]
"""Brings an intent to the API server and returns what the journal is to say afterwards."""
Refused = Callable[[Intent, RopewalkError], Awaitable[Iterable[Operation]]]
"""Returns what the journal is to say of an intent that will never be carried out, and why."""
Key = tuple[str, str, str]


class Intents:
    """The open intents of one platform.

    Parameters
    ----------
    journal
        Where they are kept.
    clock
        Time between tries.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal, self._clock = journal, clock
        self._hands: dict[str, tuple[Carry, Refused]] = {}
        self._queues: dict[tuple[str, str], KeyedQueue[Key]] = {}
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(OF_ALL))
        self._running: asyncio.TaskGroup | None = None
        self._ended: defaultdict[Key, asyncio.Event] = defaultdict(asyncio.Event)

    def carried_by(self, what: str, carry: Carry, refused: Refused) -> None:
        """Say who carries out the intents of one kind; before `run`.

        Whatever ``carry`` raises that passes by itself is tried again; any other of our errors ends the intent with
        what ``refused`` returns. Both may be called again after a kill.
        """
        self._hands[what] = (carry, refused)

    def asked(self, what: str, owner: str, name: str, wish: dict[str, Any]) -> Put:
        """Return the operation that keeps an intent; write it in one batch with the noun, then call `hurry`."""
        return Put(KIND, owner, f"{what}/{name}", wish)

    def open(self, what: str, owner: str, name: str) -> bool:
        """Whether an intent for this is still to be carried out, so that the cluster may lag behind the journal."""
        return self._journal.get(KIND, owner, f"{what}/{name}") is not None

    def hurry(self, what: str, owner: str, name: str) -> None:
        """Carry an intent out now."""
        self._add((what, owner, name))

    async def settled(self, what: str, owner: str, name: str, *, patience: float) -> bool:
        """Wait until an intent was carried out or refused; say whether that came within ``patience`` seconds."""
        key, end = (what, owner, name), self._clock.steady() + patience
        while self.open(*key):
            left = end - self._clock.steady()
            if left <= 0:
                return False
            try:
                await asyncio.wait_for(self._ended[key].wait(), left)
            except TimeoutError:
                continue
        return True

    async def run(self) -> None:
        """Carry out what is open, and what comes, for ever."""
        for record in self._journal.page(KIND, limit=1_000_000):
            what, _, name = record.name.partition("/")
            self._add((what, record.owner, name))
        async with asyncio.TaskGroup() as self._running:
            try:
                for line, queue in self._queues.items():
                    self._running.create_task(self._work(line, queue))
                await asyncio.Event().wait()
            finally:
                self._running = None

    def _add(self, key: Key) -> None:
        line = key[:2]
        queue = self._queues.get(line)
        if queue is None:
            queue = self._queues[line] = KeyedQueue(self._carry_out, self._clock, workers=AT_ONCE)
            if self._running is not None:
                self._running.create_task(self._work(line, queue))
        queue.add(key)

    async def _work(self, line: tuple[str, str], queue: KeyedQueue[Key]) -> None:
        """Carry out what is in a queue until nothing is; what comes then has a new one."""
        async with asyncio.TaskGroup() as group:
            work = group.create_task(queue.run())
            await queue.idle()
            del self._queues[line]
            work.cancel()

    async def _carry_out(self, key: Key) -> None:
        what, owner, name = key
        async with self._turns[what]:
            record = self._journal.get(KIND, owner, f"{what}/{name}")
            if record is None:
                return
            intent = Intent(what, owner, name, record.body)
            carry, refused = self._hands[what]
            try:
                told = await carry(intent)
            except RopewalkError as error:
                if passes(error):
                    raise
                _log.warning("%s of %s, '%s', was refused: %s", what, owner, name, error)
                told = await refused(intent, error)
        await self._end(key, record, told)

    async def _end(self, key: Key, record: Record, told: Iterable[Operation]) -> None:
        gone = Remove(KIND, record.owner, record.name, expect=record.version)
        try:
            await self._journal.write(gone, *told)
        except Conflict:  # something newer was asked meanwhile, so what became of this one is of no interest
            self._add(key)
            return
        self._ended.pop(key, asyncio.Event()).set()
