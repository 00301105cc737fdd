"""Signing in and up, the first administrator, the account: what people meet, and what attackers meet."""

from __future__ import annotations

import html
import re
import statistics
import time
from pathlib import Path

import pytest

from ropewalk_core.errors import Conflict, NotApproved, Unauthenticated
from ropewalk_hub.issuer.service import WRONG
from tests.identity.stage import ORIGIN, PASSWORD, Flow, Stage, make


async def test_wrong_password_and_unknown_account_say_the_same(stage: Stage) -> None:
    said = []
    for account in ("alice", "nobody", "Not A Name", "../../etc", ""):
        answer = await stage.browser().post("/sign-in", data={"account": account or " ", "password": "wrong one"})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        said.append(re.findall(r'role="alert">(?:<span>)?([^<]*)<', answer.text))
    assert all(one == said[0] for one in said)
    assert WRONG in said[0][0]


async def test_an_unknown_account_takes_as_long_as_a_known_one(stage: Stage) -> None:
    def seconds(account: str) -> float:
        start = time.perf_counter()
        assert stage.issuer.accounts.verify(account, "wrong one") is None
        return time.perf_counter() - start

    hashing = statistics.median(seconds("alice") for _ in range(30))
    unknown = statistics.median(seconds("nobody") for _ in range(30))
    assert unknown > hashing / 4


async def test_what_was_typed_stays_but_never_the_password(stage: Stage) -> None:
    answer = await stage.browser().post("/sign-in", data={"account": "alice", "password": "wrong one"})
    assert 'value="alice"' in answer.text
    assert "wrong one" not in answer.text


async def test_guesses_earn_a_wait_and_the_right_password_works_after_it(stage: Stage) -> None:
    browser = stage.browser()
    answers = [await browser.post("/sign-in", data={"account": "alice", "password": f"guess {n}"}) for n in range(8)]
    assert [one.status_code for one in answers] == [401] * 5 + [429] * 3
    assert int(answers[-1].headers["retry-after"]) >= 1
    right = {"account": "alice", "password": PASSWORD}
    assert (await browser.post("/sign-in", data=right)).status_code == 429
    stage.clock.advance(61)
    assert (await browser.post("/sign-in", data=right)).status_code == 303


async def test_guesses_from_elsewhere_do_not_lock_a_person_out(stage: Stage) -> None:
    for number in range(12):
        thief = stage.browser(**{"x-forwarded-for": "203.0.113.9"})
        await thief.post("/sign-in", data={"account": "alice", "password": f"guess {number}"})
    home = stage.browser(**{"x-forwarded-for": "203.0.113.9, 198.51.100.7"})  # the last entry is our proxy's
    assert (await home.post("/sign-in", data={"account": "alice", "password": PASSWORD})).status_code == 303


async def test_an_unknown_account_is_limited_like_a_known_one(stage: Stage) -> None:
    for account in ("alice", "nobody"):
        codes = [
            (await stage.browser().post("/sign-in", data={"account": account, "password": "x"})).status_code
            for _ in range(6)
        ]
        assert codes == [401] * 5 + [429]


async def test_the_session_cookie_is_host_only_and_out_of_reach_of_scripts(stage: Stage) -> None:
    answer = await stage.browser().post("/sign-in", data={"account": "alice", "password": PASSWORD})
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("ropewalk-session="))
    attributes = {part.strip().partition("=")[0].lower() for part in cookie.split(";")[1:]}
    assert attributes == {"httponly", "max-age", "path", "samesite"}
    assert "path=/" in cookie.lower() and "samesite=lax" in cookie.lower()


async def test_on_https_the_cookie_is_bound_to_the_host_by_the_browser(tmp_path) -> None:  # type: ignore[no-untyped-def]
    stage = make(tmp_path / "home", door_scheme="https", door_port=443)
    stage.add("alice", administrator=True)
    browser = stage.browser(origin="https://localhost:443", host="localhost")
    answer = await browser.post("/sign-in", data={"account": "alice", "password": PASSWORD})
    cookie = next(one for one in answer.headers.get_list("set-cookie") if "__Host-" in one)
    assert "secure" in cookie.lower() and "domain" not in cookie.lower()
    assert answer.headers["strict-transport-security"]
    await stage.close()


# New accounts


async def test_sign_up_waits_for_an_administrator(stage: Stage) -> None:
    browser = stage.browser()
    asked = await browser.post("/sign-up", data={"account": "carol", "password": PASSWORD, "full_name": "Carol <b>"})
    assert asked.status_code == 200 and "approves" in asked.text
    early = await browser.post("/sign-in", data={"account": "carol", "password": PASSWORD})
    assert early.status_code == 403 and "waits for an administrator" in early.text
    admin = await stage.signed_in()
    people = await admin.get("/people")
    assert "Carol &lt;b&gt;" in people.text
    assert (await admin.post("/people/carol/approve")).status_code == 303
    assert (await browser.post("/sign-in", data={"account": "carol", "password": PASSWORD})).status_code == 303


@pytest.mark.parametrize(
    ("account", "password", "field"),
    [
        ("alice", PASSWORD, "account"),
        ("Bad Name", PASSWORD, "account"),
        ("root", PASSWORD, "account"),
        ("a--b", PASSWORD, "account"),
        ("carol", "short", "password"),
        ("carol", "aaaaaaaaaaaaaaa", "password"),
        ("carol", "carolcarol12", "password"),
    ],
)
async def test_each_wrong_field_is_named(stage: Stage, account: str, password: str, field: str) -> None:
    answer = await stage.browser().post("/sign-up", data={"account": account, "password": password})
    assert answer.status_code in (409, 422)
    assert f'id="{field}-about" role="alert"' in answer.text
    assert stage.issuer.accounts.get("carol") is None


async def test_sign_up_can_be_closed(tmp_path) -> None:  # type: ignore[no-untyped-def]
    stage = make(tmp_path / "home", accounts_sign_up=False)
    answer = await stage.browser().post("/sign-up", data={"account": "carol", "password": PASSWORD})
    assert answer.status_code == 403
    assert "/sign-up" not in (await stage.browser().get("/sign-in")).text
    await stage.close()


async def test_the_first_administrators_link_works_once(tmp_path) -> None:  # type: ignore[no-untyped-def]
    stage = make(tmp_path / "home")
    old = stage.issuer.first_link().removeprefix(ORIGIN)
    link = stage.issuer.first_link().removeprefix(ORIGIN)
    browser = stage.browser()
    gone = await browser.get(old, headers={"accept": "text/html,*/*;q=0.8"})
    assert gone.status_code == 404  # each start prints a fresh one
    assert gone.headers["content-type"].startswith("text/html") and "a newer one was printed" in gone.text
    assert (await browser.get(link)).status_code == 200
    assert (await browser.post(link, data={"account": "Alice!", "password": PASSWORD})).status_code == 422
    made = await browser.post(link, data={"account": "alice", "password": PASSWORD})
    assert (made.status_code, made.headers["location"]) == (303, "/")
    assert stage.issuer.accounts.get("alice").administrator
    assert (await browser.get("/account")).status_code == 200
    assert (await stage.browser().post(link, data={"account": "mallory", "password": PASSWORD})).status_code == 404
    assert stage.issuer.accounts.get("mallory") is None
    assert stage.issuer.first_link() is None
    await stage.close()


# The account


async def test_a_password_change_ends_everything_else(stage: Stage) -> None:
    here, there = await stage.signed_in(), await stage.signed_in()
    tokens = await Flow(stage, there).tokens()
    jwt, _ = stage.issuer.tokens.make(stage.issuer.accounts.get("alice"), "server:alice", "api")
    new = "another rope entirely"
    wrong = await here.post("/account/password", data={"old": "not it", "password": new})
    assert wrong.status_code == 422 and 'id="old-about"' in wrong.text
    assert (await there.get("/account")).status_code == 200
    changed = await here.post("/account/password", data={"old": PASSWORD, "password": new})
    assert changed.headers["location"] == "/account?changed=1"
    assert (await here.get("/account")).status_code == 200
    assert (await there.get("/account")).status_code == 303
    flow = Flow(stage, there)
    assert (await flow.userinfo(tokens["access_token"])).status_code == 401
    assert (await flow.refresh(tokens["refresh_token"])).status_code == 400
    with pytest.raises(Unauthenticated):
        stage.issuer.tokens.actor(jwt)
    assert stage.platform.journal.get("closing", "", "alice")  # the hub's tokens end as soon as it is there
    assert (await stage.browser().post("/sign-in", data={"account": "alice", "password": new})).status_code == 303


async def test_deactivation_ends_tokens_and_sessions_at_once(stage: Stage) -> None:
    admin, bob = await stage.signed_in(), await stage.signed_in("bob")
    tokens = await Flow(stage, bob).tokens()
    jwt, _ = stage.issuer.tokens.make(stage.issuer.accounts.get("bob"), "server:bob", "functions")
    assert (await admin.post("/people/bob/deactivate")).status_code == 303
    assert (await bob.get("/account")).status_code == 303
    assert (await Flow(stage, bob).userinfo(tokens["access_token"])).status_code == 401
    with pytest.raises(Unauthenticated):
        stage.issuer.tokens.actor(jwt, "functions")
    with pytest.raises(NotApproved):
        stage.issuer.tokens.make(stage.issuer.accounts.get("bob"), "cli:bob", "api")
    back = await bob.post("/sign-in", data={"account": "bob", "password": PASSWORD})
    assert back.status_code == 403 and "deactivated" in back.text
    assert (await admin.post("/people/alice/deactivate")).status_code == 409  # never oneself
    assert (await admin.post("/people/bob/approve")).status_code == 303
    assert (await Flow(stage, bob).refresh(tokens["refresh_token"])).status_code == 400  # old tokens stay dead


async def test_names_are_never_used_again(stage: Stage) -> None:
    admin = await stage.signed_in()
    await admin.post("/people/bob/deactivate")
    answer = await stage.browser().post("/sign-up", data={"account": "bob", "password": PASSWORD})
    assert answer.status_code == 409 and "taken" in answer.text


async def test_signing_out_ends_this_sign_in_alone(stage: Stage) -> None:
    here, there = await stage.signed_in(), await stage.signed_in()
    mine, other = await Flow(stage, here).tokens(), await Flow(stage, there).tokens()
    cookie = here.cookies["ropewalk-session"]
    answer = await here.post("/sign-out")
    assert answer.headers["location"] == "/sign-in?signed-out=1"  # no hub runs here
    assert (await Flow(stage, here).userinfo(mine["access_token"])).status_code == 401
    assert (await Flow(stage, there).userinfo(other["access_token"])).status_code == 200
    again = stage.browser(cookie=f"ropewalk-session={cookie}")
    assert (await again.get("/account")).status_code == 303
    assert len(stage.issuer.sessions.ended()) == 1
    stage.clock.advance(3600)
    assert stage.issuer.sessions.ended() == ()


async def test_everywhere_means_everywhere(stage: Stage) -> None:
    here, there = await stage.signed_in(), await stage.signed_in()
    await here.post("/account/sign-out-everywhere")
    assert (await there.get("/account")).status_code == 303


async def test_an_idle_sign_in_ends_and_a_used_one_goes_on(stage: Stage) -> None:
    used, idle = await stage.signed_in(), await stage.signed_in()
    for _ in range(4):
        stage.clock.advance(stage.issuer.sessions.life / 3)
        assert (await used.get("/account")).status_code == 200
    assert (await idle.get("/account")).status_code == 303


@pytest.mark.parametrize("cookie", ["", "x", "ses-1", "ses-1.", ".x", "ses-1.x", "ses-" + "é", "s" * 5000])
async def test_false_cookies_are_nobody(stage: Stage, cookie: str) -> None:
    assert stage.issuer.actor_of_cookie(cookie) is None


async def test_a_cookie_with_another_secret_is_nobody(stage: Stage) -> None:
    browser = await stage.signed_in()
    real = browser.cookies["ropewalk-session"]
    assert stage.issuer.actor_of_cookie(real) is not None
    assert stage.issuer.actor_of_cookie(real[:-1] + ("A" if real[-1] != "A" else "B")) is None


# A form whose sign-in had ended


async def test_a_form_survives_the_end_of_its_sign_in(stage: Stage) -> None:
    browser = await stage.signed_in()
    stage.issuer.sign_out_everywhere("alice")
    typed = {"name": "my notes", "text": "line one\nline <two>", "password": "never kept"}
    lost = await browser.post("/account/password?x=1", data=typed, headers={"referer": f"{ORIGIN}/account"})
    assert lost.status_code == 401 and "is kept" in lost.text
    kept = html.unescape(re.search(r'name="kept" value="([^"]*)"', lost.text)[1])  # type: ignore[index]
    shown = await browser.post("/sign-in", data={"account": "alice", "password": PASSWORD, "kept": kept})
    assert shown.status_code == 200
    assert 'action="/account/password?x=1"' in shown.text
    assert "line one\nline &lt;two&gt;" in shown.text and "my notes" in shown.text
    assert "never kept" not in shown.text
    assert "Nothing was sent yet" in shown.text


@pytest.mark.parametrize("kept", ["x", "x.y", "e30=.00", "a.b.c"])
async def test_a_kept_form_cannot_be_made_up(stage: Stage, kept: str) -> None:
    answer = await stage.browser().post("/sign-in", data={"account": "alice", "password": PASSWORD, "kept": kept})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_a_kept_form_ends_after_an_hour(stage: Stage) -> None:
    kept = stage.issuer.kept.pack("/services", [("name", "x")])
    assert stage.issuer.kept.unpack(kept) == ("/services", [("name", "x")])
    stage.clock.advance(3601)
    assert stage.issuer.kept.unpack(kept) is None


async def test_a_part_of_a_page_sends_the_whole_page_to_the_sign_in(stage: Stage) -> None:
    headers = {"hx-request": "true", "referer": f"{ORIGIN}/services"}
    answer = await stage.browser().get("/account", headers=headers)
    assert answer.headers["hx-redirect"] == "/sign-in?next=%2Fservices"


async def test_the_old_password_opens_nothing_while_it_is_being_changed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = stage.issuer
    real, actor = issuer.passwords.verify, issuer.actor_of(issuer.sign_in("bob", PASSWORD)[0])

    def slow(stored: str | None, password: str) -> bool:
        monkeypatch.setattr(issuer.passwords, "verify", real)
        right: bool = real(stored, password)
        issuer.accounts.set_password("bob", "another rope, much longer", also=[])
        return right

    monkeypatch.setattr(issuer.passwords, "verify", slow)
    session, cookie = issuer.sign_in("bob", PASSWORD)
    assert issuer.actor_of(session) is None and issuer.actor_of_cookie(cookie) is None
    issuer.accounts.set_password("bob", PASSWORD)
    monkeypatch.setattr(issuer.passwords, "verify", slow)
    with pytest.raises(Conflict):
        issuer.change_password(actor, PASSWORD, "what a thief would like")
    assert issuer.accounts.verify("bob", "another rope, much longer")


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"account": "carol", "full_name": "because " * 100, "password": PASSWORD}, "full_name"),
        ({"account": "c" * 5000, "full_name": "Carol", "password": PASSWORD}, "account"),
        ({"account": "", "full_name": "Carol", "password": PASSWORD}, "account"),
        ({"account": "carol", "full_name": "Carol", "password": "secret words " * 100}, "password"),
        ({"account": "carol", "full_name": "Carol", "password": ""}, "password"),
    ],
)
@pytest.mark.parametrize("way", ["/sign-up", "first"])
async def test_no_length_loses_what_was_typed(
    tmp_path: Path, stage: Stage, typed: dict[str, str], field: str, way: str
) -> None:
    empty = make(tmp_path / "empty")
    chosen = empty if way == "first" else stage
    path = (empty.issuer.first_link() or "").removeprefix(ORIGIN) if way == "first" else way
    answer = await chosen.browser().post(path, data=typed)
    await empty.close()
    assert answer.status_code == 422
    shown = html.unescape(answer.text)
    for name in ("account", "full_name"):
        assert f'name="{name}" value="{typed[name]}"' in shown
    assert "secret words" not in shown and PASSWORD not in shown
    assert re.search(rf'<input [^>]*id="{field}"[^>]*aria-invalid="true"', answer.text)


async def test_a_sign_in_of_any_length_is_judged_by_the_form(stage: Stage) -> None:
    for typed in ({"account": "x" * 900, "password": "y"}, {"account": "alice", "password": ""}, {}):
        answer = await stage.browser().post("/sign-in", data=typed)
        assert answer.status_code == 401 and f'value="{typed.get("account", "")}"' in answer.text
    browser = await stage.signed_in()
    answer = await browser.post("/account/password", data={"old": "y" * 900, "password": PASSWORD})
    assert answer.status_code == 422 and "present password is wrong" in answer.text
