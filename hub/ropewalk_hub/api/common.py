"""What all routes of the REST interface share: errors as bodies, limits of what is read, pages and streams.

Not here: who asks (``security``) and what may be done (``guard``, asked by the ports themselves). Rejected: exception
handlers of the whole application; pages answer errors as HTML, so each side translates its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive

from ropewalk_core.errors import BadInput, Internal, Limited, RopewalkError, TooLarge, Unavailable
from ropewalk_core.model import Actor, LogLine
from ropewalk_core.wrong import wrong
from ropewalk_hub.platform import Platform
from ropewalk_hub.problem import answer
from ropewalk_runtime.trace import Trace, read

CURSOR = "Ropewalk-Cursor"
LOOK_AGAIN = 4.0
"""Seconds after which a stream looks whether the sign-in that it was opened with has ended."""
_log = logging.getLogger(__name__)
_PATIENT = 8
"""How many times its limit of a body is read on for, so that its sender is told instead of cut off."""


class Problem(BaseModel):
    """The body of every answer that is not a success."""

    type: str = Field(default="about:blank", description="The address that explains the code")
    code: str = Field(description="Stable code such as RW-NOT-FOUND")
    message: str = Field(description="One clear sentence")
    hint: str = Field(description="What to do next")
    field: str | None = Field(default=None, description="The field, line or limit it is about")
    details: dict[str, Any] = Field(default_factory=dict)


def platform_of(request: Request) -> Platform:
    """Return the platform that answers."""
    platform: Platform = request.app.state.platform
    return platform


Its = Annotated[Platform, Depends(platform_of)]
After = Annotated[str, Query(max_length=200, description="The `next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=200, description="Entries in one page")]
Key = Annotated[
    str, Header(alias="Idempotency-Key", max_length=200, description="The same key again returns the same answer")
]
From = Annotated[int, Query(ge=0, description="Byte offset of the last line seen")]
Follow = Annotated[bool, Query(description="Go on while the log grows")]


class ApiRoute(APIRoute):
    """A route whose failures are `Problem` bodies, whose body is limited, and whose answer names the cursor."""

    limited = True

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with our translation around it."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            platform = platform_of(request)
            cursor = platform.journal.cursor
            try:
                if self.limited:
                    limit = platform.settings.limits.payload
                    request = Request(request.scope, _limited(request.receive, limit, request.headers))
                response = await inner(request)
            except ClientDisconnect:
                raise
            except Exception as error:  # noqa: BLE001  # the boundary: what is not ours becomes RW-INTERNAL, and a log line
                response = self.failed(as_error(error), platform)
            response.headers[CURSOR] = str(cursor)
            return response

        return handle

    def failed(self, error: RopewalkError, platform: Platform) -> Response:
        """Return the answer for a failure."""
        return answer(error, platform.settings.door.origin)


class UploadRoute(ApiRoute):
    """A route whose body is a stream without a limit of its own; a quota ends it."""

    limited = False


def as_error(error: Exception) -> RopewalkError:
    """Return one of our errors for any exception; an unforeseen one is logged with a mark that the person sees."""
    if isinstance(error, RopewalkError) and error.public:
        return error
    if isinstance(error, RequestValidationError):
        return wrong(error.errors())
    if isinstance(error, HTTPException) and isinstance(error.__cause__, RopewalkError):
        return as_error(error.__cause__)  # what we raised while the framework read the body
    if isinstance(error, HTTPException) and error.status_code < 500:
        return BadInput("The request's body cannot be read.", field="body")
    mark = secrets.token_hex(4)
    _log.error("internal error %s", mark, exc_info=error)
    return Internal(str(error), hint=f"Tell your administrator the code RW-INTERNAL and the mark {mark}.")


def _limited(receive: Receive, limit: int, headers: Mapping[str, str]) -> Receive:
    """Return a receive that refuses a body over the limit, as soon as that is known."""
    length, seen = headers.get("content-length", ""), 0

    async def receiving() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit or (length.isdigit() and int(length) > limit):
            while message.get("more_body") and seen < _PATIENT * limit:
                message = await receive()  # who still sends does not read our answer
                seen += len(message.get("body", b""))
            raise TooLarge(f"The request is larger than {limit} bytes.", field="limits.payload")
        return message

    return receiving


def ndjson(lines: AsyncIterator[LogLine], its: Platform, actor: Actor, after: int = 0) -> StreamingResponse:
    """Return log lines as one JSON object a line, as they come and for as long as the sign-in holds.

    An answer that has begun cannot become an error any more: what goes wrong then is its last line, with ``cut`` if it
    may pass.
    """
    holds, clock = its.issuer.lasting(actor), its.clock

    async def encode() -> AsyncIterator[str]:
        checked, offset = clock.steady(), after
        try:
            async for line in lines:
                if clock.steady() - checked >= LOOK_AGAIN:
                    checked = clock.steady()
                    if not holds():
                        return
                offset = line.offset
                yield _written(line)
        except RopewalkError as error:
            cut = isinstance(error, Unavailable | Limited)
            yield _written(LogLine(offset=offset, text=as_error(error).message, stream="platform", cut=cut))

    return StreamingResponse(encode(), media_type="application/x-ndjson")


def ndjson_or_problem(lines: AsyncIterator[LogLine], its: Platform, actor: Actor) -> StreamingResponse:
    """Return what is said while something is made, as JSON lines, as it is said; whoever closes it wants it no more.

    Empty lines come between when nothing is said. What goes wrong is the last line, ``{"problem": ...}``.
    """
    holds = its.issuer.lasting(actor)

    async def encode() -> AsyncIterator[str]:
        coming: asyncio.Future[LogLine | None] | None = None
        try:
            while holds():
                coming = coming or asyncio.ensure_future(_following(lines))
                done, _ = await asyncio.wait({coming}, timeout=LOOK_AGAIN)
                if not done:
                    yield "\n"
                    continue
                line, coming = coming.result(), None
                if line is None:
                    return
                yield _written(line)
        except Exception as error:  # noqa: BLE001  # the boundary, as of `ApiRoute`; the answer has begun
            said = as_error(error).problem(origin=its.settings.door.origin)
            yield json.dumps({"problem": said}) + "\n"
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            if close := getattr(lines, "aclose", None):
                await close()

    return StreamingResponse(encode(), media_type="application/x-ndjson")


async def _following(lines: AsyncIterator[LogLine]) -> LogLine | None:
    return await anext(lines, None)


def _written(line: LogLine) -> str:
    """Return the line as JSON; clients of an older notebook know no ``cut``, so it is there only when it is said."""
    return line.model_dump_json(exclude=None if line.cut else {"cut"}) + "\n"


def download(content: AsyncIterator[bytes], name: str) -> StreamingResponse:
    """Return somebody's bytes so that a browser saves and never renders them."""
    plain = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "_" for one in name)
    headers = {
        "Content-Disposition": f'attachment; filename="{plain or "file"}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return StreamingResponse(content, media_type="application/octet-stream", headers=headers)


def trace_of(request: Request) -> Trace | None:
    """Return the trace context of a request."""
    return read(request.headers.getlist("traceparent"), request.headers.getlist("tracestate"))


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error answers of a route for OpenAPI; every signed route may say 401."""
    return {status: {"model": Problem} for status in (401, *statuses)}
