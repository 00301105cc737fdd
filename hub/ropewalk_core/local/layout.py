"""Where an account's things lie on this machine. Pure paths; the same path inside and outside the sandbox.

Not here: creating folders and their owners (``local/accounts.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ropewalk_core.names import check_name

BUILT = "environments"
"""Folder of the home with environments of requirements."""


SENT = "values"
"""Folder of the home with files that went to functions as arguments."""


@dataclass(frozen=True)
class AccountPaths:
    """The folders of one account. ``home`` is the platform's home; ``account`` must be a legal name."""

    home: Path
    account: str

    def __post_init__(self) -> None:
        check_name(self.account, what="account")

    @property
    def root(self) -> Path:
        """The only part of the home that the account's sandbox shows."""
        return self.home / "accounts" / self.account

    @property
    def files(self) -> Path:
        """The person's files; HOME of everything they run."""
        return self.root / "files"

    @property
    def environment(self) -> Path:
        """The account's Python environment."""
        return self.root / "environment"

    @property
    def python(self) -> Path:
        """The interpreter of the account's environment."""
        return self.environment / "bin" / "python"

    @property
    def built(self) -> tuple[Path, Path]:
        """Where environments of requirements lie: everybody's, and the account's own; it may read both."""
        return self.home / BUILT / "shared", self.home / BUILT / "own" / self.account

    @property
    def sent(self) -> Path:
        """Where files lie that went to the account's functions as arguments; it may read them, not write."""
        return self.home / SENT / self.account

    @property
    def artifacts(self) -> Path:
        """The content-addressed store."""
        return self.root / "artifacts"

    def attempt(self, run: str, step: str, attempt: int) -> Path:
        """The folder of one attempt of a step: inputs, outputs and log."""
        return self.root / "runs" / run / step / str(attempt)

    def bundle(self, function: str, revision: str) -> Path:
        """The folder with the captured code of a function's revision."""
        return self.root / "functions" / function / revision / "bundle"

    def service(self, name: str) -> Path:
        """The folder of a service: its socket, log and values."""
        return self.root / "services" / name
