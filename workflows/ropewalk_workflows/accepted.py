"""What every backend of workflows does alike: check a wish, keep it once, and read runs back from the journal.

A backend adds where values and code go, what carries a run out, and its logs. Not here: any of that. Rejected: asking
the backend for a run's state (a list of runs would ask a cluster for each).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from ropewalk_core import secrets
from ropewalk_core.comparison import MOST_RUNS
from ropewalk_core.errors import BadWorkflow, Conflict, NotFound, TooLarge
from ropewalk_core.flows import ON_EXIT, PAUSE, SUSPENDED, Comparison, Run, RunSpec, Step
from ropewalk_core.journal import Append, Journal, Operation, Put, Record, Remove
from ropewalk_core.model import Actor, Page, State, Status, Why
from ropewalk_core.placement import Placement
from ropewalk_core.settings import Settings
from ropewalk_workflows import compared, names
from ropewalk_workflows.engine.memo import TOUCHED
from ropewalk_workflows.inputs import values_of
from ropewalk_workflows.manifest import check_supplied, placement_of, read, secrets_of
from ropewalk_workflows.manifest.model import Manifest
from ropewalk_workflows.memo import LAST, forgotten
from ropewalk_workflows.named import allotted
from ropewalk_workflows.records import NAME, OPEN, RUN, SPEC, STEP, Records, dump

_KEY, DIGEST = "run-key", "run-digest"
_KEY_LIFE = 7 * 86400.0
"""Seconds for which a key is known; what a trigger fires may come again after a platform was away for days."""
_POLL = 5.0
_LARGEST_MANIFEST = 16 * 2**20
Operations: TypeAlias = list[Operation]
_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"


def check(
    spec: RunSpec, settings: Settings, images: Mapping[str, str], fits: Callable[[Placement], object]
) -> Manifest:
    """Refuse what could never run, before anything is kept, and return the manifest.

    Parameters
    ----------
    spec, settings
        The wish, and what it may use.
    images
        What an image name means here.
    fits
        Raises when no machine can ever satisfy a placement.
    """
    if len(json.dumps(spec.manifest)) > _LARGEST_MANIFEST:
        raise TooLarge(f"The manifest is larger than {_LARGEST_MANIFEST} bytes.", field="manifest")
    manifest = read(spec.manifest, images)
    for digest, bundle in spec.bundles.items():
        size = sum(len(text.encode()) for text in bundle.files.values())
        if size > settings.limits.bundle:
            raise TooLarge(
                f"The code of {bundle.entry} has {size} bytes; {settings.limits.bundle} are allowed.",
                field="limits.bundle",
            )
        if digest != bundle.digest or not _is_digest(digest):
            raise BadWorkflow("A bundle's digest is wrong.", field="bundles")
    check_supplied(manifest, images, spec.bundles, spec.values)
    if ".." in spec.folder.split("/"):
        raise BadWorkflow("The folder leaves your files.", field="folder")
    for template in manifest.spec.templates:
        if template.program is not None:
            fits(placement_of(template, manifest, f"spec.templates[{template.name}]"))
    return manifest


def check_secrets(journal: Journal, owner: str, manifest: Manifest) -> None:
    """Refuse a step that names a secret which the run's owner has not stored. Raises `NotFound`."""
    for template in manifest.spec.templates:
        field = f"secrets of {template.metadata.annotations.get(names.STEP, template.name)}"
        secrets.check_names(journal, owner, secrets_of(template, f"spec.templates[{template.name}]"), field=field)


def given_values(spec: RunSpec, most: int) -> Iterator[tuple[str, bytes]]:
    """Yield the values that came along, by digest.

    Raises
    ------
    BadWorkflow, TooLarge
        If one is not what its digest says, or has more than ``most`` bytes.
    """
    for digest, text in spec.values.items():
        try:
            content = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise BadWorkflow("A value is not base64.", field="values") from error
        if len(content) > most:
            raise TooLarge(
                f"An argument has {len(content)} bytes; {most} are allowed.",
                field="limits.payload",
                hint="Write it to a file and pass the file's name.",
            )
        if hashlib.sha256(content).hexdigest() != digest:
            raise BadWorkflow("A value's digest is wrong.", field="values")
        yield digest, content


def digest_of(spec: RunSpec, environment: str) -> str:
    """Return what makes two runs equal: what runs, where, and with which packages."""
    content = [spec.manifest, spec.folder, spec.name, environment]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def run_of_key(journal: Journal, owner: str, key: str) -> str | None:
    """Return the identifier of the run that was made for a key; None if that is not kept."""
    used = journal.get(_KEY, owner, key)
    return str(used.body["run"]) if used is not None else None


def _nothing() -> Operations:
    return []


class Accepted:
    """The half of the `Workflows` port that reads and writes nothing but the journal.

    Parameters
    ----------
    journal
        Of the home.
    wall
        Unix time in seconds.
    """

    def __init__(self, journal: Journal, wall: Callable[[], float] = time.time) -> None:
        self._journal, self._wall = journal, wall
        self._records = Records(journal)

    async def get(self, actor: Actor, owner: str, run: str) -> Run:
        """See `Workflows.get`."""
        return (await self._with_steps(owner, run))[0]

    async def _with_steps(self, owner: str, run: str) -> tuple[Run, list[Record]]:
        """Return a run, and the records of its steps."""
        record = self._records.run(owner, run)
        steps = await asyncio.to_thread(self._records.steps, owner, run)
        found = Run.model_validate(record.body["run"])
        shown = tuple(Step.model_validate(one.body["step"]) for one in steps)
        return found.model_copy(update={"steps": shown}), steps

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Run]:
        """See `Workflows.list`."""
        records = await asyncio.to_thread(self._journal.page, RUN, owner, after=after, limit=limit + 1, newest=True)
        runs = tuple(Run.model_validate(one.body["run"]) for one in records[:limit])
        return Page[Run](items=runs, next=runs[-1].id if len(records) > limit else "")

    async def compare(
        self, actor: Actor, owner: str, name: str, *, steps: Sequence[str] = (), limit: int = MOST_RUNS
    ) -> Comparison:
        """See `Workflows.compare`."""
        return await asyncio.to_thread(compared.read, self._journal, owner, name, steps, limit)

    async def spec(self, actor: Actor, owner: str, run: str) -> RunSpec:
        """See `Workflows.spec`."""
        record = await asyncio.to_thread(self._journal.get, SPEC, owner, run)
        if record is None:
            raise NotFound.named("workflows", f"There is no run '{run}'.", field="run")
        return RunSpec.model_validate(record.body).model_copy(update={"values": {}})

    async def watch(self, actor: Actor, owner: str, *, run: str = "", after: int = 0) -> AsyncIterator[tuple[Run, int]]:
        """See `Workflows.watch`."""
        cursor = after
        while True:
            seen = self._journal.cursor  # before the look: what comes during it ends the wait at once
            events = self._journal.events(after=cursor, kind=RUN, owner=owner, name=run)
            latest = {one.name: one.cursor for one in events}
            for name, place in sorted(latest.items(), key=lambda item: item[1]):
                cursor = place
                if self._journal.get(RUN, owner, name) is not None:  # else it was removed meanwhile
                    yield await self.get(actor, owner, name), place
            if not events:
                await self._journal.wait(seen, timeout=_POLL)

    def values(self, owner: str, run: str) -> set[str]:
        """Return the digests of the values that came with a run. Blocks."""
        record = self._journal.get(SPEC, owner, run)
        return values_of(RunSpec.model_validate(record.body)) if record is not None else set()

    # Submitting

    async def known(self, actor: Actor, owner: str, spec: RunSpec, digest: str, key: str) -> Run | None:
        """Return the run that this wish has already: of the same key, or an equal one. Ask it under the owner's lock.

        Raises
        ------
        Conflict
            If the key was used for another run.
        """
        used = self._journal.get(_KEY, owner, key) if key else None  # not `run_of_key`: its digest counts too
        if used is not None and self._journal.get(RUN, owner, str(used.body["run"])) is not None:
            if used.body["digest"] != digest:
                raise Conflict("This key was used for another run.", field="Idempotency-Key")
            return await self.get(actor, owner, str(used.body["run"]))
        return await self._same(owner, spec, digest)

    async def _same(self, owner: str, spec: RunSpec, digest: str) -> Run | None:
        """Return an equal run of our own kind that is under way or done, marked unchanged."""
        if spec.fresh or spec.saved or spec.source != "workflow":
            return None
        known = self._journal.get(DIGEST, owner, digest)
        if known is None or self._journal.get(RUN, owner, str(known.body["run"])) is None:
            return None
        run, steps = await self._with_steps(owner, str(known.body["run"]))
        if run.status.state in (State.FAILED, State.STOPPED, State.STOPPING):
            return None
        if run.status.state is State.DONE and (_has_its_own_rule(spec) or any(map(_touched, steps))):
            return None  # what its steps may take of it is decided for each
        return run.model_copy(update={"unchanged": True})

    def new(self, owner: str, spec: RunSpec, digest: str) -> Run:
        """Return a run of this wish, asked for now."""
        now = self._wall()
        return Run(
            id=_new_id(now),
            owner=owner,
            name=spec.name,
            status=Status(state=State.ASKED, since=now),
            arguments=spec.arguments,
            digest=digest,
            source=spec.source,
            folder=spec.folder,
            created=now,
        )

    def kept(self, run: Run, spec: RunSpec, key: str) -> Operations:
        """Return the operations that keep a new run; ask it under the owner's lock."""
        kept = spec.model_copy(update={"values": {}, "fresh": False})
        name = allotted(self._journal, run.owner, spec, run.id)
        last = self._journal.get(LAST, run.owner, spec.name)
        body = {"run": dump(run), "generation": 1, "cancel": False, "workflow": name, "fresh": spec.fresh}
        body |= {"before": last.body["run"]} if last is not None else {}
        body |= {"chain": spec.chain} if spec.chain else {}
        operations: Operations = [
            Put(RUN, run.owner, run.id, body, expect=0),
            Put(NAME, run.owner, name, {"run": run.id}, expect=0),
            Put(SPEC, run.owner, run.id, kept.model_dump(mode="json")),
            Put(OPEN, run.owner, run.id, {}),
            Put(DIGEST, run.owner, run.digest, {"run": run.id}),
            Put(LAST, run.owner, spec.name, {"run": run.id}),
            Append(RUN, run.owner, run.id, "asked", dump(run)),
        ]
        if key:
            asked = {"run": run.id, "digest": run.digest}
            operations.append(Put(_KEY, run.owner, key, asked, expires=self._wall() + _KEY_LIFE))
        return operations

    # Asking for an end, or for more

    async def _stopping(
        self, owner: str, run: str, cause: str, also: Callable[[], Operations] = _nothing, *, on_exit: bool = False
    ) -> bool:
        """Note that the run is to end, with what the backend adds; say whether that is news.

        One that is to end with its last step can still be ended without.
        """
        async with self._records.lock(f"{owner}/{run}"):
            record = self._records.run(owner, run)
            found = Run.model_validate(record.body["run"])
            if found.status.state.terminal or (record.body["cancel"] and (on_exit or not record.body.get("on_exit"))):
                return False
            note, goes_on = (ON_EXIT, {"suspended": False}) if on_exit else ("", {})
            status = Status(state=State.STOPPING, since=self._wall(), why=Why(cause=cause), note=note)
            found = found.model_copy(update={"status": status})
            await self._journal.write(
                Put(RUN, owner, run, {**record.body, "run": dump(found), "cancel": True, "on_exit": on_exit} | goes_on),
                Append(RUN, owner, run, "stopping", dump(found)),
                *also(),
            )
            return True

    async def _again(self, owner: str, run: str, also: Callable[[], Operations] = _nothing) -> bool:
        """Note that failed steps are to run again, with what the backend adds; say whether that is news.

        Raises
        ------
        Conflict
            If the run is done.
        """
        async with self._records.lock(f"{owner}/{run}"):
            record = self._records.run(owner, run)
            found = Run.model_validate(record.body["run"])
            if found.status.state == State.DONE:
                raise Conflict(
                    "The run is done; there is nothing to try again.", hint="Submit it again with fresh=True."
                )
            if not found.status.state.terminal:
                return False
            status = Status(state=State.ASKED, since=self._wall())
            found = found.model_copy(update={"status": status, "ended": None, "outputs": {}})
            number = record.body["generation"] + 1
            body = {**record.body, "run": dump(found), "generation": number}
            body |= {"cancel": False, "on_exit": False, "suspended": False, "answers": {}}
            await self._journal.write(
                Put(RUN, owner, run, body),
                Put(OPEN, owner, run, {}),
                Put(DIGEST, owner, found.digest, {"run": run}),
                *self._records.forgotten(owner, run),
                Append(RUN, owner, run, "asked", dump(found)),
                *also(),
            )
            return True

    async def _held(self, owner: str, run: str, *, suspended: bool, also: Callable[[], Operations] = _nothing) -> None:
        """Note that no further step is to start, or that all goes on and pauses end, with what the backend adds.

        Raises
        ------
        Conflict
            If the run has ended, or is about to.
        """
        async with self._records.lock(f"{owner}/{run}"):
            record = self._records.run(owner, run)
            found = Run.model_validate(record.body["run"])
            if found.status.state.terminal or record.body["cancel"]:
                raise Conflict("The run has ended, or is about to.", field="run", hint="Submit it again.")
            status = found.status.model_copy(update={"note": SUSPENDED if suspended else ""})
            found = found.model_copy(update={"status": status})
            number = int(record.body.get("held", 0)) + 1
            body = {**record.body, "run": dump(found), "suspended": suspended, "held": number}
            await self._journal.write(
                Put(RUN, owner, run, body if suspended else {**body, "resumed": self._wall()}),
                Append(RUN, owner, run, "held", dump(found)),
                *also(),
            )

    async def _answered(self, owner: str, run: str, steps: Sequence[str], *, ok: bool, message: str) -> None:
        """Note how pauses end at which a run stands; what was said of one first counts.

        Raises
        ------
        Conflict
            If the run has ended, or is about to, or does not stand there.
        """
        async with self._records.lock(f"{owner}/{run}"):
            record = self._records.run(owner, run)
            found = Run.model_validate(record.body["run"])
            if found.status.state.terminal or record.body["cancel"]:
                raise Conflict("The run has ended, or is about to.", field="run", hint="Submit it again.")
            before = record.body.get("answers", {})
            for step in steps:
                kept = self._journal.get(STEP, owner, f"{run}/{step}")
                status = Step.model_validate(kept.body["step"]).status if kept is not None else None
                if status is None or status.why is None or status.why.cause != PAUSE or step in before:
                    hint = "`ropewalk workflows get` shows at which pauses it stands."
                    raise Conflict(f"The run does not stand at a pause '{step}'.", field="step", hint=hint)
            answers = {**before, **{step: {"ok": ok, "message": message} for step in steps}}
            await self._journal.write(
                Put(RUN, owner, run, {**record.body, "answers": answers}),
                Append(RUN, owner, run, "held", dump(found)),
            )

    # Forgetting

    async def _removed(self, owner: str, run: str, files: Callable[[Sequence[Record]], Awaitable[None]]) -> Run:
        """Forget a run that has ended; first what lies elsewhere, so that a kill in between leaves it to be removed.

        Parameters
        ----------
        files
            Removes what the backend keeps, given the records of the run's steps.

        Raises
        ------
        Conflict
            If the run has not ended.
        """
        async with self._records.lock(f"{owner}/{run}"):
            record = self._records.run(owner, run)
            found = Run.model_validate(record.body["run"])
            if not found.status.state.terminal:
                raise Conflict("The run has not ended.", field="run", hint="Cancel it first, then remove it.")
            steps = await asyncio.to_thread(self._records.steps, owner, run)
            await files(steps)
            same = self._journal.get(DIGEST, owner, found.digest)
            alike = [Remove(DIGEST, owner, found.digest)] if same is not None and same.body["run"] == run else []
            await self._journal.write(
                *(Remove(STEP, owner, one.name) for one in steps),
                *(Remove(kind, owner, run) for kind in (RUN, SPEC, OPEN)),
                Remove(NAME, owner, str(record.body.get("workflow") or run)),
                *alike,
                *forgotten(self._journal, owner, run, steps),
                Append(RUN, owner, run, "removed", dump(found)),
            )
            return found


def _has_its_own_rule(spec: RunSpec) -> bool:
    """Say whether a step must run each time, or after some time."""
    annotations = ((one.get("metadata") or {}).get("annotations") or {} for one in spec.manifest["spec"]["templates"])
    return any(one.get(names.CACHE, "true") != "true" for one in annotations)


def _touched(step: Record) -> bool:
    """Say whether a step used what nobody compares: files, the network, other programs."""
    return bool(step.body["fact"].get("memo", {}).get("not") == TOUCHED)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _new_id(now: float) -> str:
    """Return an identifier that sorts by time: milliseconds in nine digits, then twenty random bits."""
    number = int(now * 1000)
    random = int.from_bytes(hashlib.sha256(f"{now}{time.perf_counter_ns()}".encode()).digest()[:3], "big")
    digits = "".join(_BASE32[(number >> (5 * place)) & 31] for place in range(8, -1, -1))
    return f"run-{digits}" + "".join(_BASE32[(random >> (5 * place)) & 31] for place in range(3, -1, -1))
