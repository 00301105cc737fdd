"""FileServers: the file server of each account, started when its files are first asked for and ended when idle.

A server that is up costs memory in its account's quota, so one that nobody used for `IDLE` seconds is ended; the next
act starts it again. Which are up is in the journal, since after a restart nothing else would end them: the platform may
not look across namespaces. Not here: what is asked of a server (``file_client.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ropewalk_core import journal as j
from ropewalk_core.errors import Denied, NotFound, RopewalkError, Unavailable
from ropewalk_core.journal import Journal
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.file_client import FileClient, Server
from ropewalk_core.kube.file_pod import LABELS, PORT, host_of, key_of, render, settled
from ropewalk_core.kube.kinds import DEPLOYMENT, EVENT, POD, Object
from ropewalk_core.kube.volumes import NAME, ensure_files
from ropewalk_core.model import Why
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_core.why import cluster as why

KIND = "file-server"
"""The journal's kind: one record for each server that is up."""
IDLE = 600.0
"""Seconds without use after which a server is ended: longer than people think between two clicks, and a start takes
some seconds."""
PATIENCE = 60.0
"""Seconds that one request waits for a start; who asks again goes on waiting for the same start."""
_FRESH = 5.0  # seconds for which a server that answered is believed to be there
_BETWEEN, _TURN = 0.4, 30.0
_BY_ITSELF = "Do the same again in a moment; it is being started."
_log = logging.getLogger(__name__)
Address = Callable[[str, int], Awaitable[str]]


async def by_name(host: str, port: int) -> str:
    """Return the address of a service as pods of the cluster reach it."""
    return f"http://{host}:{port}"


@dataclass
class _Course:
    """What is known of one account's server."""

    namespace: str
    used: float
    server: Server | None = None
    answered: float = 0.0
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class FileServers:
    """The file servers of all accounts.

    Parameters
    ----------
    settings, journal, clock, api
        What every part of this backend has.
    space
        Returns an account's namespace, made and checked.
    key
        The platform's key for files.
    client
        Speaks to the servers.
    address
        Returns the address of a service of the cluster; for tests, which are outside of it.
    idle, patience
        Seconds without use after which a server is ended, and for which one request waits for a start.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        journal: Journal,
        clock: Clock,
        api: Api,
        space: Callable[[str], Awaitable[str]],
        key: bytes,
        client: FileClient,
        address: Address = by_name,
        idle: float = IDLE,
        patience: float = PATIENCE,
    ) -> None:
        self._settings, self._journal, self._clock, self._api = settings, journal, clock, api
        self._space, self._key, self._client, self._address = space, key, client, address
        self._idle, self._patience = idle, patience
        self._courses: dict[str, _Course] = {}
        self._counts = threading.Lock()  # files are closed in threads

    async def take(self, owner: str) -> Callable[[], None]:
        """Keep an account's server from being ended until what is returned is called, from any thread."""
        course = await self._course(owner)
        with self._counts:
            course.users += 1
        released = threading.Event()

        def release() -> None:  # a second call does nothing: a request that was given up may have opened its file yet
            with self._counts:
                if not released.is_set():
                    released.set()
                    course.users -= 1
                    course.used = self._clock.steady()

        return release

    async def up(self, owner: str, *, again: bool = False) -> Server:
        """Return an account's server once it answers; ``again`` if it was found not to.

        Raises
        ------
        Unavailable
            If it is not up within `PATIENCE`, with the cluster's reason.
        """
        course = await self._course(owner)
        if again:
            course.server = None
        if course.server is not None and self._clock.steady() - course.answered < _FRESH:
            return course.server
        async with course.lock:
            if course.server is None or not await self._client.ready(course.server):
                course.server = await self._start(owner, course)
            course.answered = self._clock.steady()
            return course.server

    async def run(self) -> None:
        """End what is idle, for ever."""
        for record in self._journal.page(KIND, limit=1_000_000):
            known = _Course(str(record.body.get("namespace", "")), self._clock.steady())
            self._courses.setdefault(record.owner, known)
        while True:
            await self._clock.sleep(min(_TURN, self._idle / 2))
            for owner, course in list(self._courses.items()):
                if not course.users and self._clock.steady() - course.used >= self._idle:
                    try:
                        await self.end(owner)
                    except RopewalkError as error:  # it is tried at the next turn
                        _log.warning("the file server of %s is not ended: %s", owner, error)

    async def end(self, owner: str) -> None:
        """End an account's server unless it is in use; the files stay."""
        course = self._courses.get(owner)
        if course is None:
            return
        async with course.lock:
            if course.users:
                return
            course.server = None
            with contextlib.suppress(Denied, NotFound):  # the namespace itself is gone
                await self._api.delete(DEPLOYMENT, NAME, course.namespace)
            await self._journal.write(j.Remove(KIND, owner, NAME))
            if not course.users:
                self._courses.pop(owner, None)

    async def _course(self, owner: str) -> _Course:
        course = self._courses.get(owner)
        if course is None:
            namespace = await self._space(owner)
            course = self._courses.setdefault(owner, _Course(namespace, self._clock.steady()))
        course.used = self._clock.steady()
        return course

    async def _start(self, owner: str, course: _Course) -> Server:
        """Apply the server's objects and wait for it; the caller holds the lock."""
        namespace = course.namespace = await self._space(owner)  # checked again before anything is made
        key = key_of(self._key, namespace)
        claim = await ensure_files(self._api, namespace, self._settings)
        await self._journal.write(j.Put(KIND, owner, NAME, {"namespace": namespace}))
        for kind, body in render(owner, namespace, claim, key, self._settings):
            await self._api.apply(kind, body, force=True)  # nobody else has a say in how our own server runs
        end = self._clock.steady() + self._patience
        while True:
            deployment = await self._deployment(namespace)
            if deployment is not None and settled(deployment):
                server = Server(await self._address(host_of(namespace), PORT), key)
                if await self._client.ready(server):
                    return server
            if deployment is None or self._clock.steady() >= end:
                raise await self._late(namespace, deployment)
            await self._clock.sleep(_BETWEEN)

    async def _deployment(self, namespace: str) -> Object | None:
        try:
            return await self._api.get(DEPLOYMENT, NAME, namespace)
        except NotFound:
            return None

    async def _late(self, namespace: str, deployment: Object | None) -> Unavailable:
        if deployment is None:
            return Unavailable("The file server was removed while it started.", hint=_BY_ITSELF)
        told = await self._why(namespace, deployment)
        if told is None:
            return Unavailable("Your files are not there yet: the file server is still starting.", hint=_BY_ITSELF)
        details = {"raw": told.raw} if told.raw else None
        return Unavailable(f"Your files are not there yet. {told.cause}", hint=told.next or None, details=details)

    async def _why(self, namespace: str, deployment: Object) -> Why | None:
        for one in (deployment.get("status") or {}).get("conditions") or ():
            if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
                return why.from_message(str(one.get("message") or ""), reason=str(one.get("reason") or ""))
        for pod in reversed((await self._api.list(POD, namespace, labels=LABELS)).items):
            fields = {"involvedObject.name": str(pod["metadata"]["name"])}
            events = (await self._api.list(EVENT, namespace, fields=fields)).items
            # Until it listens its probe fails, which is no reason for anything.
            if (told := why.from_pod(pod, [one for one in events if one.get("reason") != "Unhealthy"])) is not None:
                return told
        return None
