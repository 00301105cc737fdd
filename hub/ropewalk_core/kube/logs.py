"""Logs: what a container wrote, line by line, and on after a cut. Speaks through ``api.py`` alone.

The API server knows no byte offset: lines are asked for with their time, counted from the first that is still kept,
and after a cut taken up behind the last time that was seen. Rejected: reading the whole log at each return.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from ropewalk_core.errors import NotFound, RopewalkError
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.kinds import POD, Object
from ropewalk_core.kube.transient import passes, wait_before
from ropewalk_core.model import LogLine
from ropewalk_core.ports import Clock

_LONGEST_SILENCE = 900.0


@dataclass
class _Place:
    """How far it was read: bytes so far, the last line's time, and how many lines had that very time."""

    offset: int = 0
    stamp: str = ""
    same: int = 0


async def read(
    api: Api, clock: Clock, namespace: str, pod: str, *, container: str = "", after: int = 0, follow: bool = False
) -> AsyncGenerator[LogLine, None]:
    """Yield the lines of a container after a byte offset; with ``follow`` until it has ended.

    Parameters
    ----------
    api, clock
        The cluster, and time to wait in.
    namespace, pod, container
        Whose log; a pod with one container needs no name for it.
    after
        `LogLine.offset` of the last line that is known. Bytes count from the first line that the node still keeps.
    follow
        Wait for more, also for a container that has not started.

    Raises
    ------
    NotFound
        If there is no such pod.
    Unavailable
        If it has not started, or the node does not answer, and ``follow`` is off.
    """
    place, failures = _Place(), 0
    while True:
        before, asked = place.offset, 0.0
        try:
            async with contextlib.aclosing(_once(api, namespace, pod, container, place, follow)) as lines:
                async for line in lines:
                    if line.offset > after:
                        yield line
            if not follow or await _ended(api, namespace, pod, container):
                return
        except NotFound:
            if not place.stamp:
                raise
            return
        except RopewalkError as error:
            if not (follow and passes(error)):
                raise
            asked = float(error.details.get("retry_after") or 0.0)
        failures = 1 if place.offset > before else failures + 1
        await clock.sleep(wait_before(failures, lambda: 1.0, first=0.1, longest=5.0, asked=asked))


async def _once(
    api: Api, namespace: str, pod: str, container: str, place: _Place, follow: bool
) -> AsyncGenerator[LogLine, None]:
    params = {"timestamps": "true"} | ({"container": container} if container else {})
    params |= {"follow": "true"} if follow else {}
    seen, skip = place.stamp, place.same
    params |= {"sinceTime": seen[:19] + "Z"} if seen else {}
    about = f"the log of '{pod}' in {namespace}"
    path, silence = POD.path(namespace, pod, "log"), _LONGEST_SILENCE if follow else 60.0
    async with api.open(path, params, about=about, silence=silence, rest=True) as lines:
        async for line in lines:
            stamp, _, text = line.decode("utf-8", "replace").partition(" ")
            if seen and _order(stamp) < _order(seen):
                continue
            if seen and stamp == seen and skip > 0:
                skip -= 1
                continue
            place.same = place.same + 1 if stamp == place.stamp else 1
            place.stamp = stamp
            place.offset += len(line) - len(stamp.encode())  # the blank stands for the line's end
            yield LogLine(offset=place.offset, text=text, at=_seconds(stamp))


async def _ended(api: Api, namespace: str, pod: str, container: str) -> bool:
    """Whether nothing more will be written; a container that will be started again is not at its end."""
    found = await api.get(POD, pod, namespace)
    status = found.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return True
    states: list[Object] = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    mine = [one for one in states if not container or one.get("name") == container]
    again = (found.get("spec") or {}).get("restartPolicy", "Always") == "Always"
    return bool(mine) and not again and all("terminated" in (one.get("state") or {}) for one in mine)


def _order(stamp: str) -> tuple[str, str]:
    """Return what orders times of nanoseconds, whose last zeros are left out."""
    whole, _, rest = stamp.removesuffix("Z").partition(".")
    return whole, rest.ljust(9, "0")


def _seconds(stamp: str) -> float:
    try:
        return datetime.datetime.fromisoformat(f"{stamp[:19]}+00:00").timestamp() + float(f"0.{stamp[20:-1] or 0}")
    except ValueError:
        return 0.0
