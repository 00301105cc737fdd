"""FunctionMinder: watches functions that serve, and writes down what kubectl or another tool did to them.

What somebody else removes or changes in the cluster is respected: it is told, and left so. Nothing is believed while a
wish of ours is under way, since then the change is ours. Not here: revisions that are being tried
(``function_judge.py``). Rejected: putting back what the journal says, which would undo what somebody did on purpose;
one watch for each function, of which a namespace may have hundreds.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from ropewalk_core.errors import Conflict, NotFound, RopewalkError
from ropewalk_core.functions import KIND, function_of, visible
from ropewalk_core.journal import Append, Put
from ropewalk_core.kube.function_ledger import AT, FOREIGN_CHANGE, FOREIGN_END, FunctionLedger
from ropewalk_core.kube.function_objects import NAME, labels_of
from ropewalk_core.kube.function_trial import watched
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.kinds import Object
from ropewalk_core.kube.view import Change, Happened
from ropewalk_core.tasks import Tasks

_log = logging.getLogger(__name__)


class FunctionMinder:
    """Minds the functions that serve.

    Parameters
    ----------
    ground
        What every port on a cluster is built on.
    ledger
        What is written of functions.
    """

    def __init__(self, ground: KubeGround, ledger: FunctionLedger) -> None:
        self._journal, self._clock, self._api, self._ledger = ground.journal, ground.clock, ground.api, ledger
        self._minded: set[tuple[str, str]] = set()
        self._tasks = Tasks()

    def mind(self, owner: str, at: dict[str, Any]) -> None:
        """Watch the functions of a namespace, once."""
        key = (at["namespace"], at["how"])
        if key not in self._minded:
            self._minded.add(key)
            self._tasks.start(self._watch(owner, *key))

    async def end(self) -> None:
        """Watch nothing any more."""
        await self._tasks.end()
        self._minded.clear()

    async def _watch(self, owner: str, namespace: str, how: str) -> None:
        there: set[str] = set()
        async with contextlib.aclosing(self._api.watch(watched(how), namespace, labels=labels_of())) as changes:
            async for change in changes:
                try:
                    await self._noticed(owner, how, change, there)
                except RopewalkError as error:  # the next list tells it again
                    _log.warning("functions of %s in %s: %s", owner, namespace, error)

    async def _noticed(self, owner: str, how: str, change: Change, there: set[str]) -> None:
        """Compare what the cluster shows with what is known; ``there`` are the objects that it showed."""
        name = change.key[1]
        if change.happened in (Happened.ADDED, Happened.CHANGED):
            there.add(name)
            await self._changed(owner, how, change.object)
            return
        there.discard(name)
        for at in self._journal.page(AT, owner, limit=100_000):
            thing = self._ledger.serves(at)
            if at.body["how"] == how and thing not in there and (thing == name or not name):
                await self._missed(at.owner, at.name)

    async def _missed(self, owner: str, name: str) -> None:
        """Look whether a function is really gone although nobody here wished it, and write that down."""
        at = self._ledger.at(owner, name)
        if at is None or self._ledger.open(owner, name) or self._ledger.next(owner, name):
            return
        try:
            await self._api.get(watched(at.body["how"]), self._ledger.serves(at), at.body["namespace"])
        except NotFound:
            async with self._ledger.lock(owner, name):
                # The answer took its time, and says nothing of what came since; versions begin again with a new record.
                if self._ledger.at(owner, name) != at or self._ledger.open(owner, name):
                    return
                with contextlib.suppress(Conflict):
                    await self._ledger.stopped(owner, name, note=FOREIGN_END, tried=0)
        except RopewalkError as error:
            _log.warning("%s's function %s could not be looked at: %s", owner, name, error)

    async def _changed(self, owner: str, how: str, one: Object) -> None:
        """Write down that somebody else changed a function."""
        name = str((one["metadata"].get("labels") or {}).get(NAME))
        at, record = self._ledger.at(owner, name), self._journal.get(KIND, owner, name)
        if at is None or record is None or self._ledger.open(owner, name) or self._ledger.next(owner, name):
            return
        generation = int(one["metadata"].get("generation") or 0)
        if (
            at.body["how"] != how
            or self._ledger.serves(at) != one["metadata"]["name"]
            or generation <= at.body["generation"]
        ):
            return
        function = function_of(record)
        status = function.status.model_copy(update={"note": FOREIGN_CHANGE, "since": self._clock.wall()})
        function = function.model_copy(update={"status": status})
        with contextlib.suppress(Conflict):
            await self._journal.write(
                Put(KIND, owner, name, function.model_dump(mode="json"), expect=record.version),
                Put(AT, owner, name, {**at.body, "generation": generation, "foreign": True}, expect=at.version),
                Append(KIND, owner, name, "changed", visible(function)),
            )
