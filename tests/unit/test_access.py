"""Who may call: policy over all cases, what can be chosen, keys, quotas and the headers of CORS."""

from __future__ import annotations

import string
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core import access, callkeys, policy
from ropewalk_core.access import chosen
from ropewalk_core.errors import BadInput
from ropewalk_core.model import Access, Actor, StoredKey
from ropewalk_hub.sharing import share

names = st.text(string.ascii_lowercase, min_size=1, max_size=6)
accesses = st.builds(
    Access, who=st.sampled_from(["private", "shared", "public"]), accounts=st.lists(names, max_size=3).map(tuple)
)


@given(one=accesses, owner=names, caller=st.one_of(st.just(""), names), key=st.booleans())
def test_policy_is_what_it_says(one: Access, owner: str, caller: str, key: bool) -> None:
    allowed = isinstance(policy.decide_call(one, owner, caller, key=key), policy.Allow)
    named = caller != "" and (caller == owner or (one.who == "shared" and caller in one.accounts))
    assert allowed == (key or one.who == "public" or named)


@given(one=accesses, owner=names)
def test_nobody_gets_in_where_it_is_not_public(one: Access, owner: str) -> None:
    refused = policy.decide_call(one, owner, "")
    assert isinstance(refused, policy.Allow) == (one.who == "public")
    if isinstance(refused, policy.Deny):
        assert refused.hidden


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("private", Access()),
        ("public", Access(who="public")),
        ("bob", Access(who="shared", accounts=("bob",))),
        ("bob, eve bob", Access(who="shared", accounts=("bob", "eve"))),
        (["eve", "bob", "ada"], Access(who="shared", accounts=("bob", "eve"))),
    ],
)
def test_what_a_person_writes(words: str | list[str], wanted: Access) -> None:
    assert access.checked(chosen(words), "ada") == wanted


@pytest.mark.parametrize(
    "words", ["", [], "ada", ["Not A Name"], ["public", "bob", "x--y"], [f"a{n}" for n in range(101)]]
)
def test_what_cannot_be_meant(words: str | list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        access.checked(chosen(words), "ada")
    assert caught.value.field in ("accounts", "access")
    with pytest.raises(BadInput):
        access.checked(Access(who="public", accounts=("bob",)), "ada")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://example.org", "https://example.org"),
        ("HTTPS://Example.ORG:443", "https://example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:80", "http://[::1]"),
        ("*", "*"),
    ],
)
def test_origins_are_kept_as_browsers_write_them(text: str, kept: str) -> None:
    assert access.origin(text) == kept == access.origin(kept)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "null",
            "example.org",
            "https://",
            "https://example.org/",
            "https://example.org/path",
            "ftp://x",
            "file://",
        ),
        *(
            "https://*.example.org",
            "https://a b",
            "https://x:0",
            "https://x:99999",
            "https://u@x",
            "https://exämple.org",
        ),
        *("https://example.org\r\nX: y", "https://-x", "javascript:alert(1)", "https://x?y", "https://x#y", "**"),
    ],
)
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        access.checked(Access(origins=(text,)), "ada")
    assert caught.value.field == "origins"


@given(
    one=accesses,
    origins=st.lists(st.sampled_from(["https://a.b", "http://c", "*"]), unique=True, max_size=2),
    asked=st.text(),
)
def test_no_headers_without_a_list_and_never_credentials(one: Access, origins: list[str], asked: str) -> None:
    listed = one.model_copy(update={"origins": tuple(origins)})
    for found in (access.headers(listed, asked), access.preflight(listed, asked) or {}):
        assert "Access-Control-Allow-Credentials" not in found
        assert found.get("Access-Control-Allow-Origin", asked if asked in origins else "*") in (asked, "*")
        if "Access-Control-Allow-Origin" in found:
            assert asked in origins or "*" in origins
        assert not found or "Origin" in found["Vary"]
    assert origins or (access.headers(listed, asked) == {} and access.preflight(listed, asked) is None)
    assert access.refuses(listed, asked) == bool(origins and asked not in origins and "*" not in origins)


def test_access_is_said_plainly() -> None:
    assert access.said(Access()) == "Only you can call it, with a token."
    assert access.said(Access(who="public")) == "Anybody can call it, without signing in."
    said = access.said(Access(who="shared", accounts=("bob", "eve")))
    assert said == "You can call it, and so can 'bob' and 'eve', each with a token of their own."


# Keys


def made(calls: int = 10, seconds: int = 60, identifier: str = "0123456789") -> tuple[StoredKey, str]:
    kept, told = callkeys.make(identifier, "web", calls, seconds, 1.0)
    return kept, told.secret


def test_a_secret_is_in_nothing_that_is_kept() -> None:
    kept, secret = made()
    assert secret not in kept.model_dump_json() and secret.split("-", 2)[2] not in kept.model_dump_json()
    assert "digest" not in kept.listed().model_dump() and made()[1] != secret


@given(presented=st.text(max_size=80))
def test_what_was_not_made_opens_nothing(presented: str) -> None:
    kept, secret = made()
    assert callkeys.find((kept,), presented) is None or presented == secret


def test_a_key_is_found_among_others() -> None:
    pairs = [made(identifier=f"{number:010}") for number in range(3)]
    keys = tuple(kept for kept, _ in pairs)
    for kept, secret in pairs:
        assert callkeys.find(keys, secret) == kept
        assert callkeys.find(tuple(one for one in keys if one is not kept), secret) is None
        swapped = secret.replace(kept.id, "0000000009")
        assert callkeys.find(keys, swapped) is None


@given(
    calls=st.integers(1, 5),
    seconds=st.integers(1, 10),
    steps=st.lists(st.floats(0, 4, allow_nan=False), max_size=60),
)
def test_a_window_never_takes_more_than_its_quota(calls: int, seconds: int, steps: list[float]) -> None:
    key, _ = made(calls, seconds)
    window, now, taken = None, 100.0, []
    for step in steps:
        now += step
        window, wait = callkeys.take(window, key, now)
        if wait:
            assert callkeys.take(window, key, now + wait)[1] == 0.0  # who waits as told gets in
        else:
            taken.append((window.began, now))
    for began in {one for one, _ in taken}:
        times = [at for one, at in taken if one == began]
        assert len(times) <= calls and all(began <= at < began + seconds for at in times)


def test_a_quota_or_a_label_that_cannot_be() -> None:
    for label, calls, seconds, field in (
        ("x" * 61, 1, 1, "label"),
        ("a\nb", 1, 1, "label"),
        ("", 0, 1, "calls"),
        ("", 1, 0, "seconds"),
        ("", 10**9, 1, "calls"),
        ("", 1, 10**9, "seconds"),
    ):
        with pytest.raises(BadInput) as caught:
            callkeys.make("0123456789", label, calls, seconds, 0.0)
        assert caught.value.field == field


async def test_no_more_names_are_looked_for_than_can_be_named() -> None:
    looked: list[str] = []
    its: Any = SimpleNamespace(issuer=SimpleNamespace(accounts=SimpleNamespace(get=looked.append)))
    many = Access(who="shared", accounts=tuple(f"a{number}" for number in range(access.MOST_ACCOUNTS + 1)))
    with pytest.raises(BadInput) as caught:
        await share(its, Actor(account="ada"), "ada", "double", many)
    assert caught.value.field == "access" and not looked
    with pytest.raises(BadInput) as caught:
        await share(its, Actor(account="ada"), "ada", "double", Access(who="shared", accounts=("bob", "bob")))
    assert caught.value.field == "accounts" and looked == ["bob"]
