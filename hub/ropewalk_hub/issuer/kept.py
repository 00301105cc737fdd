"""What a person typed into a form whose sign-in had ended: carried, signed, through the sign-in page and back.

The browser holds it, so an anonymous flood stores nothing here; the signature makes sure that only what arrived at
this platform comes back, and only for an hour. Passwords and secrets are never kept, by the names of their fields.
After the sign-in the person sees the values and sends them; nothing is sent by itself. Not here: pages.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import zlib
from collections.abc import Iterable

from ropewalk_core.ports import Clock

LARGEST = 64 * 1024
_HOUR = 3600.0
_HIDDEN = re.compile("password|secret|^old$", re.IGNORECASE)


class Kept:
    """Packs and unpacks forms."""

    def __init__(self, key: str, clock: Clock) -> None:
        self._key = key.encode()
        self._clock = clock

    def pack(self, target: str, fields: Iterable[tuple[str, str]]) -> str:
        """Return a form as text for a hidden field; empty when there is nothing to keep or too much."""
        named = [[name, value] for name, value in fields if not _HIDDEN.search(name)]
        raw = json.dumps([target, named, self._clock.wall() + _HOUR]).encode()
        if not named or len(raw) > LARGEST:
            return ""
        body = base64.urlsafe_b64encode(zlib.compress(raw)).decode()
        return f"{body}.{self._sign(body)}"

    def unpack(self, text: str) -> tuple[str, list[tuple[str, str]]] | None:
        """Return the path and the fields of a form that `pack` kept within the hour."""
        body, _, signature = text.rpartition(".")
        if not body or not hmac.compare_digest(signature.encode(), self._sign(body).encode()):
            return None
        target, fields, until = json.loads(zlib.decompress(base64.urlsafe_b64decode(body)))
        if until < self._clock.wall():
            return None
        return str(target), [(str(name), str(value)) for name, value in fields]

    def _sign(self, body: str) -> str:
        return hmac.new(self._key, body.encode(), hashlib.sha256).hexdigest()
