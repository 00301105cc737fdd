"""The guards of workflows and saved workflows: as those of ``guard``, apart because workflows have many verbs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from ropewalk_core.flows import Comparison, Run, RunSpec, Saved, SavedSpec, StepInputs
from ropewalk_core.guard import check, seen, seen_page, watched
from ropewalk_core.model import Actor, LogLine, Page
from ropewalk_core.ports import SavedWorkflows, Workflows


class GuardedWorkflows:
    """`Workflows` behind policy."""

    def __init__(self, inner: Workflows) -> None:
        self._inner = inner

    async def check(self, actor: Actor, owner: str, spec: RunSpec) -> None:
        """See `Workflows.check`."""
        check(actor, "write", "run", owner)
        await self._inner.check(actor, owner, spec)

    async def submit(self, actor: Actor, owner: str, spec: RunSpec, *, key: str = "") -> Run:
        """See `Workflows.submit`."""
        check(actor, "write", "run", owner)
        return await self._inner.submit(actor, owner, spec, key=key)

    async def get(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.get`."""
        return seen(check(actor, "get", "run", owner), await self._inner.get(actor, owner, run))

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Run]:
        """See `Workflows.list`."""
        allowed = check(actor, "list", "run", owner)
        return seen_page(allowed, await self._inner.list(actor, owner, after=after, limit=limit))

    async def compare(
        self, actor: Actor, owner: str, name: str, *, steps: Sequence[str] = (), limit: int = 1000
    ) -> Comparison:
        """See `Workflows.compare`."""
        check(actor, "logs", "run", owner)  # arguments and results, of which policy gives outlines to nobody
        return await self._inner.compare(actor, owner, name, steps=steps, limit=limit)

    async def cancel(self, actor: Actor, owner: str, run: str, *, on_exit: bool = False) -> Run:
        """See `Workflows.cancel`."""
        check(actor, "write", "run", owner)
        return await self._inner.cancel(actor, owner, run, on_exit=on_exit)

    async def suspend(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.suspend`."""
        check(actor, "write", "run", owner)
        return await self._inner.suspend(actor, owner, run)

    async def resume(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.resume`."""
        check(actor, "write", "run", owner)
        return await self._inner.resume(actor, owner, run)

    async def answer(
        self, actor: Actor, owner: str, run: str, steps: Sequence[str], *, ok: bool, message: str = ""
    ) -> Run:
        """See `Workflows.answer`."""
        check(actor, "write", "run", owner)
        return await self._inner.answer(actor, owner, run, steps, ok=ok, message=message)

    async def retry(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.retry`."""
        check(actor, "write", "run", owner)
        return await self._inner.retry(actor, owner, run)

    async def remove(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.remove`."""
        check(actor, "remove", "run", owner)
        return await self._inner.remove(actor, owner, run)

    def logs(
        self, actor: Actor, owner: str, run: str, step: str, *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """See `Workflows.logs`."""
        check(actor, "logs", "run", owner)
        return self._inner.logs(actor, owner, run, step, after=after, follow=follow)

    def watch(self, actor: Actor, owner: str, *, run: str = "", after: int = 0) -> AsyncIterator[tuple[Run, int]]:
        """See `Workflows.watch`."""
        return watched(check(actor, "watch", "run", owner), self._inner.watch(actor, owner, run=run, after=after))

    async def artifact(self, actor: Actor, owner: str, run: str, digest: str) -> AsyncIterator[bytes]:
        """See `Workflows.artifact`."""
        check(actor, "logs", "run", owner)  # content, of which policy gives outlines to nobody
        return await self._inner.artifact(actor, owner, run, digest)

    async def inputs(self, actor: Actor, owner: str, run: str, step: str) -> StepInputs:
        """See `Workflows.inputs`."""
        check(actor, "logs", "run", owner)  # code and values, as above
        return await self._inner.inputs(actor, owner, run, step)

    async def spec(self, actor: Actor, owner: str, run: str) -> RunSpec:
        """See `Workflows.spec`."""
        check(actor, "logs", "run", owner)  # code, as above
        return await self._inner.spec(actor, owner, run)


class GuardedSaved:
    """`SavedWorkflows` behind policy: they hold code, so they are their owner's alone, names too."""

    def __init__(self, inner: SavedWorkflows) -> None:
        self._inner = inner

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Saved]:
        """See `SavedWorkflows.list`."""
        check(actor, "logs", "run", owner)
        return await self._inner.list(actor, owner, after=after, limit=limit)

    async def get(self, actor: Actor, owner: str, name: str) -> Saved:
        """See `SavedWorkflows.get`."""
        check(actor, "logs", "run", owner)
        return await self._inner.get(actor, owner, name)

    async def save(self, actor: Actor, owner: str, spec: SavedSpec) -> Saved:
        """See `SavedWorkflows.save`."""
        check(actor, "write", "run", owner)
        return await self._inner.save(actor, owner, spec)

    async def remove(self, actor: Actor, owner: str, name: str) -> Saved:
        """See `SavedWorkflows.remove`."""
        check(actor, "remove", "run", owner)
        return await self._inner.remove(actor, owner, name)

    async def launch(
        self, actor: Actor, owner: str, name: str, given: Mapping[str, Any], *, fresh: bool = False, key: str = ""
    ) -> Run:
        """See `SavedWorkflows.launch`."""
        check(actor, "write", "run", owner)
        return await self._inner.launch(actor, owner, name, given, fresh=fresh, key=key)
