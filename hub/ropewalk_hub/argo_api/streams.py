"""Streams as Argo Server sends them: one JSON object a line, with or without the marks of server-sent events.

The `argo` command takes any line of more than six letters for data, so what keeps a line open is a colon alone. A
stream ends with the sign-in that it was opened with, not with its token. Rejected: comments, names and numbers of
events; that client would read them as data.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from ropewalk_core.errors import RopewalkError
from ropewalk_hub.api.common import LOOK_AGAIN, as_error
from ropewalk_hub.argo_api.common import Asked
from ropewalk_workflows.argo_server import errors

_BEAT = ":\n"


def stream(request: Request, here: Asked, results: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    """Return results as they come; a failure in the middle is the last of them.

    Parameters
    ----------
    request
        Says in which of the two forms.
    here
        Who asks.
    results
        The objects.
    """
    events = "text/event-stream" in request.headers.get("accept", "")
    media_type = "text/event-stream" if events else "application/json"
    holds = here.its.issuer.lasting(here.actor)

    async def encode() -> AsyncIterator[str]:
        coming: asyncio.Future[dict[str, Any] | None] | None = None
        if events:
            yield _BEAT  # the client waits for the first byte of the answer
        try:
            while holds():
                coming = coming or asyncio.ensure_future(_following(results))
                done, _ = await asyncio.wait({coming}, timeout=LOOK_AGAIN)
                if not done:
                    if events:
                        yield _BEAT
                    continue
                one, coming = coming.result(), None
                if one is None:
                    return
                yield _line({"result": one}, events)
        except RopewalkError as error:
            yield _line({"error": errors.said(as_error(error))[1]}, events)
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            if close := getattr(results, "aclose", None):
                await close()

    return StreamingResponse(encode(), media_type=media_type, headers={"X-Accel-Buffering": "no"})


async def _following(results: AsyncIterator[dict[str, Any]]) -> dict[str, Any] | None:
    return await anext(results, None)


def _line(body: dict[str, Any], events: bool) -> str:
    text = json.dumps(body, separators=(",", ":"))
    return f"data: {text}\n\n" if events else f"{text}\n"
