"""A step's log: from its pod while that is there, from the bucket afterwards. Both count the same bytes.

Not here: which pod or key (the step's record). Rejected: only the bucket (nothing to see while a step runs), and only
the pod (its log goes with it, and a node keeps the last ten megabytes).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from ropewalk_core.errors import NotFound, RopewalkError
from ropewalk_core.kube import logs
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.buckets import Bucket, Buckets
from ropewalk_core.kube.kinds import POD
from ropewalk_core.kube.transient import passes
from ropewalk_core.model import LogLine
from ropewalk_core.ports import Clock

_NODE, _OF_RUN = "workflows.argoproj.io/node-id", "workflows.argoproj.io/workflow"
_MAIN = "main"
_OF_ARGO = re.compile(r'^time="[^"]*" level=.* argo=true|^\{.*"argo":true')
_PAUSE = 0.5
_OVER = re.compile(r'^time="[^"]*" level=.* msg="sub-process exited" argo=true')
_LONGEST_LINE = 64 * 1024


@dataclass(frozen=True)
class Place:
    """Where a step's latest attempt writes: its number, Argo's node, and the key once it is kept."""

    attempt: int
    node: str
    key: str
    ended: bool


class StepLogs:
    """Logs of the steps in one namespace."""

    def __init__(self, api: Api, clock: Clock, buckets: Buckets, space: str) -> None:
        self._api, self._clock, self._buckets, self._space = api, clock, buckets, space

    async def read(
        self, run: str, place: Callable[[], Place], *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """Yield the lines after an offset of the latest attempt's log; see ``logs.follow_log``."""
        number, offset = place().attempt, after
        while True:
            now = place()
            if now.attempt != number:
                number, offset = now.attempt, 0
                if follow:
                    yield LogLine(offset=0, text=f"attempt {number}", stream="platform")
            async for line in self._attempt(run, now, offset, follow):
                offset = line.offset
                yield line
            if place().attempt == number and (now.ended or not follow):
                return
            await self._clock.sleep(_PAUSE)

    async def _attempt(self, run: str, place: Place, after: int, follow: bool) -> AsyncIterator[LogLine]:
        lines = self._stored(place.key, max(after, 0)) if place.key else self._live(run, place, max(after, 0), follow)
        if after >= 0:
            async for line in lines:
                yield line
            return
        last, end = deque[tuple[int, LogLine]](), 0
        async for line in lines:
            last.append((end, line))
            end = line.offset
            while last and last[0][0] < end + after:
                last.popleft()
        for _, line in last:
            yield line

    async def _live(self, run: str, place: Place, after: int, follow: bool) -> AsyncIterator[LogLine]:
        if not place.node:
            return
        pods = (await self._api.list(POD, self._space, labels={_OF_RUN: run})).items
        mine = [one for one in pods if (one["metadata"].get("annotations") or {}).get(_NODE) == place.node]
        if not mine:
            return
        name, offset, before, over = str(mine[0]["metadata"]["name"]), 0, 0, False
        try:
            async for line in logs.read(self._api, self._clock, self._space, name, container=_MAIN, follow=follow):
                size, before = line.offset - before, line.offset
                over = over or bool(_OVER.search(line.text))
                if over or _OF_ARGO.search(line.text):  # the bucket's copy has none of its own lines
                    continue
                offset += size
                if offset > after:
                    yield line.model_copy(update={"offset": offset})
        except NotFound:
            return
        except RopewalkError as error:
            if not passes(error):
                raise

    async def _stored(self, key: str, after: int) -> AsyncIterator[LogLine]:
        bucket: Bucket = self._buckets.of(self._space)
        offset, rest = after, b""
        try:
            async for piece in self._buckets.objects.pieces(bucket.keys, bucket.name, key, start=after):
                *whole, rest = (rest + piece).split(b"\n")
                for one in whole:
                    offset += len(one) + 1
                    yield LogLine(offset=offset, text=one.decode("utf-8", "replace").rstrip("\r"))
                while len(rest) > _LONGEST_LINE:
                    one, rest = rest[:_LONGEST_LINE], rest[_LONGEST_LINE:]
                    offset += len(one)
                    yield LogLine(offset=offset, text=one.decode("utf-8", "replace"))
        except NotFound:
            return
        if rest:
            yield LogLine(offset=offset + len(rest), text=rest.decode("utf-8", "replace"))
