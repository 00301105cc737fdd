"""One call of a function, straight to the gateway: no database and no dashboard on this path.

Arguments travel in the envelope that ``ropewalk_runtime.handler`` documents, so that Python's positional and keyword
arguments mean on the platform what they mean here. A call is never repeated by itself: it may have taken effect.
Names under ``localhost`` do not resolve in every program, so such a call goes to the loopback address with the name
as its host.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from ropewalk_core import sync
from ropewalk_core.client.wire import problem_of
from ropewalk_core.errors import Unavailable
from ropewalk_kernel import values
from ropewalk_runtime.handler import CALL_TYPE

_LONGEST = 3700.0  # above the longest timeout a function may have; the gateway ends the call
_guard = threading.Lock()
_connections: dict[int, httpx.Client] = {}


def call(address: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call the function at the address and return its answer as a Python value.

    Raises
    ------
    UserCodeFailed
        If the handler raised; the traceback is its own.
    RopewalkError
        What the gateway refused with, or `Unavailable`.
    """
    token = sync.wait(sync.client().token("functions"))
    target, host = place(address)
    body = values.encode({"args": list(args), "kwargs": dict(kwargs)})
    headers = {"Authorization": f"Bearer {token.text}", "Content-Type": CALL_TYPE, "Host": host}
    try:
        answer = _http().post(target, content=body, headers=headers)
    except httpx.TransportError as error:
        raise Unavailable(f"The function's address does not answer ({type(error).__name__}).") from error
    if answer.is_error:
        raise problem_of(answer.status_code, answer.content, answer.headers)
    return values.decode(answer.content)


def place(address: str) -> tuple[str, str]:
    """Return where to connect to and which host to name, for a people's address."""
    parts = urlsplit(address)
    name = parts.hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://127.0.0.1{port}{parts.path or '/'}", parts.netloc
    return address, parts.netloc


def _http() -> httpx.Client:
    """Return this process's connections; a forked child makes its own."""
    with _guard:
        if os.getpid() not in _connections:
            _connections.clear()
            _connections[os.getpid()] = httpx.Client(trust_env=False, timeout=httpx.Timeout(_LONGEST, connect=5.0))
        return _connections[os.getpid()]
