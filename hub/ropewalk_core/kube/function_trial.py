"""Following a revision that is being tried: its pods and what serves it, until the cluster has said what becomes of it.

Not here: what the verdict means for the journal (``function_judge.py``), and how it is read (``function_objects.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from ropewalk_core.errors import RopewalkError, TimedOut, Unavailable
from ropewalk_core.functions import LOAD_PATIENCE
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.function_objects import KNATIVE, REVISION, Place, Verdict, judge, labels_of
from ropewalk_core.kube.kinds import DEPLOYMENT, EVENT, KNATIVE_SERVICE, POD, Kind, Object
from ropewalk_core.kube.view import Happened
from ropewalk_core.ports import Clock
from ropewalk_core.tasks import heard

_LOOK = 2.0
_SETTLES = 4.0
"""Seconds in which what a pod waits for may pass by itself and is not worth a word."""


@dataclass(frozen=True)
class Trial:
    """Which revision, what serves it, and how long it may take to start."""

    how: str
    place: Place
    seconds: float


@dataclass
class _Seen:
    """What the cluster shows; ``synced`` once everything that is there was said."""

    served: Object | None = None
    synced: bool = False
    pods: dict[str, Object] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


def watched(how: str) -> Kind:
    """Return the kind of what serves functions."""
    return KNATIVE_SERVICE if how == KNATIVE else DEPLOYMENT


async def follow(api: Api, clock: Clock, trial: Trial) -> AsyncGenerator[Verdict, None]:
    """Yield what a revision waits for whenever that is worth a word, and at last what became of it."""
    seen, began = _Seen(), clock.steady()
    loads: float | None = None
    tasks = [asyncio.create_task(one) for one in (_serving(api, trial, seen), _pods(api, trial, seen))]
    try:
        while True:
            waited = clock.steady() - began
            verdict = judge(trial.how, trial.place, seen.served, seen.pods.values())
            if verdict.loading and loads is None:
                loads = clock.steady()
            if seen.synced and seen.served is None and not verdict.error:
                verdict = Verdict(gone=True)
            elif verdict.loading and loads is not None and clock.steady() - loads > LOAD_PATIENCE:
                verdict = Verdict(error=_too_slow())
            elif waited > trial.seconds and not verdict.ready:
                verdict = Verdict(error=_never(trial.seconds, verdict))
            if verdict.ready or verdict.gone or verdict.error is not None:
                yield verdict
                return
            if waited > _SETTLES and loads is None:
                yield await _with_events(api, trial, seen, verdict)
            seen.changed.clear()
            await heard(seen.changed, _LOOK)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serving(api: Api, trial: Trial, seen: _Seen) -> None:
    fields = {"metadata.name": trial.place.served(trial.how)}
    async with contextlib.aclosing(api.watch(watched(trial.how), trial.place.namespace, fields=fields)) as changes:
        async for change in changes:
            if change.happened is Happened.SYNCED:
                seen.synced = True
            else:
                seen.served = None if change.happened is Happened.REMOVED else change.object
            seen.changed.set()


async def _pods(api: Api, trial: Trial, seen: _Seen) -> None:
    labels = {**labels_of(trial.place.name), REVISION: trial.place.revision}
    async with contextlib.aclosing(api.watch(POD, trial.place.namespace, labels=labels)) as changes:
        async for change in changes:
            if change.happened is Happened.REMOVED:
                seen.pods.pop(change.key[1], None)
            elif change.happened is not Happened.SYNCED:
                seen.pods[change.key[1]] = change.object
            seen.changed.set()


async def _with_events(api: Api, trial: Trial, seen: _Seen, verdict: Verdict) -> Verdict:
    """Ask for the events about the pods where their own words do not say what they wait for."""
    if verdict.why is not None or not seen.pods:
        return verdict
    try:
        fields = {"involvedObject.kind": "Pod"}
        events = (await api.list(EVENT, trial.place.namespace, fields=fields)).items
    except RopewalkError:
        return verdict
    mine = [one for one in events if (one.get("involvedObject") or {}).get("name") in seen.pods]
    told = judge(trial.how, trial.place, seen.served, seen.pods.values(), mine)
    return replace(verdict, why=told.why)


def _too_slow() -> TimedOut:
    return TimedOut(
        f"The function's code did not load within {LOAD_PATIENCE:g} seconds.",
        hint="Do long work inside the function, not beside it.",
    )


def _never(seconds: float, verdict: Verdict) -> Unavailable:
    cause = f" {verdict.why.cause}" if verdict.why else ""
    return Unavailable(f"The function did not start within {seconds:g} seconds.{cause}", details={"wait": False})
