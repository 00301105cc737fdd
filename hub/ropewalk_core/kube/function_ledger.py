"""FunctionLedger: what the journal says of functions on a cluster, and who waits for what becomes of a revision.

`NEXT` is the revision that is being tried, `AT` where the one that serves is; both come and go in one batch with the
function's own record, so that the three never contradict each other. What is told to who waits is told here, since
whether somebody waits decides what is written. Not here: the API server, of which nothing in this module knows; who
decides what became of a revision (``function_judge.py``, ``function_minder.py``). Rejected: one record with all of it,
in which a trial that ends and a wish that comes at the same moment would overwrite each other.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakValueDictionary

from ropewalk_core import sharing
from ropewalk_core import traffic as traffics
from ropewalk_core import why as whys
from ropewalk_core.errors import Conflict, RopewalkError
from ropewalk_core.functions import KIND, find, function_of, visible
from ropewalk_core.journal import Append, Operation, Put, Record, Remove
from ropewalk_core.kube.function_objects import Place
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.kinds import Object
from ropewalk_core.model import Function, State, Status, Why

NEXT, AT = "function-next", "function-at"
"""Records: the revision that is being tried, and where the one that serves is.

`AT` is ``foreign`` as long as others changed it: the function's own note may speak of something else meanwhile.
"""
WHAT = "function"
FOREIGN_END = "It was removed with kubectl or another tool."
FOREIGN_CHANGE = "It was changed with kubectl or another tool."
WAITS = "Its new revision waits: "
Key = tuple[str, str]


@dataclass(frozen=True)
class Next:
    """The revision that is being tried; ``before`` is the function as it was, if none of its revisions serves.

    ``others`` are the objects of revisions that take calls beside the latest, by their identifier. With ``split`` only
    who takes calls is new, and what serves is left alone.
    """

    function: Function
    how: str
    namespace: str
    objects: list[Object]
    before: dict[str, Any] | None
    others: dict[str, list[Object]] = field(default_factory=dict)
    split: bool = False
    version: int = 0

    @property
    def place(self) -> Place:
        """Return where it goes."""
        return Place(self.function.owner, self.function.name, self.function.revision.id, self.namespace)

    @property
    def served(self) -> str:
        """Return the name of the object in the cluster that would serve it."""
        return self.place.served(self.how)

    @property
    def asked(self) -> str:
        """Return what somebody waits for: the revision, or who takes calls beside it."""
        identifier = self.function.revision.id
        return f"{identifier} {traffics.written(self.function.traffic)}" if self.split else identifier

    def body(self) -> dict[str, Any]:
        """Return it as a record keeps it."""
        facts = {"function": self.function.model_dump(mode="json"), "how": self.how, "namespace": self.namespace}
        return {**facts, "objects": self.objects, "before": self.before, "others": self.others, "split": self.split}


class FunctionLedger:
    """The records of all functions, a lock for each, and who waits.

    Parameters
    ----------
    ground
        The journal where they are kept, time, and who keeps what the cluster does not have yet.
    """

    def __init__(self, ground: KubeGround) -> None:
        self._journal, self._clock, self._intents = ground.journal, ground.clock, ground.intents
        self._waits: dict[tuple[str, str, str], asyncio.Future[Function]] = {}
        self._told: dict[Key, str] = {}  # the revision whose failure somebody heard of, until that is written down
        self._locks: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()

    def lock(self, owner: str, name: str) -> asyncio.Lock:
        """Return a function's lock: whoever decides by what the journal says, and awaits before writing, holds it."""
        return self._locks.setdefault(("journal", owner, name), asyncio.Lock())

    def hands(self, owner: str, name: str) -> asyncio.Lock:
        """Return the lock of whoever makes a revision's objects or removes them, for which nobody who asks waits."""
        return self._locks.setdefault(("cluster", owner, name), asyncio.Lock())

    # What is written down

    def next(self, owner: str, name: str) -> Next | None:
        """Return the revision that is being tried."""
        record = self._journal.get(NEXT, owner, name)
        if record is None:
            return None
        body = record.body
        function = Function.model_validate(body["function"])
        return Next(
            function,
            body["how"],
            body["namespace"],
            body["objects"],
            body["before"],
            body.get("others", {}),
            body.get("split", False),
            record.version,
        )

    def at(self, owner: str, name: str) -> Record | None:
        """Return the record of where the revision that serves is."""
        return self._journal.get(AT, owner, name)

    def open(self, owner: str, name: str) -> bool:
        """Whether the cluster may not have yet what is wished."""
        return self._intents.open(WHAT, owner, name)

    def kept(self, owner: str, name: str) -> set[str]:
        """Return the revisions that serve or are tried as the latest; what belongs to others may go, except `apart`."""
        return {one.revision.id for one in self._wished(owner, name)}

    def apart(self, owner: str, name: str) -> set[str]:
        """Return the revisions that were chosen by number, or are about to be; each has objects of its own."""
        return {share.revision for one in self._wished(owner, name) for share in one.traffic.shares}

    def fresh(self, tried: Next) -> list[Place]:
        """Return where revisions go that were chosen by number just now, and do not serve yet."""
        at = self.at(tried.function.owner, tried.function.name)
        there = at.body.get("others", {}) if at else {}
        return [
            replace(tried.place, revision=revision, apart=True) for revision in tried.others if revision not in there
        ]

    def _wished(self, owner: str, name: str) -> list[Function]:
        """Return the function as it serves, and as it is tried."""
        tried = self.next(owner, name)  # first: a trial that ends well is seen as one of the two
        record = self._journal.get(KIND, owner, name)
        serves = [function_of(record)] if record and self.at(owner, name) else []
        return [*serves, *([tried.function] if tried else [])]

    def before(self, tried: Next) -> Function | None:
        """Return the function as it was before what is tried, whether a revision of it serves or did once."""
        record = self._journal.get(KIND, tried.function.owner, tried.function.name)
        if record is not None and self.at(record.owner, record.name) is not None:
            return function_of(record)
        return Function.model_validate(tried.before) if tried.before else None

    def serves(self, at: Record) -> str:
        """Return the name of the object in the cluster that serves a function."""
        record = self._journal.get(KIND, at.owner, at.name)
        revision = function_of(record).revision.id if record else ""
        return Place(at.owner, at.name, revision, at.body["namespace"]).served(at.body["how"])

    # What is written

    def clearing(self, owner: str, name: str) -> Put:
        """Return the wish that nothing is left in the cluster but what serves, if anything does."""
        found = self._journal.get(AT, owner, name) or self._journal.get(NEXT, owner, name)
        namespace = found.body["namespace"] if found else ""
        return self._intents.asked(WHAT, owner, name, {"do": "clear", "namespace": namespace})

    def failed(self, tried: Next, error: RopewalkError) -> list[Operation]:
        """Return what the journal says of a revision that does not come to run; who waits for it gets the error."""
        function, key = tried.function, (tried.function.owner, tried.function.name)
        operations: list[Operation] = [Remove(NEXT, *key, expect=tried.version), self.clearing(*key)]
        status = Status(state=State.FAILED, since=self._clock.wall(), why=whys.from_error(error))
        failed = function.model_copy(update={"status": status})
        if self.tell((*key, tried.asked), error=error):
            self._told[key] = tried.asked
        asked = self._told.get(key) == tried.asked
        if self._journal.get(AT, *key) is not None:
            return [*operations, *self.waits_no_more(*key)]
        if asked and tried.before is None:
            operations += [Remove(KIND, *key), sharing.forgetting(*key)]
        else:
            operations.append(
                Put(KIND, *key, tried.before if asked and tried.before else failed.model_dump(mode="json"))
            )
        return [*operations, Append(KIND, *key, "failed", visible(failed))]

    def waits_no_more(self, owner: str, name: str) -> list[Operation]:
        """Return what takes the word about a new revision that waits from a function that serves."""
        at = self.at(owner, name)
        return self._noting(owner, name, WAITS, FOREIGN_CHANGE if at is not None and at.body.get("foreign") else "")

    def put_right(self, at: Record, generation: int) -> list[Operation]:
        """Return what the journal says once our objects of what serves are in the cluster as we wish them."""
        body = {key: value for key, value in at.body.items() if key != "foreign"}
        put = Put(AT, at.owner, at.name, {**body, "generation": generation}, expect=at.version)
        return [put, *self._noting(at.owner, at.name, FOREIGN_CHANGE, "")]

    def _noting(self, owner: str, name: str, before: str, note: str) -> list[Operation]:
        """Return what gives a function that serves another note in place of one that begins with ``before``."""
        record = self._journal.get(KIND, owner, name)
        function = function_of(record) if record else None
        if function is None or not function.status.note.startswith(before):
            return []
        function = function.model_copy(update={"status": function.status.model_copy(update={"note": note})})
        body = function.model_dump(mode="json")
        return [Put(KIND, owner, name, body), Append(KIND, owner, name, "running", visible(function))]

    async def stopped(
        self,
        owner: str,
        name: str,
        *,
        note: str = "",
        why: Why | None = None,
        remove: bool = False,
        tried: int | None = None,
    ) -> None:
        """Write down that a function does not run any more; ``remove`` also wishes it out of the cluster.

        ``tried`` is the version that `NEXT` must have (0: must not exist, None: any). The caller holds the lock.
        """
        record = find(self._journal, owner, name)
        status = Status(state=State.STOPPED, since=self._clock.wall(), note=note, why=why)
        function = function_of(record).model_copy(update={"status": status})
        asked = [self.clearing(owner, name)] if remove else []
        await self._journal.write(
            Put(KIND, owner, name, function.model_dump(mode="json"), expect=record.version),
            Remove(NEXT, owner, name, expect=tried),
            Remove(AT, owner, name),
            *asked,
            Append(KIND, owner, name, "stopped", visible(function)),
        )
        self.tell_all(owner, name, Conflict(f"The function '{name}' is not in the cluster any more. {note}".strip()))

    # Who waits

    def waiting(self, owner: str, name: str, asked: str) -> asyncio.Future[Function]:
        """Return what becomes of what was asked, which is usually a revision, to be told."""
        future = self._waits.get((owner, name, asked))
        if future is None:
            self.ended(owner, name)
            future = self._waits[owner, name, asked] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda one: one.cancelled() or one.exception())
        return future

    def tell(
        self, key: tuple[str, str, str], function: Function | None = None, *, error: RopewalkError | None = None
    ) -> bool:
        """Give who waits for a revision what became of it; say whether anybody waited."""
        future = self._waits.pop(key, None)
        if future is None or future.done():
            return False
        if error is not None:
            future.set_exception(error)
        elif function is not None:
            future.set_result(function)
        return True

    def ended(self, owner: str, name: str) -> None:
        """Forget who was told of a failure: it is written down, or a new wish began."""
        self._told.pop((owner, name), None)

    def tell_all(self, owner: str, name: str, error: RopewalkError, *, but: str = "") -> None:
        """Give everybody who waits for a function an error, except who waits for the revision ``but``."""
        for key in [one for one in self._waits if one[:2] == (owner, name) and one[2] != but]:
            self.tell(key, error=error)
