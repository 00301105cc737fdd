"""Values of secrets on this machine: a file for each, which only the platform's own user can read.

They lie in the home's ``secrets``, which no sandbox ever shows. The zygote host reads those that a worker is to have.
Not here: which there are (``secrets``). Rejected: handing them out through the gateway, which strangers reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets as chance
from collections.abc import Iterable
from pathlib import Path

from ropewalk_core import secrets
from ropewalk_core.beneath import FULL
from ropewalk_core.errors import BadCode, StorageFull
from ropewalk_core.model import FunctionSpec
from ropewalk_core.settings import Settings

_TELLING = 8
"""Characters from which on a value that stands in code is taken for itself and not for chance."""
LOOKED = 32 * 2**20
"""Characters that all values together are compared with: at worst each takes a tenth of a microsecond."""
_PIECE = 2**18
"""Characters that are compared before others have the interpreter."""


class LocalSafe:
    """The `Safe` of one machine.

    Parameters
    ----------
    settings
        Where the home is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def put(self, owner: str, name: str, value: str) -> None:
        """See `Safe.put`."""
        try:
            await asyncio.to_thread(self._put, folder_of(self._settings, owner) / name, value)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise StorageFull("There is no space left; the secret is as it was before.") from error

    async def drop(self, owner: str, name: str) -> None:
        """See `Safe.drop`."""
        await asyncio.to_thread((folder_of(self._settings, owner) / name).unlink, missing_ok=True)

    def _put(self, path: Path, value: str) -> None:
        for folder in (path.parents[1], path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{chance.token_hex(4)}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(value.encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def folder_of(settings: Settings, owner: str) -> Path:
    """Return the folder of an account's secrets."""
    return settings.secrets / "accounts" / owner


def read(settings: Settings, owner: str, names: Iterable[str]) -> dict[str, str]:
    """Return the values of some secrets by name.

    Raises
    ------
    NotFound
        If one is not there; the error names it.
    """
    found = {}
    for name in names:
        try:
            found[name] = (folder_of(settings, owner) / name).read_bytes().decode()
        except OSError as error:
            raise secrets.missing(name, field="secrets") from error
    return found


def check(settings: Settings, owner: str, spec: FunctionSpec) -> None:
    """Refuse code that holds the value of one of its owner's secrets, as far as `LOOKED` reaches. Raises `BadCode`.

    It takes a second or so at worst, and is meant for a thread.
    """
    stored = {name: value for name, value in _stored(settings, owner).items() if len(value) >= _TELLING}
    room = LOOKED // max(1, len(stored))
    variables = {f"environment.{key}": text for key, text in spec.environment.items()}
    for file, text in {**variables, **spec.bundle.files}.items():
        looked = text[: max(0, room)]
        room -= len(text)
        for name, value in stored.items():
            if _holds(looked, value):
                raise BadCode(
                    f"The code or a variable holds the value of your secret {name}.",
                    field=file,
                    hint=f'Take it out, and deploy with `secrets=["{name}"]`: it is then os.environ["{name}"].',
                )


def _holds(text: str, value: str) -> bool:
    return any(text.find(value, at, at + _PIECE + len(value) - 1) >= 0 for at in range(0, len(text), _PIECE))


def _stored(settings: Settings, owner: str) -> dict[str, str]:
    """Return all values of an account by name, without white space around them."""
    folder, found = folder_of(settings, owner), {}
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # it is being removed, or was replaced just now
            if not path.name.startswith("."):
                found[path.name] = path.read_text().strip()
    return found
