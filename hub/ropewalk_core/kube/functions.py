"""Functions on a cluster: accepted in the journal, tried in the cluster, and only then what calls reach.

A deploy writes down what is wished (`NEXT`) together with an intent; the intent brings it to the API server; whoever
follows the trial writes what became of it. The revision before serves until the new one is ready, and goes on when that
does not load. What somebody else removes or changes in the cluster is written down and left so. Not here: what the
objects are (``function_objects.py``), seeing them (``function_trial.py``), traffic (the gateway).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ropewalk_core import why as whys
from ropewalk_core.errors import Conflict, NotFound, RopewalkError, Unavailable
from ropewalk_core.functions import KIND, LOAD_PATIENCE, FunctionBook, function_of, revision_id, visible
from ropewalk_core.journal import Append, Journal, Operation, Put, Record, Remove
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.function_objects import (
    KNATIVE,
    PLAIN,
    REVISION,
    Place,
    Verdict,
    clearer,
    code,
    fingerprint,
    labels_of,
    packed,
    serving,
)
from ropewalk_core.kube.function_trial import Trial, follow, watched
from ropewalk_core.kube.intents import Intent, Intents
from ropewalk_core.kube.kinds import CONFIG_MAP, DEPLOYMENT, KNATIVE_REVISION, KNATIVE_SERVICE, SERVICE, Kind, Object
from ropewalk_core.kube.nodes import Site
from ropewalk_core.kube.placement import place
from ropewalk_core.kube.view import Change, Happened
from ropewalk_core.kube.volumes import ensure_files, mount
from ropewalk_core.model import Actor, Function, FunctionRoute, FunctionSpec, Revision, State, Status, Why
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_core.tasks import Tasks

NEXT, AT = "function-next", "function-at"
"""Records: the revision that is being tried, and where the one that serves is."""
WHAT = "function"
FOREIGN_END = "It was removed with kubectl or another tool."
FOREIGN_CHANGE = "It was changed with kubectl or another tool."
_PATIENCE, _SHORT = LOAD_PATIENCE + 40.0, 20.0
"""Seconds after which a deploy answers although its revision has not started; the shorter one if no machine is free."""
_AGAIN = 1.0
_log = logging.getLogger(__name__)
Key = tuple[str, str]


@dataclass(frozen=True)
class Next:
    """The revision that is being tried; ``before`` is the function as it was, if none of its revisions serves."""

    function: Function
    how: str
    namespace: str
    objects: list[Object]
    before: dict[str, Any] | None
    version: int = 0

    @property
    def place(self) -> Place:
        """Return where it goes."""
        return Place(self.function.owner, self.function.name, self.function.revision.id, self.namespace)

    def body(self) -> dict[str, Any]:
        """Return it as a record keeps it."""
        facts = {"function": self.function.model_dump(mode="json"), "how": self.how, "namespace": self.namespace}
        return {**facts, "objects": self.objects, "before": self.before}


class KubeFunctions(FunctionBook):
    """The `Functions` port on a cluster.

    Parameters
    ----------
    settings, journal, clock
        The installation, its journal, time.
    api
        The API server, with the platform's rights.
    space
        Returns an account's namespace.
    site
        Returns what the cluster has.
    intents
        Carries out what was accepted.
    token
        Makes a token of audience ``functions`` for a person.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        journal: Journal,
        clock: Clock,
        api: Api,
        space: Callable[[str], Awaitable[str]],
        site: Callable[[], Awaitable[Site]],
        intents: Intents,
        token: Callable[[Actor], Awaitable[str]],
    ) -> None:
        super().__init__(settings, journal, clock, token)
        self._api, self._space, self._site, self._intents = api, space, site, intents
        self._locks: defaultdict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waits: dict[tuple[str, str, str], asyncio.Future[Function]] = {}
        self._trials: dict[Key, tuple[Next, asyncio.Task[None]]] = {}
        self._minded: set[tuple[str, str]] = set()
        self._tasks = Tasks()
        self._unplaced: set[Key] = set()
        self._knative: set[str] = set()
        intents.carried_by(WHAT, self._carry, self._refused)

    async def run(self) -> None:
        """Follow what is being tried, and what others do to functions in the cluster, for ever."""
        for record in self._journal.page(NEXT, limit=1_000_000):
            if not self._intents.open(WHAT, record.owner, record.name):
                self._follow((record.owner, record.name))
        for record in self._journal.page(AT, limit=1_000_000):
            self._mind(record.owner, record.body)
        try:
            await asyncio.Event().wait()
        finally:
            await self._tasks.end()
            self._trials.clear()
            self._minded.clear()

    # The port

    async def deploy(self, actor: Actor, owner: str, spec: FunctionSpec, *, key: str = "") -> Function:
        """See `Functions.deploy`."""
        spec = self._checked(owner, spec)
        fragment = place(spec.placement, await self._site())
        packed(spec.bundle)
        namespace = await self._space(owner)
        how = await self._how(namespace)
        image = self._settings.cluster.images["runner"]
        files = mount(self._settings)
        blank = serving(how, Place(owner, spec.name, "", namespace), spec, self._settings, fragment, files)
        identifier = revision_id(spec, f"{image} {fingerprint(blank)}")
        where = Place(owner, spec.name, identifier, namespace)
        objects = serving(how, where, spec, self._settings, fragment, files)
        async with self._locks[owner, spec.name]:
            record, tried = self._journal.get(KIND, owner, spec.name), self._next(owner, spec.name)
            have = function_of(record) if record else None
            if have and have.revision.id == identifier and self._journal.get(AT, owner, spec.name):
                if tried:
                    await self._withdraw(tried)
                return have.model_copy(update={"unchanged": True})
            if tried is None or tried.function.revision.id != identifier:
                now = self._clock.wall()
                number = have.revision.number + 1 if have else 1
                revision = Revision(id=identifier, number=number, spec=spec, environment=image, created=now)
                wished = Function(
                    owner=owner,
                    name=spec.name,
                    revision=revision,
                    status=Status(state=State.STARTING, since=now),
                    address=self.address(owner, spec.name),
                    created=have.created if have else now,
                )
                wish = Next(wished, how, namespace, objects, tried.before if tried else None)
                await self._accept(wish, record, tried)
            future = self._waiting(owner, spec.name, identifier)
        return await self._outcome(owner, spec.name, identifier, future)

    async def remove(self, actor: Actor, owner: str, name: str) -> Function:
        """See `Functions.remove`."""
        async with self._locks[owner, name]:
            record = self._found(owner, name)
            status = Status(state=State.STOPPED, since=self._clock.wall())
            function = function_of(record).model_copy(update={"status": status})
            cursor = await self._journal.write(
                Remove(KIND, owner, name, expect=record.version),
                Remove(NEXT, owner, name),
                Remove(AT, owner, name),
                self._clearing(owner, name),
                Append(KIND, owner, name, "removed", visible(function)),
            )
            self._forget_calls(owner, name)
        self._give_up(owner, name)
        await self._gateway_has(cursor)
        self._intents.hurry(WHAT, owner, name)
        return function

    async def call(
        self, actor: Actor, owner: str, name: str, payload: bytes, *, content_type: str = "application/json"
    ) -> bytes:
        """See `Functions.call`."""
        function = function_of(self._found(owner, name))
        if self._journal.get(AT, owner, name) is None:
            raise Unavailable(_away(function), details={"wait": False})
        return await super().call(actor, owner, name, payload, content_type=content_type)

    async def stop_all(self, account: str, why: Why) -> None:
        """Take an account's functions out of the cluster; what was deployed stays known, and can be deployed again."""
        for record in self._journal.page(KIND, account, limit=100_000):
            async with self._locks[account, record.name]:
                if self._journal.get(AT, account, record.name) or self._journal.get(NEXT, account, record.name):
                    await self._stopped(account, record.name, why=why, remove=True)

    # What was accepted

    async def _accept(self, wish: Next, record: Record | None, tried: Next | None) -> None:
        owner, name, body = wish.function.owner, wish.function.name, wish.function.model_dump(mode="json")
        operations: list[Operation] = [
            self._intents.asked(WHAT, owner, name, {"do": "deploy", "revision": wish.function.revision.id})
        ]
        if self._journal.get(AT, owner, name) is None:
            if record is not None and tried is None:
                wish = replace(wish, before=record.body)
            operations.append(Put(KIND, owner, name, body, expect=record.version if record else 0))
            operations.append(Append(KIND, owner, name, "asked", visible(wish.function)))
        await self._journal.write(Put(NEXT, owner, name, wish.body()), *operations)
        self._give_up(owner, name)
        self._intents.hurry(WHAT, owner, name)

    async def _withdraw(self, tried: Next) -> None:
        """Give up what is being tried, because what serves is wished again."""
        owner, name = tried.function.owner, tried.function.name
        await self._journal.write(Remove(NEXT, owner, name), self._clearing(owner, name))
        self._give_up(owner, name)
        self._intents.hurry(WHAT, owner, name)

    def _give_up(self, owner: str, name: str) -> None:
        """Stop following a revision that is not wished any more, and tell who waits for it."""
        tried, trial = self._next(owner, name), self._trials.get((owner, name))
        if trial is not None and trial[0] != tried:  # what was accepted just now may be followed already
            del self._trials[owner, name]
            trial[1].cancel()
        for key in [one for one in self._waits if one[:2] == (owner, name)]:
            if tried is None or key[2] != tried.function.revision.id:
                self._tell(key, error=Conflict(f"The function '{name}' was changed or removed meanwhile."))

    async def _carry(self, intent: Intent) -> Iterable[Operation]:
        """Bring a wish to the API server."""
        key = (intent.owner, intent.name)
        if intent.wish["do"] == "deploy":
            tried = self._next(*key)
            if tried is not None and tried.function.revision.id == intent.wish["revision"]:
                await self._apply(tried)
                self._follow(key)
            return ()
        namespace = intent.wish["namespace"] or await self._space(intent.owner)
        at = self._journal.get(AT, *key)
        if at is None:
            await self._delete(KNATIVE_SERVICE, Place(*key, "", namespace).service, namespace)
        elif at.body["how"] == KNATIVE:
            applied = [await self._api.apply(KNATIVE_SERVICE, one, force=True) for one in at.body["objects"]]
            at.body["generation"] = int(applied[0]["metadata"]["generation"])
        await self._tidy(key, namespace)
        return [Put(AT, *key, at.body, expect=at.version)] if at is not None else ()

    def _clearing(self, owner: str, name: str) -> Put:
        """Return the wish that nothing is left in the cluster but what serves, if anything does."""
        found = self._journal.get(AT, owner, name) or self._journal.get(NEXT, owner, name)
        namespace = found.body["namespace"] if found else ""
        return self._intents.asked(WHAT, owner, name, {"do": "clear", "namespace": namespace})

    def _refused(self, intent: Intent, error: RopewalkError) -> Iterable[Operation]:
        """Say what becomes of a wish that the API server will never take."""
        tried = self._next(intent.owner, intent.name)
        if intent.wish["do"] != "deploy" or tried is None or tried.function.revision.id != intent.wish["revision"]:
            return ()
        self._intents.hurry(WHAT, intent.owner, intent.name)
        return self._failed(tried, clearer(error))

    async def _apply(self, tried: Next) -> None:
        spec = tried.function.revision.spec
        await ensure_files(self._api, tried.namespace, self._settings)
        await self._api.apply(CONFIG_MAP, code(tried.place, packed(spec.bundle)), force=True)
        for one in tried.objects:
            await self._api.apply(_kind(one), one, force=True)

    async def _tidy(self, key: Key, namespace: str) -> None:
        """Remove what belongs to revisions that neither serve nor are tried."""
        found: list[tuple[Kind, Object]] = []
        for kind in (KNATIVE_REVISION, DEPLOYMENT, SERVICE, CONFIG_MAP):
            with contextlib.suppress(NotFound):  # no Knative here
                listing = await self._api.list(kind, namespace, labels=labels_of(key[1]))
                owned = () if kind is KNATIVE_REVISION else ("ownerReferences",)
                found += [
                    (kind, one) for one in listing.items if not any(one["metadata"].get(field) for field in owned)
                ]
        async with self._locks[key]:  # whatever is wished now was written down before it was made, so nothing new goes
            kept = self._kept_revisions(key)
            for kind, one in found:
                if (one["metadata"].get("labels") or {}).get(REVISION) not in kept:
                    await self._delete(kind, one["metadata"]["name"], namespace)

    def _kept_revisions(self, key: Key) -> set[str]:
        record, tried = self._journal.get(KIND, *key), self._next(*key)
        kept = {function_of(record).revision.id} if record and self._journal.get(AT, *key) else set()
        return kept | ({tried.function.revision.id} if tried else set())

    async def _delete(self, kind: Kind, name: str, namespace: str) -> None:
        with contextlib.suppress(NotFound):
            await self._api.delete(kind, name, namespace)

    # What became of it

    def _follow(self, key: Key) -> None:
        tried = self._next(*key)
        if tried is None:
            return
        if (trial := self._trials.pop(key, None)) is not None:
            trial[1].cancel()
        self._trials[key] = tried, self._tasks.start(self._try(tried))

    async def _try(self, tried: Next) -> None:
        self._unplaced.discard((tried.function.owner, tried.function.name))
        trial = Trial(tried.how, tried.place, self._settings.cluster.start_timeout)
        async for verdict in follow(self._api, self._clock, trial):
            while True:
                try:
                    await self._judged(tried, verdict)
                except (Conflict, NotFound):  # something newer was asked meanwhile
                    pass
                except RopewalkError as error:  # the journal is away; what the cluster said stays true
                    _log.warning("what became of %s is not written down yet: %s", tried.place.object, error)
                    await self._clock.sleep(_AGAIN)
                    continue
                break

    async def _judged(self, tried: Next, verdict: Verdict) -> None:
        owner, name = tried.function.owner, tried.function.name
        if verdict.ready:
            await self._ready(tried, verdict)
        elif verdict.gone:
            async with self._locks[owner, name]:
                await self._stopped(owner, name, note=FOREIGN_END, tried=tried.version)
        elif verdict.error is not None:
            gone = Remove(NEXT, owner, name, expect=tried.version)
            await self._journal.write(gone, *self._failed(tried, verdict.error))
            self._intents.hurry(WHAT, owner, name)
        elif verdict.why is not None:
            (self._unplaced.discard if verdict.placed else self._unplaced.add)((owner, name))
            await self._waits_for(tried, verdict.why)

    async def _ready(self, tried: Next, verdict: Verdict) -> None:
        owner, name = tried.function.owner, tried.function.name
        status = Status(state=State.RUNNING, since=self._clock.wall())
        function = tried.function.model_copy(update={"status": status})
        at = {"how": tried.how, "namespace": tried.namespace, "generation": verdict.generation}
        at["objects"] = tried.objects
        cursor = await self._journal.write(
            Remove(NEXT, owner, name, expect=tried.version),
            Put(KIND, owner, name, function.model_dump(mode="json")),
            Put(AT, owner, name, at),
            Append(KIND, owner, name, "running", visible(function)),
        )
        await self._gateway_has(cursor)
        self._tell((owner, name, function.revision.id), function)
        self._mind(owner, at)
        self._tasks.start(self._tidied((owner, name), tried.namespace))

    async def _tidied(self, key: Key, namespace: str) -> None:
        try:
            await self._tidy(key, namespace)
        except RopewalkError as error:  # the next deploy tidies again
            _log.warning("earlier revisions of %s's function %s stay in the cluster: %s", *key, error)

    def _failed(self, tried: Next, error: RopewalkError) -> list[Operation]:
        """Return what the journal says of a revision that does not come to run; who waits for it gets the error."""
        function, key = tried.function, (tried.function.owner, tried.function.name)
        operations: list[Operation] = [
            Remove(NEXT, *key),
            self._clearing(*key),
        ]
        status = Status(state=State.FAILED, since=self._clock.wall(), why=whys.from_error(error))
        failed = function.model_copy(update={"status": status})
        asked = self._tell((*key, function.revision.id), error=error)
        if self._journal.get(AT, *key) is not None:
            return operations
        if asked and tried.before is None:
            operations.append(Remove(KIND, *key))
        else:
            operations.append(
                Put(KIND, *key, tried.before if asked and tried.before else failed.model_dump(mode="json"))
            )
        return [*operations, Append(KIND, *key, "failed", visible(failed))]

    async def _waits_for(self, tried: Next, why: Why) -> None:
        """Say what a revision waits for."""
        owner, name = tried.function.owner, tried.function.name
        record = self._found(owner, name)
        function = function_of(record)
        if self._journal.get(AT, owner, name) is not None:
            status = function.status.model_copy(update={"note": f"Its new revision waits: {why.cause}"})
        else:
            status = Status(state=State.WAITING, since=function.status.since, why=why)
        if status == function.status:
            return
        function = function.model_copy(update={"status": status})
        await self._journal.write(
            Put(KIND, owner, name, function.model_dump(mode="json"), expect=record.version),
            Append(KIND, owner, name, "waiting", visible(function)),
        )

    # What others do

    def _mind(self, owner: str, at: dict[str, Any]) -> None:
        """Watch the functions of a namespace, once."""
        key = (at["namespace"], at["how"])
        if key not in self._minded:
            self._minded.add(key)
            self._tasks.start(self._watch(owner, *key))

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
            thing = self._object(at)
            if at.body["how"] == how and thing not in there and (thing == name or not name):
                await self._missed(at.owner, at.name)

    def _object(self, at: Record) -> str:
        """Return the name of what serves a function."""
        record = self._journal.get(KIND, at.owner, at.name)
        revision = function_of(record).revision.id if record else ""
        where = Place(at.owner, at.name, revision, at.body["namespace"])
        return where.service if at.body["how"] == KNATIVE else where.object

    async def _missed(self, owner: str, name: str) -> None:
        """Look whether a function is really gone although nobody here wished it, and write that down."""
        at = self._journal.get(AT, owner, name)
        if at is None or self._intents.open(WHAT, owner, name) or self._next(owner, name):
            return
        try:
            await self._api.get(watched(at.body["how"]), self._object(at), at.body["namespace"])
        except NotFound:
            async with self._locks[owner, name]:
                # The answer took its time, and says nothing of what came since; versions begin again with a new record.
                if self._journal.get(AT, owner, name) != at or self._intents.open(WHAT, owner, name):
                    return
                with contextlib.suppress(Conflict):
                    await self._stopped(owner, name, note=FOREIGN_END, tried=0)
        except RopewalkError as error:
            _log.warning("%s's function %s could not be looked at: %s", owner, name, error)

    async def _changed(self, owner: str, how: str, one: Object) -> None:
        """Write down that somebody else changed a function."""
        name = str((one["metadata"].get("labels") or {}).get("ropewalk.dev/name"))
        at, record = self._journal.get(AT, owner, name), self._journal.get(KIND, owner, name)
        if at is None or record is None or self._intents.open(WHAT, owner, name) or self._next(owner, name):
            return
        generation = int(one["metadata"].get("generation") or 0)
        if at.body["how"] != how or self._object(at) != one["metadata"]["name"] or generation <= at.body["generation"]:
            return
        function = function_of(record)
        status = function.status.model_copy(update={"note": FOREIGN_CHANGE, "since": self._clock.wall()})
        function = function.model_copy(update={"status": status})
        with contextlib.suppress(Conflict):
            await self._journal.write(
                Put(KIND, owner, name, function.model_dump(mode="json"), expect=record.version),
                Put(AT, owner, name, {**at.body, "generation": generation}, expect=at.version),
                Append(KIND, owner, name, "changed", visible(function)),
            )

    async def _stopped(
        self,
        owner: str,
        name: str,
        *,
        note: str = "",
        why: Why | None = None,
        remove: bool = False,
        tried: int | None = None,
    ) -> None:
        """Write down that a function does not run any more; ``remove`` also takes it out of the cluster.

        ``tried`` is the version that `NEXT` must have (0: must not exist, None: any). The caller holds the lock.
        """
        record = self._found(owner, name)
        status = Status(state=State.STOPPED, since=self._clock.wall(), note=note, why=why)
        function = function_of(record).model_copy(update={"status": status})
        asked = [self._clearing(owner, name)] if remove else []
        await self._journal.write(
            Put(KIND, owner, name, function.model_dump(mode="json"), expect=record.version),
            Remove(NEXT, owner, name, expect=tried),
            Remove(AT, owner, name),
            *asked,
            Append(KIND, owner, name, "stopped", visible(function)),
        )
        for key in [one for one in self._waits if one[:2] == (owner, name)]:
            self._tell(key, error=Conflict(f"The function '{name}' is not in the cluster any more. {note}".strip()))
        if remove:
            self._give_up(owner, name)
            self._intents.hurry(WHAT, owner, name)

    # Small things

    def _next(self, owner: str, name: str) -> Next | None:
        record = self._journal.get(NEXT, owner, name)
        if record is None:
            return None
        body = record.body
        function = Function.model_validate(body["function"])
        return Next(function, body["how"], body["namespace"], body["objects"], body["before"], record.version)

    def _waiting(self, owner: str, name: str, revision: str) -> asyncio.Future[Function]:
        future = self._waits.get((owner, name, revision))
        if future is None:
            future = self._waits[owner, name, revision] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda one: one.cancelled() or one.exception())
        return future

    def _tell(
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

    async def _outcome(self, owner: str, name: str, revision: str, future: asyncio.Future[Function]) -> Function:
        """Wait for what becomes of a revision; one that waits for something with a name is not waited for long."""
        for seconds in (_SHORT, _PATIENCE - _SHORT):
            try:
                return await asyncio.wait_for(asyncio.shield(future), seconds)
            except TimeoutError:
                function = function_of(self._found(owner, name))
                if (owner, name) in self._unplaced:
                    break
            except RopewalkError:
                until = self._clock.steady() + 2.0  # what is told was decided, and is about to be in the journal
                while self._clock.steady() < until and (tried := self._next(owner, name)) is not None:
                    if tried.function.revision.id != revision:
                        break
                    await asyncio.sleep(0.01)
                raise
        return function

    async def _how(self, namespace: str) -> str:
        """Return whether functions run on Knative here; that it is there is remembered, that it is not may change."""
        chosen = self._settings.cluster.functions
        if chosen in (KNATIVE, PLAIN):
            return chosen
        if namespace not in self._knative:
            try:
                await self._api.list(KNATIVE_SERVICE, namespace, page=1)
            except NotFound:
                return PLAIN
            self._knative.add(namespace)
        return KNATIVE

    def _route(self, function: Function) -> FunctionRoute:
        at, route = self._journal.get(AT, function.owner, function.name), super()._route(function)
        if at is None:
            return route.model_copy(update={"away": _away(function)})
        where = Place(function.owner, function.name, function.revision.id, at.body["namespace"])
        return route.model_copy(update={"url": where.url(at.body["how"])})


def _away(function: Function) -> str:
    """Say why no call reaches a function."""
    status = function.status
    said = status.note or (status.why.cause if status.why else "")
    return f"The function '{function.name}' is {status.state}. {said}".strip()


def _kind(one: Object) -> Kind:
    """Return the kind of an object of ours."""
    kinds = {kind.api_version: kind for kind in (KNATIVE_SERVICE, DEPLOYMENT, SERVICE)}
    return kinds[one["apiVersion"]]
