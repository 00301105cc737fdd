"""Runs on this machine: the `Workflows` port. Lives in the platform's process, as does the engine's desk (``desk``).

The journal is the truth: a run's record, one record for each of its steps, and an event for each change, always written
in one batch. The platform never loads a person's value or code; values and bundles lie in the account's own folder. Not
here: deciding what runs next (``engine``). Rejected: all steps inside the run's record (each change of a wide fan-out
would write the whole run again).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from ropewalk_core import beneath
from ropewalk_core.artifacts import ArtifactStore, streamed
from ropewalk_core.errors import BadWorkflow, Conflict, NotFound
from ropewalk_core.flows import Run, RunSpec, Step, StepInputs
from ropewalk_core.journal import Journal, Operation, Put, Record
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import Actor, LogLine
from ropewalk_core.placement import Inventory, fit
from ropewalk_core.settings import Settings
from ropewalk_runtime import bundle as bundles
from ropewalk_workflows import memo, required
from ropewalk_workflows.accepted import Accepted, check, check_secrets, digest_of, given_values
from ropewalk_workflows.desk import Desk
from ropewalk_workflows.engine.points import Crash, nowhere
from ropewalk_workflows.engine.wire import Batch, Recorded, WantedPage
from ropewalk_workflows.inputs import step_inputs
from ropewalk_workflows.logs import follow_log
from ropewalk_workflows.manifest import Manifest, read
from ropewalk_workflows.records import OPEN, SPEC, STEP
from ropewalk_workflows.referred import whole


class LocalWorkflows(Accepted):
    """The port for one machine.

    Parameters
    ----------
    settings, journal
        Of the home.
    inventory
        What this machine has.
    prepare
        Makes an account's folders (``local.accounts.prepare``).
    fingerprint
        Names the account's Python environment, so that a changed one makes a run another one.
    built
        Returns the key of an account's environment with these requirements, made when missing.
    wall
        Unix time in seconds.
    crash
        Called at each point at which a kill is interesting (``engine.points``).
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        inventory: Inventory,
        *,
        prepare: Callable[[Settings, str], AccountPaths],
        fingerprint: Callable[[AccountPaths], str] = lambda paths: "",
        built: Callable[[str, Sequence[str]], Awaitable[str]] | None = None,
        wall: Callable[[], float] = time.time,
        crash: Crash = nowhere,
    ) -> None:
        super().__init__(journal, wall)
        self._settings, self._inventory = settings, inventory
        self._prepare, self._fingerprint, self._built = prepare, fingerprint, built
        self.desk = Desk(self._records, wall, self._earlier, crash=crash)
        """What the engine asks; its two methods are mounted on ``run/platform.sock``."""

    # The port

    async def submit(self, actor: Actor, owner: str, spec: RunSpec, *, key: str = "") -> Run:
        """See `Workflows.submit`."""
        spec = await asyncio.to_thread(whole, self._journal, owner, spec)
        spec = await self._equipped(owner, spec, await self._checked(owner, spec))
        paths = await asyncio.to_thread(self._prepare, self._settings, owner)
        digest = await asyncio.to_thread(lambda: digest_of(spec, self._fingerprint(paths)))
        async with self._records.lock(f"submit {owner}"):
            if (known := await self.known(actor, owner, spec, digest, key)) is not None:
                return known
            run = self.new(owner, spec, digest)
            await asyncio.to_thread(self._stage, paths, run.id, spec)
            await self._journal.write(*self.kept(run, spec, key))
        return run

    async def cancel(
        self, actor: Actor, owner: str, run: str, *, on_exit: bool = False, cause: str = "You stopped it."
    ) -> Run:
        """See `Workflows.cancel`."""
        await self._stopping(owner, run, cause, on_exit=on_exit)
        return await self.get(actor, owner, run)

    async def suspend(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.suspend`."""
        await self._held(owner, run, suspended=True)
        return await self.get(actor, owner, run)

    async def resume(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.resume`."""
        await self._held(owner, run, suspended=False)
        return await self.get(actor, owner, run)

    async def answer(
        self, actor: Actor, owner: str, run: str, steps: Sequence[str], *, ok: bool, message: str = ""
    ) -> Run:
        """See `Workflows.answer`."""
        await self._answered(owner, run, steps, ok=ok, message=message)
        return await self.get(actor, owner, run)

    async def retry(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.retry`."""
        spec = await self.spec(actor, owner, run)
        images = self._settings.environments.images
        equipped = await self._equipped(owner, spec, await asyncio.to_thread(read, spec.manifest, images))
        await self._again(owner, run, lambda: self._changed(owner, run, spec, equipped))
        return await self.get(actor, owner, run)

    async def check(self, actor: Actor, owner: str, spec: RunSpec) -> None:
        """See `Workflows.check`."""
        await self._checked(owner, await asyncio.to_thread(whole, self._journal, owner, spec))

    async def remove(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.remove`."""
        paths = AccountPaths(self._settings.home, owner)

        async def files(steps: Sequence[Record]) -> None:
            with contextlib.suppress(NotFound):  # a run that never began has no folder
                await asyncio.to_thread(beneath.remove, paths.root, ("runs", run))

        return await self._removed(owner, run, files)

    async def logs(
        self, actor: Actor, owner: str, run: str, step: str, *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """See `Workflows.logs`."""

        def attempt() -> tuple[int, bool]:
            record = self._journal.get(STEP, owner, f"{run}/{step}")
            if record is None:
                raise NotFound(f"The run '{run}' has no step '{step}'.", field="step")
            found = Step.model_validate(record.body["step"])
            return found.attempt, found.status.state.terminal

        self._records.run(owner, run)
        run, step = memo.origin(self._journal, owner, run, step)
        paths = AccountPaths(self._settings.home, owner)
        async for line in follow_log(paths, run, step, attempt, after=after, follow=follow):
            yield line

    async def artifact(self, actor: Actor, owner: str, run: str, digest: str) -> AsyncIterator[bytes]:
        """See `Workflows.artifact`."""
        found = await self.get(actor, owner, run)
        paths = AccountPaths(self._settings.home, owner)
        if any(one.digest == digest for step in found.steps for one in step.artifacts):
            store = ArtifactStore(paths.artifacts, anchor=paths.root)
            if text := await asyncio.to_thread(self._kept, owner, run, digest):
                return streamed(io.BytesIO(text))
        elif digest in await asyncio.to_thread(self.values, owner, run):
            return await asyncio.to_thread(self._value, paths, run, digest)
        else:
            raise NotFound("There is no such artifact in this run.", field="digest")
        await asyncio.to_thread(store.verify, digest)
        return streamed(await asyncio.to_thread(store.open, digest))

    async def inputs(self, actor: Actor, owner: str, run: str, step: str) -> StepInputs:
        """See `Workflows.inputs`."""
        images = self._settings.environments.images
        return await asyncio.to_thread(step_inputs, self._records, images, owner, run, step)

    async def cancel_all(self, owner: str, cause: str) -> None:
        """Stop every run of an account that has not ended."""
        for name in [one.name for one in self._journal.page(OPEN, owner, limit=100_000)]:
            await self.cancel(Actor(account=owner), owner, name, cause=cause)

    async def environments(self) -> set[str]:
        """Return the keys of environments of requirements that runs need which have not ended."""
        return await asyncio.to_thread(self._environments)

    async def internal_runs(self, after: str) -> WantedPage:
        """See `Desk.runs`."""
        return await self.desk.runs(after)

    async def record_events(self, batch: Batch) -> Recorded:
        """See `Desk.record`."""
        return await self.desk.record(batch)

    async def _checked(self, owner: str, spec: RunSpec) -> Manifest:
        images = self._settings.environments.images
        manifest = await asyncio.to_thread(check, spec, self._settings, images, lambda one: fit(one, self._inventory))
        check_secrets(self._journal, owner, manifest)
        required.wanted(manifest)
        return manifest

    async def _equipped(self, owner: str, spec: RunSpec, manifest: Manifest) -> RunSpec:
        """Return a wish that says which environment each of its steps runs in; missing ones are made."""
        wanted = required.wanted(manifest)
        if wanted and self._built is None:
            raise BadWorkflow("Steps have no requirements of their own here.", field="requirements")
        keys = {lines: await self._built(owner, lines) for lines in sorted({*wanted.values()})} if self._built else {}
        changed = required.equipped(spec.manifest, {name: keys[lines] for name, lines in wanted.items()})
        return spec if changed is spec.manifest else spec.model_copy(update={"manifest": dict(changed)})

    def _changed(self, owner: str, run: str, before: RunSpec, after: RunSpec) -> list[Operation]:
        """Return what keeps a run's changed manifest."""
        record = self._journal.get(SPEC, owner, run)
        if after is before or record is None:
            return []
        return [Put(SPEC, owner, run, {**record.body, "manifest": dict(after.manifest)})]

    def _environments(self) -> set[str]:
        opened = [self._journal.get(SPEC, one.owner, one.name) for one in self._journal.page(OPEN, limit=100_000)]
        return {key for one in opened if one is not None for key in required.named(one.body["manifest"])}

    def _earlier(self, owner: str, spec: RunSpec, most: int) -> tuple[str, dict[str, dict[str, Any]]]:
        """Return what names the packages of an account, and what its earlier runs have of a run's steps. Blocks."""
        paths = AccountPaths(self._settings.home, owner)
        environment = self._fingerprint(paths)
        has = ArtifactStore(paths.artifacts, anchor=paths.root).has
        found = memo.remembered(self._journal, owner, spec, environment, has, most) if most > 0 else {}
        return environment, found

    def _kept(self, owner: str, run: str, digest: str) -> bytes:
        """Return a short result as the journal has it, since a power cut may have taken its file; nothing for others.

        What it says it is came from a sandbox.
        """
        for record in self._records.steps(owner, run):
            for one in record.body["fact"].get("artifacts", {}).values():
                if one.get("digest") == digest and one.get("json"):
                    text = str(one["json"]).encode()
                    return text if hashlib.sha256(text).hexdigest() == digest else b""
        return b""

    def _value(self, paths: AccountPaths, run: str, digest: str) -> AsyncIterator[bytes]:
        """Return a value that came with a run, unless somebody changed it since."""
        with beneath.read(paths.root, ("runs", run, "values", digest)) as file:
            content = file.read(self._settings.limits.payload + 1)
        if hashlib.sha256(content).hexdigest() != digest:
            raise Conflict("The value was changed on disk and cannot be used.", field="digest")
        return streamed(io.BytesIO(content))

    # Submitting

    def _stage(self, paths: AccountPaths, run: str, spec: RunSpec) -> None:
        """Put values and code where the run's steps read them. A run that is not accepted leaves an unused folder."""
        for digest, content in given_values(spec, self._settings.limits.payload):
            _put(paths, ("runs", run, "values", digest), content)
        for digest, bundle in spec.bundles.items():
            folder = ("runs", run, "bundles", digest)
            for name, source in bundle.files.items():
                _put(paths, (*folder, *beneath.split(name)), source.encode())
            facts = bundle.model_dump(mode="json", exclude={"files"})
            _put(paths, (*folder, bundles.FILE), json.dumps(facts).encode())


def _put(paths: AccountPaths, parts: tuple[str, ...], content: bytes) -> None:
    with beneath.replacing(paths.root, parts) as file:
        file.write(content)
        file.settle()
