"""Large arguments over HTTP: files that go to a function once, at its own address, before the calls that name them.

``GET /_ropewalk/values/<SHA-256>?size=`` says what becomes of such a file: it is there, it shall be sent, it shall lie
inside the call, or it is too large. ``PUT`` of the same sends it; nothing of it stays in memory. Who asks was admitted
as for a call. A call names files in its payload; it gets those alone that its own caller sent to this owner. Not here:
who may call (``app``), where files lie (``local.sent``). Rejected: one request with file and call (a call that fails
would have it sent again).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from ropewalk_core.artifacts import CHUNK
from ropewalk_core.errors import BadInput, Denied, Limited, StorageFull, TooLarge
from ropewalk_core.local import sent
from ropewalk_core.model import FunctionRoute
from ropewalk_core.names import is_name
from ropewalk_core.settings import Settings
from ropewalk_core.tasks import in_thread
from ropewalk_hub.gateway.tokens import Caller
from ropewalk_runtime import packed
from ropewalk_runtime.bundle import RAW
from ropewalk_runtime.packed import PACKED

VALUES = "/_ropewalk/values/"
AT_ONCE = 2
"""Files of one account that come at the same time."""
_SILENCE = 60.0
"""Seconds in which more of a file must have come."""
_RECOUNT = 10.0
"""Seconds for which a count of what an account sent is believed: there may be half a million files to look at."""


@dataclass
class _Kept:
    """What an account has sent and is kept: as it was counted, and what came since."""

    size: int = 0
    counted: float = float("-inf")
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)


class Sent:
    """Takes files, and says where those lie that a call names.

    Parameters
    ----------
    settings
        Limits, and where the home is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._coming: Counter[str] = Counter()
        self._announced: Counter[str] = Counter()
        self._kept: defaultdict[str, _Kept] = defaultdict(_Kept)

    async def answer(self, request: web.Request, route: FunctionRoute, caller: Caller) -> web.Response:
        """Answer for one file of a caller.

        Raises
        ------
        TooLarge, StorageFull
            If it is over a limit; the message names it.
        BadInput, Denied, Limited
            If it cannot be taken.
        """
        digest = request.path.removeprefix(VALUES)
        _check(route, caller)
        size = _size(request.query.get("size", "") if request.method == "GET" else str(request.content_length or ""))
        fate = await self._fate(route, caller, digest, size)
        if request.method == "GET":
            return web.json_response(fate)
        if request.method != "PUT" or fate.get("inside"):
            raise BadInput("A file is asked for with GET, and sent with PUT where it is not there.", field="method")
        with self._room(caller.account, size):
            await self._take(request, route, caller, digest)
        return web.json_response({"there": True}, status=201)

    def named(self, route: FunctionRoute, caller: Caller, kind: str, payload: bytes) -> dict[str, str]:
        """Return where the files of a call lie, by digest.

        Raises
        ------
        NotFound
            If this caller sent no such file, or it is gone by now.
        BadInput, Denied
            If the function takes none.
        """
        if kind != PACKED or not (digests := packed.files(payload)):
            return {}
        _check(route, caller)
        if route.url:
            raise _on_a_cluster(0, self._settings.limits.payload)
        store = sent.store_of(self._settings, route.owner, caller.account)
        return {one: str(sent.used(store, one)) for one in digests}

    async def _fate(self, route: FunctionRoute, caller: Caller, digest: str, size: int) -> dict[str, bool]:
        """Return what becomes of a file."""
        limits, account = self._settings.limits, caller.account
        if route.url:
            if size > limits.payload:
                raise _on_a_cluster(size, limits.payload)
            return {"inside": True}
        if size > limits.value:
            raise TooLarge(
                f"The argument is {size} bytes, over the limit of {limits.value}.",
                field="limits.value",
                hint="Send less, such as the columns that are needed, or write a file and pass its path.",
            )
        store = sent.store_of(self._settings, route.owner, account)
        if store.has(digest):
            sent.used(store, digest)
            return {"there": True}
        have = await self._have(account) + self._announced[account]
        if have + sent.charge(size) > limits.values:
            raise StorageFull(
                f"What you sent as arguments takes {have} bytes; {size} more are over the limit of {limits.values}.",
                field="limits.values",
                hint=f"What was not used for {limits.values_kept / 3600:g} hours goes by itself. Send less, or wait.",
            )
        return {"there": False}

    async def _have(self, account: str) -> int:
        """Return the bytes of what an account has sent; counting keeps one thread from others, whoever hangs up."""
        kept = self._kept[account]
        async with kept.counting:
            if time.monotonic() - kept.counted > _RECOUNT:
                kept.size = await in_thread(sent.weight, self._settings, account)
                kept.counted = time.monotonic()
        return kept.size

    async def _take(self, request: web.Request, route: FunctionRoute, caller: Caller, digest: str) -> None:
        store = sent.store_of(self._settings, route.owner, caller.account)
        found, came = await store.put_stream(_pieces(request, request.content_length or 0))
        if (found, came) != (digest, request.content_length):
            await asyncio.to_thread(store.remove, found)
            raise BadInput("The argument changed while it was sent.", field="arguments", hint="Call again.")
        sent.show(store, digest)
        self._kept[caller.account].size += sent.charge(came)

    @contextmanager
    def _room(self, account: str, size: int) -> Iterator[None]:
        if self._coming[account] >= AT_ONCE:
            raise Limited(f"{AT_ONCE} files of yours are on their way already.", field="arguments")
        self._coming[account] += 1
        self._announced[account] += sent.charge(size)
        try:
            yield
        finally:
            self._coming[account] -= 1
            self._announced[account] -= sent.charge(size)
            if not self._coming[account]:
                del self._coming[account], self._announced[account]


def _check(route: FunctionRoute, caller: Caller) -> None:
    """Refuse files where nobody answers for them, or nobody would read them."""
    if not is_name(caller.account):
        raise Denied("Only people who are signed in send arguments as files.", hint="Send less, inside of the call.")
    if route.spec.bundle.form in RAW:
        raise BadInput(f"'{route.name}' answers HTTP itself, and takes no arguments.", hint="Send it a request.")


def _on_a_cluster(size: int, limit: int) -> TooLarge:
    said = f"The argument is {size} bytes" if size else "An argument goes as a file"
    return TooLarge(
        f"{said}, and functions on a cluster take at most {limit}, inside of the call: none as files yet.",
        field="limits.payload",
        hint="Write it to a file of yours and pass its path: functions see your files.",
    )


def _size(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise BadInput("Say how many bytes the file has.", field="size")
    return int(text)


async def _pieces(request: web.Request, most: int) -> AsyncIterator[bytes]:
    """Yield a body as it comes, in pieces of a good size, and no more of it than was announced.

    What came compressed is longer than its length says: aiohttp has undone that, and nobody has counted the rest.
    """
    held, came = bytearray(), 0
    try:
        while True:
            async with asyncio.timeout(_SILENCE):
                data = await request.content.readany()
            held += data
            came += len(data)
            if came > most:
                raise BadInput("More came than was announced.", field="arguments", hint="Send it as it is.")
            if held and (not data or len(held) >= CHUNK):
                yield bytes(held)
                held.clear()
            if not data:
                return
    except (ConnectionError, TimeoutError, web.HTTPException, asyncio.IncompleteReadError) as error:
        raise BadInput("The argument did not arrive whole.", field="arguments", hint="Call again.") from error
