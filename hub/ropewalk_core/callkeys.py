"""Keys of functions: made, recognized, and counted against their quota. Pure but for the making.

A key opens one function and nothing else. Its secret holds 256 random bits, so a plain SHA-256 of it is enough to keep:
there is nothing to guess. A quota counts calls in windows that begin with the first call after the last one ended, so
around the end of a window twice as many may come close together, and never more. Not here: who else may call
(``policy.decide_call``), records (``sharing.py``). Rejected: keys in the address, which end in logs and histories.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from ropewalk_core.errors import BadInput
from ropewalk_core.model import NewKey, StoredKey

HEADER = "X-Ropewalk-Key"
MOST = 20
"""Keys that one function may have."""
LONGEST_LABEL, MOST_CALLS, LONGEST_WINDOW = 60, 10_000_000, 31 * 86400
_SECRET = re.compile(r"rwk-([0-9a-z]{10})-([A-Za-z0-9_-]{43})")
_NOBODY = "0" * 64


def make(identifier: str, label: str, calls: int, seconds: int, now: float) -> tuple[StoredKey, NewKey]:
    """Return a key as it is kept, and as it is told once.

    Raises
    ------
    BadInput
        If label or quota cannot be.
    """
    if len(label) > LONGEST_LABEL or not label.isprintable():
        raise BadInput(f"A label has at most {LONGEST_LABEL} characters on one line.", field="label")
    if not 1 <= calls <= MOST_CALLS:
        raise BadInput(f"A key is good for 1 to {MOST_CALLS} calls in a window.", field="calls")
    if not 1 <= seconds <= LONGEST_WINDOW:
        raise BadInput(f"A window has 1 to {LONGEST_WINDOW} seconds.", field="seconds")
    secret = f"rwk-{identifier}-{secrets.token_urlsafe(32)}"
    kept = StoredKey(id=identifier, label=label, calls=calls, seconds=seconds, created=now, digest=digest(secret))
    return kept, NewKey(key=kept.listed(), secret=secret)


def digest(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def find(keys: Iterable[StoredKey], presented: str) -> StoredKey | None:
    """Return the key whose secret this is, in a time that says nothing about how much of it was right."""
    found = _SECRET.fullmatch(presented)
    wanted = found[1] if found else ""
    kept = next((one for one in keys if one.id == wanted), None)
    same = hmac.compare_digest(digest(presented if found else ""), kept.digest if kept else _NOBODY)
    return kept if same else None


@dataclass(frozen=True)
class Window:
    """When a key's window began, and how many calls it has taken since."""

    began: float
    taken: int


def take(window: Window | None, key: StoredKey, now: float) -> tuple[Window, float]:
    """Count one call; return the window after it, and how many seconds to wait if there was no room (0: it counts)."""
    if window is None or not window.began <= now < window.began + key.seconds:
        return Window(now, 1), 0.0
    if window.taken < key.calls:
        return Window(window.began, window.taken + 1), 0.0
    return window, max(1.0, window.began + key.seconds - now)
