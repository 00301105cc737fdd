"""One call of a function, straight to the gateway: no database and no dashboard on this path.

Arguments travel in the envelope that ``ropewalk_runtime.handler`` documents, so that Python's positional and keyword
arguments mean on the platform what they mean here. A call is never repeated by itself: it may have taken effect.
Names under ``localhost`` do not resolve in every program, so such a call goes to the loopback address with the name
as its host. There is one body of a call, `send`, in the loop of ``ropewalk_core.sync``; who waits and who awaits share
it and its connections.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from ropewalk_core import sync
from ropewalk_core.client import Client
from ropewalk_core.client.wire import problem_of
from ropewalk_core.errors import Unavailable
from ropewalk_kernel import values
from ropewalk_kernel.posts import Broken, Place, Posts
from ropewalk_runtime.handler import CALL_TYPE

_LONGEST = 3700.0  # above the longest timeout a function may have; the gateway ends the call
_posts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Posts] = weakref.WeakKeyDictionary()


def call(address: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call the function at the address and return its answer as a Python value.

    Raises
    ------
    UserCodeFailed
        If the handler raised; the traceback is its own.
    RopewalkError
        What the gateway refused with, or `Unavailable`.
    """
    return values.decode(sync.wait(send(sync.client(), address, envelope(args, kwargs))))


def envelope(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Return the arguments of a call as they travel."""
    return values.encode({"args": list(args), "kwargs": dict(kwargs)})


async def send(client: Client, address: str, body: bytes) -> bytes:
    """Call the function at the address with an envelope and return its answer as it came. Raises as `call` does."""
    place, target, host = where(address)
    token = await client.token("functions")
    headers = (("Host", host), ("Authorization", f"Bearer {token.text}"), ("Content-Type", CALL_TYPE))
    try:
        answer = await posts().post(place, target, headers, body, _LONGEST)
    except Broken as error:
        raise Unavailable(f"The function's address does not answer ({error}).") from error
    if answer.status >= 400:
        raise problem_of(answer.status, answer.body, httpx.Headers(list(answer.headers)))
    return answer.body


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
