"""Durable calls over HTTP, on the function's own address, with the token that calls it.

``POST`` with ``Prefer: respond-async`` (RFC 7240) answers 202 with a ``Location`` once the call is on disk; with an
``Idempotency-Key`` it may be sent again. ``GET`` of the location is where it stands, ``GET`` of ``<location>/result``
what it gave (200, 202 while it has not ended, or the problem that it failed with); ``POST`` of ``<location>/cancel``
and ``/replay`` do what they say. Not here: who asks (``app``), and what is done with a call (``durable``).
"""

from __future__ import annotations

import json
import math

from aiohttp import web

from ropewalk_core.durable import Wish
from ropewalk_core.durable.shelves import function_of
from ropewalk_core.errors import BadInput, Denied, NotFound
from ropewalk_core.model import DurableCall, DurableResult, FunctionRoute
from ropewalk_hub.gateway.directory import Directory
from ropewalk_hub.gateway.durable import Durables
from ropewalk_hub.gateway.functions import TYPES
from ropewalk_hub.gateway.tokens import Caller
from ropewalk_runtime.trace import read

CALLS = "/_ropewalk/calls/"
LONGEST_WAIT = 20.0
_KEY = 200
_ACTS = frozenset({"cancel", "replay"})


def wanted(request: web.Request) -> bool:
    """Say whether a durable call is asked for."""
    preferences = ",".join(request.headers.getall("Prefer", [])).lower().split(",")
    return request.method == "POST" and any(one.partition(";")[0].strip() == "respond-async" for one in preferences)


def wish_of(
    route: FunctionRoute, caller: Caller, request: web.Request, payload: bytes, *, pinned: bool = False
) -> Wish:
    """Return what a request asks for.

    Raises
    ------
    Denied
        If somebody else may call the function, but its calls are their owner's to keep.
    BadInput
        If the key is too long, or it is asked at the address of one revision.
    """
    if caller.account != route.owner:
        raise Denied(
            "Only the owner of a function can have its calls carried out later.",
            hint="Leave out Prefer: respond-async.",
        )
    if pinned:
        hint = f"Ask at the address of '{route.name}' itself, or leave out Prefer: respond-async."
        raise BadInput("A durable call is no revision's own: each attempt goes where calls go then.", hint=hint)
    trace = read(request.headers.getall("traceparent", []), request.headers.getall("tracestate", []))
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > _KEY:
        raise BadInput(f"An idempotency key has at most {_KEY} characters.", field="Idempotency-Key")
    return Wish(
        owner=route.owner,
        function=route.name,
        caller=caller.account,
        payload=payload,
        content_type=_text(request.headers.get("Content-Type", "")[:200]),
        query=_text(request.rel_url.raw_query_string[:8192]),
        key=_text(key),
        traceparent=trace.parent if trace else "",
        tracestate=trace.state if trace else "",
    )


async def spawned(durables: Durables, wish: Wish) -> web.Response:
    """Accept a call, and say where it is."""
    call = await durables.accept(wish)
    return _answer(call, 202, {"Location": f"{CALLS}{call.id}", "Preference-Applied": "respond-async"})


async def asked(directory: Directory, owner: str, function: str, request: web.Request) -> web.Response:
    """Answer for one call: where it stands, what it gave, or what is to be done with it."""
    identifier, _, rest = request.path.removeprefix(CALLS).partition("/")
    if function_of(identifier) != function:
        raise NotFound(f"There is no such call of '{function}'.", hint="Use the Location of the answer to your call.")
    path = f"/internal/durable/{owner}/{identifier}"
    if request.method == "POST" and rest in _ACTS:
        return _answer(
            DurableCall.model_validate_json(await directory.exchange("POST", f"{path}/{rest}", apart=True)), 200, {}
        )
    if request.method != "GET" or rest not in ("", "result"):
        raise NotFound("There is nothing at this address.", hint="GET the call, or its /result.")
    if not rest:
        return _answer(DurableCall.model_validate_json(await directory.exchange("GET", path, apart=True)), 200, {})
    wait = _wait(request.query.get("wait", "0"))
    found = DurableResult.model_validate_json(
        await directory.exchange("GET", f"{path}/result?wait={wait:g}", wait=wait, apart=True)
    )
    if found.body is None:
        return _answer(found.call, 202, {"Location": f"{CALLS}{identifier}", "Retry-After": "1"})
    kind = found.content_type if found.content_type in TYPES else "application/octet-stream"
    return web.Response(body=found.body, headers=_HEADERS | {"Content-Type": kind, "X-Ropewalk-Call": found.call.call})


def _wait(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_WAIT:
        raise BadInput(f"'wait' must be seconds from 0 to {LONGEST_WAIT:g}.", field="wait")
    return seconds


def _text(given: str) -> str:
    """Return header text without what no journal holds: bytes that are no UTF-8 arrive as halves of pairs."""
    return given.encode(errors="replace").decode().replace("\0", "?")


_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def _answer(call: DurableCall, status: int, headers: dict[str, str]) -> web.Response:
    body = json.dumps(call.model_dump(mode="json"))
    return web.Response(text=body, status=status, content_type="application/json", headers=_HEADERS | headers)
