"""The home folder: made with its modes, checked for what would fail later, and held by one supervisor at a time.

Not here: what is in its folders. Rejected: a pid file alone (it outlives its writer); the kernel gives a file lock back
whatever happens to the holder.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from ropewalk_core.errors import BadInput, Denied, HomeHeld, StorageFull
from ropewalk_core.settings import Settings

_LONGEST_SOCKET = 107  # sun_path of the kernel, less the zero byte
_LONGEST_NAME = len("run/service-0123456789abcdef.sock")
_LEAST = 64 * 2**20


def prepare(settings: Settings) -> None:
    """Make the home's folders with their modes.

    Raises
    ------
    BadInput
        If the path is too long for sockets or is not a folder.
    Denied
        If the folder belongs to somebody else.
    StorageFull
        If there is hardly any room.
    """
    home = settings.home
    check_length(home)
    try:
        for folder in (home, settings.secrets, settings.run, settings.logs, home / "hub", home / "accounts"):
            folder.mkdir(mode=0o711 if folder.name == "accounts" else 0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise BadInput(f"{error.filename} is not a folder.", field="--home", hint="Choose another home.") from error
    except PermissionError as error:
        raise Denied(
            f"You may not write in {home}.", field="--home", hint="Choose another home with --home."
        ) from error
    except OSError as error:
        sentence = f"The home {home} cannot be made: {error.strerror}."
        raise BadInput(sentence, field="--home", hint="Choose another home with --home.") from error
    owner = home.stat().st_uid
    if owner != os.geteuid():
        raise Denied(
            f"The home {home} belongs to another user ({owner}).",
            field="--home",
            hint="Run it as that user, or choose another home with --home.",
        )
    for folder in (home, settings.secrets, settings.run):
        folder.chmod(0o700)
    free = shutil.disk_usage(home).free
    if free < _LEAST:
        raise StorageFull(
            f"The disk of {home} is full: {free // 2**20} MiB are left.",
            hint="Make room, or choose a home on another disk with --home.",
        )


def check_length(home: Path) -> None:
    """Refuse a home whose sockets would have longer paths than the kernel takes.

    Raises
    ------
    BadInput
        It says how long the path may be.
    """
    if len(os.fsencode(home)) + 1 + _LONGEST_NAME > _LONGEST_SOCKET:
        most = _LONGEST_SOCKET - _LONGEST_NAME - 1
        raise BadInput(
            f"The path of the home is too long: {home} has {len(os.fsencode(home))} characters, at most {most} work.",
            field="--home",
            hint="Choose a shorter one with --home.",
        )


class Hold:
    """The home's lock, held while the object is open."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.home / "lock"
        self._descriptor = -1

    def __enter__(self) -> Hold:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise held(self._path.parent, _facts(self._path)) from error
        self.say()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def say(self, **facts: Any) -> None:
        """Write who holds the home, for whoever finds it held."""
        text = json.dumps({"pid": os.getpid()} | facts)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)


def holder(home: Path) -> dict[str, Any] | None:
    """Return who holds the home: ``pid`` and ``address``; None when nobody does."""
    path = home / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise Denied(f"The home {home} belongs to another user.", field="--home") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _facts(path)
    finally:
        os.close(descriptor)
    return None


def _facts(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def held(home: Path, facts: dict[str, Any]) -> HomeHeld:
    """Return the refusal of a second `ropewalk up`, which says who was first."""
    where = f" at {facts['address']}" if facts.get("address") else ""
    sentence = f"The home {home} is held by process {facts.get('pid', '?')}{where}."
    return HomeHeld(sentence, field="--home", details=facts)
