"""The secrets of a home: made once, at random, each in its own file that only the home's user can read.

Two processes that start together agree on one value: the first to link its file wins and the other reads it. It must
not know what a secret is for. Rejected: one file with all of them, because then every process holds every secret.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

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


def hex_secret() -> str:
    """Return 32 random bytes as hex, the form that JupyterHub and the proxy take."""
    return secrets.token_hex(32)


class SecretsStore:
    """The folder of secrets of one home."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.secrets

    def text(self, name: Secret, make: Callable[[], str] = hex_secret) -> str:
        """Return a secret, made by ``make`` when there is none yet."""
        path = self.folder / name
        if not path.exists():
            self._create(path, make())
        return path.read_text()

    def file(self, name: Secret, make: Callable[[], str] = hex_secret) -> Path:
        """Return the file of a secret, for programs that want a file."""
        self.text(name, make)
        return self.folder / name

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
