"""Services on a cluster: a Helm release per service in its account's namespace, installed as the tenant itself.

The cluster is the truth of what is: after a wish was carried out, what happens to its Deployment is watched, recorded
and respected, also what kubectl or Helm in other hands did. A wish is kept by `Intents` until the API server has it.
Helm runs with a short-lived token of the namespace's account ``releases``, so that nothing a chart says can do more
than the tenant may. What reaches a service is the gateway, and the account's own pods: the namespace's network
policies keep everybody else out, as the unix socket does on one machine. Not here: what a chart may hold
(``charts.py``), traffic (the gateway). Rejected: applying the rendered objects ourselves, which ``helm list`` and
``helm uninstall`` would not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Iterable
from typing import Any

from ropewalk_core import names, why
from ropewalk_core.catalog import Catalog
from ropewalk_core.errors import Conflict, NameTaken, NotFound, RopewalkError, Unavailable
from ropewalk_core.journal import Append, Operation, Put, Record, Remove
from ropewalk_core.kube import charts, logs
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.helm import Helm
from ropewalk_core.kube.intents import Intent
from ropewalk_core.kube.kinds import DEPLOYMENT, EVENT, POD, Kind, Object
from ropewalk_core.kube.service_release import Releases
from ropewalk_core.kube.service_state import judge, newest
from ropewalk_core.kube.service_values import KIND_LABEL as ALL
from ropewalk_core.kube.service_values import labels_of, name_in, release_of
from ropewalk_core.kube.tenancy import namespace_of
from ropewalk_core.kube.transient import passes
from ropewalk_core.kube.view import Happened
from ropewalk_core.kube.volumes import mount
from ropewalk_core.model import Actor, LogLine, Page, Service, ServiceRoute, ServiceSpec, State, Status, Why
from ropewalk_core.reconcile import KeyedQueue, wait_after
from ropewalk_core.service_records import KIND, LAST, RESTING, changes, found, page, service_of, stands, wanted
from ropewalk_core.tasks import Tasks

Key = tuple[str, str]
WHAT = "service"
SEEN = "service-seen"
"""Records of this kind hold which object a service is, and at which change of it by us."""
FOUND = "service-space"
"""Events of this kind tell the gateway's poll that services have addresses which they did not have."""
GONE = Why(cause="It was removed with kubectl or another tool.", next="Launch it again if you still need it.")
CHANGED = "It was changed with kubectl or another tool."
_AGAIN, _LONGEST_PAUSE = 3.0, 60.0
_SOON = 0.5
_APPLY, _REMOVE, _STOP = "apply", "remove", "stop"


class KubeServices:
    """The `Services` port with Helm releases; `run` watches them, `Intents.run` carries out what the port accepts.

    Parameters
    ----------
    ground
        What every port on a cluster is built on.
    templates
        The catalogue.
    helm
        Runs Helm; made from the settings when omitted.
    """

    def __init__(self, ground: KubeGround, *, templates: Catalog, helm: Helm | None = None) -> None:
        self._settings, self._journal, self._clock = ground.settings, ground.journal, ground.clock
        self._api, self._ask_space, self._intents = ground.api, ground.space, ground.intents
        self._templates, helm = templates, helm or Helm(ground.settings.run)
        files = mount(ground.settings)
        self._releases = Releases(ground.settings, ground.api, helm, templates, ground.site, files)
        self._spaces: dict[str, str] = {}
        self._unasked: set[str] = set()  # owners of services whose namespace nobody looked at since the start
        self._news = False
        self._following: dict[str, asyncio.Task[None]] = {}
        self._tasks = Tasks()
        self._queue: KeyedQueue[Key] = KeyedQueue(self._look, self._clock)
        self._watches = False
        self._intents.carried_by(WHAT, self._carry, self._refused)

    # The port

    async def apply(self, actor: Actor, owner: str, spec: ServiceSpec, *, key: str = "") -> Service:
        """See `Services.apply`."""
        spec = await self._checked(owner, spec)
        record = self._journal.get(KIND, owner, spec.name)
        have = service_of(record) if record else None
        if have and stands(have, spec):
            return have
        service = wanted(self._settings, owner, spec, now=self._clock.wall(), created=have.created if have else None)
        body = service.model_dump(mode="json")
        await self._journal.write(
            Put(KIND, owner, spec.name, body, expect=None if record else 0),
            Put(LAST, owner, spec.template, spec.values),
            Append(KIND, owner, spec.name, "asked", body),
            self._intents.asked(WHAT, owner, spec.name, {"do": _APPLY, "id": names.new_id("wish")}),
        )
        self._intents.hurry(WHAT, owner, spec.name)
        self._follow(owner)
        return service

    async def remove(self, actor: Actor, owner: str, name: str) -> Service:
        """See `Services.remove`."""
        return await self._end(owner, name, State.STOPPING, None, _REMOVE)

    async def get(self, actor: Actor, owner: str, name: str) -> Service:
        """See `Services.get`."""
        return service_of(found(self._journal, owner, name))

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Service]:
        """See `Services.list`."""
        return page(self._journal, owner, after=after, limit=limit)

    async def logs(
        self, actor: Actor, owner: str, name: str, *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """See `Services.logs`. Lines of a pod that took another's place follow those of the other one."""
        service = service_of(found(self._journal, owner, name))
        namespace, done = await self._space(owner), set[str]()
        while True:
            pod = newest(await self._pods(namespace, owner, name))
            if pod is not None and pod["metadata"]["uid"] not in done:
                done.add(pod["metadata"]["uid"])
                before, main = _offset(pod, service.created), str(pod["spec"]["containers"][0]["name"])
                lines = logs.read(
                    self._api,
                    self._clock,
                    namespace,
                    pod["metadata"]["name"],
                    container=main,
                    after=max(0, after - before),
                    follow=follow,
                )
                with contextlib.suppress(NotFound, *(() if follow else (Unavailable,))):  # it went, or did not come yet
                    async for line in lines:
                        yield line.model_copy(update={"offset": before + line.offset})
            if not follow or self._gone(owner, name):
                return
            await self._clock.sleep(1.0)

    async def watch(self, actor: Actor, owner: str, *, after: int = 0) -> AsyncIterator[tuple[Service, int]]:
        """See `Services.watch`."""
        async for seen in changes(self._journal, owner, after=after):
            yield seen

    # For the platform

    def routes(self) -> tuple[ServiceRoute, ...]:
        """Return where the gateway finds each service: nowhere before its namespace was found to be its owner's.

        Every process looks for itself: a name that was ours may be somebody else's by now.
        """
        return tuple(
            ServiceRoute(
                owner=one.owner,
                name=one.name,
                socket="",
                url=f"http://{release_of(one.name)}.{space}.svc:{charts.PORT}" if space else "",
                state=service_of(one).status.state,
            )
            for one in self._journal.page(KIND, limit=100_000)
            for space in [self._spaces.get(one.owner)]
        )

    async def stop_all(self, owner: str, cause: Why) -> None:
        """End everything of an account's services; what was asked for stays, and can be launched again."""
        for record in self._journal.page(KIND, owner, limit=100_000):
            if service_of(record).status.state not in (State.STOPPED, State.STOPPING):
                with contextlib.suppress(NotFound):
                    await self._end(owner, record.name, State.STOPPED, cause, _STOP)

    async def run(self) -> None:
        """Watch what belongs to services, and record it, for ever."""
        self._watches = True
        records = self._journal.page(KIND, limit=1_000_000)
        self._unasked = {record.owner for record in records} - {*self._spaces}
        for record in records:
            self._follow(record.owner)
            self._queue.add((record.owner, record.name))
        try:
            await self._queue.run()
        finally:
            self._watches = False
            self._following.clear()
            await self._tasks.end()

    # What was accepted

    async def _carry(self, intent: Intent) -> Iterable[Operation]:
        key = (intent.owner, intent.name)
        record = self._journal.get(KIND, *key)
        try:
            if intent.wish["do"] != _APPLY:
                return await self._take_away(key, record, forget=intent.wish["do"] == _REMOVE)
            return await self._install(key, record, str(intent.wish["id"])) if record else ()
        except RopewalkError as error:
            if passes(error) and record is not None and intent.wish["do"] == _APPLY:
                await self._show(key, State.WAITING, why.from_error(error))
            raise
        finally:
            self._queue.add(key, after=_SOON)

    async def _refused(self, intent: Intent, error: RopewalkError) -> Iterable[Operation]:
        record = self._journal.get(KIND, intent.owner, intent.name)
        if record is None:
            return ()
        # What runs now, if anything, is not what was asked for: it says nothing about this service.
        return (*self._say(record, State.FAILED, why.from_error(error)), Remove(SEEN, intent.owner, intent.name))

    async def _install(self, key: Key, record: Record, wish: str) -> Iterable[Operation]:
        service = service_of(record)
        if service.status.state is State.ASKED:
            await self._show(key, State.STARTING, None)
        there = await self._releases.install(service, await self._space(key[0]), wish)
        now = self._journal.get(KIND, *key) or record
        if there is None:  # somebody was quicker than we could look
            return self._say(now, State.STOPPED, GONE, note=GONE.cause)
        return (*self._say(now, State.STARTING, None, only=True), Put(SEEN, *key, _mark(there)))

    async def _take_away(self, key: Key, record: Record | None, *, forget: bool) -> Iterable[Operation]:
        await self._releases.uninstall(await self._space(key[0]), key[1])
        if not forget or record is None:
            return (Remove(SEEN, *key),)
        status = Status(state=State.STOPPED, since=self._clock.wall())
        body = service_of(record).model_copy(update={"status": status}).model_dump(mode="json")
        return Remove(KIND, *key), Remove(SEEN, *key), Append(KIND, *key, "removed", body)

    # What is seen

    def _follow(self, owner: str) -> None:
        """Watch an account's namespace from now on, unless that is done already."""
        if self._watches and owner not in self._following:
            task = self._tasks.start(self._watch_space(owner), failed=lambda _: self._lost(owner))
            self._following[owner] = task

    def _lost(self, owner: str) -> None:
        """Watch again, a little later: whatever ended a watch must not make us blind."""
        self._following.pop(owner, None)
        for record in self._journal.page(KIND, owner, limit=100_000):
            self._queue.add((owner, record.name), after=_AGAIN)

    async def _watch_space(self, owner: str) -> None:
        failures = 0
        while True:
            try:
                namespace = await self._space(owner)
                break
            except RopewalkError:
                failures += 1
                await self._clock.sleep(min(30.0, wait_after(failures)))
        async with asyncio.TaskGroup() as group:
            for kind in (DEPLOYMENT, POD):
                group.create_task(self._watch_kind(owner, namespace, kind))

    async def _watch_kind(self, owner: str, namespace: str, kind: Kind) -> None:
        async with contextlib.aclosing(self._api.watch(kind, namespace, labels=ALL)) as changes:
            async for change in changes:
                if change.happened is Happened.SYNCED:  # what went while nobody looked is not told by name
                    for record in self._journal.page(KIND, owner, limit=100_000):
                        self._queue.add((owner, record.name))
                        self._intents.hurry(WHAT, owner, record.name)  # the API server answers again
                elif name := name_in(change.object["metadata"].get("labels") or {}):
                    self._queue.add((owner, name))

    async def _look(self, key: Key) -> float | None:
        """Record what a service has become; return when to look again."""
        record, mark = self._journal.get(KIND, *key), self._journal.get(SEEN, *key)
        if record is None:
            self._unfollow(key[0])
            return None
        self._follow(key[0])
        if self._intents.open(WHAT, *key):
            return _SOON
        if mark is None:
            return None
        namespace = await self._space(key[0])
        deployment = await self._releases.deployment(namespace, key[1])
        if deployment is None:
            await self._record(key, record, mark, State.STOPPED, GONE, Remove(SEEN, *key), note=GONE.cause)
            return None
        pods = await self._pods(namespace, *key)
        state, cause = judge(key[1], deployment, pods)
        if state not in (State.RUNNING, State.STOPPED) and (pod := newest(pods)) is not None:
            about = {"involvedObject.uid": str(pod["metadata"]["uid"])}
            events = (await self._api.list(EVENT, namespace, fields=about)).items
            state, cause = judge(key[1], deployment, pods, events)
        note = CHANGED if _mark(deployment) != mark.body else ""
        await self._record(key, record, mark, state, cause, note=note)
        return None if state is State.RUNNING else self._patience(service_of(record))

    async def _record(
        self, key: Key, record: Record, mark: Record, state: State, cause: Why | None, *more: Operation, note: str = ""
    ) -> None:
        """Write what was seen, unless something was asked or recorded since the look began."""
        if self._intents.open(WHAT, *key) or self._journal.get(SEEN, *key) != mark:
            return
        told = [*self._say(record, state, cause, note=note, only=True), *more]
        if told:
            with contextlib.suppress(Conflict):
                await self._journal.write(*told)

    def _patience(self, service: Service) -> float:
        """Return when to look again at what does not run: changes tell themselves, only what is said of it does not."""
        return min(_LONGEST_PAUSE, max(_AGAIN, (self._clock.wall() - service.status.since) / 4))

    def _unfollow(self, owner: str) -> None:
        if not self._journal.page(KIND, owner, limit=1) and (task := self._following.pop(owner, None)):
            task.cancel()

    async def _pods(self, namespace: str, owner: str, name: str) -> tuple[Object, ...]:
        return (await self._api.list(POD, namespace, labels=labels_of(owner, name))).items

    # Helpers

    async def _checked(self, owner: str, spec: ServiceSpec) -> ServiceSpec:
        """Return the spec with defaults, or refuse it while nothing has happened."""
        names.check_name(spec.name)
        names.check_pair(spec.name, owner)
        spec = spec.model_copy(update={"values": self._templates.check(spec.template, spec.values)})
        service = wanted(self._settings, owner, spec, now=self._clock.wall())
        await self._releases.look(service, self._known_space(owner), "looked-at")
        return spec

    async def _space(self, owner: str) -> str:
        try:
            space = await self._ask_space(owner)
            self._news = self._news or self._spaces.get(owner) != space
            self._spaces[owner] = space
        except NameTaken:  # no request of the owner's may go there
            self._spaces.pop(owner, None)
            raise
        finally:
            self._unasked.discard(owner)
            if self._news and not self._unasked:  # a snapshot before would lack the addresses of the others
                self._news = False
                self._journal.submit([Append(FOUND, "", "", "found")])
        return space

    def _known_space(self, owner: str) -> str:
        return self._spaces.get(owner) or namespace_of(owner, self._settings.cluster)

    async def _end(self, owner: str, name: str, state: State, cause: Why | None, do: str) -> Service:
        while True:
            record = found(self._journal, owner, name)
            intent = self._intents.asked(WHAT, owner, name, {"do": do})
            with contextlib.suppress(Conflict):  # its state went on meanwhile; it is to end all the same
                await self._journal.write(*self._say(record, state, cause), intent)
                self._intents.hurry(WHAT, owner, name)
                return service_of(found(self._journal, owner, name))

    async def _show(self, key: Key, state: State, cause: Why | None) -> None:
        record = self._journal.get(KIND, *key)
        told = self._say(record, state, cause, only=True) if record else ()
        if told:
            with contextlib.suppress(Conflict):
                await self._journal.write(*told)

    def _say(
        self, record: Record, state: State, cause: Why | None, *, note: str = "", only: bool = False
    ) -> tuple[Operation, ...]:
        """Return what records a state and tells those who watch; nothing for the same state again with ``only``."""
        service = service_of(record)
        have = service.status
        if only and (have.state, have.why, have.note) == (state, cause, note):
            return ()
        status = Status(state=state, since=self._clock.wall(), why=cause, note=note)
        body = service.model_copy(update={"status": status}).model_dump(mode="json")
        return (
            Put(KIND, record.owner, record.name, body, expect=record.version),
            Append(KIND, record.owner, record.name, state.value, body),
        )

    def _gone(self, owner: str, name: str) -> bool:
        record = self._journal.get(KIND, owner, name)
        return record is None or service_of(record).status.state in RESTING


def _mark(deployment: Object) -> dict[str, Any]:
    """Return what tells this object, as it is wanted now, from another one and from another wish for it."""
    metadata = deployment["metadata"]
    return {"uid": metadata["uid"], "generation": metadata.get("generation", 0)}


def _offset(pod: Object, created: float) -> int:
    """Return where a pod's log begins: behind those of all earlier pods, whoever asks and however often we began."""
    made = datetime.datetime.fromisoformat(str(pod["metadata"]["creationTimestamp"]))
    return max(0, int(made.timestamp() - created)) << 20
