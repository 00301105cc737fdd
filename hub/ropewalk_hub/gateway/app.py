"""The gateway's front: which host, who asks, and every failure as an answer. One handler for all of it.

Not here: binding sockets (``__main__``). The notebook hosts of the people's door are not ours: they live on port N.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TypeVar

from aiohttp import web
from aiohttp.abc import AbstractResolver

from ropewalk_core import access as accesses
from ropewalk_core.errors import (
    BadInput,
    Internal,
    NotFound,
    RopewalkError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from ropewalk_core.local.host_client import HostClient
from ropewalk_core.model import Access, FunctionRoute, State
from ropewalk_core.names import PeopleHost, parse_host
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway import answers, callers, durable_http, pages
from ropewalk_hub.gateway.directory import Directory
from ropewalk_hub.gateway.durable import Durables
from ropewalk_hub.gateway.flow import Streamed
from ropewalk_hub.gateway.functions import (
    Asked,
    Functions,
    Reply,
    refuse_anonymous,
    refuse_cookie_writes,
    refuse_origin,
)
from ropewalk_hub.gateway.headers import from_others, to_others
from ropewalk_hub.gateway.link import text_of
from ropewalk_hub.gateway.plain import LONGEST_AGENT
from ropewalk_hub.gateway.pool import Pools
from ropewalk_hub.gateway.records import Records
from ropewalk_hub.gateway.remote import Remote
from ropewalk_hub.gateway.room import Room
from ropewalk_hub.gateway.sent import VALUES, Sent
from ropewalk_hub.gateway.services import Services
from ropewalk_hub.gateway.sessions import CALLBACK, Sessions, check_origin, own_origin, wants_page
from ropewalk_hub.gateway.tokens import Caller, Verifier
from ropewalk_hub.lasting import lasting
from ropewalk_runtime.bundle import RAW
from ropewalk_runtime.trace import read

Response = TypeVar("Response", bound=web.StreamResponse)
log = logging.getLogger("ropewalk.gateway")
READY = "/_ropewalk/ready"
_EXTRA = web.RequestKey("extra", dict[str, str])
"""What every answer to this request carries, whatever comes of it."""
SLOWEST = 300.0
"""Seconds in which a payload must have arrived, and an answer must have been read."""
TO_TELL = 5.0
"""Seconds in which the end of an answer in parts must have been read after its time is over."""
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
        self.records = Records(self.directory, self.pools.state)
        self.room = Room(settings)
        self.remote = Remote(settings, resolver)
        self.sent = Sent(settings)
        self.functions = Functions(
            self.directory, self.pools, self.remote, self.records, self.sent, origin=settings.door.origin
        )
        self.durables = Durables(self.directory, self.functions, self.room, settings.limits.durable_payload)
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
        access, origin = self.functions.access(host.account, host.name), request.headers.get("Origin")
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            if (answer := accesses.preflight(access, origin)) is not None:
                return web.Response(status=204, headers=answer)
        elif accesses.allows(access, origin):
            request[_EXTRA] = accesses.headers(access, origin)  # refusals too: its pages may read why
        asking = callers.read(request, self.verifier, self.sessions)
        if request.path.startswith(durable_http.CALLS):
            return await self._durable(request, host, asking, access)
        if asking.by_cookie and not self._by_hand(request) and access.who == "public":
            asking = callers.Asking()  # a page that the person did not open speaks for itself, not for them
        try:
            route, caller = self.functions.admit(host.account, host.name, asking, host.revision)
        except Unauthenticated:
            if asking == callers.Asking() and wants_page(request) and self.directory.known:
                return self.sessions.to_door(request)
            raise
        request[_EXTRA] = accesses.headers(access, origin)
        if asking.by_cookie:
            if request.method not in ("GET", "HEAD"):
                raise refuse_cookie_writes()
            if not self._from_here(request):
                return pages.confirm_call(host.name, request.path_qs)
        else:
            self._check_page(request, access)
        if request.path.startswith(VALUES):
            return await self.sent.answer(request, route, caller)
        with self.room.call(route.owner, self._announced(request)) as place:
            payload = await self._payload(request)
            if durable_http.wanted(request):
                self.sent.named(route, caller, request.headers.get("Content-Type", ""), payload)
                wish = durable_http.wish_of(route, caller, request, payload, pinned=bool(host.revision))
                accepted = await durable_http.spawned(self.durables, wish)
                accepted.headers.update(request[_EXTRA])
                return accepted
            asked = self._asked(request, route, caller)
            reply = await self.functions.call(route, caller, payload, asked, place)
            return await (_sent(request, reply) if reply.parts is None else _streamed(request, reply, reply.parts))

    def _asked(self, request: web.Request, route: FunctionRoute, caller: Caller) -> Asked:
        headers, query = request.headers, request.rel_url.raw_query_string
        http = None
        if route.spec.bundle.form in RAW:
            scheme = self.settings.door.scheme
            http = {
                "method": request.method,
                "path": request.rel_url.raw_path,
                "scheme": scheme,
                "server": request.host,
                "headers": [*to_others(request, caller, scheme).items()],
            }
        trace = read(headers.getall("traceparent", []), headers.getall("tracestate", []))
        kind, wanted, agent = (headers.get(name, "") for name in ("Content-Type", "Accept", "User-Agent"))
        return Asked(kind, query, wanted, http, trace=trace, agent=text_of(agent, LONGEST_AGENT))

    async def _durable(
        self, request: web.Request, host: PeopleHost, asking: callers.Asking, access: Access
    ) -> web.StreamResponse:
        """Answer for a durable call, whether its function is there or not; its owner alone may ask."""
        if asking.caller is None:
            raise refuse_anonymous()
        if asking.account != host.account:
            raise NotFound.named("functions", f"There is no function '{host.name}' here for you.")
        if asking.by_cookie and (request.method != "GET" or not self._from_here(request)):
            raise refuse_cookie_writes()
        if not asking.by_cookie:
            self._check_page(request, access)
        with self.durables.asking(host.account):
            answer = await durable_http.asked(self.directory, host.account, host.name, request)
        answer.headers.update(request.get(_EXTRA, {}))
        return answer

    def _check_page(self, request: web.Request, access: Access) -> None:
        """Refuse what a web page sends that the function's list leaves out."""
        origin = request.headers.get("Origin")
        if origin not in (None, own_origin(request, self.settings.door.scheme)) and accesses.refuses(access, origin):
            raise refuse_origin()

    def _by_hand(self, request: web.Request) -> bool:
        """Say whether a browser's sign-in counts for this request: the person looks at something themselves."""
        return request.method in ("GET", "HEAD") and self._from_here(request)

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
        if (size := request.content_length or 0) > limit:
            raise _too_large(limit, size)
        if request.body_exists and (request.content_length is None or "Content-Encoding" in request.headers):
            return limit  # what comes compressed is unpacked as it is read: a thousand times its length, perhaps
        return request.content_length or 0

    async def _payload(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(SLOWEST):
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
        headers = {**answers.of_error(error), **request.get(_EXTRA, {})}
        if isinstance(error, Internal):
            log.error("%s %s: %s", request.method, request.host, error)
        body = error.problem(origin=self.settings.door.origin)
        return web.json_response(body, status=error.status, headers=headers, content_type=answers.PROBLEM)

    async def _run(self, _application: web.Application):  # type: ignore[no-untyped-def]
        work = (
            *(self.directory.follow, self.pools.sweep, self.records.send, self.records.look, self.sessions.sweep),
            *(self.durables.send, self.durables.carry, self.durables.report),
        )
        self._tasks = [asyncio.create_task(lasting(one)) for one in work]
        yield
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.durables.close()
        await self.records.flush()
        self.pools.close()
        await self.remote.close()
        await self.host.close()
        await self.directory.close()


def _made(request: web.Request, response: Response, reply: Reply) -> Response:
    """Return a response with the headers that an app in a worker gave it, and those that each answer carries."""
    response.headers.update(answers.of_reply(reply))
    if reply.headers is not None:
        for name in ("Cache-Control", "Content-Type"):
            if name in reply.headers:
                response.headers.popall(name, None)
        from_others(reply.headers, response)
    response.headers.extend(request.get(_EXTRA, {}))
    return response


async def _sent(request: web.Request, reply: Reply) -> web.Response:
    """Send an answer to its end, so that the room it takes is given back only then."""
    response = _made(request, web.Response(body=reply.body, status=reply.status), reply)
    try:
        async with asyncio.timeout(SLOWEST):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:  # the caller is gone; aiohttp sees that too
        pass
    return response


async def _streamed(request: web.Request, reply: Reply, parts: Streamed) -> web.StreamResponse:
    """Send an answer as it comes. One that is not whole breaks off, so that nobody takes it for whole."""
    response = _made(request, web.StreamResponse(status=reply.status), reply)
    response.headers["X-Accel-Buffering"] = "no"
    try:
        async with asyncio.timeout_at(parts.until + TO_TELL):
            await response.prepare(request)
            while request.method != "HEAD" and (data := await parts.next()) is not None:
                await response.write(data)
            if parts.whole:
                await response.write_eof()
            elif request.transport is not None:
                request.transport.close()
    except TimeoutError:
        parts.late()
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:  # the caller is gone
        pass
    finally:
        parts.close()
    return response


def _too_large(limit: int, size: int = 0) -> TooLarge:
    said = f"is {size} bytes, over the limit of {limit}" if size else f"is larger than {limit} bytes"
    hint = "In Python, numpy arrays and data frames go as files by themselves; else write a file and pass its path."
    return TooLarge(f"The payload {said}.", field="limits.payload", hint=hint)
