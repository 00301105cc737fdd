"""The secrets of a home: made once, at random, each in its own file that only the home's user can read.

Two processes that start together agree on one value: the first to link its file wins and the other reads it. On a
cluster the processes share no folder: what several of them must know comes from a mounted Secret, and is only read. It
must not know what a secret is for. Rejected: one file with all of them, because then every process holds every secret.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from ropewalk_core.errors import Unavailable
from ropewalk_core.settings import Settings


class Secret(StrEnum):
    """The names of the secrets, so that processes agree on them."""

    PROXY_TOKEN = "proxy-token"  # noqa: S105 (a name, not a secret)
    HUB_COOKIE = "hub-cookie-secret"
    HUB_CRYPT = "hub-auth-state-key"
    HUB_CLIENT = "hub-client-secret"
    PLATFORM_TOKEN = "platform-api-token"  # noqa: S105 (a name, not a secret)
    ISSUER_KEYS = "issuer-keys.json"
    PAGE_KEY = "page-key"
    FILE_KEY = "file-key"
    OBJECTS = "objects-key"
    SCRAPE_TOKEN = "scrape-token"  # noqa: S105 (a name, not a secret)


SHARED = frozenset(
    {
        Secret.PROXY_TOKEN,
        Secret.HUB_COOKIE,
        Secret.HUB_CRYPT,
        Secret.HUB_CLIENT,
        Secret.PLATFORM_TOKEN,
        Secret.OBJECTS,
    }
)
"""What more than one pod needs on a cluster, or must be the same after one moved to another node."""


def hex_secret() -> str:
    """Return 32 random bytes as hex, the form that JupyterHub and the proxy take."""
    return secrets.token_hex(32)


class SecretsStore:
    """The folder of secrets of one home."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.secrets
        self._mounted = settings.cluster.secrets if settings.backend == "kube" else None

    def text(self, name: Secret, make: Callable[[], str] = hex_secret) -> str:
        """Return a secret, made by ``make`` when there is none yet.

        Raises
        ------
        Unavailable
            If it should have come with a mounted Secret and did not.
        """
        if self._mounted is not None and name in SHARED:
            return self._given(self._mounted / name)
        path = self.folder / name
        if not path.exists():
            self._create(path, make())
        return path.read_text()

    def file(self, name: Secret, make: Callable[[], str] = hex_secret) -> Path:
        """Return the file of a secret, for programs that want a file."""
        self.text(name, make)
        return (self._mounted if self._mounted is not None and name in SHARED else self.folder) / name

    def _given(self, path: Path) -> str:
        try:
            found = path.read_text().strip()
        except OSError as error:
            raise _missing(path, error.strerror or "it cannot be read") from error
        if not found:
            raise _missing(path, "it is empty")
        return found

    def _create(self, path: Path, value: str) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        temporary = self.folder / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, path)
            except FileExistsError:
                pass  # another process was first; its value counts
        finally:
            temporary.unlink()


def _missing(path: Path, why: str) -> Unavailable:
    return Unavailable(
        f"The secret {path} is not there: {why}.",
        hint="An administrator looks at the Secret of the installation, which the chart makes, and at its mount.",
    )
