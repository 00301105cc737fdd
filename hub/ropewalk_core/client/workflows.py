"""Runs of workflows, and saved workflows, over REST."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from ropewalk_core.client.nouns import Resource
from ropewalk_core.flows import Comparison, Run, RunSpec, Saved, SavedSpec, StepInputs
from ropewalk_core.model import LogLine, Page


class WorkflowsClient(Resource):
    """The person's runs."""

    noun = "workflows"

    async def list(self, *, after: str = "", limit: int | None = None, owner: str = "") -> Page[Run]:
        """Return one page, newest first, without steps."""
        return await self._page(Run, await self._path(owner), after=after, limit=limit)

    async def all(self, *, owner: str = "") -> AsyncIterator[Run]:
        """Yield every run, newest first."""
        async for one in self._all(Run, await self._path(owner)):
            yield one

    async def get(self, run: str, *, owner: str = "") -> Run:
        """Return one run with its steps."""
        return await self._get(Run, await self._path(owner, run))

    async def compare(self, name: str, *, steps: Sequence[str] = (), limit: int = 1000, owner: str = "") -> Comparison:
        """Return the latest runs of a workflow with their numbers; of ``steps`` those in their results too."""
        asked = {"name": name, "step": list(steps), "limit": limit}
        return await self._get(Comparison, await self._path(owner, "compare"), asked)

    async def submit(self, spec: RunSpec, *, key: str = "", owner: str = "") -> Run:
        """Start a run; the same key returns the same run."""
        return await self._send(Run, "POST", await self._path(owner), spec.model_dump(mode="json"), key=key)

    async def cancel(self, run: str, *, on_exit: bool = False, owner: str = "") -> Run:
        """Stop the run."""
        asked = {"on_exit": "true"} if on_exit else {}
        return await self._send(Run, "POST", await self._path(owner, run, "cancel"), params=asked)

    async def suspend(self, run: str, *, owner: str = "") -> Run:
        """Have no further step start until the run is resumed."""
        return await self._send(Run, "POST", await self._path(owner, run, "suspend"))

    async def resume(self, run: str, *, owner: str = "") -> Run:
        """Have a suspended run go on, and end the pauses at which it stands."""
        return await self._send(Run, "POST", await self._path(owner, run, "resume"))

    async def answer(
        self, run: str, steps: Sequence[str], *, ok: bool = True, message: str = "", owner: str = ""
    ) -> Run:
        """End chosen pauses at which a run stands, by their identifiers: what follows goes on, or they failed."""
        asked = {"step": list(steps), "ok": str(ok).lower(), "message": message}
        return await self._send(Run, "POST", await self._path(owner, run, "answer"), params=asked)

    async def retry(self, run: str, *, owner: str = "") -> Run:
        """Run failed steps again."""
        return await self._send(Run, "POST", await self._path(owner, run, "retry"))

    async def remove(self, run: str, *, owner: str = "") -> Run:
        """Forget a run that has ended, with its steps, logs and working files."""
        return await self._send(Run, "DELETE", await self._path(owner, run))

    async def logs(
        self, run: str, step: str, *, after: int = 0, follow: bool = False, owner: str = ""
    ) -> AsyncIterator[LogLine]:
        """Yield a step's log lines; ``step`` is its identifier."""
        path = await self._path(owner, run, "steps", step, "logs")
        async for line in self._wire.log_lines(path, after=after, follow=follow):
            yield line

    async def artifact(self, run: str, digest: str, *, owner: str = "") -> AsyncIterator[bytes]:
        """Yield the content of one of the run's artifacts, or of a value that came with it."""
        async for chunk in self._wire.content(await self._path(owner, run, "artifacts", digest), fixed=True):
            yield chunk

    async def inputs(self, run: str, step: str, *, owner: str = "") -> StepInputs:
        """Return what a step was called with; ``step`` is its identifier."""
        return await self._get(StepInputs, await self._path(owner, run, "steps", step, "inputs"))

    async def spec(self, run: str, *, owner: str = "") -> RunSpec:
        """Return what the run was submitted with, its values left out."""
        return await self._get(RunSpec, await self._path(owner, run, "spec"))


class SavedClient(Resource):
    """The person's saved workflows."""

    noun = "saved-workflows"

    async def list(self, *, after: str = "", limit: int | None = None, owner: str = "") -> Page[Saved]:
        """Return one page by name, without manifests, code and values."""
        return await self._page(Saved, await self._path(owner), after=after, limit=limit)

    async def all(self, *, owner: str = "") -> AsyncIterator[Saved]:
        """Yield every one, by name."""
        async for one in self._all(Saved, await self._path(owner)):
            yield one

    async def get(self, name: str, *, owner: str = "") -> Saved:
        """Return one."""
        return await self._get(Saved, await self._path(owner, name))

    async def save(self, spec: SavedSpec, *, owner: str = "") -> Saved:
        """Keep a workflow, in place of another of its name."""
        return await self._send(Saved, "PUT", await self._path(owner, spec.name), spec.model_dump(mode="json"))

    async def remove(self, name: str, *, owner: str = "") -> Saved:
        """Forget one with its triggers; runs of it stay."""
        return await self._send(Saved, "DELETE", await self._path(owner, name))

    async def launch(
        self, name: str, given: Mapping[str, Any], *, fresh: bool = False, key: str = "", owner: str = ""
    ) -> Run:
        """Start a run of one with values for its arguments; the same key returns the same run."""
        body = {"arguments": dict(given), "fresh": fresh}
        return await self._send(Run, "POST", await self._path(owner, name, "launch"), body, key=key)
