"""The issuer's signing keys: ES256, made once per home. The first signs, all of them verify.

ES256 because every library verifies it; EdDSA is a third slower in joserfc. Not here: what is signed (``tokens.py``).
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from joserfc.jwk import ECKey, KeySet

from ropewalk_hub.secrets_store import Secret, SecretsStore

ALGORITHM = "ES256"


class SigningKeys:
    """The keys of one home."""

    def __init__(self, serialized: dict[str, Any]) -> None:
        self._keys = [ECKey.import_key(one) for one in serialized["keys"]]

    @property
    def signing(self) -> ECKey:
        """The private key that signs."""
        return self._keys[0]

    @property
    def header(self) -> dict[str, str]:
        """The header of what the signing key signs."""
        return {"alg": ALGORITHM, "kid": str(self.signing.kid)}

    @property
    def verifying(self) -> KeySet:
        """All keys."""
        return KeySet(list(self._keys))

    def public(self) -> dict[str, Any]:
        """Return the public halves as a JWKS."""
        return {"keys": [one.as_dict(private=False) for one in self._keys]}


def new_keys() -> dict[str, Any]:
    """Return a fresh set of one key, with its private half."""
    key = ECKey.generate_key("P-256", {"kid": secrets.token_hex(8), "use": "sig", "alg": ALGORITHM})
    return {"keys": [key.as_dict(private=True)]}


def load_keys(store: SecretsStore) -> SigningKeys:
    """Return the keys of the home."""
    return SigningKeys(json.loads(store.text(Secret.ISSUER_KEYS, lambda: json.dumps(new_keys()))))
