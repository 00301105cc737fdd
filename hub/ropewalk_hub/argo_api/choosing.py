"""Which workflows a list of Argo's clients is to hold, and one page of them. Not here: how selectors are read."""

from __future__ import annotations

import asyncio
import datetime

from fastapi import Request

from ropewalk_core.errors import BadInput, NotFound
from ropewalk_core.flows import Run
from ropewalk_hub.argo_api.common import Asked, number, option
from ropewalk_workflows.argo_server import objects, selectors
from ropewalk_workflows.argo_server.told import Told, told

_PAGE, _MOST = 100, 500


class Wants:
    """Which workflows of a list are asked for."""

    def __init__(self, request: Request, *, archived: bool = False) -> None:
        self.labels = selectors.labels(option(request, "listOptions.labelSelector"))
        self.fields = selectors.fields(option(request, "listOptions.fieldSelector"))
        self.name = selectors.only(self.fields, "metadata.name")
        self.loosely = option(request, "nameFilter") if self.name else ""
        if self.loosely not in ("", "Exact", "Prefix", "Contains"):
            raise BadInput("A filter of names is Exact, Prefix or Contains.", field="nameFilter")
        self.loosely = self.loosely.removeprefix("Exact")
        self.created, self.finished = _time(request, "createdAfter"), _time(request, "finishedBefore")
        self.archived = archived  # only those that have ended
        self.prefix = option(request, "namePrefix")
        self.limit = min(number(request, "listOptions.limit") or _MOST, _MOST)

    def met(self, told: Told) -> bool:
        """Say whether this one is asked for."""
        name = {"Prefix": told.name[: len(self.name)], "Contains": self.name if self.name in told.name else ""}
        known = {"metadata.name": name.get(self.loosely, told.name), "metadata.namespace": told.namespace}
        run = told.run
        return (
            (run.status.state.terminal or not self.archived)
            and told.name.startswith(self.prefix)
            and selectors.met(self.fields, known)
            and selectors.met(self.labels, objects.labels(told))
            and (self.created is None or run.created > self.created)
            and (self.finished is None or (run.ended is not None and run.ended < self.finished))
        )


async def page(here: Asked, wants: Wants, after: str) -> tuple[list[Told], str]:
    """Return what is wanted of a person's workflows, newest first, and where the next page begins, if there is one."""
    kept: list[Told] = []
    while True:
        found = await here.its.workflows.list(here.actor, here.owner, after=after, limit=_PAGE)
        for run, one in zip(found.items, await asyncio.to_thread(_all_told, here, found.items), strict=True):
            after = run.id
            if one is not None and wants.met(one):
                kept.append(one)
            if len(kept) == wants.limit:
                break
        full = len(kept) >= wants.limit
        more = bool(found.next) or (bool(found.items) and after != found.items[-1].id)
        if full or not found.next:
            return kept, after if full and more else ""


def _all_told(here: Asked, runs: tuple[Run, ...]) -> list[Told | None]:
    """Return each run with its wish, or nothing for one that was removed meanwhile. Blocks."""
    found: list[Told | None] = []
    for run in runs:
        try:
            found.append(told(here.records, run, here.namespace, steps=False))
        except NotFound:
            found.append(None)
    return found


def _time(request: Request, name: str) -> float | None:
    text = option(request, name)
    if not text:
        return None
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{text[:60]!r} is no time as in 2026-11-23T10:00:00Z.", field=name) from error
