"""Attacks on who may call a function: across accounts, with keys, from web pages, and by saying it in two ways."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from aiohttp.test_utils import make_mocked_request

from ropewalk_core.model import Access
from ropewalk_hub.gateway.callers import nobody
from ropewalk_hub.gateway.headers import from_function, to_others
from tests.gateway_rig import GatewayRig, gateway, problem, stored

PRIVATE, PUBLIC = Access(), Access(who="public")
SHARED = Access(who="shared", accounts=("bob",))
PAGE, OTHER = "https://example.org", "https://evil.example"
LISTED = Access(origins=(PAGE,))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[GatewayRig]:
    async with gateway(tmp_path) as one:
        yield one


def same(one: httpx.Response, other: httpx.Response) -> bool:
    """Whether two refusals say the same, but for the name that was asked for."""
    texts = [answer.text.replace("nothing", "double") for answer in (one, other)]
    heads = [
        {key: value for key, value in answer.headers.items() if key not in ("date", "content-length")}
        for answer in (one, other)
    ]
    return one.status_code == other.status_code and texts[0] == texts[1] and heads[0] == heads[1]


@pytest.mark.parametrize(
    ("access", "allowed"),
    [(PRIVATE, {"ada"}), (SHARED, {"ada", "bob"}), (PUBLIC, {"ada", "bob", "eve", ""})],
    ids=["private", "shared", "public"],
)
async def test_only_whom_the_owner_chose_gets_in(rig: GatewayRig, access: Access, allowed: set[str]) -> None:
    rig.put(access)
    for account in ("ada", "bob", "eve", ""):
        rig.seen.clear()
        answer = await rig.ask(rig.bearer(account) if account else None)
        if account in allowed:
            assert (answer.status_code, answer.json()) == (200, 42)
            assert rig.seen[0].headers["X-Ropewalk-Account"] == account
        else:
            assert answer.status_code == (404 if account else 401) and not rig.seen


async def test_a_stranger_cannot_tell_that_there_is_a_function(rig: GatewayRig) -> None:
    kept, secret = stored()
    rig.put(Access(who="shared", accounts=("bob",), origins=(PAGE,)), kept)
    for headers in (
        rig.bearer("eve"),
        {},
        {"X-Ropewalk-Key": "rwk-0123456789-" + "A" * 43},
        {"X-Ropewalk-Key": ""},
        rig.bearer("eve") | {"Origin": OTHER},
        {"Origin": OTHER},
    ):
        there, missing = await rig.ask(headers), await rig.ask(headers, label="nothing--fn--ada")
        assert same(there, missing), headers
    ask = {"Origin": OTHER, "Access-Control-Request-Method": "POST"}
    assert same(await rig.ask(ask, "OPTIONS"), await rig.ask(ask, "OPTIONS", "nothing--fn--ada"))
    assert not rig.seen and secret


async def test_what_is_taken_away_is_gone_with_the_next_snapshot(rig: GatewayRig) -> None:
    rig.put(SHARED)
    assert (await rig.ask(rig.bearer("bob"))).status_code == 200
    rig.put(PRIVATE)
    assert (await rig.ask(rig.bearer("bob"))).status_code == 404
    rig.put(PUBLIC)
    assert (await rig.ask()).status_code == 200
    rig.put(PRIVATE)
    assert (await rig.ask()).status_code == 401


async def test_a_command_that_printed_no_token_is_told_so(rig: GatewayRig) -> None:
    """A shell puts nothing in the place of a `ropewalk token` that failed."""
    rig.put(PRIVATE)
    refused = await rig.ask({"Authorization": "Bearer"})
    assert (refused.status_code, problem(refused)["message"]) == (401, "The token is empty.")


async def test_nothing_runs_for_an_owner_who_was_deactivated(rig: GatewayRig) -> None:
    kept, secret = stored()
    for access in (PUBLIC, SHARED):
        rig.put(access, kept, active=("bob", "eve"))
        for headers in (rig.bearer("bob"), {"X-Ropewalk-Key": secret}, *([{}] if access == PUBLIC else [])):
            refused = await rig.ask(headers)
            assert (refused.status_code, problem(refused)["code"]) == (503, "RW-UNAVAILABLE")
        assert (await rig.ask(rig.bearer("ada"))).status_code == 401
        rig.put(access, kept)
        assert (await rig.ask(rig.bearer("bob"))).status_code == 200
    assert len(rig.seen) == 2


@pytest.mark.parametrize("name", ["X-Ropewalk-Account", "X_Ropewalk_Account", "x_ropewalk-account", "X_Forwarded_User"])
async def test_nobody_poses_as_an_account_however_it_is_spelled(name: str) -> None:
    """Programs behind WSGI and CGI read a dash and an underscore as the same."""
    asked = make_mocked_request(
        "GET", "/", headers={"Host": "f.localhost", name: "ada", "X_Ropewalk_Key": "rwk", "X-A": "b"}
    )
    passed = to_others(asked, nobody(), "http")
    said = {key.lower().replace("_", "-"): value for key, value in passed.items()}
    assert said["x-a"] == "b" and "ada" not in said.values() and "x-ropewalk-key" not in said


def test_an_app_says_all_but_what_is_ours_to_say() -> None:
    pairs = [["Server-Timing", "db;dur=53"], ["X-A", "1"], ["X-A", "2"], ["Server", "mine"], ["Alt-Svc", "h3"]]
    pairs += [
        ["Content-Length", "5"],
        ["X-Ropewalk-Call", "x"],
        ["Access-Control-Allow-Origin", "*"],
        ["X-B", "1\r\nX: 2"],
    ]
    assert [*from_function(pairs).items()] == [("Server-Timing", "db;dur=53"), ("X-A", "1"), ("X-A", "2")]


async def test_only_the_owner_sees_the_lines_of_the_code(rig: GatewayRig) -> None:
    kept, secret = stored()
    rig.put(PUBLIC, kept)
    rig.answer = ({"error": {"code": "RW-USER-CODE", "message": "It raised.", "details": {"traceback": "line 1"}}}, b"")
    for headers in (rig.bearer("bob"), {}, {"X-Ropewalk-Key": secret}):
        assert "traceback" not in problem(await rig.ask(headers))["details"]
    assert problem(await rig.ask(rig.bearer("ada")))["details"]["traceback"] == "line 1"


# Keys


async def test_a_key_opens_its_function_only(rig: GatewayRig) -> None:
    kept, secret = stored()
    other, others = stored("abcdefghjk")
    rig.put(PRIVATE, kept)
    answer = await rig.ask({"X-Ropewalk-Key": secret})
    assert (answer.status_code, answer.json()) == (200, 42)
    [seen] = rig.seen
    assert seen.headers["X-Ropewalk-Account"] == "key:0123456789"
    assert secret not in str(seen.headers) + str(seen.url) and "X-Ropewalk-Key" not in seen.headers
    for wrong in (
        others,
        secret[:-1] + ("A" if secret[-1] != "A" else "B"),
        secret + "A",
        secret.upper(),
        "",
        kept.digest,
        f"rwk-{kept.id}",
    ):
        refused = await rig.ask({"X-Ropewalk-Key": wrong})
        assert refused.status_code == 401 and problem(refused)["code"] == "RW-SIGN-IN"
    assert (await rig.ask({"X-Ropewalk-Key": secret}, label="r1--double--fn--ada")).status_code == 404
    rig.put(PRIVATE, other)  # revoked
    assert (await rig.ask({"X-Ropewalk-Key": secret})).status_code == 401
    rig.put(PUBLIC)  # a key that is wrong is not the same as none
    assert (await rig.ask({"X-Ropewalk-Key": secret})).status_code == 401
    assert len(rig.seen) == 1


async def test_a_quota_ends_with_when_to_come_back(rig: GatewayRig) -> None:
    (one, secret), (two, other) = stored(calls=3, seconds=60), stored("abcdefghjk")
    rig.put(PRIVATE, one, two)
    statuses = [(await rig.ask({"X-Ropewalk-Key": secret})).status_code for _ in range(3)]
    assert statuses == [200, 200, 200]
    refused = await rig.ask({"X-Ropewalk-Key": secret})
    assert (refused.status_code, problem(refused)["code"]) == (429, "RW-LIMITED")
    assert 55 <= int(refused.headers["Retry-After"]) <= 60
    assert (await rig.ask({"X-Ropewalk-Key": other})).status_code == 200  # each key has its own
    assert (await rig.ask(rig.bearer("ada"))).status_code == 200
    rig.put(PRIVATE, one, two)  # a snapshot brings nothing back
    assert (await rig.ask({"X-Ropewalk-Key": secret})).status_code == 429
    assert len(rig.seen) == 5


async def test_no_secret_is_in_a_log_or_an_answer(rig: GatewayRig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    kept, secret = stored(calls=1)
    rig.put(PRIVATE, kept)
    rig.answer = ({"error": {"code": "RW-USER-CODE", "message": "It raised."}}, b"")
    answers = [await rig.ask({"X-Ropewalk-Key": one}) for one in (secret, secret, secret + "x")]
    token = rig.token("eve")
    answers.append(await rig.ask({"Authorization": f"Bearer {token}"}))
    answers.append(await rig.ask([("Authorization", f"Bearer {token}"), ("X-Ropewalk-Key", secret)]))
    noted = rig.gateway.records
    records = [json.dumps(note.record(), separators=(",", ":")) for note in noted._buffer]
    records.append((noted._pending or b"").decode())  # on its way to a platform that is not there
    said = caplog.text + "".join(one.text + str(one.headers) for one in answers) + "".join(records)
    for one in (secret, secret.split("-", 2)[2], kept.digest, token):
        assert one not in said
    assert any('"caller":"key:0123456789"' in one for one in records)


# Who calls, said in two ways


async def test_who_calls_is_said_once(rig: GatewayRig) -> None:
    kept, secret = stored()
    rig.put(SHARED, kept)
    ada, bob = (f"Bearer {rig.token(one)}" for one in ("ada", "bob"))
    for headers in (
        [("Authorization", bob), ("Authorization", ada)],
        [("Authorization", ada), ("X-Ropewalk-Key", secret)],
        [("X-Ropewalk-Key", secret), ("x-ropewalk-key", secret)],
        [("X-Ropewalk-Key", "wrong"), ("X-Ropewalk-Key", secret)],
    ):
        answer = await rig.ask(headers)
        assert answer.status_code == 401 and "once" in problem(answer)["message"]
    for headers in (
        {"X-Ropewalk-Account": "ada"},
        {"X_Ropewalk_Key": secret},
        {"X-Ropewalk-Key ": secret},
        {"Authorization": f"Basic {ada}"},
        {"Authorization": secret},
        {"Authorization": f"Bearer {secret}"},
        {"Proxy-Authorization": ada},
        {"X-Forwarded-Host": rig.host("double--fn--bob"), "X-Forwarded-User": "ada"},
    ):
        try:
            answer = await rig.ask(headers)
        except httpx.LocalProtocolError:  # the client refuses to send what no server may take
            continue
        assert answer.status_code in (400, 401), headers
    assert not rig.seen


async def test_what_a_caller_says_about_itself_is_not_handed_on(rig: GatewayRig) -> None:
    rig.put(PUBLIC)
    await rig.ask(
        {"X-Ropewalk-Account": "ada", "X-Ropewalk-Call": "call-x", "X_Ropewalk_Account": "ada", "Cookie": "a=b"}
    )
    [seen] = rig.seen
    assert seen.headers["X-Ropewalk-Account"] == "" and seen.headers["X-Ropewalk-Call"] != "call-x"
    assert not {"Cookie", "X_Ropewalk_Account", "Authorization"} & set(seen.headers)


# Web pages


async def test_a_listed_page_may_ask_and_read(rig: GatewayRig) -> None:
    rig.put(LISTED)
    ask = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answer = await rig.ask(ask, "OPTIONS")
    assert answer.status_code == 204 and not answer.content and not rig.seen
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE and "Origin" in answer.headers["Vary"]
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    for headers, status in ((rig.bearer("ada"), 200), ({}, 401), (rig.bearer("eve"), 404)):
        answer = await rig.ask(headers | {"Origin": PAGE})
        assert answer.status_code == status and answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert "Origin" in answer.headers["Vary"]
    assert len(rig.seen) == 1  # being on the list opens nothing by itself


@pytest.mark.parametrize("access", [LISTED, Access(who="public", origins=(PAGE,))], ids=["private", "public"])
@pytest.mark.parametrize(
    "origin",
    [
        OTHER,
        "null",
        "http://example.org",
        "https://example.org:8443",
        "https://example.org.evil.example",
        "https://evilexample.org",
        "https://sub.example.org",
        "HTTPS://EXAMPLE.ORG/",
        "*",
        "",
    ],
)
async def test_another_page_may_not(rig: GatewayRig, access: Access, origin: str) -> None:
    rig.put(access)
    answer = await rig.ask(rig.bearer("ada") | {"Origin": origin})
    assert (answer.status_code, problem(answer)["code"]) == (403, "RW-WRONG-ORIGIN") and not rig.seen
    assert "Access-Control-Allow-Origin" not in answer.headers and answer.headers["Vary"] == "Origin"
    asked = await rig.ask({"Origin": origin, "Access-Control-Request-Method": "POST"}, "OPTIONS")
    assert not [one for one in asked.headers if one.lower().startswith("access-control")]


@pytest.mark.parametrize("access", [PRIVATE, PUBLIC, LISTED, Access(who="public", origins=("*",))])
async def test_credentials_are_never_allowed_to_a_page(rig: GatewayRig, access: Access) -> None:
    rig.put(access)
    for method in ("POST", "GET", "OPTIONS"):
        for origin in (PAGE, OTHER):
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"} | rig.cookie("ada")
            answer = await rig.ask(headers, method)
            assert "Access-Control-Allow-Credentials" not in answer.headers
            if not access.origins:
                assert "Access-Control-Allow-Origin" not in answer.headers  # off unless it is chosen


async def test_a_page_of_the_functions_own_host_is_no_other(rig: GatewayRig) -> None:
    rig.put(Access(who="public", origins=(PAGE,)))
    own = f"http://{rig.host('double--fn--ada')}"
    assert (await rig.ask({"Origin": own})).status_code == 200


async def test_a_browser_speaks_for_its_person_only_where_they_look_themselves(rig: GatewayRig) -> None:
    signed = rig.cookie("ada")
    rig.put(PRIVATE)
    assert (await rig.ask(signed | {"Sec-Fetch-Site": "same-origin"})).status_code == 403
    shown = await rig.ask(signed | {"Sec-Fetch-Site": "cross-site"}, "GET")
    assert not rig.seen and shown.status_code == 200  # asks the person first
    rig.put(PUBLIC)
    for headers, method in (
        ({"Sec-Fetch-Site": "cross-site"}, "GET"),
        ({"Sec-Fetch-Site": "same-site"}, "GET"),
        ({"Sec-Fetch-Site": "same-origin"}, "POST"),
        ({"Origin": OTHER}, "POST"),
    ):
        rig.seen.clear()
        assert (await rig.ask(signed | headers, method)).status_code == 200
        assert rig.seen[0].headers["X-Ropewalk-Account"] == ""  # as anybody, never as Ada
    rig.seen.clear()
    assert (await rig.ask(signed | {"Sec-Fetch-Site": "none"}, "GET")).status_code == 200
    assert rig.seen[0].headers["X-Ropewalk-Account"] == "ada"
