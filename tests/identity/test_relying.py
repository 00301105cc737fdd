"""What the hub believes of an issuer: the misbehaviors of a lying one, each refused."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from ropewalk_hub.relying import BadIdToken, KeyCache, check_id_token, key_of

ISSUER, CLIENT, NONCE, NOW = "http://localhost:8000", "jupyterhub", "n-0S6", time.time()
KEY = ECKey.generate_key("P-256", {"kid": "one", "alg": "ES256", "use": "sig"})
OTHER = ECKey.generate_key("P-256", {"kid": "two", "alg": "ES256", "use": "sig"})
KEYS = KeySet([KEY])


def claims(**changes: Any) -> dict[str, Any]:
    good: dict[str, Any] = {
        "iss": ISSUER,
        "sub": "3f2a",
        "aud": CLIENT,
        "iat": int(NOW),
        "exp": int(NOW) + 3600,
        "nonce": NONCE,
    }
    return {key: value for key, value in (good | changes).items() if value is not None}


def token(key: Any = KEY, header: dict[str, Any] | None = None, **changes: Any) -> str:
    head = {"alg": "ES256", "kid": "one"} if header is None else header
    return jwt.encode(head, claims(**changes), key, [head["alg"]])


def check(text: str, *, keys: KeySet = KEYS, nonce: str | None = NONCE, now: float = NOW) -> dict[str, Any]:
    return check_id_token(text, keys, issuer=ISSUER, client=CLIENT, nonce=nonce, now=now)


def test_a_good_one_is_believed() -> None:
    assert check(token())["sub"] == "3f2a"
    assert check(token(aud=[CLIENT]))["sub"] == "3f2a"
    assert check(token(header={"alg": "ES256"}))["sub"] == "3f2a"  # no kid, one key
    assert check(token(nonce=None), nonce=None)["sub"] == "3f2a"  # a refresh has none


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "http://localhost:8000/"},
        {"iss": "http://evil.test"},
        {"iss": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"aud": "somebody-else"},
        {"aud": [CLIENT, "somebody-else"]},
        {"aud": []},
        {"aud": None},
        {"iat": None},
        {"exp": None},
        {"exp": int(NOW) - 61},
        {"iat": int(NOW) + 3600},
        {"nbf": int(NOW) + 3600},
        {"nonce": "another"},
        {"nonce": None},
        {"nonce": ""},
        {"azp": "somebody-else"},
    ],
)
def test_wrong_or_missing_claims_are_refused(changes: dict[str, Any]) -> None:
    given = {key: value for key, value in (claims() | changes).items() if value is not None}
    with pytest.raises(BadIdToken):
        check(jwt.encode({"alg": "ES256", "kid": "one"}, given, KEY, ["ES256"]))


@pytest.mark.parametrize(("late", "good"), [(59, True), (61, False)])
def test_clocks_may_differ_by_a_minute(late: int, good: bool) -> None:
    text = token(exp=int(NOW) - late)
    if good:
        check(text)
    else:
        with pytest.raises(BadIdToken):
            check(text)


def test_a_signature_by_another_key_is_refused() -> None:
    with pytest.raises(BadIdToken):
        check(token(OTHER))
    with pytest.raises(BadIdToken):
        check(token(OTHER, {"alg": "ES256", "kid": "two"}))
    with pytest.raises(BadIdToken):
        check(token(OTHER, {"alg": "ES256"}), keys=KeySet([KEY, OTHER]), nonce="x")


def test_a_changed_payload_is_refused() -> None:
    head, _, tail = token().split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims(sub="admin")).encode()).decode().rstrip("=")
    with pytest.raises(BadIdToken):
        check(f"{head}.{body}.{tail}")


def test_no_signature_and_other_algorithms_are_refused() -> None:
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    body = base64.urlsafe_b64encode(json.dumps(claims()).encode()).decode().rstrip("=")
    rsa = RSAKey.generate_key(2048, {"kid": "one"})
    public = OctKey.import_key(json.dumps(KEY.as_dict(private=False)))  # the old trick: the public key as a password
    for text in (
        f"{head}.{body}.",
        f"{head}.{body}.AAAA",
        jwt.encode({"alg": "RS256", "kid": "one"}, claims(), rsa, ["RS256"]),
        jwt.encode({"alg": "HS256", "kid": "one"}, claims(), public, ["HS256"]),
    ):
        with pytest.raises(BadIdToken):
            check(text)


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "e30.e30.e30", "x" * 5000, "é.é.é", token()[:-1] + "!"])
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(BadIdToken):
        check(text)


def test_an_absent_nonce_is_no_nonce() -> None:
    with pytest.raises(BadIdToken):
        check(token(nonce=""), nonce="")


async def test_unknown_keys_are_asked_for_at_most_once_a_minute() -> None:
    asked, now = [0], [0.0]

    async def fetch() -> KeySet:
        asked[0] += 1
        return KEYS if asked[0] < 2 else KeySet([KEY, OTHER])

    cache = KeyCache(fetch, lambda: now[0])
    await cache.for_token(token())
    for _ in range(50):
        await cache.for_token(token(OTHER, {"alg": "ES256", "kid": "two"}))
    assert asked[0] == 1
    now[0] = 61.0
    rotated = await cache.for_token(token(OTHER, {"alg": "ES256", "kid": "two"}))
    assert asked[0] == 2
    assert check(token(OTHER, {"alg": "ES256", "kid": "two"}), keys=rotated)
    assert key_of("not a token") is None
