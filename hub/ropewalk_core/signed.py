"""Signed addresses: one file of one account, for a while, without sign-in. Pure.

The address itself says which file and until when, sealed with the platform's key; nothing is kept. Not here: opening
the file, and whether the account still may.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json

from ropewalk_core.errors import Unauthenticated

LONGEST = 3600.0
"""Seconds that an address is good for at most."""


def sign(key: bytes, owner: str, path: str, *, now: float, seconds: float) -> str:
    """Return the last part of an address that opens ``path`` of ``owner`` for so many seconds, at most an hour."""
    text = json.dumps([owner, path, now + max(1.0, min(seconds, LONGEST))]).encode()
    return f"{_pack(text)}.{_pack(_seal(key, text))}"


def read_signed(key: bytes, token: str, now: float) -> tuple[str, str]:
    """Return the owner and path that a signed address names.

    Raises
    ------
    Unauthenticated
        If it is not ours, was changed, or is over.
    """
    try:
        body, seal = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split("."))
        if hmac.compare_digest(seal, _seal(key, body)):
            owner, path, expires = json.loads(body)
            if now < expires:
                return str(owner), str(path)
    except (ValueError, binascii.Error):
        pass
    raise Unauthenticated("This address is not valid any more.", hint="Ask for a fresh one.")


def _pack(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _seal(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, b"signed-file\0" + text, hashlib.sha256)
