"""Functions on a cluster: accepted in the journal, tried in the cluster, and only then what calls reach.

A deploy writes down what is wished together with an intent, and waits for what becomes of it. The revision before
serves until the new one is ready, and goes on when that does not load. Not here: what the journal says
(``function_ledger.py``), what the objects are (``function_objects.py``), bringing them to the API server
(``function_carrier.py``), what becomes of a revision (``function_judge.py``) and of one that serves
(``function_minder.py``), traffic (the gateway). Rejected: answering before the revision is ready, after which a person
would have to ask whether their code loads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from platform import python_version

from ropewalk_core import called, history, sharing
from ropewalk_core.errors import BadInput, Conflict, NotFound, RopewalkError, Unavailable
from ropewalk_core.functions import KIND, LOAD_PATIENCE, FunctionBook, function_of, revision_id, visible
from ropewalk_core.journal import Append, Operation, Put, Record, Remove
from ropewalk_core.kube.function_carrier import FunctionCarrier
from ropewalk_core.kube.function_judge import FunctionJudge
from ropewalk_core.kube.function_ledger import AT, NEXT, WHAT, FunctionLedger, Next
from ropewalk_core.kube.function_minder import FunctionMinder
from ropewalk_core.kube.function_objects import KNATIVE, PLAIN, Place, fingerprint, packed, serving
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.kinds import KNATIVE_SERVICE, Object
from ropewalk_core.kube.placement import place
from ropewalk_core.kube.volumes import mount
from ropewalk_core.model import (
    Actor,
    Function,
    FunctionRoute,
    FunctionSpec,
    LogLine,
    Requirements,
    State,
    Status,
    Why,
)
from ropewalk_core.requirements import check_python
from ropewalk_core.triggers import records as triggers
from ropewalk_runtime.trace import Trace

_PATIENCE, _SHORT = LOAD_PATIENCE + 40.0, 20.0
"""Seconds after which a deploy answers although its revision has not started; the shorter one if no machine is free."""


class KubeFunctions(FunctionBook):
    """The `Functions` port on a cluster.

    Parameters
    ----------
    ground
        What every port on a cluster is built on.
    token
        Makes a token of audience ``functions`` for a person.
    """

    def __init__(self, ground: KubeGround, *, token: Callable[[Actor], Awaitable[str]]) -> None:
        super().__init__(ground.settings, ground.journal, ground.clock, token)
        self._api, self._space, self._site, self._intents = ground.api, ground.space, ground.site, ground.intents
        self._knative: set[str] = set()
        self._ledger = FunctionLedger(ground)
        self._minder = FunctionMinder(ground, self._ledger)
        self._judge = FunctionJudge(ground, self._ledger, self._minder, self._gateway_has)
        FunctionCarrier(ground, self._ledger, self._judge)

    async def run(self) -> None:
        """Follow what is being tried, and what others do to functions in the cluster, for ever."""
        for record in self._journal.page(NEXT, limit=1_000_000):
            if not self._ledger.open(record.owner, record.name):
                self._judge.follow((record.owner, record.name))
        for record in self._journal.page(AT, limit=1_000_000):
            self._minder.mind(record.owner, record.body)
        try:
            await asyncio.Event().wait()
        finally:
            await self._judge.end()
            await self._minder.end()

    # The port

    async def deploy(
        self, actor: Actor, owner: str, spec: FunctionSpec, *, key: str = "", existing: bool = False
    ) -> Function:
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
        async with self._ledger.lock(owner, spec.name):
            if existing:
                self._found(owner, spec.name)
            record, tried = self._journal.get(KIND, owner, spec.name), self._ledger.next(owner, spec.name)
            have, at = function_of(record) if record else None, self._ledger.at(owner, spec.name)
            same = have is not None and have.revision.id == identifier and at is not None
            trial = tried if tried is not None and not tried.split else None  # a split leaves what serves alone
            if trial is None or trial.function.revision.id != identifier:
                if same and at and not at.body.get("foreign"):  # what others changed is put right when asked for
                    if trial:
                        await self._withdraw(trial)
                    serves = function_of(self._found(owner, spec.name))
                    return sharing.shown(self._journal, serves.model_copy(update={"unchanged": True}))
                wished = self._next_of(owner, spec, have, identifier, image, State.STARTING)
                if have and same:
                    wished = wished.model_copy(update={"revision": have.revision})
                others = await self._others(wished, at, how, namespace)
                wish = Next(wished, how, namespace, objects, trial.before if trial else None, others)
                await self._accept(wish, record, tried)
            future = self._ledger.waiting(owner, spec.name, identifier)
        return await self._outcome(owner, spec.name, identifier, future)

    def prepare(self, actor: Actor, owner: str, needs: Requirements) -> AsyncIterator[LogLine]:
        """See `Functions.prepare`. Always raises `BadInput`: no images are built for it yet."""
        raise _no_requirements()

    def _checked(self, owner: str, spec: FunctionSpec) -> FunctionSpec:
        spec = super()._checked(owner, spec)
        if spec.requirements:
            raise _no_requirements()
        check_python(spec.requires_python, python_version())  # the images have one Python
        return spec

    async def traffic(self, actor: Actor, owner: str, name: str, weights: Mapping[int, int]) -> Function:
        """See `Functions.traffic`. Revisions that do not serve yet are started first; then all calls move at once."""
        async with self._ledger.lock(owner, name):
            record, at, tried = self._found(owner, name), self._ledger.at(owner, name), self._ledger.next(owner, name)
            have = function_of(record)
            if at is None:
                raise Unavailable(_away(have), details={"wait": False})
            if tried is not None and not tried.split:
                hint = "Split its calls once that is there."
                raise Conflict(f"A new revision of '{name}' is being tried.", hint=hint)
            function, _ = self._wished(have, weights)
            if tried is None and function.traffic == have.traffic:
                return sharing.shown(self._journal, have)
            others = await self._others(function, at, at.body["how"], at.body["namespace"])
            objects = at.body["objects"]
            wish = Next(function, at.body["how"], at.body["namespace"], objects, None, others, split=True)
            await self._accept(wish, record, tried)
            future = self._ledger.waiting(owner, name, wish.asked)
        return await self._outcome(owner, name, have.revision.id, future)

    async def remove(self, actor: Actor, owner: str, name: str) -> Function:
        """See `Functions.remove`."""
        async with self._ledger.lock(owner, name):
            record = self._found(owner, name)
            status = Status(state=State.STOPPED, since=self._clock.wall())
            function = function_of(record).model_copy(update={"status": status})
            cursor = await self._journal.write(
                Remove(KIND, owner, name, expect=record.version),
                Remove(NEXT, owner, name),
                Remove(AT, owner, name),
                *history.forgetting(self._journal, owner, name),
                sharing.forgetting(owner, name),
                *triggers.forgetting(self._journal, owner, "function", name),
                called.forgetting(owner, name),
                self._ledger.clearing(owner, name),
                Append(KIND, owner, name, "removed", visible(function)),
            )
            self._forget_calls(owner, name)
        self._judge.give_up(owner, name)
        await self._gateway_has(cursor)
        self._intents.hurry(WHAT, owner, name)
        return function

    async def call(
        self,
        actor: Actor,
        owner: str,
        name: str,
        payload: bytes,
        *,
        content_type: str = "application/json",
        trace: Trace | None = None,
    ) -> bytes:
        """See `Functions.call`."""
        function = function_of(self._found(owner, name))
        if self._journal.get(AT, owner, name) is None:
            raise Unavailable(_away(function), details={"wait": False})
        return await super().call(actor, owner, name, payload, content_type=content_type, trace=trace)

    async def stop_all(self, account: str, why: Why) -> None:
        """Take an account's functions out of the cluster; what was deployed stays known, and can be deployed again."""
        for record in self._journal.page(KIND, account, limit=100_000):
            async with self._ledger.lock(account, record.name):
                if self._journal.get(AT, account, record.name) or self._journal.get(NEXT, account, record.name):
                    await self._ledger.stopped(account, record.name, why=why, remove=True)
                    self._judge.give_up(account, record.name)
                    self._intents.hurry(WHAT, account, record.name)

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
            if record is None:  # what begins, begins private and without triggers
                operations += [
                    sharing.forgetting(owner, name),
                    *triggers.forgetting(self._journal, owner, "function", name),
                ]
            operations.append(Append(KIND, owner, name, "asked", visible(wish.function)))
        await self._journal.write(Put(NEXT, owner, name, wish.body()), *operations)
        self._judge.give_up(owner, name)
        self._intents.hurry(WHAT, owner, name)

    async def _withdraw(self, tried: Next) -> None:
        """Give up what is being tried, because what serves is wished again."""
        owner, name = tried.function.owner, tried.function.name
        operations = (self._ledger.clearing(owner, name), *self._ledger.waits_no_more(owner, name))
        await self._journal.write(Remove(NEXT, owner, name), *operations)
        self._judge.give_up(owner, name)
        self._intents.hurry(WHAT, owner, name)

    async def _others(self, function: Function, at: Record | None, how: str, namespace: str) -> dict[str, list[Object]]:
        """Return the objects of the revisions that were chosen by number; those that are there stay as they are."""
        there, found = (at.body.get("others", {}) if at else {}), {}
        for one in function.traffic.shares:
            if one.revision in there:
                found[one.revision] = there[one.revision]
                continue
            spec = history.find(self._journal, function, one.number).spec
            where = Place(function.owner, function.name, one.revision, namespace, apart=True)
            fragment = place(spec.placement, await self._site())
            found[one.revision] = serving(how, where, spec, self._settings, fragment, mount(self._settings))
        return found

    # Small things

    async def _outcome(self, owner: str, name: str, revision: str, future: asyncio.Future[Function]) -> Function:
        """Wait for what becomes of a revision; one that waits for something with a name is not waited for long."""
        for seconds in (_SHORT, _PATIENCE - _SHORT):
            try:
                return sharing.shown(self._journal, await asyncio.wait_for(asyncio.shield(future), seconds))
            except TimeoutError:
                function = function_of(self._found(owner, name))
                if self._judge.unplaced(owner, name):
                    break
            except RopewalkError:
                until = self._clock.steady() + 2.0  # what is told was decided, and is about to be in the journal
                while self._clock.steady() < until and (tried := self._ledger.next(owner, name)) is not None:
                    if tried.function.revision.id != revision:
                        break
                    await asyncio.sleep(0.01)
                raise
        return sharing.shown(self._journal, function)

    async def _how(self, namespace: str) -> str:
        """Return whether functions run on Knative here; that it is there is remembered, that it is not may change."""
        chosen = self._settings.cluster.functions
        if chosen in (KNATIVE, PLAIN):
            return chosen
        if namespace not in self._knative:
            try:
                await self._api.list(KNATIVE_SERVICE, namespace, fields={"metadata.name": "any"})
            except NotFound:
                return PLAIN
            self._knative.add(namespace)
        return KNATIVE

    def _route(self, function: Function) -> FunctionRoute:
        at, route = self._journal.get(AT, function.owner, function.name), super()._route(function)
        if at is None:
            return route.model_copy(update={"away": _away(function), "others": ()})
        where = Place(function.owner, function.name, function.revision.id, at.body["namespace"])
        how = at.body["how"]
        others = tuple(
            one.model_copy(update={"url": replace(where, revision=one.revision, apart=True).url(how)})
            for one in route.others
            if one.revision in at.body.get("others", {})
        )
        return route.model_copy(update={"url": where.url(how), "others": others})


def _no_requirements() -> BadInput:
    hint = "Leave them out and use what the runner image holds, or have your administrator add packages to that image."
    said = "Functions on a cluster cannot have requirements of their own yet."
    return BadInput(said, field="requirements", hint=hint)


def _away(function: Function) -> str:
    """Say why no call reaches a function."""
    status = function.status
    said = status.note or (status.why.cause if status.why else "")
    return f"The function '{function.name}' is {status.state}. {said}".strip()
