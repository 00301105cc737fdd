"""One call of a function, straight to the gateway: no database and no dashboard on this path.

Arguments travel in the envelope that ``ropewalk_runtime.handler`` documents, so that Python's positional and keyword
arguments mean on the platform what they mean here; large data frames and arrays go ahead as files (``sending``), and
large answers come as files (``spooled``). A call is never repeated by itself: it may have taken effect.
There is one body of a call, `ask`, in the loop of ``ropewalk_core.sync``; who waits and who awaits share
it and its connections.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from ropewalk_core import sync
from ropewalk_core.client import Client
from ropewalk_core.client.nouns import read
from ropewalk_core.client.wire import problem_of
from ropewalk_core.errors import Unavailable
from ropewalk_core.model import DurableCall
from ropewalk_kernel import printed, spooled, values, yielded
from ropewalk_kernel.places import where
from ropewalk_kernel.posts import Answer, Broken, Posts
from ropewalk_kernel.sending import Sender
from ropewalk_kernel.values import Received
from ropewalk_runtime import formats
from ropewalk_runtime.handler import CALL_TYPE
from ropewalk_runtime.packed import MAGIC, PACKED, Packing

_LONGEST = 3700.0  # above the longest timeout a function may have; the gateway ends the call
_PATIENCE = 15.0
"""Seconds for which a gateway that is away is asked again to accept a durable call."""
_posts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Posts] = weakref.WeakKeyDictionary()


def call(address: str, args: Sequence[Any], kwargs: Mapping[str, Any], follower: printed.Follower | None = None) -> Any:
    """Call the function at the address and return its answer as a Python value; a generator's as they come.

    ``follower`` shows what the call prints, if it takes long.

    Raises
    ------
    UserCodeFailed
        If the handler raised; the traceback is its own.
    RopewalkError
        What the gateway refused with, or `Unavailable`.
    """
    client = sync.client()
    body = envelope(client, address, args, kwargs)
    if follower is None:
        answer = sync.wait(ask(client, address, body))
    else:
        answer = sync.wait(follower.beside(client, ask(client, address, body, (("User-Agent", printed.AGENT),))))
    if answer.stream is None:
        return values.decode(Received(answer.body, answer.kind))
    if answer.kind == PACKED:
        return values.decode(sync.wait(spooled.received(answer.stream, PACKED)))
    return yielded.Parts(answer.stream)


def request(address: str, method: str, path: str, options: Mapping[str, Any]) -> httpx.Response:
    """Send any request to a people's address with a token of this person; the answer is whatever came."""
    place, _, host = where(address)
    token = sync.wait(sync.client().token("functions"))
    url = f"{'https' if place.secure else 'http'}://{place.host}:{place.port}/{path.lstrip('/')}"
    given = {"timeout": _LONGEST} | dict(options)
    headers = httpx.Headers(given.pop("headers", None))
    headers.update({"Host": host, "Authorization": f"Bearer {token.text}"})
    with httpx.Client(trust_env=False) as client:
        return client.request(method, url, headers=headers, **given)


async def aio(client: Client, address: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call the function at the address, and return what `call` returns, to be awaited in any event loop."""
    if any(formats.library(one) for one in (*args, *kwargs.values())):  # to write these down may take a while
        body = await asyncio.to_thread(envelope, client, address, args, kwargs, Sender(client, address, shown=False))
    else:
        body = envelope(client, address, args, kwargs)
    answer = await sync.elsewhere(ask(client, address, body))
    if answer.stream is None:
        return values.decode(Received(answer.body, answer.kind))
    if answer.kind == PACKED:
        return values.decode(await sync.elsewhere(spooled.received(answer.stream, PACKED)))
    return yielded.AsyncParts(answer.stream)


def envelope(
    client: Client, address: str, args: Sequence[Any], kwargs: Mapping[str, Any], sender: Sender | None = None
) -> bytes:
    """Return the arguments of a call as they travel, once the large ones are where the function finds them.

    ``sender`` sends those ahead, in the thread of who asks; left out, one is made for this call.
    """
    return values.envelope(args, kwargs, Packing(sender or Sender(client, address)))


async def send(client: Client, address: str, body: bytes) -> Received:
    """Call the function at the address with an envelope and return its whole answer; what is yielded is a list."""
    answer = await ask(client, address, body)
    if answer.stream is None:
        return Received(answer.body, answer.kind)
    if answer.kind == PACKED:
        return await spooled.received(answer.stream, PACKED)
    return await yielded.whole(answer.stream)


async def ask(client: Client, address: str, body: bytes, more: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Call the function at the address with an envelope and return its answer as it came. Raises as `call` does.

    ``more`` are headers besides.
    """
    place, target, host = where(address)
    token = await client.token("functions")
    kind = PACKED if body.startswith(MAGIC) else CALL_TYPE
    headers = (("Host", host), ("Authorization", f"Bearer {token.text}"), ("Content-Type", kind), *more)
    try:
        answer = await posts().post(place, target, headers, body, _LONGEST)
    except Broken as error:
        raise Unavailable(f"The function's address does not answer ({error}).") from error
    if answer.status >= 400:
        raise problem_of(answer.status, answer.body, httpx.Headers(list(answer.headers)))
    return answer


async def spawn(client: Client, address: str, body: bytes, key: str) -> DurableCall:
    """Have the call of an envelope accepted as a durable one; with its key it is sent again until somebody answers."""
    more = (("Prefer", "respond-async"), ("Idempotency-Key", key))
    since, pause = time.monotonic(), 0.1
    while True:
        try:
            return read(DurableCall, (await ask(client, address, body, more)).body)
        except Unavailable:
            if time.monotonic() - since + pause > _PATIENCE:
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 2, 2.0)


def posts() -> Posts:
    """Return the connections of the running loop; a forked child has a loop of its own and so makes its own."""
    loop = asyncio.get_running_loop()
    if loop not in _posts:
        _posts[loop] = Posts()
    return _posts[loop]
