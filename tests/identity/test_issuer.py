"""The issuer as an OpenID provider: what a client may do, and every way in which it may not."""

from __future__ import annotations

import asyncio

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from ropewalk_hub.issuer.vault import ACCESS_LIFE, CODE_LIFE
from tests.identity.stage import ORIGIN, PASSWORD, REDIRECT, Flow, Stage, query_of


async def test_discovery_names_only_what_is_there(stage: Stage) -> None:
    said = (await stage.machine().get("/.well-known/openid-configuration")).json()
    assert said["issuer"] == ORIGIN
    assert said["code_challenge_methods_supported"] == ["S256"]
    assert said["response_types_supported"] == ["code"]
    for name, address in said.items():
        if name.endswith("_endpoint") or name == "jwks_uri":
            answer = await stage.browser().request("GET", address.removeprefix(ORIGIN))
            assert answer.status_code != 404, name


async def test_a_sign_in_gives_verified_tokens(flow: Flow, stage: Stage) -> None:
    answer = await flow.authorize()
    said = query_of(answer)
    assert answer.headers["location"].startswith(REDIRECT + "?")
    assert (said["state"], said["iss"]) == ("the-state", ORIGIN)
    tokens = (await flow.exchange(said["code"])).json()
    keys = KeySet.import_key_set((await stage.machine().get("/oidc/jwks")).json())
    claims = jwt.decode(tokens["id_token"], keys, algorithms=["ES256"]).claims
    assert (claims["iss"], claims["aud"], claims["nonce"]) == (ORIGIN, "app", "the-nonce")
    about = (await flow.userinfo(tokens["access_token"])).json()
    assert about["sub"] == claims["sub"] != "alice"
    assert about["preferred_username"] == "alice"
    assert "at_hash" in claims and "sid" in claims


async def test_public_keys_have_no_private_half(stage: Stage) -> None:
    for key in (await stage.machine().get("/oidc/jwks")).json()["keys"]:
        assert "d" not in key


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge": None},
        {"code_challenge": "short"},
        {"code_challenge_method": "s256"},
    ],
)
async def test_pkce_cannot_be_downgraded(flow: Flow, changes: dict[str, str | None]) -> None:
    answer = await flow.authorize(**changes)
    assert "code=" not in answer.headers.get("location", "")
    assert answer.status_code in (303, 422)


@pytest.mark.parametrize("verifier", [None, "", "x" * 43, "short", "a" * 200])
async def test_the_verifier_is_required_and_must_fit(flow: Flow, verifier: str | None) -> None:
    answer = await flow.exchange(await flow.code(), code_verifier=verifier)
    assert answer.status_code == 400
    assert "access_token" not in answer.text


@pytest.mark.parametrize(
    "redirect",
    [
        REDIRECT + "/",
        REDIRECT + "?x=1",
        REDIRECT.upper(),
        REDIRECT.replace("localhost", "127.0.0.1"),
        "http://localhost:8000.evil.test/hub/oauth_callback",
        "http://localhost:8000@evil.test/hub/oauth_callback",
        "https://localhost:8000/hub/oauth_callback",
        "javascript:alert(1)",
        "//evil.test",
        "",
    ],
)
async def test_a_redirect_address_matches_character_by_character(flow: Flow, redirect: str) -> None:
    answer = await flow.authorize(redirect_uri=redirect)
    assert answer.status_code == 422
    assert "location" not in answer.headers


async def test_parameters_may_not_come_twice(flow: Flow) -> None:
    answer = await flow.browser.get(
        f"/oidc/authorize?response_type=code&client_id=app&redirect_uri={REDIRECT}&redirect_uri=http://evil.test"
        f"&code_challenge={flow.challenge}&code_challenge_method=S256"
    )
    assert "code=" not in answer.headers.get("location", "")


@pytest.mark.parametrize("response_type", ["token", "id_token", "code token", "none", None])
async def test_there_is_no_implicit_grant(flow: Flow, response_type: str | None) -> None:
    answer = await flow.authorize(response_type=response_type)
    assert "token=" not in answer.headers.get("location", "")
    assert "code=" not in answer.headers.get("location", "")


async def test_there_is_no_password_grant(flow: Flow) -> None:
    body = {"grant_type": "password", "username": "alice", "password": PASSWORD, "scope": "openid"}
    assert (await flow.token(body)).status_code == 400


async def test_an_unknown_client_or_a_wrong_secret_gets_nothing(flow: Flow) -> None:
    code = await flow.code()
    body = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": flow.verifier}
    assert (await flow.token(body, auth=("app", "wrong"))).status_code == 401
    assert (await flow.token(body, auth=("nobody", "the-app-secret"))).status_code == 401
    other = await flow.token(body, auth=("jupyterhub", "the-app-secret"))
    assert other.status_code == 401
    assert (await flow.token(body)).status_code == 200


async def test_a_code_belongs_to_its_client(flow: Flow, stage: Stage) -> None:
    from ropewalk_hub.issuer.grants import Client

    stage.issuer.clients["other"] = Client("other", "other-secret", redirects=(REDIRECT,), after_sign_out=())
    code = await flow.code()
    body = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": flow.verifier}
    assert (await flow.token(body, auth=("other", "other-secret"))).json()["error"] == "invalid_grant"
    tokens = (await flow.exchange(code)).json()
    stolen = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert (await flow.token(stolen, auth=("other", "other-secret"))).json()["error"] == "invalid_grant"
    assert (await flow.refresh(tokens["refresh_token"])).status_code == 200


@pytest.mark.parametrize("later", [0.0, 30.0, 120.0])
async def test_a_code_is_good_once_and_its_reuse_revokes_what_it_gave(flow: Flow, stage: Stage, later: float) -> None:
    code = await flow.code()
    tokens = (await flow.exchange(code)).json()
    assert (await flow.userinfo(tokens["access_token"])).status_code == 200
    stage.clock.advance(later)
    assert (await flow.exchange(code)).json()["error"] == "invalid_grant"
    assert (await flow.userinfo(tokens["access_token"])).status_code == 401
    assert (await flow.refresh(tokens["refresh_token"])).status_code == 400


async def test_two_exchanges_of_one_code_at_once_give_at_most_one_set(flow: Flow) -> None:
    code = await flow.code()
    answers = await asyncio.gather(*(flow.exchange(code) for _ in range(6)))
    good = [one for one in answers if one.status_code == 200]
    assert len(good) <= 1
    for one in good:
        assert (await flow.userinfo(one.json()["access_token"])).status_code == 401


async def test_a_code_ends_after_a_minute(flow: Flow, stage: Stage) -> None:
    code = await flow.code()
    stage.clock.advance(CODE_LIFE + 1)
    assert (await flow.exchange(code)).status_code == 400


async def test_a_code_needs_the_redirect_that_it_was_made_for(flow: Flow) -> None:
    assert (await flow.exchange(await flow.code(), redirect_uri=ORIGIN)).status_code == 400


async def test_an_anonymous_browser_is_asked_to_sign_in_and_comes_back(stage: Stage) -> None:
    flow = Flow(stage, stage.browser())
    answer = await flow.authorize()
    assert answer.headers["location"].startswith("/sign-in?next=%2Foidc%2Fauthorize")
    target = query_of(answer)["next"]
    signed = await flow.browser.post("/sign-in", data={"account": "bob", "password": PASSWORD, "next": target})
    assert signed.headers["location"].startswith("/oidc/authorize?")
    back = await flow.browser.get(signed.headers["location"])
    assert (await flow.exchange(query_of(back)["code"])).status_code == 200


async def test_prompts_are_kept(flow: Flow, stage: Stage) -> None:
    silent = await Flow(stage, stage.browser()).authorize(prompt="none")
    assert query_of(silent)["error"] == "login_required"
    again = await flow.authorize(prompt="login")
    assert again.headers["location"].startswith("/sign-in?")
    assert "again=1" in again.headers["location"]
    assert (await flow.browser.get(again.headers["location"])).status_code == 200
    stage.clock.advance(100)
    assert (await flow.authorize(max_age="10")).headers["location"].startswith("/sign-in?")
    assert (await flow.authorize(max_age="1000")).headers["location"].startswith(REDIRECT)


# Refresh


async def test_twenty_refreshes_at_once_all_succeed(flow: Flow) -> None:
    first = (await flow.tokens())["refresh_token"]
    answers = await asyncio.gather(*(flow.refresh(first) for _ in range(20)))
    assert [one.status_code for one in answers] == [200] * 20
    second = answers[7].json()["refresh_token"]
    answers = await asyncio.gather(*(flow.refresh(second) for _ in range(20)))
    assert [one.status_code for one in answers] == [200] * 20
    for one in answers:
        assert (await flow.userinfo(one.json()["access_token"])).status_code == 200


async def test_a_lost_answer_can_be_asked_for_again(flow: Flow) -> None:
    first = (await flow.tokens())["refresh_token"]
    await flow.refresh(first)
    again = await flow.refresh(first)
    assert (await flow.refresh(again.json()["refresh_token"])).status_code == 200


async def test_a_used_child_kills_its_parent_and_siblings_and_a_dead_one_the_family(flow: Flow) -> None:
    first = (await flow.tokens())["refresh_token"]
    mine = (await flow.refresh(first)).json()
    sibling = (await flow.refresh(first)).json()
    newest = (await flow.refresh(mine["refresh_token"])).json()
    assert (await flow.userinfo(newest["access_token"])).status_code == 200
    assert (await flow.refresh(sibling["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await flow.userinfo(newest["access_token"])).status_code == 401
    assert (await flow.refresh(newest["refresh_token"])).status_code == 400


async def test_a_stolen_parent_revokes_the_family(flow: Flow) -> None:
    first = (await flow.tokens())["refresh_token"]
    second = (await flow.refresh(first)).json()["refresh_token"]
    third = (await flow.refresh(second)).json()
    assert (await flow.refresh(first)).status_code == 400
    assert (await flow.userinfo(third["access_token"])).status_code == 401


async def test_a_refresh_keeps_subject_and_session_and_cannot_widen_its_scope(flow: Flow, stage: Stage) -> None:
    tokens = await flow.tokens()
    wide = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "scope": "openid admin"}
    assert (await flow.token(wide)).json()["error"] == "invalid_scope"
    fresh = (await flow.refresh(tokens["refresh_token"])).json()
    keys = stage.issuer.keys.verifying
    old, new = (jwt.decode(one["id_token"], keys, algorithms=["ES256"]).claims for one in (tokens, fresh))
    assert (old["sub"], old["sid"], old["iss"]) == (new["sub"], new["sid"], new["iss"])
    assert "nonce" not in new


async def test_a_refresh_keeps_the_sign_in_alive(flow: Flow, stage: Stage) -> None:
    token = (await flow.tokens())["refresh_token"]
    for _ in range(4):
        stage.clock.advance(stage.issuer.sessions.life / 2)
        answer = await flow.refresh(token)
        assert answer.status_code == 200
        token = answer.json()["refresh_token"]


# The ends


async def test_an_access_token_ends_after_ten_minutes(flow: Flow, stage: Stage) -> None:
    access = (await flow.tokens())["access_token"]
    stage.clock.advance(ACCESS_LIFE + 1)
    assert (await flow.userinfo(access)).status_code == 401


async def test_revocation_ends_the_family_and_says_nothing_about_strangers(flow: Flow, stage: Stage) -> None:
    tokens = await flow.tokens()
    asked = stage.machine()
    assert (await asked.post("/oidc/revoke", data={"token": "x"}, auth=("app", "wrong"))).status_code == 401
    assert (await asked.post("/oidc/revoke", data={"token": "x"}, auth=("app", "the-app-secret"))).status_code == 200
    gone = {"token": tokens["refresh_token"]}
    assert (await asked.post("/oidc/revoke", data=gone, auth=("app", "the-app-secret"))).status_code == 200
    assert (await flow.userinfo(tokens["access_token"])).status_code == 401
    assert (await flow.refresh(tokens["refresh_token"])).status_code == 400


async def test_end_session_signs_out_with_a_hint_and_asks_without(flow: Flow, stage: Stage) -> None:
    tokens = await flow.tokens()
    for hint in ("", "nonsense", tokens["id_token"][:-4] + "AAAA"):
        answer = await flow.browser.get("/oidc/end-session", params={"id_token_hint": hint})
        assert answer.headers["location"] == "/sign-out"
    assert (await flow.browser.get("/account")).status_code == 200
    evil = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": "http://evil.test/"}
    other = await flow.browser.get("/oidc/end-session", params=evil | {"client_id": "jupyterhub"})
    assert other.headers["location"] == "/sign-out"
    stage.clock.advance(2 * 3600)  # an expired hint is still a hint
    answer = await flow.browser.get("/oidc/end-session", params=evil)
    assert answer.headers["location"] == "/sign-in?signed-out=1"
    assert (await flow.browser.get("/account")).status_code == 303
    assert (await flow.refresh(tokens["refresh_token"])).status_code == 400


async def test_end_session_goes_to_a_registered_address_with_the_state(flow: Flow) -> None:
    hint = {"id_token_hint": (await flow.tokens())["id_token"], "post_logout_redirect_uri": ORIGIN, "state": "s"}
    assert (await flow.browser.get("/oidc/end-session", params=hint)).headers["location"] == f"{ORIGIN}?state=s"


async def test_nothing_secret_lies_in_the_journal(flow: Flow, stage: Stage) -> None:
    code = await flow.code()
    tokens = (await flow.exchange(code)).json()
    cookie = flow.browser.cookies.get("ropewalk-session") or ""
    assert cookie
    await asyncio.wrap_future(stage.platform.journal.submit([]))
    home = stage.platform.settings.home
    stored = b"".join(path.read_bytes() for path in home.glob("journal.db*"))
    for secret in (code, tokens["access_token"], tokens["refresh_token"], cookie.partition(".")[2], PASSWORD):
        assert secret.encode() not in stored
