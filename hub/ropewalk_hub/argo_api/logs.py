"""Logs as `argo logs` reads them: lines of all pods of a workflow, or of one, each under its pod's name.

Pods have the names that the client itself computes; on one machine there are none, and the names are the same. Not
here: patterns and times of lines; a pattern that somebody sent is taken as plain text.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from ropewalk_core.errors import BadInput, RopewalkError
from ropewalk_core.flows import Run
from ropewalk_core.model import LogLine
from ropewalk_hub.argo_api.common import ArgoRoute, Asked, Here, number, option
from ropewalk_hub.argo_api.streams import stream
from ropewalk_workflows.argo_server import objects
from ropewalk_workflows.argo_server.nodes import nodes, pod_name

router = APIRouter(prefix="/api/v1", route_class=ArgoRoute)
_POLL, _PACE = 1.0, 0.2
"""Seconds between two looks at which steps there are: at most, and at least, as a wide run changes with each step."""
_ROOM = 1000
_UNKNOWN = {
    "logOptions.sinceSeconds": "Lines have no times here; leave --since out.",
    "logOptions.sinceTime": "Lines have no times here; leave --since-time out.",
    "logOptions.sinceTime.seconds": "Lines have no times here; leave --since-time out.",
    "selector": "Pods have no labels here; name a pod instead.",
}


@dataclass(frozen=True)
class _Wish:
    pod: str = ""
    follow: bool = False
    grep: str = ""
    tail: int | None = None


@router.get("/workflows/{namespace}/{name}/log")
@router.get("/workflows/{namespace}/{name}/{pod}/log")
async def workflow_logs(request: Request, here: Here, name: str, pod: str = "") -> StreamingResponse:
    """Return the lines of a workflow's steps, or of one of its pods."""
    for field, sentence in _UNKNOWN.items():
        if request.query_params.get(field):
            raise BadInput(sentence, field=field)
    wish = _Wish(
        pod=pod or option(request, "podName"),
        follow=option(request, "logOptions.follow") == "true",
        grep=option(request, "grep"),
        tail=number(request, "logOptions.tailLines"),
    )
    run = await here.get(name)
    if (option(request, "logOptions.container") or "main") != "main":
        return stream(request, here, _nothing())
    goes_on = wish.follow and not run.status.state.terminal
    return stream(request, here, _followed(here, run, wish) if goes_on else _all(here, run, wish))


async def _nothing() -> AsyncIterator[dict[str, Any]]:
    return
    yield {}  # which makes it a stream


async def _all(here: Asked, run: Run, wish: _Wish) -> AsyncIterator[dict[str, Any]]:
    """Yield what there is, one step after the other."""
    for step, pod in (await _pods(here, run, wish)).items():
        async for entry in _lines(here, run.id, step, pod, wish):
            yield entry


async def _followed(here: Asked, run: Run, wish: _Wish) -> AsyncIterator[dict[str, Any]]:
    """Yield lines of all steps as they are written, until the workflow has ended."""
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(_ROOM)

    async def pump(step: str, pod: str) -> None:
        try:
            async for entry in _lines(here, run.id, step, pod, wish):
                await queue.put(entry)
        except RopewalkError as error:  # of one step; the others go on
            await queue.put({"content": f"[{error.message}]", "podName": pod})

    async def look() -> None:
        seen: set[str] = set()
        async with asyncio.TaskGroup() as pumps:
            while True:
                cursor = here.its.journal.cursor
                latest = await here.its.workflows.get(here.actor, here.owner, run.id)
                if {one.id for one in latest.steps if one.attempt} - seen:
                    for step, pod in (await _pods(here, latest, wish)).items():
                        if step not in seen:
                            pumps.create_task(pump(step, pod))
                    seen |= {one.id for one in latest.steps if one.attempt}
                if latest.status.state.terminal:
                    break
                await here.its.journal.wait(cursor, timeout=_POLL)
                await asyncio.sleep(_PACE)
        await queue.put(None)

    looking = asyncio.create_task(look())
    try:
        while True:
            coming = asyncio.ensure_future(queue.get())
            await asyncio.wait({coming, looking}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                looking.result()  # it failed, or its last word is in the queue
                entry = queue.get_nowait() if not queue.empty() else None
            else:
                entry = coming.result()
            if entry is None:
                return
            yield entry
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def _pods(here: Asked, run: Run, wish: _Wish) -> dict[str, str]:
    """Return the steps that have begun and are asked for, each with the name of its latest pod."""
    known = await here.told(run)
    drawn, steps = await asyncio.to_thread(nodes, known, objects.phase(run))
    begun = {one.id for one in run.steps if one.attempt}
    pods: dict[str, str] = {}
    asked: set[str] = set()
    for identifier, step in steps.items():
        node = drawn[identifier]
        pod = pod_name(known.name, str(node["name"]), str(node.get("templateName") or ""))
        pods[step] = pod
        if wish.pod in ("", pod, identifier):
            asked.add(step)
    return {step: pod for step, pod in pods.items() if step in asked and step in begun}


async def _lines(here: Asked, run: str, step: str, pod: str, wish: _Wish) -> AsyncIterator[dict[str, Any]]:
    lines = here.its.workflows.logs(here.actor, here.owner, run, step, follow=wish.follow)
    chosen = lines if wish.tail is None or wish.follow else _last(lines, wish.tail)
    async for line in chosen:
        if line.stream != "platform" and wish.grep in line.text:
            yield {"content": line.text, "podName": pod}


async def _last(lines: AsyncIterator[LogLine], most: int) -> AsyncIterator[LogLine]:
    kept: deque[LogLine] = deque(maxlen=most)
    async for line in lines:
        kept.append(line)
    for line in kept:
        yield line
