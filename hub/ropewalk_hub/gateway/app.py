"""The gateway's front: which host, who asks, and every failure as an answer. One handler for all of it.

Not here: binding sockets (``__main__``). The notebook hosts of the people's door are not ours: they live on port N.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web
from aiohttp.abc import AbstractResolver

from ropewalk_core.errors import (
    BadInput,
    Internal,
    Limited,
    NotFound,
    RopewalkError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from ropewalk_core.local.host_client import HostClient
from ropewalk_core.model import State
from ropewalk_core.names import PeopleHost, parse_host
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway import pages
from ropewalk_hub.gateway.directory import Directory
from ropewalk_hub.gateway.functions import Functions, Reply, refuse_anonymous, refuse_cookie_writes
from ropewalk_hub.gateway.pool import Pools
from ropewalk_hub.gateway.records import Records
from ropewalk_hub.gateway.remote import Remote
from ropewalk_hub.gateway.room import Room
from ropewalk_hub.gateway.services import Services
from ropewalk_hub.gateway.sessions import CALLBACK, Sessions, check_origin, own_origin, wants_page
from ropewalk_hub.gateway.tokens import Caller, Verifier
from ropewalk_hub.lasting import lasting

log = logging.getLogger("ropewalk.gateway")
READY = "/_ropewalk/ready"
_SLOWEST = 300.0
"""Seconds in which a payload must have arrived, and an answer must have been read."""
_STARTING = frozenset({State.ASKED, State.WAITING, State.STARTING})


class Gateway:
    """All parts together.

    Parameters
    ----------
    settings
        The home's settings.
    host
        Starts workers; made from the settings when omitted.
    resolver
        Leads names of a cluster; the machine's own when omitted.
    """

    def __init__(
        self, settings: Settings, host: HostClient | None = None, *, resolver: AbstractResolver | None = None
    ) -> None:
        self.settings = settings
        self.host = host or HostClient(settings.run / "host.sock")
        self.directory = Directory(settings)
        self.verifier = Verifier(settings, self.directory)
        self.sessions = Sessions(settings, self.directory)
        self.pools = Pools(settings, self.directory, self.host)
        self.records = Records(self.directory)
        self.room = Room(settings)
        self.remote = Remote(settings, resolver)
        self.functions = Functions(self.directory, self.pools, self.remote, self.records)
        self.services = Services(settings, self.sessions, resolver)
        self._tasks: list[asyncio.Task[None]] = []

    def application(self) -> web.Application:
        """Return the web application; its start and end run the gateway's own tasks."""
        application = web.Application(client_max_size=self.settings.limits.payload)
        application.router.add_route("*", "/{path:.*}", self.handle)
        application.cleanup_ctx.append(self._run)
        return application

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, whatever happens."""
        if not request.raw_path.startswith("/"):  # what follows a service's address must be no part of the address
            return web.Response(status=400, text="Ask for a path, such as /.")
        try:
            if request.path == READY:
                return self._ready()
            host = self._host(request)
            if request.path == CALLBACK:
                return await self.sessions.from_door(request)
            if host.kind == "function":
                return await self._function(request, host)
            return await self._service(request, host)
        except RopewalkError as error:
            return self._refuse(request, error)

    def _ready(self) -> web.Response:
        """Tell a kubelet whether calls can be answered; that is the same for every host, and no secret."""
        return web.Response(status=200 if self.directory.known else 503, headers={"Cache-Control": "no-store"})

    def _host(self, request: web.Request) -> PeopleHost:
        host = parse_host(request.host, self.settings.door.people)
        if host is None or host.kind == "notebook":
            raise NotFound(
                f"There is nothing at '{request.host[:100]}'.",
                hint=f"Open {self.settings.door.origin} and follow the links there.",
            )
        return host

    # Functions

    async def _function(self, request: web.Request, host: PeopleHost) -> web.StreamResponse:
        caller, by_cookie = self._caller(request)
        if caller is None:
            if wants_page(request) and self.directory.known:
                return self.sessions.to_door(request)
            raise refuse_anonymous()
        route = self.functions.route(host.account, host.name, caller)
        if by_cookie:
            if request.method not in ("GET", "HEAD"):
                raise refuse_cookie_writes()
            if not self._from_here(request):
                return pages.confirm_call(host.name, request.path_qs)
        with self.room.call(route.owner, self._announced(request)) as place:
            payload = await self._payload(request)
            kind, query = request.headers.get("Content-Type", ""), request.rel_url.raw_query_string
            reply = await self.functions.call(route, caller, payload, kind, query, place)
            return await _sent(request, reply)

    def _caller(self, request: web.Request) -> tuple[Caller | None, bool]:
        """Return who asks, and whether only a cookie says so."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.verifier.caller(token.strip()), False
        if kind:
            raise Unauthenticated("Use a bearer token.", hint='-H "Authorization: Bearer $(ropewalk token)"')
        return self.sessions.caller(request), True

    def _from_here(self, request: web.Request) -> bool:
        """Say whether the person typed the address or followed a link of this very host."""
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site in ("none", "same-origin")
        here = own_origin(request, self.settings.door.scheme)
        return request.headers.get("Referer", "").startswith(here + "/")

    def _announced(self, request: web.Request) -> int:
        """Return how large the payload may become."""
        limit = self.settings.limits.payload
        if (request.content_length or 0) > limit:
            raise _too_large(limit)
        return limit if request.body_exists and request.content_length is None else request.content_length or 0

    async def _payload(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(_SLOWEST):
                return await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise _too_large(self.settings.limits.payload) from error
        except (ConnectionError, TimeoutError, web.HTTPException, asyncio.IncompleteReadError) as error:
            raise BadInput("The payload did not arrive whole.") from error

    # Services

    async def _service(self, request: web.Request, host: PeopleHost) -> web.StreamResponse:
        caller = self.sessions.caller(request)
        if caller is None:
            if wants_page(request):
                return self.sessions.to_door(request)
            raise Unauthenticated("You are not signed in here.", hint="Open the service in a browser window.")
        route = self.directory.service(host.account, host.name)
        if route is None or caller.account != host.account:
            raise NotFound.named("services", f"There is no service '{host.name}' here for you.")
        websocket = request.headers.get("Upgrade", "").lower() == "websocket"
        if websocket or request.method not in ("GET", "HEAD", "OPTIONS"):
            check_origin(request, self.settings.door.scheme, strict=websocket)
        dashboard = f"{self.settings.door.origin}/services/{host.name}"
        if route.state in _STARTING and wants_page(request):
            return pages.waiting(host.name, dashboard)
        if route.state in (State.FAILED, State.STOPPED, State.STOPPING):
            raise Unavailable(f"The service '{host.name}' is {route.state}.", hint=f"See why at {dashboard}.")
        try:
            return await self.services.forward(request, route, caller)
        except RopewalkError:
            if route.state is State.RUNNING and wants_page(request):
                return pages.waiting(host.name, dashboard)
            raise

    # Failures

    def _refuse(self, request: web.Request, error: RopewalkError) -> web.Response:
        if wants_page(request):
            return pages.failed(error, self.settings.door.origin)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        if isinstance(error, Unauthenticated):
            headers["WWW-Authenticate"] = 'Bearer realm="ropewalk"'
        if isinstance(error, Limited) or error.status == 503:
            headers["Retry-After"] = str(max(1, round(getattr(error, "retry_after", 1.0))))
        if isinstance(error, Internal):
            log.error("%s %s: %s", request.method, request.host, error)
        body = error.problem(origin=self.settings.door.origin)
        return web.json_response(body, status=error.status, headers=headers, content_type="application/problem+json")

    async def _run(self, _application: web.Application):  # type: ignore[no-untyped-def]
        work = (self.directory.follow, self.pools.sweep, self.records.send, self.sessions.sweep)
        self._tasks = [asyncio.create_task(lasting(one)) for one in work]
        yield
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.records.flush()
        self.pools.close()
        await self.remote.close()
        await self.host.close()
        await self.directory.close()


async def _sent(request: web.Request, reply: Reply) -> web.Response:
    """Send an answer to its end, so that the room it takes is given back only then."""
    response = web.Response(
        body=reply.body,
        headers={
            "Content-Type": reply.content_type,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
            "X-Ropewalk-Call": reply.call,
            "X-Ropewalk-Revision": reply.revision,
            "X-Ropewalk-Start": "cold" if reply.cold else "warm",
        },
    )
    try:
        async with asyncio.timeout(_SLOWEST):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:  # the caller is gone; aiohttp sees that too
        pass
    return response


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The payload is larger than {limit} bytes.", field="limits.payload")
