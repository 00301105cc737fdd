"""One call of a function, straight to the gateway: no database and no dashboard on this path.

Arguments travel in the envelope that ``ropewalk_runtime.handler`` documents, so that Python's positional and keyword
arguments mean on the platform what they mean here. A call is never repeated by itself: it may have taken effect.
Names under ``localhost`` do not resolve in every program, so such a call goes to the loopback address with the name
as its host. There is one body of a call, `ask`, in the loop of ``ropewalk_core.sync``; who waits and who awaits share
it and its connections.
"""

from __future__ import annotations

import asyncio
import functools
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from ropewalk_core import sync
from ropewalk_core.client import Client
from ropewalk_core.client.nouns import read
from ropewalk_core.client.wire import problem_of
from ropewalk_core.errors import Unavailable
from ropewalk_core.model import DurableCall
from ropewalk_kernel import printed, values, yielded
from ropewalk_kernel.posts import Answer, Broken, Place, Posts
from ropewalk_runtime.handler import CALL_TYPE

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
    client, body = sync.client(), envelope(args, kwargs)
    if follower is None:
        answer = sync.wait(ask(client, address, body))
    else:
        answer = sync.wait(follower.beside(client, ask(client, address, body, (("User-Agent", printed.AGENT),))))
    return values.decode(answer.body) if answer.stream is None else yielded.Parts(answer.stream)


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


async def aio(client: Client, address: str, body: bytes) -> Any:
    """Call the function with an envelope, and return what `call` returns, to be awaited in any event loop."""
    answer = await sync.elsewhere(ask(client, address, body))
    return values.decode(answer.body) if answer.stream is None else yielded.AsyncParts(answer.stream)


def envelope(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Return the arguments of a call as they travel."""
    return values.encode({"args": list(args), "kwargs": dict(kwargs)})


async def send(client: Client, address: str, body: bytes) -> bytes:
    """Call the function at the address with an envelope and return its whole answer; what is yielded is a list."""
    answer = await ask(client, address, body)
    return answer.body if answer.stream is None else await yielded.whole(answer.stream)


async def ask(client: Client, address: str, body: bytes, more: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Call the function at the address with an envelope and return its answer as it came. Raises as `call` does.

    ``more`` are headers besides.
    """
    place, target, host = where(address)
    token = await client.token("functions")
    headers = (("Host", host), ("Authorization", f"Bearer {token.text}"), ("Content-Type", CALL_TYPE), *more)
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


@functools.lru_cache(64)
def where(address: str) -> tuple[Place, str, str]:
    """Return where to connect to, what to ask for, and which host to name, for a people's address."""
    parts = urlsplit(address)
    name, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    host = "127.0.0.1" if name == "localhost" or name.endswith(".localhost") else name
    return Place(host, port, secure), parts.path or "/", parts.netloc


def posts() -> Posts:
    """Return the connections of the running loop; a forked child has a loop of its own and so makes its own."""
    loop = asyncio.get_running_loop()
    if loop not in _posts:
        _posts[loop] = Posts()
    return _posts[loop]
