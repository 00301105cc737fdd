"""FunctionJudge: follows each revision that is being tried, and writes down what became of it.

The cluster has the last word: ready, waiting for something, failed or removed by somebody. A verdict is written only
while the journal still has the trial that it is about, and again and again while the journal is away. Not here: how a
verdict is read (``function_trial.py``, ``function_objects.py``), how the objects came there (``function_carrier.py``),
what happens to a revision once it serves (``function_minder.py``). Rejected: judging in the intent that applies, whose
place in the queue a revision that loads for a minute would hold.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ropewalk_core import history
from ropewalk_core.errors import Conflict, NotFound, RopewalkError
from ropewalk_core.functions import KIND, find, function_of, visible
from ropewalk_core.journal import Append, Put, Remove
from ropewalk_core.kube.function_ledger import AT, FOREIGN_END, NEXT, WAITS, WHAT, FunctionLedger, Key, Next
from ropewalk_core.kube.function_minder import FunctionMinder
from ropewalk_core.kube.function_objects import Verdict
from ropewalk_core.kube.function_tidy import tidy
from ropewalk_core.kube.function_trial import Trial, follow
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.model import State, Status, Why
from ropewalk_core.tasks import Tasks

_AGAIN = 1.0
_log = logging.getLogger(__name__)


class FunctionJudge:
    """Decides what becomes of the revisions that are tried.

    Parameters
    ----------
    ground
        What every port on a cluster is built on.
    ledger, minder
        What is written of functions; who minds one that serves.
    gateway_has
        Waits until the gateway knows everything up to a cursor.
    """

    def __init__(
        self,
        ground: KubeGround,
        ledger: FunctionLedger,
        minder: FunctionMinder,
        gateway_has: Callable[[int], Awaitable[None]],
    ) -> None:
        self._settings, self._journal, self._clock = ground.settings, ground.journal, ground.clock
        self._api, self._intents = ground.api, ground.intents
        self._ledger, self._minder, self._gateway_has = ledger, minder, gateway_has
        self._trials: dict[Key, tuple[Next, asyncio.Task[None]]] = {}
        self._unplaced: set[Key] = set()
        self._tasks = Tasks()

    def follow(self, key: Key) -> None:
        """Follow the revision that is being tried, instead of one before."""
        tried = self._ledger.next(*key)
        if tried is None:
            return
        if (trial := self._trials.pop(key, None)) is not None:
            trial[1].cancel()
        self._trials[key] = tried, self._tasks.start(self._try(tried))

    def give_up(self, owner: str, name: str) -> None:
        """Stop following a revision that is not wished any more, and tell who waits for it."""
        tried, trial = self._ledger.next(owner, name), self._trials.get((owner, name))
        if trial is not None and trial[0] != tried:  # what was accepted just now may be followed already
            del self._trials[owner, name]
            trial[1].cancel()
        error = Conflict(f"The function '{name}' was changed or removed meanwhile.")
        self._ledger.tell_all(owner, name, error, but=tried.asked if tried else "")

    def unplaced(self, owner: str, name: str) -> bool:
        """Whether a revision that is being tried waits for a machine."""
        return (owner, name) in self._unplaced

    async def end(self) -> None:
        """Follow nothing any more."""
        await self._tasks.end()
        self._trials.clear()

    async def _try(self, tried: Next) -> None:
        self._unplaced.discard((tried.function.owner, tried.function.name))
        at = self._ledger.at(tried.function.owner, tried.function.name)
        last = Verdict(ready=True, generation=at.body["generation"]) if at and tried.split else Verdict()
        for place in [*self._ledger.fresh(tried), *(() if tried.split else (tried.place,))]:
            trial = Trial(tried.how, place, self._settings.cluster.start_timeout)
            async for last in follow(self._api, self._clock, trial):
                if not last.ready:
                    await self._written(tried, last)
            if not last.ready:
                return
        await self._written(tried, last)

    async def _written(self, tried: Next, verdict: Verdict) -> None:
        while True:
            try:
                await self._judged(tried, verdict)
            except (Conflict, NotFound):  # something newer was asked meanwhile
                pass
            except RopewalkError as error:  # the journal is away; what the cluster said stays true
                _log.warning("what became of %s is not written down yet: %s", tried.place.object, error)
                await self._clock.sleep(_AGAIN)
                continue
            return

    async def _judged(self, tried: Next, verdict: Verdict) -> None:
        owner, name = tried.function.owner, tried.function.name
        if verdict.ready:
            await self._ready(tried, verdict)
        elif verdict.gone:
            await self._gone(tried)
        elif verdict.error is not None:
            await self._failed(tried, verdict.error)
        elif verdict.why is not None:
            (self._unplaced.discard if verdict.placed else self._unplaced.add)((owner, name))
            await self._waits_for(tried, verdict.why)

    async def _gone(self, tried: Next) -> None:
        """Write down that somebody removed what is tried; what serves is gone with it only if it is the same object."""
        owner, name = tried.function.owner, tried.function.name
        async with self._ledger.lock(owner, name):
            at = self._ledger.at(owner, name)
            same = at is not None and not tried.split
            if at is None or (same and (at.body["how"], self._ledger.serves(at)) == (tried.how, tried.served)):
                await self._ledger.stopped(owner, name, note=FOREIGN_END, tried=tried.version)
            else:
                await self._failed(tried, Conflict(f"The new revision of '{name}' does not come. {FOREIGN_END}"))

    async def _failed(self, tried: Next, error: RopewalkError) -> None:
        owner, name = tried.function.owner, tried.function.name
        await self._journal.write(*self._ledger.failed(tried, error))
        self._intents.hurry(WHAT, owner, name)

    async def _ready(self, tried: Next, verdict: Verdict) -> None:
        owner, name = tried.function.owner, tried.function.name
        function = tried.function
        if not tried.split:
            status = Status(state=State.RUNNING, since=self._clock.wall())
            function = function.model_copy(update={"status": status})
        have = self._ledger.at(owner, name)
        if tried.split and have is not None:  # what serves is as it was, whoever changed it
            at = {**have.body, "others": tried.others}
        else:
            at = {"how": tried.how, "namespace": tried.namespace, "generation": verdict.generation}
            at |= {"objects": tried.objects, "others": tried.others}
        cursor = await self._journal.write(
            Remove(NEXT, owner, name, expect=tried.version),
            Put(KIND, owner, name, function.model_dump(mode="json")),
            Put(AT, owner, name, at),
            *history.keeping(self._journal, function, self._ledger.before(tried)),
            Append(KIND, owner, name, "running", visible(function)),
        )
        await self._gateway_has(cursor)
        self._ledger.tell((owner, name, tried.asked), function)
        self._minder.mind(owner, at)
        self._tasks.start(self._tidied((owner, name), tried.namespace))

    async def _tidied(self, key: Key, namespace: str) -> None:
        try:
            await tidy(self._api, self._ledger, key, namespace)
        except RopewalkError as error:  # the next deploy tidies again
            _log.warning("earlier revisions of %s's function %s stay in the cluster: %s", *key, error)

    async def _waits_for(self, tried: Next, why: Why) -> None:
        """Say what a revision waits for."""
        owner, name = tried.function.owner, tried.function.name
        record = find(self._journal, owner, name)
        function = function_of(record)
        if self._ledger.at(owner, name) is not None:
            status = function.status.model_copy(update={"note": f"{WAITS}{why.cause}"})
        else:
            status = Status(state=State.WAITING, since=function.status.since, why=why)
        if status == function.status:
            return
        function = function.model_copy(update={"status": status})
        await self._journal.write(
            Put(KIND, owner, name, function.model_dump(mode="json"), expect=record.version),
            Append(KIND, owner, name, "waiting", visible(function)),
        )
