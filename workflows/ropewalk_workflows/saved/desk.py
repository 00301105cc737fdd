"""The desk of saved workflows: keeps, lists, launches and removes them. The whole of the `SavedWorkflows` port.

The same on every backend: each is one record of the journal, and a launch is a run as any other. Not here: what a
launch makes of arguments (``launching``), and what launches one by itself (``ropewalk_core.triggers``). Rejected:
Argo's WorkflowTemplate and CronWorkflow objects on a cluster: what is missed while their controller is away is made up
for by other rules than ours, and code would have to be put where each run finds it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ropewalk_core.errors import BadInput, Conflict, NotFound, TooLarge
from ropewalk_core.flows import Run, RunSpec, Saved, SavedSpec
from ropewalk_core.journal import Append, Journal, Put, Record, Remove
from ropewalk_core.model import Actor, Page
from ropewalk_core.ports import Clock, Workflows
from ropewalk_core.settings import Limits
from ropewalk_core.triggers import records
from ropewalk_core.triggers.wishes import WORKFLOW
from ropewalk_workflows import referred
from ropewalk_workflows.accepted import run_of_key
from ropewalk_workflows.records import SAVED
from ropewalk_workflows.saved import launching

_LARGEST_VALUES = 2**20
"""Characters of values that come along; they are kept in the journal."""


class SavedDesk:
    """Keeps saved workflows.

    Parameters
    ----------
    journal, clock, limits
        Where they are kept, time, how many an account may have.
    workflows
        The backend's own port, which runs them.
    """

    def __init__(self, journal: Journal, clock: Clock, limits: Limits, workflows: Workflows) -> None:
        self._journal, self._clock, self._limits, self._workflows = journal, clock, limits, workflows
        self._locks: dict[str, asyncio.Lock] = {}

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Saved]:
        """See `SavedWorkflows.list`."""
        found = await asyncio.to_thread(self._journal.page, SAVED, owner, after=after, limit=limit + 1)
        items = tuple(_outline(_of(one)) for one in found[:limit])
        return Page[Saved](items=items, next=items[-1].name if len(found) > limit else "")

    async def get(self, actor: Actor, owner: str, name: str) -> Saved:
        """See `SavedWorkflows.get`."""
        return self.read(owner, name)

    def read(self, owner: str, name: str) -> Saved:
        """Return one as it is kept, or raise `NotFound`."""
        record = self._journal.get(SAVED, owner, name)
        if record is None:
            raise NotFound.named("workflows", f"There is no saved workflow '{name[:60]}'.", field="name")
        return _of(record)

    def there(self, owner: str, name: str) -> bool:
        """Say whether an account has one of this name."""
        return self._journal.get(SAVED, owner, name) is not None

    async def save(self, actor: Actor, owner: str, spec: SavedSpec) -> Saved:
        """See `SavedWorkflows.save`."""
        spec = spec.model_copy(update={"run": _plain(spec.run, spec.name)})
        whole = await asyncio.to_thread(self._whole, owner, spec)
        spec = spec.model_copy(update={"arguments": whole.arguments, "types": whole.types})
        launching.check(spec)
        if sum(map(len, spec.run.values.values())) > _LARGEST_VALUES:
            hint = "Keep it in a file, and have a step read that."
            raise TooLarge(f"Fixed values may have {_LARGEST_VALUES} characters.", field="values", hint=hint)
        await self._workflows.check(actor, owner, launching.trial(whole))
        digest = hashlib.sha256(json.dumps(spec.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
        async with self._locks.setdefault(owner, asyncio.Lock()):
            record = self._journal.get(SAVED, owner, spec.name)
            if record is None and self._count(owner) >= self._limits.saved_workflows:
                hint = "Remove one that is not needed: ropewalk workflows forget NAME."
                most = self._limits.saved_workflows
                raise BadInput(f"You may have {most} saved workflows.", field="limits.saved_workflows", hint=hint)
            before = _of(record) if record is not None else None
            if before is not None and before.digest == digest:
                return before
            saved = self._next(owner, spec, digest, before)
            await self._journal.write(
                Put(SAVED, owner, spec.name, saved.model_dump(mode="json"), expect=record.version if record else 0),
                Append(SAVED, owner, spec.name, "saved", _outline(saved).model_dump(mode="json")),
            )
        return saved

    async def remove(self, actor: Actor, owner: str, name: str) -> Saved:
        """See `SavedWorkflows.remove`."""
        async with self._locks.setdefault(owner, asyncio.Lock()):
            saved = self.read(owner, name)
            await self._journal.write(
                Remove(SAVED, owner, name),
                *records.forgetting(self._journal, owner, WORKFLOW, name),
                Append(SAVED, owner, name, "removed", _outline(saved).model_dump(mode="json")),
            )
        return saved

    async def launch(
        self, actor: Actor, owner: str, name: str, given: Mapping[str, Any], *, fresh: bool = False, key: str = ""
    ) -> Run:
        """See `SavedWorkflows.launch`."""
        saved = await asyncio.to_thread(self._whole, owner, self.read(owner, name).spec)
        spec = launching.launched(saved, given, fresh=fresh)
        return await self._workflows.submit(actor, owner, spec, key=key)

    async def fired(self, owner: str, name: str, event: Mapping[str, Any], *, key: str, chain: int) -> Run:
        """Start the run of a trigger's firing, every step of it; the same key returns the run that it made.

        Raises
        ------
        NotFound
            If the workflow was removed.
        BadInput
            If it has an argument by now that neither a default nor the firing gives.
        """
        actor = Actor(account=owner)
        saved = await asyncio.to_thread(self._whole, owner, self.read(owner, name).spec)
        spec = launching.launched(saved, launching.told(saved, event), fresh=True, chain=chain)
        try:
            return await self._workflows.submit(actor, owner, spec, key=key)
        except Conflict:  # it was saved anew since the run was made
            if (run := run_of_key(self._journal, owner, key)) is None:
                raise
            return await self._workflows.get(actor, owner, run)

    def _whole(self, owner: str, spec: SavedSpec) -> SavedSpec:
        """Return it with what its manifest refers to, as that is now; a manifest itself says what it takes. Blocks."""
        if spec.run.source == "workflow":
            return spec
        run = referred.whole(self._journal, owner, spec.run)
        return spec.model_copy(update={"run": run, "arguments": launching.arguments_of(run.manifest), "types": {}})

    def _count(self, owner: str) -> int:
        return self._journal.weigh(SAVED, owner).get(owner, (0, 0))[0]

    def _next(self, owner: str, spec: SavedSpec, digest: str, before: Saved | None) -> Saved:
        now = self._clock.wall()
        created, version = (before.created, before.version + 1) if before is not None else (now, 1)
        return Saved(owner=owner, spec=spec, version=version, digest=digest, created=created, changed=now)


def _of(record: Record) -> Saved:
    return Saved.model_validate(record.body)


def _plain(run: RunSpec, name: str) -> RunSpec:
    """Return a run without what only a launch may say."""
    return run.model_copy(update={"name": name, "fresh": False, "saved": "", "chain": 0})


def _outline(saved: Saved) -> Saved:
    run = saved.spec.run.model_copy(update={"manifest": {}, "bundles": {}, "values": {}})
    return saved.model_copy(update={"spec": saved.spec.model_copy(update={"run": run})})
