"""Runs on a cluster: the `Workflows` port by Argo. Lives in the platform's process.

A run's record and the wish to make it are one batch of the journal; code and values are in the bucket before that. Then
a Workflow of the run's own name is created at most once, and the cluster is the truth of what becomes of it. Not here:
the Workflow's text (``render``), bringing it there (``carrying``), seeing it through (``observer``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial

from ropewalk_core.errors import Conflict, NotFound
from ropewalk_core.flows import Run, RunSpec, Step, StepInputs
from ropewalk_core.journal import Record
from ropewalk_core.kube.buckets import Buckets
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.kinds import WORKFLOW
from ropewalk_core.kube.placement import place
from ropewalk_core.kube.volumes import ensure_files
from ropewalk_core.model import Actor, LogLine, State, Why
from ropewalk_workflows import names, required
from ropewalk_workflows.accepted import Accepted, check, check_secrets, digest_of
from ropewalk_workflows.argo import stores
from ropewalk_workflows.argo.carrying import CREATE, HOLD, RETRY, STOP, Carrier, ours
from ropewalk_workflows.argo.observer import Observer
from ropewalk_workflows.argo.render import Where, workflow
from ropewalk_workflows.argo.step_logs import Place, StepLogs
from ropewalk_workflows.inputs import step_inputs
from ropewalk_workflows.manifest.images import AnyImage
from ropewalk_workflows.records import OPEN, STEP
from ropewalk_workflows.referred import whole


class ArgoWorkflows(Accepted):
    """The port for a cluster with Argo Workflows.

    Parameters
    ----------
    ground
        What every port on a cluster is built on.
    buckets
        Where code, values and logs lie.
    """

    def __init__(self, ground: KubeGround, *, buckets: Buckets) -> None:
        settings, clock, api, space, site = ground.settings, ground.clock, ground.api, ground.space, ground.site
        super().__init__(ground.journal, clock.wall)
        self._settings, self._clock, self._api = settings, clock, api
        self._space, self._site, self._buckets = space, site, buckets
        self._carrier = Carrier(settings, self._records, clock, api, space, site, ground.intents)
        self._observer = Observer(settings, self._records, clock, api, space, buckets, self._carrier)
        self._files: set[str] = set()

    async def run(self) -> None:
        """See what becomes of runs, for ever."""
        await self._observer.run()

    # The port

    async def submit(self, actor: Actor, owner: str, spec: RunSpec, *, key: str = "") -> Run:
        """See `Workflows.submit`."""
        site = await self._site()
        fits = partial(place, site=site)
        spec = await asyncio.to_thread(whole, self._journal, owner, spec)
        manifest = await asyncio.to_thread(check, spec, self._settings, AnyImage(), fits)
        check_secrets(self._journal, owner, manifest)
        required.refused(manifest)
        digest = await asyncio.to_thread(digest_of, spec, self._settings.cluster.images.get("runner", ""))
        async with self._records.lock(f"submit {owner}"):
            if (known := await self.known(actor, owner, spec, digest, key)) is not None:
                return known
            space = await self._space(owner)
            self._observer.attend(owner)
            bucket = await self._buckets.ensure(space)
            if space not in self._files:
                await ensure_files(self._api, space, self._settings)
                self._files.add(space)
            await stores.put_inputs(self._buckets, bucket, spec, self._settings.limits.payload)
            run = self.new(owner, spec, digest)
            where = Where(owner, run.id, space)
            body = await asyncio.to_thread(workflow, spec, manifest, where, self._settings, site)
            await self._journal.write(*self.kept(run, spec, key), self._carrier.wish(owner, run.id, CREATE))
        self._carrier.drawn(owner, run.id, body)
        self._carrier.hurry(owner, run.id)
        self._observer.attend(owner)  # again: what came before may have taken long
        return run

    async def cancel(
        self, actor: Actor, owner: str, run: str, *, on_exit: bool = False, cause: str = "You stopped it."
    ) -> Run:
        """See `Workflows.cancel`."""
        if await self._stopping(owner, run, cause, lambda: [self._carrier.wish(owner, run, STOP)], on_exit=on_exit):
            self._carrier.hurry(owner, run)
            self._observer.attend(owner)
        return await self.get(actor, owner, run)

    async def suspend(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.suspend`."""
        return await self._hold(actor, owner, run, suspended=True)

    async def resume(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.resume`."""
        return await self._hold(actor, owner, run, suspended=False)

    async def answer(
        self, actor: Actor, owner: str, run: str, steps: Sequence[str], *, ok: bool, message: str = ""
    ) -> Run:
        """See `Workflows.answer`: refused, as nobody asks Argo for it yet."""
        raise Conflict(
            "Chosen pauses cannot be ended on a cluster.",
            field="step",
            hint="Resume the run: that ends all its pauses.",
        )

    async def retry(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.retry`."""
        record = self._records.run(owner, run)
        what = CREATE
        if Run.model_validate(record.body["run"]).status.state in (State.FAILED, State.STOPPED):
            what = RETRY if record.body.get("made") else CREATE
            if what == RETRY:
                await self._check_there(owner, run)
        if await self._again(owner, run, lambda: [self._carrier.wish(owner, run, what)]):
            self._carrier.hurry(owner, run)
            self._observer.attend(owner)
        return await self.get(actor, owner, run)

    async def check(self, actor: Actor, owner: str, spec: RunSpec) -> None:
        """See `Workflows.check`."""
        fits = partial(place, site=await self._site())
        spec = await asyncio.to_thread(whole, self._journal, owner, spec)
        manifest = await asyncio.to_thread(check, spec, self._settings, AnyImage(), fits)
        check_secrets(self._journal, owner, manifest)
        required.refused(manifest)

    async def remove(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.remove`."""

        async def files(steps: Sequence[Record]) -> None:
            space = await self._space(owner)
            with contextlib.suppress(NotFound):
                if ours(await self._api.get(WORKFLOW, run, space), run):
                    await self._api.delete(WORKFLOW, run, space)
            await stores.removed(self._buckets, self._buckets.of(space), _files_of(steps))

        return await self._removed(owner, run, files)

    async def logs(
        self, actor: Actor, owner: str, run: str, step: str, *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """See `Workflows.logs`."""

        def where() -> Place:
            record = self._journal.get(STEP, owner, f"{run}/{step}")
            if record is None:
                raise NotFound(f"The run '{run}' has no step '{step}'.", field="step")
            found = Step.model_validate(record.body["step"])
            node, key = str(record.body.get("node") or ""), str(record.body.get("log") or "")
            return Place(found.attempt, node, key, found.status.state.terminal)

        self._records.run(owner, run)
        where()
        reader = StepLogs(self._api, self._clock, self._buckets, await self._space(owner))
        async for line in reader.read(run, where, after=after, follow=follow):
            yield line

    async def artifact(self, actor: Actor, owner: str, run: str, digest: str) -> AsyncIterator[bytes]:
        """See `Workflows.artifact`."""
        for record in await asyncio.to_thread(self._records.steps, owner, run):
            for one in Step.model_validate(record.body["step"]).artifacts:
                key = (record.body.get("keys") or {}).get(one.name)
                if one.digest == digest and key:
                    bucket = self._buckets.of(await self._space(owner))
                    return await stores.verified(self._buckets, bucket, str(key), digest, one.size)
        if digest in await asyncio.to_thread(self.values, owner, run):
            bucket = self._buckets.of(await self._space(owner))
            return await stores.verified(self._buckets, bucket, f"{names.VALUES}{digest}", digest)
        raise NotFound("There is no such artifact in this run.", field="digest")

    async def inputs(self, actor: Actor, owner: str, run: str, step: str) -> StepInputs:
        """See `Workflows.inputs`."""
        return await asyncio.to_thread(step_inputs, self._records, AnyImage(), owner, run, step)

    async def stop_all(self, account: str, why: Why) -> None:
        """Stop every run of an account that has not ended."""
        await self.cancel_all(account, why.cause)

    async def cancel_all(self, owner: str, cause: str) -> None:
        """Stop every run of an account that has not ended."""
        for name in [one.name for one in self._journal.page(OPEN, owner, limit=100_000)]:
            await self.cancel(Actor(account=owner), owner, name, cause=cause)

    async def _hold(self, actor: Actor, owner: str, run: str, *, suspended: bool) -> Run:
        await self._held(owner, run, suspended=suspended, also=lambda: [self._carrier.hold(owner, run)])
        self._carrier.hurry(owner, run, HOLD)
        self._observer.attend(owner)
        return await self.get(actor, owner, run)

    async def _check_there(self, owner: str, run: str) -> None:
        try:
            await self._api.get(WORKFLOW, run, await self._space(owner))
        except NotFound as error:
            raise Conflict(
                "The cluster does not have this run any more.", hint="Submit the workflow again from your notebook."
            ) from error


def _files_of(steps: Sequence[Record]) -> list[str]:
    """Return where in the bucket the logs and files of a run's steps lie."""
    found = [str(one.body.get("log") or "") for one in steps]
    found += [str(key) for one in steps for key in (one.body.get("keys") or {}).values()]
    return [one for one in dict.fromkeys(found) if one]
