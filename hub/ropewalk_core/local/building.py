"""One environment of requirements in the making: uv resolves, installs and compiles in a sandbox of its own.

Wheels alone are looked for first. Then nothing of theirs runs while they are installed, and the cache of downloads may
serve everybody; no `.pth` file and no script is run by what compiles them. What needs source packages runs the code of
their authors: in the same sandbox, which shows no account's files, with a cache that is thrown away, and for one
account alone. What such code leaves is read as a stranger's: links are not followed, and only the platform writes what
the platform reads later. Not here: what is there already, who waits, what may go (``requirement_store``). Rejected:
building inside the account's own sandbox (what builds would see the account's files, and the account what is built),
and pip (no lock with hashes).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ropewalk_core import requirements
from ropewalk_core.errors import BadInput, RopewalkError, StorageFull, TooLarge, Unavailable
from ropewalk_core.local import sandbox
from ropewalk_core.model import LogLine
from ropewalk_core.processes import Processes, run
from ropewalk_core.settings import Settings, package_environment

CUT = "[the log is longer than its limit; the rest was left out]"
PROCESS = "build."
"""How the names of what builds begin."""
_LINE = 100
"""Bytes that a line of a log counts for beside its text: a build that prints nothing but empty ones must not fill
memory with them, nor hold everybody up."""
_LOOK = 3.0
"""Seconds between two looks at how much was written."""
_GROWTH = 3
"""So many times its limit may be written while an environment is made: downloads, what they unpack to, the copy."""
_LONGEST_LOCK = 4 * 2**20
_LONGEST_PATH = 3000
"""Bytes; the system takes 4096, and some of them must be left for where an account sees it."""
_REMOVING = 600.0
"""Seconds that the removal of a folder may take."""
_AWAY = re.compile(
    r"error sending request|request failed|failed to fetch|dns error|timed out|could not connect"
    r"|connection (refused|reset)|HTTP status (client|server) error",
    re.IGNORECASE,
)
_HIDDEN = b"Using Python "
"""How a line begins that tells of folders which nobody outside knows."""
_FULL = ("No space left on device", "Disk quota exceeded")


@dataclass(frozen=True)
class Python:
    """The interpreter that environments are made for, and the facts by which they are told apart."""

    path: Path
    facts: dict[str, str]

    @property
    def version(self) -> str:
        """Its whole version."""
        return self.facts["version"]

    @property
    def short(self) -> str:
        """Its version as folders have it: ``3.11``."""
        return ".".join(self.version.split(".")[:2])


class Log:
    """The log of a build, up to a length, for whoever looks at it."""

    def __init__(self, limit: int) -> None:
        self.lines: list[LogLine] = []
        self.moved = asyncio.Event()
        self._left, self._offset = limit, 0

    def say(self, text: str, *, ours: bool = False) -> None:
        """Add a line: what uv said, or what the platform says."""
        self._offset += len(text) + 1
        if not ours and self._left < len(text) + _LINE:
            if self._left <= 0:
                return
            self._left, text, ours = 0, CUT, True
        self._left -= 0 if ours else len(text) + _LINE
        stream: Literal["platform", "stderr"] = "platform" if ours else "stderr"
        self.lines.append(LogLine(offset=self._offset, text=text, stream=stream))
        self.moved.set()
        self.moved = asyncio.Event()


class Building:
    """Makes one environment in a folder that only the platform can see.

    Parameters
    ----------
    settings, processes
        The home, and who spawns.
    python
        What it is made for.
    folder
        Where: ``venv`` in it becomes the environment.
    cache
        Downloads that builds of wheels share.
    account
        For whom, which counts against their limits.
    log
        Where everything is said.
    """

    def __init__(
        self,
        settings: Settings,
        processes: Processes,
        python: Python,
        *,
        folder: Path,
        cache: Path,
        account: str,
        log: Log,
    ) -> None:
        self._settings, self._processes, self._python, self._account = settings, processes, python, account
        self._folder, self._cache, self._log = folder, cache, log
        self._work, self.venv = folder / "work", folder / "venv"

    def prepare(self, lines: Sequence[str]) -> None:
        """Make the folders, and write down what is wished."""
        uid = sandbox.builder_uid(self._settings)
        self._folder.mkdir(mode=0o755)
        self._folder.chmod(0o755)
        _write(self._folder / "requirements.in", "".join(f"{one}\n" for one in lines))
        site = self.venv / "lib" / f"python{self._python.short}" / "site-packages"
        for one in (self._work, self._work / "cache", self._cache, self.venv, self.venv / "bin", site):
            one.mkdir(mode=0o755, parents=True, exist_ok=True)
        _write(
            self.venv / "pyvenv.cfg",
            f"home = {self._python.path.parent}\ninclude-system-site-packages = false\n"
            f"version = {self._python.version}\nrelocatable = true\n",
        )
        for name in ("python", "python3", f"python{self._python.short}"):
            (self.venv / "bin" / name).symlink_to(self._python.path)
        if os.geteuid() == 0:
            for one in (self._cache, self._work, *self._work.rglob("*"), self.venv, *self.venv.rglob("*")):
                os.chown(one, uid, uid, follow_symlinks=False)

    async def resolve(self, *, sources: bool) -> str:
        """Return the lock: all that the lines need, each with its version and hashes.

        Raises
        ------
        BadInput
            If there is no solution, in uv's own words.
        Unavailable
            If the package index does not answer.
        """
        lock = self._work / "lock.txt"
        lock.unlink(missing_ok=True)
        command = [uv(), "pip", "compile", str(self._folder / "requirements.in"), "--output-file", str(lock)]
        command += ["--generate-hashes", "--no-header", "--no-annotate", "--python", str(self._python.path)]
        command += [] if sources else ["--only-binary", ":all:"]
        # It writes the lock to its output too, which nobody wants to read.
        quiet = ["/bin/sh", "-c", 'exec "$@" > /dev/null', "sh", *command]
        await self._run(quiet, sources=sources, failed="The requirements cannot be met")
        return await asyncio.to_thread(read_plain, lock)

    async def install(self, lock: str, *, sources: bool) -> None:
        """Install what the lock names, each checked by its hash, and compile it.

        Raises
        ------
        BadInput
            If something cannot be installed, in uv's own words.
        TooLarge
            If it is over ``environments.build_size``.
        """
        _write(self._folder / "lock.txt", lock)
        command = [uv(), "pip", "install", "--python", str(self.venv / "bin" / "python"), "--no-deps"]
        command += ["--require-hashes", "-r", str(self._folder / "lock.txt")]
        command += [] if sources else ["--only-binary", ":all:"]
        await self._run(command, sources=sources, failed="The requirements cannot be installed")
        compiling = [str(self._python.path), "-I", "-S", "-m", "compileall", "-q", str(self.venv)]
        quiet = ["/bin/sh", "-c", '"$@" > /dev/null 2>&1; exit 0', "sh", *compiling]  # some packages hold old Python
        await self._run(quiet, sources=True, failed="The requirements cannot be compiled", network=False)

    def settle(self) -> int:
        """Make what was installed the platform's own, for all to read; return its bytes, or raise `TooLarge`."""
        return settle(self.venv, self._settings.environments.build_size)

    async def _run(self, command: Sequence[str], *, sources: bool, failed: str, network: bool = True) -> None:
        """Run something in the builder's sandbox to its end; whoever is cancelled meanwhile ends it."""
        index, cache = index_variables(self._settings), [] if sources else [self._cache]
        argv = sandbox.builder(
            self._settings,
            command,
            writable=[self._work, self.venv, *cache],
            readable=[self._folder / "requirements.in", self._folder / "lock.txt", *_named_files(index)],
            network=network,
            memory=self._settings.limits.memory,
            group=f"build.{self._account}",
        )
        name, first = f"{PROCESS}{secrets.token_hex(8)}", len(self._log.lines)
        read, write = os.pipe()
        try:
            running = self._processes.spawn(name, argv, env=index | self._variables(sources), log=write, adopt=False)
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        try:
            await self._followed(read)
            code = await self._processes.wait(running)
        finally:
            await asyncio.shield(asyncio.to_thread(self._processes.end, name, 0.0))
        if code != 0:
            said = [one.text for one in self._log.lines[first:] if one.stream != "platform"]
            raise failure(failed, code, said)

    def _variables(self, sources: bool) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self._work),
            "USER": "builder",
            "LOGNAME": "builder",
            "LANG": "C.UTF-8",
            "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
            "NO_COLOR": "1",
            "UV_CACHE_DIR": str(self._work / "cache" if sources else self._cache),
            "UV_LINK_MODE": "copy",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }

    async def _followed(self, descriptor: int) -> None:
        """Take what is said until nobody can say more, and look how much is written meanwhile."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        file = os.fdopen(descriptor, "rb")
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        watching = asyncio.create_task(self._watched())
        telling = asyncio.create_task(self._told(reader))
        try:
            await asyncio.wait({watching, telling}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            for one in (watching, telling):
                one.cancel()
            await asyncio.gather(watching, telling, return_exceptions=True)
            transport.close()

    async def _told(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while data := await reader.read(65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if not line.startswith(_HIDDEN):
                    self._log.say(_text(line))
            rest = rest[-4096:]
        if rest:
            self._log.say(_text(rest))

    async def _watched(self) -> None:
        limit = self._settings.environments.build_size
        before = await asyncio.to_thread(size, self._cache)
        while True:
            await asyncio.sleep(_LOOK)
            written = 0
            for folder in (self._work, self.venv, self._cache):
                written += await asyncio.to_thread(size, folder)
            if written - before > _GROWTH * limit:
                raise too_large(limit)


def index_variables(settings: Settings) -> dict[str, str]:
    """Return the variables by which uv finds and reaches the package index."""
    found = package_environment()
    if index := settings.environments.index:
        others = ("UV_INDEX", "UV_EXTRA_INDEX_URL")  # UV_INDEX_URL among them
        found = {name: value for name, value in found.items() if not name.startswith(others)}
        found["UV_DEFAULT_INDEX"] = index
    return found


def uv() -> str:
    """Return the path of uv, which lies beside our own interpreter."""
    found = shutil.which("uv", path=f"{sys.prefix}/bin:/usr/local/bin:/usr/bin")
    if found is None:
        raise Unavailable("uv is missing, which installs requirements.", hint="Run `make setup` again.")
    return found


def failure(failed: str, code: int | None, said: Sequence[str]) -> RopewalkError:
    """Return why uv failed, as an error: what is wrong with the wish, or what is away."""
    why, whole = requirements.shortened(said), "\n".join(said)
    details = {"log": whole[-4000:]}
    if any(one in whole for one in _FULL):
        return StorageFull("The disk is full, so the requirements were not installed.")
    if code in (-9, 137):
        hint = "Name fewer or smaller packages, or ask your administrator for more memory (limits.memory)."
        return BadInput(f"{failed}: it was ended, most likely for its memory.", field="requirements", hint=hint)
    if _AWAY.search(whole):
        hint = "Look at the name and its versions; if they are right, try again when the package index answers."
        said_wait = {**details, "wait": False}  # a person would rather know than wait
        return Unavailable(f"The package index does not give it: {why}", hint=hint, details=said_wait)
    hint = "Correct the line that it names, and deploy again."
    return BadInput(f"{failed}: {why or f'uv ended with {code}'}", field="requirements", hint=hint, details=details)


def too_large(limit: int) -> TooLarge:
    """Return the error for an environment over its limit."""
    return TooLarge(
        f"The requirements need more than {limit} bytes on disk.",
        field="environments.build_size",
        hint="Name fewer or smaller packages, or ask your administrator for a higher limit.",
    )


def read_plain(path: Path) -> str:
    """Return a file that a stranger wrote, if it is a regular one of a sensible size.

    Raises
    ------
    BadInput
        If it is not.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_size <= _LONGEST_LOCK:
                return file.read(_LONGEST_LOCK).decode()
    except (OSError, ValueError):
        pass  # the same as no file
    raise BadInput("What resolves the requirements left no lock.", field="requirements")


def settle(folder: Path, limit: int) -> int:
    """Make a folder that a stranger filled readable to all and writable to us alone; return its size in bytes.

    Nobody writes in it any more. Links stay links, and nothing but files, folders and links stays at all.

    Raises
    ------
    BadInput
        If it holds a path that no program could open.
    TooLarge
        If it is over the limit.
    """
    total, waiting = 0, [folder]
    while waiting:
        at = waiting.pop()
        _own(at, 0o755)
        with os.scandir(at) as entries:
            for one in entries:
                if len(os.fsencode(one.path)) > _LONGEST_PATH:
                    raise BadInput("The requirements hold a path that is too long.", field="requirements")
                found = one.stat(follow_symlinks=False)
                total += found.st_size
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(Path(one.path))
                elif stat.S_ISREG(found.st_mode):
                    _own(Path(one.path), 0o755 if found.st_mode & 0o111 else 0o644)
                elif stat.S_ISLNK(found.st_mode):
                    _own(Path(one.path), None)
                else:
                    Path(one.path).unlink()
                if total > limit:
                    raise too_large(limit)
    return total


def size(folder: Path) -> int:
    """Return the bytes in a folder, as far as it can be read; it may change meanwhile."""
    total, waiting = 0, [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for one in entries:
                total += one.stat(follow_symlinks=False).st_size
                if one.is_dir(follow_symlinks=False):
                    waiting.append(Path(one.path))
    return total


def discard(folder: Path) -> None:
    """Remove a folder whatever a stranger did to its modes and however deep it is; what stays is tried again later.

    The system's own programs do it: `shutil.rmtree` goes no deeper than Python calls functions, and raises then.
    """
    for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        run([*command, "--", str(folder)], timeout=_REMOVING)


def _own(path: Path, mode: int | None) -> None:
    if mode is not None:
        path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, 0, 0, follow_symlinks=False)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip()[:2000]


def _named_files(variables: Mapping[str, str]) -> list[Path]:
    """Return the folders and files of this machine that the variables name, and uv's own settings."""
    words = [word for value in variables.values() for word in re.split(r"[,\s]+", value)]
    named = [Path(word) for word in (one.removeprefix("file://") for one in words) if word.startswith("/")]
    shown = ("/etc/", "/usr/", "/opt/")
    return [Path("/etc/uv"), *(one for one in named if len(one.parts) > 2 and not str(one).startswith(shown))]
