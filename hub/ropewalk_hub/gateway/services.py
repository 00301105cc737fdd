"""HTTP and websockets between a signed-in browser and a service: its unix socket here, its address on a cluster.

Bodies stream both ways. The service sees who asks in headers that only we can set, and never a credential of the
platform. Not here: who may open it (``app``), starting services (the backends). Rejected: routing services
through configurable-http-proxy, which asks nobody who they are.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import aiohttp
from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from ropewalk_core.errors import Unavailable
from ropewalk_core.model import ServiceRoute
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway import tcp
from ropewalk_hub.gateway.headers import from_others, to_others
from ropewalk_hub.gateway.sessions import Sessions
from ropewalk_hub.gateway.tokens import Caller

log = logging.getLogger("ropewalk.gateway")
_LOOK_AGAIN = 1.0
_LARGEST_MESSAGE = 64 * 2**20
"""Bytes of one websocket message, from either side: it is held in memory whole."""


class Services:
    """The proxy.

    Parameters
    ----------
    settings
        The door, and where sockets lie.
    sessions
        Says when a browser's sign-in has ended.
    resolver
        Leads names of a cluster; the machine's own when omitted.
    """

    def __init__(self, settings: Settings, sessions: Sessions, resolver: AbstractResolver | None = None) -> None:
        self._settings = settings
        self._sessions = sessions
        self._resolver = resolver

    async def forward(self, request: web.Request, route: ServiceRoute, caller: Caller) -> web.StreamResponse:
        """Pass one request, or one websocket, to the service.

        Raises
        ------
        Unavailable
            If the service does not listen, or ended before it answered.
        """
        address = _address(request, route)
        headers = to_others(request, caller, self._settings.door.scheme)
        async with aiohttp.ClientSession(
            connector=self._connector(route),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0),
        ) as upstream:
            try:
                if _is_websocket(request):
                    return await self._websocket(request, address, upstream, headers, caller)
                return await self._http(request, address, upstream, headers, caller)
            except aiohttp.ClientConnectorError as error:
                raise Unavailable(f"The service '{route.name}' does not listen yet.") from error
            except aiohttp.ClientError as error:
                raise Unavailable(f"The service '{route.name}' ended before it answered.") from error

    def _connector(self, route: ServiceRoute) -> aiohttp.BaseConnector:
        if route.url:
            return aiohttp.TCPConnector(resolver=self._resolver, force_close=True, socket_factory=tcp.watched)
        if not route.socket:
            raise Unavailable(f"The service '{route.name}' has no address yet.")
        socket = Path(route.socket)
        if socket.parent != self._settings.run:  # an account could have put anything in the place of any other
            raise Unavailable(f"The service '{route.name}' has no socket of the platform's.")
        return aiohttp.UnixConnector(path=str(socket), force_close=True)

    async def _http(
        self,
        request: web.Request,
        address: URL,
        upstream: aiohttp.ClientSession,
        headers: CIMultiDict[str],
        caller: Caller,
    ) -> web.StreamResponse:
        body = request.content if request.body_exists else None
        async with upstream.request(
            request.method,
            address,
            headers=headers,
            data=body,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            from_others(answer.headers, response)
            await response.prepare(request)
            if request.method != "HEAD":
                try:
                    async for piece in answer.content.iter_any():
                        if not self._sessions.alive(caller):
                            raise aiohttp.ClientError("signed out")
                        await response.write(piece)
                except aiohttp.ClientError:  # it ended in mid-answer; the browser must not take it as whole
                    if request.transport is not None:
                        request.transport.abort()
                    return response
            await response.write_eof()
            return response

    async def _websocket(
        self,
        request: web.Request,
        address: URL,
        upstream: aiohttp.ClientSession,
        headers: CIMultiDict[str],
        caller: Caller,
    ) -> web.StreamResponse:
        protocols = _protocols(request)
        for name in [name for name in headers if name.lower().startswith("sec-websocket-")]:
            headers.popall(name, None)
        async with upstream.ws_connect(
            address, protocols=protocols, headers=headers, max_msg_size=_LARGEST_MESSAGE, autoping=False
        ) as behind:
            front = web.WebSocketResponse(
                protocols=[behind.protocol] if behind.protocol else (), max_msg_size=_LARGEST_MESSAGE, autoping=False
            )
            await front.prepare(request)
            pumps = [
                asyncio.create_task(_pump(front, behind)),
                asyncio.create_task(_pump(behind, front)),
                asyncio.create_task(self._until_signed_out(caller)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                signed_out = pumps[2].done()
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
            code = behind.close_code or front.close_code or 1001
            await front.close(code=4401 if signed_out else _sendable(code))
            return front

    async def _until_signed_out(self, caller: Caller) -> None:
        while self._sessions.alive(caller):  # noqa: ASYNC110 - it can also end by the clock, which tells nobody
            await asyncio.sleep(_LOOK_AGAIN)


def _address(request: web.Request, route: ServiceRoute) -> URL:
    """Return where the request goes; the browser's own Host header goes with it, as programs compare it with Origin."""
    return URL(f"{route.url.rstrip('/') or f'http://{request.host}'}{request.raw_path}", encoded=True)


def _is_websocket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def _protocols(request: web.Request) -> list[str]:
    text = ",".join(request.headers.getall("Sec-WebSocket-Protocol", []))
    return [one.strip() for one in text.split(",") if one.strip()]


def _sendable(code: int) -> int:
    return code if 1000 <= code < 5000 and code not in (1004, 1005, 1006, 1015) else 1001


async def _pump(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    target: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
) -> None:
    """Copy messages until one side closes."""
    async for message in source:
        try:
            if message.type == WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type == WSMsgType.BINARY:
                await target.send_bytes(message.data)
            elif message.type == WSMsgType.PING:
                await target.ping(message.data)
            elif message.type == WSMsgType.PONG:
                await target.pong(message.data)
            else:
                return
        except (ConnectionError, aiohttp.ClientError):  # the other side is gone: its own pump ends too
            return
