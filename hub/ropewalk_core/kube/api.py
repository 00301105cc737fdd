"""Api: the only module that speaks to the API server. Requests with patience, and watches that never give up.

Every error is one of ``errors`` (`transient.refusal` says which). What may pass by itself is tried again for a short
``patience``; a watch tries for ever. Not here: credentials (``config.py``), what a watch's lines mean (``view.py``),
what any object is for. Rejected: the official client (blocking, 20 MB, its watch ends at the first 410) and
kubernetes_asyncio (generated models, no server-side apply of plain objects).
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from ropewalk_core.errors import Denied, RopewalkError, Unavailable
from ropewalk_core.kube.config import Access
from ropewalk_core.kube.kinds import Kind, Object, selector
from ropewalk_core.kube.transient import gone, passes, refusal, wait_before
from ropewalk_core.kube.view import Broken, Change, View
from ropewalk_core.ports import Clock

_HEALTHY = 5.0  # a stream that lived so long was a good one
_SETTLES = 30.0  # a server that came back has read its roles by then
_LONGEST_LINE = 32 * 2**20
_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_MERGE = "application/merge-patch+json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """A whole list at one version."""

    items: tuple[Object, ...]
    version: str


@dataclass
class _Course:
    """How a watch goes: failures in a row, what the server asked to wait, and since when it is out of touch."""

    name: str
    failures: int = 0
    asked: float = 0.0
    since: float | None = field(default=None)


class Api:
    """One API server, seen with one set of credentials.

    Parameters
    ----------
    access
        Where it is and who we are.
    clock
        Steady time and sleep.
    manager
        The name under which the fields that we apply are ours.
    patience
        Seconds for which a request is repeated while the server is away or busy.
    jitter
        A number from 0 to 1; tests give a fixed one.
    watch_seconds, slack
        How long the server keeps one watch open, and how much longer silence is believed: together a minute, in which
        a connection that died without a word is noticed.
    transport
        Replaces the network.
    """

    def __init__(
        self,
        access: Access,
        clock: Clock,
        *,
        manager: str = "ropewalk",
        patience: float = 10.0,
        jitter: Callable[[], float] = random.random,
        watch_seconds: float = 50.0,
        slack: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._access, self._clock, self._manager = access, clock, manager
        self.patience, self._jitter = patience, jitter
        self._watch_seconds, self._slack = watch_seconds, slack
        self._courses: list[_Course] = []
        self._away = -math.inf
        self._http = httpx.AsyncClient(
            base_url=access.server,
            verify=access.context if access.context is not None else ssl.create_default_context(),
            trust_env=False,
            timeout=httpx.Timeout(30.0, connect=5.0),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),  # each watch holds one
            transport=transport,
        )

    async def close(self) -> None:
        """End every connection."""
        await self._http.aclose()

    @property
    def namespace(self) -> str:
        """The namespace that the credentials belong to."""
        return self._access.namespace

    @property
    def access(self) -> Access:
        """The way to the server, for a program that goes there with credentials of its own."""
        return self._access

    def troubled(self) -> dict[str, float]:
        """Return the watches that are out of touch with the server, and for how many seconds."""
        now = self._clock.steady()
        return {one.name: now - one.since for one in self._courses if one.since is not None}

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        """Return one object, or raise `NotFound`."""
        return await self._send("GET", kind.path(namespace, name), about=_about(kind, namespace, name))

    async def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        page: int = 500,
    ) -> Listing:
        """Return a whole list, read in pages; of all namespaces if none is named.

        A list whose pages outlived the history is read again from its start.
        """
        query = _query(labels, fields) | {"limit": str(page)}
        about, restarts = _about(kind, namespace), 0
        while True:
            try:
                return await self._pages(kind, kind.path(namespace), query, about)
            except RopewalkError as error:
                restarts += 1
                if not gone(error) or restarts > 3:
                    raise

    async def create(
        self,
        kind: Kind,
        body: Object,
        *,
        namespace: str = "",
        name: str = "",
        sub: str = "",
        manager: str = "",
        dry: bool = False,
    ) -> Object:
        """Create an object; one that is there already raises `NameTaken`.

        A repeated request may find its own first try: for a name that nobody else gives, `NameTaken` is success. With
        ``name`` and ``sub`` the part of an object is asked for, such as a service account's ``token``.
        """
        metadata = body.get("metadata") or {}
        namespace = namespace or str(metadata.get("namespace") or "")
        return await self._send(
            "POST",
            kind.path(namespace, name, sub),
            params={"fieldManager": manager or self._manager} | ({"dryRun": "All"} if dry else {}),
            content=json.dumps(body if sub else kind.of(body)),
            about=_about(kind, namespace, name or str(metadata.get("name") or "")),
            repeat="generateName" not in metadata,
        )

    async def apply(
        self, kind: Kind, body: Object, *, force: bool = False, sub: str = "", manager: str = "", dry: bool = False
    ) -> Object:
        """Make the fields of this body so, and ours; fields that we named before and leave out now are removed.

        With ``metadata.uid`` in the body, only that very object is changed.

        Raises
        ------
        Conflict
            If a field belongs to somebody else, whom the message names; ``force`` takes it over instead.
        """
        metadata = body["metadata"]
        namespace, name = str(metadata.get("namespace") or ""), str(metadata["name"])
        params = {"fieldManager": manager or self._manager, "force": "true" if force else "false"}
        return await self._send(
            "PATCH",
            kind.path(namespace, name, sub),
            params=params | ({"dryRun": "All"} if dry else {}),
            content=json.dumps(kind.of(body)),
            content_type=_APPLY,
            about=_about(kind, namespace, name),
        )

    async def patch(self, kind: Kind, name: str, body: Object, *, namespace: str = "", sub: str = "") -> Object:
        """Merge a patch into an object, or into its part such as ``status``; null removes a field."""
        return await self._send(
            "PATCH",
            kind.path(namespace, name, sub),
            params={"fieldManager": self._manager},
            content=json.dumps(body),
            content_type=_MERGE,
            about=_about(kind, namespace, name),
        )

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        version: str = "",
        propagation: str = "Background",
        grace: int | None = None,
    ) -> bool:
        """Remove an object and return whether it was there.

        ``uid`` and ``version`` are preconditions: when another object has taken the name, or it changed, `Conflict`.
        """
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if preconditions := {key: one for key, one in (("uid", uid), ("resourceVersion", version)) if one}:
            options["preconditions"] = preconditions
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        about = _about(kind, namespace, name)
        try:
            await self._send("DELETE", kind.path(namespace, name), content=json.dumps(options), about=about)
        except RopewalkError as error:
            if error.details.get("status") == 404:
                return False
            raise
        return True

    async def watch(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Change, None]:
        """Yield what is there, ``SYNCED``, and then each change, for ever; of all namespaces if none is named.

        Survives an API server that goes away, forgets its history or falls silent. After each new list it yields what
        changed and vanished meanwhile, and ``SYNCED`` again.
        """
        view, course, query = View(), _Course(_about(kind, namespace)), _query(labels, fields)
        self._courses.append(course)
        try:
            while True:
                start, began = view.version, self._clock.steady()
                try:
                    if not view.version:
                        listing = await self.list(kind, namespace, labels=labels, fields=fields)
                        for change in view.relist(listing.items, listing.version):
                            yield change
                        start, began = view.version, self._clock.steady()
                    async with contextlib.aclosing(self._changes(kind, namespace, query, view, course)) as stream:
                        async for change in stream:
                            yield change
                except (Broken, RopewalkError) as error:
                    self._stumbled(course, view, error, before=course.failures if view.version == start else 0)
                else:
                    good = view.version != start or self._clock.steady() - began >= _HEALTHY
                    course.failures = 0 if good else course.failures + 1
                asked, course.asked = course.asked, 0.0
                await self._clock.sleep(wait_before(course.failures, self._jitter, asked=asked))
        finally:
            self._courses.remove(course)

    @contextlib.asynccontextmanager
    async def open(
        self, path: str, params: Mapping[str, str], *, about: str, silence: float | None = None, rest: bool = False
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a stream and give its lines; what breaks it, or ``silence`` of so many seconds, is `Unavailable`.

        A last line without an end is given only if ``rest`` asks for it: an event is whole or nothing, a log is not.
        """
        timeout = httpx.Timeout(30.0, connect=5.0, read=silence)
        with _as_ours(about):
            async with self._http.stream(
                "GET", path, params=params, headers=self._headers(), timeout=timeout, extensions=self._name()
            ) as response:
                if not response.is_success:
                    if response.status_code == 401:
                        self._headers(fresh=True)  # the next try has the token of now
                    raise refusal(response.status_code, await response.aread(), response.headers, about=about)
                yield _lines(response, rest)

    async def _pages(self, kind: Kind, path: str, query: dict[str, str], about: str) -> Listing:
        items: list[Object] = []
        following = ""
        while True:
            body = await self._send(
                "GET", path, params=query | ({"continue": following} if following else {}), about=about
            )
            items += [kind.of(one) for one in body.get("items") or ()]
            metadata = body.get("metadata") or {}
            following = str(metadata.get("continue") or "")
            if not following:
                return Listing(tuple(items), str(metadata.get("resourceVersion") or ""))

    async def _changes(
        self, kind: Kind, namespace: str, query: dict[str, str], view: View, course: _Course
    ) -> AsyncGenerator[Change, None]:
        """Yield what one connection brings, until it ends."""
        seconds = self._watch_seconds * (0.9 + 0.2 * self._jitter())  # so that many watches do not return at once
        params = query | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": view.version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        about = _about(kind, namespace)
        async with self.open(kind.path(namespace), params, about=about, silence=seconds + self._slack) as lines:
            course.since = None
            async for line in lines:
                for change in view.feed(line):
                    yield change

    def _stumbled(self, course: _Course, view: View, error: Broken | RopewalkError, *, before: int) -> None:
        """Take note of a failure; the next try reads the list again when the history is lost or does not get us on.

        ``before`` is how many tries failed before it in a row.
        """
        course.failures = before + 1
        course.since = self._clock.steady() if course.since is None else course.since
        if isinstance(error, Broken):
            lost = error.relist
        else:
            lost, course.asked = gone(error), float(error.details.get("retry_after") or 0.0)
        if lost or course.failures % 3 == 0:
            view.version = ""
        if course.failures & (course.failures - 1) == 0:
            _log.warning("watching %s: %s (%d in a row)", course.name, error, course.failures)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        about: str,
        params: Mapping[str, str] | None = None,
        content: str = "",
        content_type: str = "application/json",
        repeat: bool = True,
    ) -> Object:
        """Send a request, again while what stops it may pass and patience lasts, and return the answer's object."""
        end, failures, renewed = self._clock.steady() + self.patience, 0, False
        while True:
            headers = self._headers(fresh=renewed) | ({"Content-Type": content_type} if content else {})
            try:
                return await self._once(method, path, params, content, headers, about)
            except RopewalkError as caught:
                if caught.details.get("status") == 401:
                    if renewed:
                        raise
                    renewed = True
                    continue
                error = self._weighed(caught)
                failures += 1
                asked = float(error.details.get("retry_after") or 0.0)
                wait = wait_before(failures, self._jitter, asked=asked)
                if not (passes(error) and repeat) or self._clock.steady() + wait > end:
                    raise error from caught.__cause__
            await self._clock.sleep(wait)

    def _weighed(self, error: RopewalkError) -> RopewalkError:
        """Return an error as it counts: a server that has just come back denies until it has read its roles."""
        now = self._clock.steady()
        if isinstance(error, Denied) and now - self._away < _SETTLES:
            words = "The cluster's API server has just come back and does not know yet what it allows."
            return Unavailable(words, details=error.details)
        if isinstance(error, Unavailable):
            self._away = now
        return error

    async def _once(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        content: str,
        headers: Mapping[str, str],
        about: str,
    ) -> Object:
        with _as_ours(about):
            response = await self._http.request(
                method, path, params=params, content=content or None, headers=headers, extensions=self._name()
            )
        if not response.is_success:
            raise refusal(response.status_code, response.content, response.headers, about=about)
        try:
            body = response.json()
        except ValueError as error:
            raise Unavailable(f"The cluster's answer about {about} was cut off.") from error
        if not isinstance(body, dict):
            raise Unavailable(f"The cluster's answer about {about} is no object.")
        return body

    def _headers(self, *, fresh: bool = False) -> dict[str, str]:
        token = self._access.token.current(self._clock.steady(), fresh=fresh)
        return {"Accept": "application/json", "User-Agent": self._manager} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )

    def _name(self) -> dict[str, Any]:
        return {"sni_hostname": self._access.server_name} if self._access.server_name else {}


@contextlib.contextmanager
def _as_ours(about: str) -> Iterator[None]:
    try:
        yield
    except httpx.RequestError as error:
        reason = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            raise Unavailable(
                f"The API server at hand is not the one that the platform trusts: {reason}",
                hint="An administrator compares the cluster's certificate authority with the platform's.",
            ) from error
        raise Unavailable(f"The cluster's API server does not answer about {about}: {reason}") from error


async def _lines(response: httpx.Response, tail: bool) -> AsyncIterator[bytes]:
    """Yield whole lines. httpx's own reader also splits at characters that JSON may hold."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise Unavailable("The cluster sent a line without an end.")
        for line in whole:
            if line.strip():
                yield line
    if tail and rest.strip():
        yield rest


def _query(labels: Mapping[str, str] | None, fields: Mapping[str, str] | None) -> dict[str, str]:
    query = {"labelSelector": selector(dict(labels))} if labels else {}
    for key, value in (fields or {}).items():
        if any(one in value for one in ",=\\!"):
            raise ValueError(f"{key}={value} is no field selector")
    return query | ({"fieldSelector": ",".join(f"{key}={one}" for key, one in fields.items())} if fields else {})


def _about(kind: Kind, namespace: str, name: str = "") -> str:
    where = f" in {namespace}" if namespace else ""
    return f"{kind.name} '{name}'{where}" if name else f"{kind.plural}{where}"
