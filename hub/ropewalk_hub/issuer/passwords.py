"""Passwords: argon2id, the same time and the same words whether or not the account exists.

At most two are verified at once: each takes 64 MiB and a core, and a flood of guesses must not take the machine. It
must not know accounts. Rejected: rules about digits and capitals; length is what counts, and NIST SP 800-63B says so.
"""

from __future__ import annotations

import functools
import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ropewalk_core.errors import BadInput

SHORTEST, LONGEST = 10, 256


class Passwords:
    """Hashes and verifies passwords.

    Parameters
    ----------
    hasher
        Its cost; tests give a cheap one.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._slots = threading.BoundedSemaphore(2)

    @functools.cached_property
    def _nobody(self) -> str:
        return self._hasher.hash("nobody has this password")

    def check_new(self, password: str, *, account: str = "") -> str:
        """Return a password that may be chosen, or say what is wrong with it."""
        if len(password) < SHORTEST:
            raise BadInput(
                f"The password has {len(password)} characters; it needs at least {SHORTEST}.",
                field="password",
                hint="A few words in a row are easy to remember.",
            )
        if len(password) > LONGEST:
            raise BadInput(f"The password is longer than {LONGEST} characters.", field="password")
        if len(set(password)) < 4 or (account and password.lower().replace(account, "").strip("0123456789-") == ""):
            raise BadInput(
                "The password is too easy to guess.", field="password", hint="A few words in a row are hard to guess."
            )
        return password

    def hash(self, password: str) -> str:
        """Return what is stored."""
        with self._slots:
            return self._hasher.hash(password)

    def verify(self, stored: str | None, password: str) -> bool:
        """Say whether the password is right; ``None`` (no such account) takes as long and is never right."""
        with self._slots:
            nobody = self._nobody  # made by the first sign-in, whoever it is of: the first page does not wait for it
            try:
                return self._hasher.verify(stored or nobody, password[: LONGEST + 1]) and stored is not None
            except (VerificationError, InvalidHashError):
                return False
