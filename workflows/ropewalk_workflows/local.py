"""Runs on this machine: the `Workflows` port. Lives in the platform's process, as does the engine's desk (``desk``).

The journal is the truth: a run's record, one record for each of its steps, and an event for each change, always written
in one batch. The platform never loads a person's value or code; values and bundles lie in the account's own folder. Not
here: deciding what runs next (``engine``). Rejected: all steps inside the run's record (each change of a wide fan-out
would write the whole run again).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable

from ropewalk_core import beneath
from ropewalk_core.errors import BadWorkflow, Conflict, NotFound, TooLarge
from ropewalk_core.journal import Append, Journal, Operation, Put
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import Actor, LogLine, Page, Run, RunSpec, State, Status, Step, Why
from ropewalk_core.placement import Inventory, fit
from ropewalk_core.settings import Settings
from ropewalk_runtime import bundle as bundles
from ropewalk_workflows.desk import Desk
from ropewalk_workflows.engine.wire import Batch, WantedPage
from ropewalk_workflows.logs import follow_log
from ropewalk_workflows.manifest import check_supplied, placement_of, read
from ropewalk_workflows.records import OPEN, RUN, SPEC, STEP, Records, dump

_KEY, _DIGEST = "run-key", "run-digest"
_KEY_LIFE = 86400.0
_POLL = 5.0
_LARGEST_MANIFEST = 16 * 2**20
_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"


class LocalWorkflows:
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
    wall
        Unix time in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        inventory: Inventory,
        *,
        prepare: Callable[[Settings, str], AccountPaths],
        fingerprint: Callable[[AccountPaths], str] = lambda paths: "",
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._journal, self._inventory = settings, journal, inventory
        self._prepare, self._fingerprint, self._wall = prepare, fingerprint, wall
        self._records = Records(journal)
        self.desk = Desk(self._records, wall)
        """What the engine asks; its two methods are mounted on ``run/platform.sock``."""

    # The port

    async def submit(self, actor: Actor, owner: str, spec: RunSpec, *, key: str = "") -> Run:
        """See `Workflows.submit`."""
        await asyncio.to_thread(self._check, spec)
        paths = await asyncio.to_thread(self._prepare, self._settings, owner)
        digest = await asyncio.to_thread(self._digest, spec, paths)
        async with self._records.lock(f"submit {owner}"):
            if key and (known := self._journal.get(_KEY, owner, key)) is not None:
                if known.body["digest"] != digest:
                    raise Conflict("This key was used for another run.", field="Idempotency-Key")
                return await self.get(actor, owner, str(known.body["run"]))
            if (same := await self._same(actor, owner, spec, digest)) is not None:
                return same
            run = Run(
                id=_new_id(self._wall()),
                owner=owner,
                name=spec.name,
                status=Status(state=State.ASKED, since=self._wall()),
                arguments=spec.arguments,
                digest=digest,
                source=spec.source,
                folder=spec.folder,
                created=self._wall(),
            )
            await asyncio.to_thread(self._stage, paths, run.id, spec)
            kept = spec.model_copy(update={"values": {}, "fresh": False})
            operations: list[Operation] = [
                Put(RUN, owner, run.id, {"run": dump(run), "generation": 1, "cancel": False}, expect=0),
                Put(SPEC, owner, run.id, kept.model_dump(mode="json")),
                Put(OPEN, owner, run.id, {}),
                Put(_DIGEST, owner, digest, {"run": run.id}),
                Append(RUN, owner, run.id, "asked", dump(run)),
            ]
            if key:
                body = {"run": run.id, "digest": digest}
                operations.append(Put(_KEY, owner, key, body, expires=self._wall() + _KEY_LIFE))
            await self._journal.write(*operations)
        return run

    async def get(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.get`."""
        record = self._records.run(owner, run)
        steps = await asyncio.to_thread(self._records.steps, owner, run)
        found = Run.model_validate(record.body["run"])
        return found.model_copy(update={"steps": tuple(Step.model_validate(one.body["step"]) for one in steps)})

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Run]:
        """See `Workflows.list`."""
        records = await asyncio.to_thread(self._journal.page, RUN, owner, after=after, limit=limit + 1, newest=True)
        runs = tuple(Run.model_validate(one.body["run"]) for one in records[:limit])
        return Page[Run](items=runs, next=runs[-1].id if len(records) > limit else "")

    async def cancel(self, actor: Actor, owner: str, run: str, *, cause: str = "You stopped it.") -> Run:
        """See `Workflows.cancel`."""
        async with self._records.lock(f"{owner}/{run}"):
            record = self._records.run(owner, run)
            found = Run.model_validate(record.body["run"])
            if not found.status.state.terminal and not record.body["cancel"]:
                status = Status(state=State.STOPPING, since=self._wall(), why=Why(cause=cause))
                found = found.model_copy(update={"status": status})
                await self._journal.write(
                    Put(RUN, owner, run, {**record.body, "run": dump(found), "cancel": True}),
                    Append(RUN, owner, run, "stopping", dump(found)),
                )
        return await self.get(actor, owner, run)

    async def retry(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.retry`."""
        async with self._records.lock(f"{owner}/{run}"):
            record = self._records.run(owner, run)
            found = Run.model_validate(record.body["run"])
            if found.status.state == State.DONE:
                raise Conflict(
                    "The run is done; there is nothing to try again.", hint="Submit it again with fresh=True."
                )
            if found.status.state.terminal:
                status = Status(state=State.ASKED, since=self._wall())
                found = found.model_copy(update={"status": status, "ended": None, "outputs": {}})
                body = {"run": dump(found), "generation": record.body["generation"] + 1, "cancel": False}
                await self._journal.write(
                    Put(RUN, owner, run, body),
                    Put(OPEN, owner, run, {}),
                    Put(_DIGEST, owner, found.digest, {"run": run}),
                    *self._records.forgotten(owner, run),
                    Append(RUN, owner, run, "asked", dump(found)),
                )
        return await self.get(actor, owner, run)

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
        paths = AccountPaths(self._settings.home, owner)
        async for line in follow_log(paths, run, step, attempt, after=after, follow=follow):
            yield line

    async def watch(self, actor: Actor, owner: str, *, run: str = "", after: int = 0) -> AsyncIterator[tuple[Run, int]]:
        """See `Workflows.watch`."""
        cursor = after
        while True:
            seen = self._journal.cursor  # before the look: what comes during it ends the wait at once
            events = self._journal.events(after=cursor, kind=RUN, owner=owner, name=run)
            latest = {one.name: one.cursor for one in events}
            for name, place in sorted(latest.items(), key=lambda item: item[1]):
                cursor = place
                yield await self.get(actor, owner, name), place
            if not events:
                await self._journal.wait(seen, timeout=_POLL)

    async def cancel_all(self, owner: str, cause: str) -> None:
        """Stop every run of an account that has not ended."""
        for name in [one.name for one in self._journal.page(OPEN, owner, limit=100_000)]:
            await self.cancel(Actor(account=owner), owner, name, cause=cause)

    async def internal_runs(self, after: str) -> WantedPage:
        """See `Desk.runs`."""
        return await self.desk.runs(after)

    async def record_events(self, batch: Batch) -> int:
        """See `Desk.record`."""
        return await self.desk.record(batch)

    # Submitting

    def _check(self, spec: RunSpec) -> None:
        """Refuse what could never run, before anything is kept."""
        if len(json.dumps(spec.manifest)) > _LARGEST_MANIFEST:
            raise TooLarge(f"The manifest is larger than {_LARGEST_MANIFEST} bytes.", field="manifest")
        manifest = read(spec.manifest, self._settings.environments.images)
        for digest, bundle in spec.bundles.items():
            size = sum(len(text.encode()) for text in bundle.files.values())
            if size > self._settings.limits.bundle:
                raise TooLarge(
                    f"The code of {bundle.entry} has {size} bytes; {self._settings.limits.bundle} are allowed.",
                    field="limits.bundle",
                )
            if digest != bundle.digest or not _is_digest(digest):
                raise BadWorkflow("A bundle's digest is wrong.", field="bundles")
        check_supplied(manifest, self._settings.environments.images, spec.bundles, spec.values)
        if ".." in spec.folder.split("/"):
            raise BadWorkflow("The folder leaves your files.", field="folder")
        for template in manifest.spec.templates:
            if template.program is not None:
                fit(placement_of(template, manifest, f"spec.templates[{template.name}]"), self._inventory)

    def _digest(self, spec: RunSpec, paths: AccountPaths) -> str:
        content = [spec.manifest, spec.folder, spec.name, self._fingerprint(paths)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    async def _same(self, actor: Actor, owner: str, spec: RunSpec, digest: str) -> Run | None:
        """Return an equal run of our own kind that is under way or done, marked unchanged."""
        if spec.fresh or spec.source != "workflow":
            return None
        known = self._journal.get(_DIGEST, owner, digest)
        if known is None or self._journal.get(RUN, owner, str(known.body["run"])) is None:
            return None
        run = await self.get(actor, owner, str(known.body["run"]))
        if run.status.state in (State.FAILED, State.STOPPED, State.STOPPING):
            return None
        return run.model_copy(update={"unchanged": True})

    def _stage(self, paths: AccountPaths, run: str, spec: RunSpec) -> None:
        """Put values and code where the run's steps read them. A run that is not accepted leaves an unused folder."""
        for digest, text in spec.values.items():
            try:
                content = base64.b64decode(text, validate=True)
            except binascii.Error as error:
                raise BadWorkflow("A value is not base64.", field="values") from error
            if len(content) > self._settings.limits.payload:
                limit = self._settings.limits.payload
                raise TooLarge(
                    f"An argument has {len(content)} bytes; {limit} are allowed.",
                    field="limits.payload",
                    hint="Write it to a file and pass the file's name.",
                )
            if hashlib.sha256(content).hexdigest() != digest:
                raise BadWorkflow("A value's digest is wrong.", field="values")
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


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _new_id(now: float) -> str:
    """Return an identifier that sorts by time: milliseconds in nine digits, then twenty random bits."""
    number = int(now * 1000)
    random = int.from_bytes(hashlib.sha256(f"{now}{time.perf_counter_ns()}".encode()).digest()[:3], "big")
    digits = "".join(_BASE32[(number >> (5 * place)) & 31] for place in range(8, -1, -1))
    return f"run-{digits}" + "".join(_BASE32[(random >> (5 * place)) & 31] for place in range(3, -1, -1))
