"""Environments of requirements: which are there, who waits for one in the making, which may go.

Each lies under its key, the digest of its lock and of the Python that it is for, and is put there whole by one rename:
for everybody when all of it is wheels of a package index, else for the one account that asked. Accounts only read it.
Equal wishes are resolved once; what they were resolved to holds for as long as it is kept, so the same lines deploy at
once and give the same packages. Not here: making one (``building``), which lines are allowed (``requirements``), what
functions name (``local.functions``). Rejected: naming an environment by its lines (what they mean changes from day to
day), and links between accounts' folders (whoever owns one end could move it).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform as machine
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from ropewalk_core import beneath, requirements
from ropewalk_core.errors import BadInput, Denied, Internal, StorageFull, TimedOut, Unavailable
from ropewalk_core.local import accounts, building
from ropewalk_core.local.building import Building, Log, Python
from ropewalk_core.local.downloads import Downloads
from ropewalk_core.local.layout import BUILT, AccountPaths
from ropewalk_core.model import LogLine
from ropewalk_core.processes import Processes, run
from ropewalk_core.settings import Settings

AT_ONCE = 2
"""Builds that run at the same time; further ones wait."""
GRACE = 900.0
"""Seconds for which an environment is kept in any case: longer than a deploy takes that is about to name it."""
_WISHES, _CACHE, _OWN, _BUILT_FOR, _NEW, _OLD = "wishes", ".cache", "cache", ".built-for", ".new-", ".old-"
_KEY = re.compile(r"[0-9a-f]{32}")
_FACTS = (
    "import json, platform, sys, sysconfig; print(json.dumps({'version': platform.python_version(), "
    "'implementation': sys.implementation.cache_tag, 'platform': sysconfig.get_platform(), "
    "'libc': ' '.join(platform.libc_ver())}))"
)


@dataclass(frozen=True)
class Built:
    """An environment that is there: its key, its interpreter, and what it holds as ``name==version``."""

    key: str
    python: Path
    packages: tuple[str, ...]


@dataclass(eq=False)
class _Making:
    """A build that runs or waits, and for how many."""

    log: Log
    task: asyncio.Task[Built]
    waiting: int = 0
    refused: bool = False

    async def made(self) -> Built:
        """Return what it makes, whoever else waits for it or leaves."""
        try:
            return await asyncio.shield(self.task)
        except asyncio.CancelledError:
            if not self.refused or not self.task.cancelled():
                raise
        raise Denied("The account was deactivated, so nothing is built for it.")


class RequirementStore:
    """The environments of one home. One process has one.

    Parameters
    ----------
    settings
        The home's settings.
    needed
        Returns the keys that a kept revision names or a worker uses.
    """

    def __init__(self, settings: Settings, needed: Callable[[], Awaitable[Collection[str]]]) -> None:
        self._settings, self._root, self._needed = settings, settings.home / BUILT, needed
        self._processes = Processes(settings.run / "processes")
        self._making: dict[tuple[str, str], _Making] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._python: Python | None = None
        self._sweeping, self._swept = asyncio.Lock(), False
        self._downloads = Downloads(self._root / _CACHE, self._root / _OLD, settings.environments.build_size)

    # What functions ask

    async def ensure(self, account: str, lines: Sequence[str], requires_python: str = "") -> Built:
        """Return the environment for the lines, made when it is missing.

        Raises
        ------
        BadInput
            If a line is wrong, or there is no solution; in uv's own words.
        Unavailable
            If the package index does not answer.
        TooLarge, TimedOut, StorageFull
            If it is over a limit.
        """
        found = await self._begun(account, lines, requires_python)
        if isinstance(found, Built):
            return found
        async with self._waiting(found):
            return await found.made()

    async def log(self, account: str, lines: Sequence[str], requires_python: str = "") -> AsyncGenerator[LogLine, None]:
        """Do as `ensure`, and yield what is said meanwhile; nothing if it is there already."""
        found = await self._begun(account, lines, requires_python)
        if isinstance(found, Built):
            return
        async with self._waiting(found):
            at = 0
            while True:
                moved = found.log.moved
                for line in found.log.lines[at:]:
                    at += 1
                    yield line
                if found.task.done():
                    break
                stirring = asyncio.ensure_future(moved.wait())
                try:
                    await asyncio.wait({found.task, stirring}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    stirring.cancel()
            for line in found.log.lines[at:]:
                yield line
            await found.made()

    async def check_python(self, requires_python: str) -> str:
        """Return ``requires-python`` in one spelling, or raise `BadInput` if functions run on another Python."""
        return requirements.check_python(requires_python, (await self._interpreter()).version)

    async def end(self, account: str) -> None:
        """End what is being made for an account which may have nothing run any more; who waits for it is told so."""
        going = [making for (whose, _), making in self._making.items() if whose == account]
        for making in going:
            making.refused = True
            making.task.cancel()
        await asyncio.gather(*(making.task for making in going), return_exceptions=True)

    # Building

    async def _begun(self, account: str, lines: Sequence[str], requires_python: str) -> Built | _Making:
        """Return the environment, or who makes it."""
        wished = requirements.checked(lines)
        if not wished:
            raise BadInput("There are no requirements.", field="requirements")
        python = await self._interpreter()
        requirements.check_python(requires_python, python.version)
        request = requirements.request(wished, python.facts | building.index_variables(self._settings))
        if found := self._found(account, request, python):
            return found
        making = self._making.get((account, request))
        if making is None:
            log = Log(self._settings.environments.build_log)
            task = asyncio.create_task(self._made(log, account, request, wished, python))
            new = making = self._making[(account, request)] = _Making(log, task)
            task.add_done_callback(lambda _: self._forget(new))
        return making

    def _forget(self, making: _Making) -> None:
        """Let nobody join it any more."""
        self._making = {key: one for key, one in self._making.items() if one is not making}
        if making.task.done() and not making.task.cancelled():
            making.task.exception()  # those who wait are told; perhaps nobody does any more

    @contextlib.asynccontextmanager
    async def _waiting(self, making: _Making) -> AsyncIterator[None]:
        """Count who waits; when the last one leaves, nobody wants it any more, and it ends."""
        making.waiting += 1
        try:
            yield
        finally:
            making.waiting -= 1
            if not making.waiting:
                self._forget(making)
                making.task.cancel()

    async def _made(self, log: Log, account: str, request: str, lines: Sequence[str], python: Python) -> Built:
        """Make the environment once, however many ask for it at the same time."""
        limit = self._settings.environments.build_time
        turn = self._locks.setdefault(f"of {account}", asyncio.Lock())  # one at a time for each account
        lock = self._locks.setdefault(request, asyncio.Lock())
        if self._room.locked() or lock.locked() or turn.locked():
            log.say("Waiting for another build to end.", ours=True)
        async with turn, lock, self._room:
            if found := self._found(account, request, python):
                return found
            try:
                async with asyncio.timeout(limit):
                    return await self._build(log, account, request, lines, python)
            except TimeoutError as error:
                raise TimedOut(
                    f"The requirements were not there after {limit:g} seconds.",
                    field="environments.build_time",
                    hint="Deploy again: what was downloaded is kept. Or ask your administrator for more time.",
                ) from error
            except OSError as error:
                if error.errno in beneath.FULL:
                    raise StorageFull("There is no room for the requirements.") from error
                raise

    async def _build(self, log: Log, account: str, request: str, lines: Sequence[str], python: Python) -> Built:
        await self._start_clean()
        paths = await asyncio.to_thread(accounts.prepare, self._settings, account)
        folder = self._root / f"{_NEW}{secrets.token_hex(8)}"
        try:
            async with self._downloads.used(folder / _OWN) as cache:
                making = Building(
                    self._settings, self._processes, python, folder=folder, cache=cache, account=account, log=log
                )
                await asyncio.to_thread(making.prepare, lines)
                lock, sources = await self._resolved(making, log)
                packages, key = requirements.pinned(lock), requirements.key(lock, python.facts)
                place = paths.built[1 if sources else 0]
                if not _use(place / key):
                    log.say(f"Installing {len(packages)} packages.", ours=True)
                    await making.install(lock, sources=sources)
                    size = await asyncio.to_thread(making.settle)
                    await self._make_room(account, size)
                    facts = {"requirements": list(lines), "packages": packages, "size": size}
                    await asyncio.to_thread(self._publish, folder, place / key, facts, account)
                await asyncio.to_thread(_remember, place, request, key)
            found = self._found(account, request, python)
            if found is None:
                raise Internal(f"The environment {key} is gone as soon as it was made.")
            return found
        finally:
            await asyncio.shield(asyncio.to_thread(building.discard, folder))

    async def _resolved(self, making: Building, log: Log) -> tuple[str, bool]:
        """Return the lock, and whether something in it must be built from source."""
        try:
            return await making.resolve(sources=False), False
        except BadInput:
            log.say("No solution with wheels alone; looking at source packages too.", ours=True)
        return await making.resolve(sources=True), True

    def _publish(self, folder: Path, target: Path, facts: dict[str, Any], account: str) -> None:
        """Give an environment its name, whole or not at all. For whom it was built is nobody else's business."""
        for one in ("work", _OWN):
            building.discard(folder / one)
        (folder / "ropewalk.json").write_text(json.dumps(facts))
        (self._root / _BUILT_FOR).mkdir(mode=0o700, exist_ok=True)
        (self._root / _BUILT_FOR / target.name).write_text(account)
        os.sync()  # or what is renamed could be empty after the power fails
        try:
            folder.rename(target)
        except OSError:
            if not _whole(target):  # else somebody made it meanwhile
                raise

    async def _make_room(self, account: str, size: int) -> None:
        """Let go of what was built for an account and nothing needs, oldest first, or refuse."""
        limit = self._settings.environments.build_total
        held = await asyncio.to_thread(self.held)
        going: Collection[str] | None = ()
        if sum(one.size for one in held.values() if one.account == account) + size > limit:
            before = time.time() - GRACE
            going = requirements.making_room(
                held.values(), await self._needed(), account, size, limit=limit, before=before
            )
        if going is None:
            raise StorageFull(
                f"Your environments of requirements would take more than {limit} bytes.",
                field="environments.build_total",
                hint="Remove functions that you do not need; what nothing names goes when there is no room.",
            )
        for path, one in held.items():
            if one.key in going:
                self._let_go(path, one)
        if going:
            await asyncio.to_thread(self._discard_old)  # now, or there is no more room than before

    # What is there

    def _found(self, account: str, request: str, python: Python) -> Built | None:
        """Return what a wish was resolved to, if it is there; from now on it counts as used."""
        for place in AccountPaths(self._settings.home, account).built:
            with contextlib.suppress(OSError, ValueError, KeyError):
                key = (place / _WISHES / request).read_text()
                if not _KEY.fullmatch(key) or not _use(place / key):
                    continue
                facts = json.loads((place / key / "ropewalk.json").read_text())
                return Built(key, place / key / "venv" / "bin" / "python", tuple(facts["packages"]))
        return None

    async def _interpreter(self) -> Python:
        """Return the Python of the base, under which functions run."""
        path = (self._settings.environments.base / "bin" / "python").resolve()
        if self._python is None or self._python.path != path:
            done = await asyncio.to_thread(run, [str(path), "-I", "-c", _FACTS])
            if done.code:
                said = f"There is no Python environment at {self._settings.environments.base}."
                raise Unavailable(said, hint="Run `make setup`, or correct environments.base.")
            facts = {**json.loads(done.out), "path": str(path), "machine": machine.machine()}
            self._python = Python(path, facts)
        return self._python

    # What may go

    async def _start_clean(self) -> None:
        """Before anything is made or removed: end what an earlier, killed platform was building."""
        async with self._sweeping:
            if not self._swept:
                await asyncio.to_thread(self._sweep)
                self._swept = True

    def _sweep(self) -> None:
        self._processes.sweep(lambda name: name.startswith(building.PROCESS))
        for one in self._left():
            building.discard(one)
        for place in self._places():
            for one in (place / _WISHES).glob(f"{_NEW}*"):
                one.unlink(missing_ok=True)

    def held(self) -> dict[Path, requirements.Held]:
        """Return every environment that is there."""
        return {one: held for place in self._places() for one in place.iterdir() if (held := self._seen(one))}

    def _seen(self, folder: Path) -> requirements.Held | None:
        if not _KEY.fullmatch(folder.name):
            return None
        try:
            used = (folder / "ropewalk.json").stat().st_mtime
            facts = json.loads((folder / "ropewalk.json").read_text())
        except (OSError, ValueError):
            return None
        account = folder.parent.name if folder.parent.parent.name == "own" else ""
        with contextlib.suppress(OSError):
            account = account or (self._root / _BUILT_FOR / folder.name).read_text()
        return requirements.Held(folder.name, used, account, int(facts.get("size", 0)))

    async def tidy(self, now: float) -> list[str]:
        """Remove environments that nobody needed for a while, and downloads beyond their limit; return their keys.

        Parameters
        ----------
        now
            Unix time.
        """
        if not self._root.is_dir():
            return []
        await self._start_clean()
        held = await asyncio.to_thread(self.held)
        needed, removed = await self._needed() if held else (), []
        unused = max(self._settings.environments.unused, GRACE)
        going = requirements.unneeded(held.values(), needed, now=now, unused=unused)
        for path, one in held.items():
            if one.key in needed:
                with contextlib.suppress(OSError):
                    os.utime(path / "ropewalk.json", (now, now))
            elif one.key in going and self._let_go(path, one):
                removed.append(one.key)
        await self._downloads.trim()
        await asyncio.to_thread(self._clear)
        return removed

    def _let_go(self, path: Path, seen: requirements.Held) -> bool:
        """Take an environment away, unless somebody asked for it since it was seen."""
        if self._seen(path) != seen:
            return False
        path.rename(self._root / f"{_OLD}{secrets.token_hex(8)}")
        return True

    def _clear(self) -> None:
        for place in self._places():
            wishes = place / _WISHES
            for one in wishes.iterdir() if wishes.is_dir() else ():
                with contextlib.suppress(OSError):
                    if not one.name.startswith(_NEW) and not _whole(place / one.read_text()[:64]):
                        one.unlink()
        self._discard_old()
        if self._making:  # one of them may be about to get its name
            return
        there = {one.name for place in self._places() for one in place.iterdir()}
        for one in (self._root / _BUILT_FOR).glob("*"):
            if one.name not in there:
                one.unlink(missing_ok=True)

    def _discard_old(self) -> None:
        for one in self._left(_OLD):
            building.discard(one)

    def _left(self, *beginnings: str) -> list[Path]:
        if not self._root.is_dir():
            return []
        return [one for one in self._root.iterdir() if one.name.startswith(beginnings or (_NEW, _OLD))]

    def _places(self) -> Iterator[Path]:
        own = self._root / "own"
        for place in (self._root / "shared", *(own.iterdir() if own.is_dir() else ())):
            if place.is_dir():
                yield place


def find(paths: AccountPaths, key: str) -> Path:
    """Return the folder of an environment that an account may use: ``bin/python`` is in it.

    Raises
    ------
    Unavailable
        If it is not there.
    """
    for place in paths.built:
        if _KEY.fullmatch(key) and _whole(place / key):
            return place / key / "venv"
    raise Unavailable(
        "The environment with these requirements is gone.",
        hint="Deploy the function or submit the workflow again: then it is made again.",
        details={"wait": False},
    )


def _whole(folder: Path) -> bool:
    return (folder / "ropewalk.json").is_file() and os.path.lexists(folder / "venv" / "bin" / "python")


def _use(folder: Path) -> bool:
    """Say whether an environment is there; if so, it counts as used from now on, and stays for a while."""
    if not _whole(folder):
        return False
    os.utime(folder / "ropewalk.json")
    return True


def _remember(place: Path, request: str, key: str) -> None:
    """Write down what a wish was resolved to."""
    wishes = place / _WISHES
    wishes.mkdir(mode=0o700, exist_ok=True)
    new = wishes / f"{_NEW}{secrets.token_hex(8)}"
    new.write_text(key)
    new.replace(wishes / request)
