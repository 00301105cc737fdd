"""Every page as its reader gets it: there, escaped, linked, honest when empty, and usable without scripts."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from ropewalk_core.errors import Unavailable, documented
from ropewalk_core.journal import Append
from ropewalk_core.model import State, Status
from ropewalk_core.testing import take
from ropewalk_hub import pages
from ropewalk_hub.pages import live
from ropewalk_hub.security import cookie_name
from tests.pages.stage import FAILURE, OWNER, Stage, furnish
from tests.unit.test_previews import png

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}</textarea></pre>"
PAGES = ["/", "/notebooks", "/services", "/services/new/voila", "/functions", "/workflows", "/people", "/secrets"]
THINGS = [
    "/services/board",
    "/services/notes",
    "/services/board/settings",
    "/functions/digits",
    "/workflows/run-5k2m9qv0w3",
    "/workflows/run-5k2m9qv0w3?step=train1",
    "/workflows/run-5k2m9qv0w3/lineage?step=train1",
    "/workflows/run-000000wide",
    "/workflows/run-00000chain",
]
_VOID = {"meta", "link", "input", "br", "img", "rect", "path", "circle"}


class Document(HTMLParser):
    """Reads a page as a browser would, and complains about tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for one, attributes in self.tags if one == tag]

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))


async def ask(browser: httpx.AsyncClient, path: str, status: int = 200) -> Document:
    answer = await browser.get(path)
    assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text[:300]}"
    return Document(answer.text)


@pytest.mark.parametrize("path", PAGES)
async def test_an_empty_platform_teaches(browser: httpx.AsyncClient, path: str) -> None:
    page = await ask(browser, path)
    assert len(page.all("h1")) == 1
    assert "None" not in page.words


async def test_a_form_that_is_too_long_is_told_so(browser: httpx.AsyncClient) -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 2**16

    form = {"content-type": "application/x-www-form-urlencoded", "accept": "text/html"}
    for body in (b"x" * (2**20 + 1), unannounced()):
        answer = await browser.post("/functions/digits/call", content=body, headers=form)
        page = Document(answer.text)
        assert answer.status_code == 413 and "RW-TOO-LARGE" in page.words and "1 MiB" in page.words
        assert len(page.all("h1")) == 1 and "default-src" in answer.headers["content-security-policy"]


async def test_pages_escape_what_people_write(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things, HOSTILE)
    for path in [*PAGES, *THINGS, f"/services?q={HOSTILE}", f"/workflows?q={HOSTILE}"]:
        answer = await browser.get(path)
        assert answer.status_code == 200, path
        page = Document(answer.text)  # a tag from a person's words would break the nesting, or show up here
        assert "alert(1)</script>" not in answer.text
        assert not page.all("img")
        assert {one.get("src", "").partition("?")[0] for one in page.all("script")} <= {
            "/static/htmx.js",
            "/static/app.js",
        }
        assert not any(name.startswith("on") or name == "style" for _, one in page.tags for name in one), path
        assert not page.all("style") and not page.all("iframe")


async def test_hostile_words_are_still_readable(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things, HOSTILE)
    page = await ask(browser, "/functions/digits")
    assert "alert(1)" in page.words and "{{7*7}}" in page.words


async def test_every_link_and_form_leads_somewhere(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    seen: set[str] = set()
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        page = await ask(browser, path)
        ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
        assert len(ids) == sum("id" in attributes for _, attributes in page.tags), f"{path} repeats an id"
        for one in page.all("a"):
            link = one["href"]
            if link.startswith("#"):
                assert link[1:] in ids, f"{path} points at {link}"
                continue
            target = path.partition("?")[0] + link if link.startswith("?") else link.partition("#")[0]
            known = target.startswith("/") and not target.startswith(("/account", "/api/", "/static/"))
            if known and target not in seen:
                seen.add(target)
                waiting.append(target)
        for form in page.all("form"):
            assert form.get("method") in ("get", "post")
        for label in page.all("label"):
            assert label.get("for") in ids, f"{path}: a label for nothing"
        for part in page.all("section") + page.all("div"):
            if "hx-get" in part:
                assert part["hx-select"] == f"#{part['id']}"
    assert {"/services/board", "/functions/digits", "/workflows/run-5k2m9qv0w3", "/people"} <= seen


async def test_states_have_color_sign_and_word(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    template = stage.things.services["board"]
    for state in State:
        name = f"s-{state.value}"
        spec = template.spec.model_copy(update={"name": name})
        stage.things.services[name] = template.model_copy(update={"spec": spec, "status": Status(state=state)})
    text = (await browser.get("/services")).text
    for state in State:
        assert re.search(
            rf'<span class="state state-{state.value}"><svg class="sign".*?</svg><span>{state.value}', text
        )


async def test_times_are_relative_with_the_exact_one_beside(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    times = (await ask(browser, "/workflows")).all("time")
    assert times
    for one in times:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", one["datetime"])
        assert one["title"].endswith("UTC")


async def test_a_stranger_is_asked_to_sign_in(stage: Stage) -> None:
    async with stage.client(signed=False) as stranger:
        for path in [*PAGES, "/functions/digits", "/events"]:
            answer = await stranger.get(path)
            assert answer.status_code in (303, 401), path
            assert OWNER not in answer.text


async def test_what_is_not_there_says_so(browser: httpx.AsyncClient) -> None:
    for path in ["/services/none", "/functions/none", "/workflows/none", "/services/new/none", "/static/none.js", "/x"]:
        page = await ask(browser, path, 404)
        assert "There is no" in page.words


async def test_a_part_that_is_away_does_not_take_the_page_along(
    stage: Stage, browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("The hub is being restarted.")

    for port in (stage.platform.notebooks, stage.platform.functions, stage.platform.storage):
        for name in ("get", "list", "usage", "calls"):
            if hasattr(type(port), name):
                monkeypatch.setattr(type(port), name, away)
    page = await ask(browser, "/")
    assert "The hub is being restarted." in page.words
    assert "Failed since yesterday" in page.words


async def test_people_are_for_administrators(stage: Stage, browser: httpx.AsyncClient) -> None:
    stage.platform.issuer.sign_up("grace", "a long enough password", full_name="Grace Hopper")
    assert "1 account waits for your approval" in (await ask(browser, "/")).words
    assert "Grace Hopper" in (await ask(browser, "/people")).words
    assert (await browser.post("/people/grace/approve")).status_code == 303
    account = stage.platform.issuer.accounts.get("grace")
    assert account and account.state == "active"
    _, cookie = stage.platform.issuer.sign_in("grace", "a long enough password")
    other = Stage(stage.platform, stage.app, stage.things, cookie)
    async with other.client() as grace:
        assert (await grace.get("/people")).status_code == 403
        assert (await grace.post("/people/ada/deactivate")).status_code == 403
        assert "People" not in (await ask(grace, "/")).words
    assert (await browser.post("/people/grace/deactivate")).status_code == 303
    assert "deactivated" in (await ask(browser, "/people")).words


async def test_acts_go_through_the_ports_and_come_back(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    acts = [
        ("/notebooks/start", "/notebooks"),
        ("/notebooks/stop", "/notebooks"),
        ("/services/notes/restart", "/services/notes"),
        ("/services/notes/remove", "/services"),
        ("/functions/hello/remove", "/functions"),
        ("/workflows/run-5k2m9qv0w3/retry", "/workflows/run-5k2m9qv0w3"),
        ("/workflows/run-000000wide/cancel", "/workflows/run-000000wide"),
        ("/workflows/run-5k2m9qv0w3/remove", "/workflows"),
    ]
    for path, where in acts:
        answer = await browser.post(path)
        assert (answer.status_code, answer.headers["location"]) == (303, where)
    opened = await browser.post("/notebooks/start", data={"then": "open"})
    assert opened.headers["location"] == stage.things.notebook.address
    assert ("removed", "notes") in stage.things.acts and ("stopping", "run-000000wide") in stage.things.acts


async def test_a_step_says_what_it_comes_from(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    assert "/lineage?step=train1" in (await browser.get("/workflows/run-5k2m9qv0w3?step=train1")).text
    page = Document((await browser.get("/workflows/run-5k2m9qv0w3/lineage?step=train1")).text)
    assert "What train(1) comes from" in page.words and "load" in page.words
    assert "cell [3]" in page.words and "return '<b>'" in page.words
    assert (await browser.get("/workflows/run-5k2m9qv0w3/lineage?step=nothing")).status_code == 404


async def test_an_executed_notebook_is_shown_where_nothing_of_it_runs(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    place = "/workflows/run-5k2m9qv0w3/notebook?step=train2"
    page = await ask(browser, "/workflows/run-5k2m9qv0w3?step=train2")
    [frame] = page.all("iframe")
    assert frame["src"] == place and frame["sandbox"] == "" and frame["title"]
    answer = await browser.get(place)
    assert answer.text == "<p>told</p><script>alert(1)</script>"
    policy = [one.strip() for one in answer.headers["content-security-policy"].split(";")]
    assert {"sandbox", "default-src 'none'", "frame-ancestors 'self'"} <= set(policy)
    assert not any(one.startswith("script-src") for one in policy)
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "SAMEORIGIN"
    for step in ("train0", "train3", "nothing"):
        assert (await browser.get(f"/workflows/run-5k2m9qv0w3/notebook?step={step}")).status_code == 404


async def test_a_run_can_be_copied_in_three_languages(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    assert "/workflows/run-5k2m9qv0w3/copy" in (await browser.get("/workflows/run-5k2m9qv0w3")).text
    page = Document((await browser.get("/workflows/run-5k2m9qv0w3/copy")).text)
    assert all(
        one in page.words for one in ("Argo YAML", "image: busybox", "with Workflow(", "@step", "def train(depth):")
    )
    assert "args=['<b>']" in page.words.replace(" ", "")
    assert (await browser.get("/workflows/run-none/copy")).status_code == 404


async def test_a_runs_timeline_is_drawn_and_its_steps_page(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    run = stage.things.runs["run-5k2m9qv0w3"]
    page = (await browser.get("/workflows/run-5k2m9qv0w3")).text
    assert page.count('class="row') >= len([one for one in run.steps if one.kind == "step"])
    assert 'class="span is-failed"' in page and "Steps after" not in page
    many = tuple(run.steps[0].model_copy(update={"id": f"s{n}", "name": f"s<{n}>"}) for n in range(250))
    stage.things.runs["run-5k2m9qv0w3"] = run.model_copy(update={"steps": many})
    second = Document((await browser.get("/workflows/run-5k2m9qv0w3?row=100&step=s7")).text)
    assert "101 to 200 of 250 steps" in second.words and "s<150>" in second.words and "s<20>" not in second.words
    assert (await browser.get("/workflows/run-5k2m9qv0w3?row=-3")).status_code == 200
    assert "201 to 250" in (await browser.get("/workflows/run-5k2m9qv0w3?row=99999")).text


async def test_a_run_is_suspended_and_resumed(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    here = "/workflows/run-000000wide"
    for act, other in (("suspend", "resume"), ("resume", "suspend")):
        page = (await browser.get(here)).text
        assert f'action="{here}/{act}"' in page and f'action="{here}/{other}"' not in page
        assert (await browser.post(f"{here}/{act}")).headers["location"] == here
        assert ("suspended" in (await browser.get(here)).text) is (act == "suspend")
    assert "/suspend" not in (await browser.get("/workflows/run-5k2m9qv0w3")).text


async def test_acts_from_another_origin_are_refused(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    hostile = {"origin": "http://board--ada.localhost:8001"}
    answer = await browser.post("/services/board/remove", headers=hostile)
    assert answer.status_code == 403
    assert "board" in stage.things.services


async def test_revisions_say_what_changed_and_come_back(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    page = await ask(browser, "/functions/digits")
    said = page.words.partition("What changed")[2]
    assert re.search(r" 3 2 hours ago code, timeout, environment current 2 1 day ago code, timeout Roll back", said)
    assert re.search(r" 1 2 days ago first Roll back", said)
    forms = [one for one in page.all("form") if one["action"] == "/functions/digits/rollback"]
    assert len(forms) == 2 and all(one["method"] == "post" for one in forms)
    assert [one["value"] for one in page.all("input") if one.get("name") == "number"] == ["2", "1"]
    labels = [one["aria-label"] for one in page.all("button") if one.get("aria-label", "").startswith("Roll back")]
    assert labels == ["Roll back to revision 2", "Roll back to revision 1"]
    old = stage.things.revisions["digits"][2]
    answer = await browser.post("/functions/digits/rollback", data={"number": "1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/functions/digits#revisions")
    now = stage.things.functions["digits"].revision
    assert now.number == 4 and now.spec == old.spec and now.spec.bundle.files
    assert (await ask(browser, "/functions/digits")).words.count("Roll back") == 3


async def test_calls_are_split_between_revisions(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    page = await ask(browser, "/functions/digits")
    fields = {one["name"]: one["value"] for one in page.all("input") if one.get("form") == "split"}
    assert fields == {"latest": "100", "r3": "", "r2": "", "r1": ""}
    answer = await browser.post("/functions/digits/traffic", data=fields | {"latest": "10", "r2": "90"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/functions/digits#revisions")
    page = await ask(browser, "/functions/digits")
    assert "Of 100 calls revision 2 takes 90, revision 3, the latest, takes 10." in page.words
    assert "http://r2--digits/" in page.words
    await browser.post("/functions/digits/rollback", data={"number": "1"})
    assert "Of 100 calls rev" not in (await ask(browser, "/functions/digits")).words


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"latest": "10"}, "add up to 10"),
        ({"r2": "many"}, "whole number"),
        ({"r2": "9" * 5000}, "whole number"),
        ({"other": "100"}, "no number of a revision"),
        ({}, "add up to 0"),
    ],
)
async def test_a_wrong_split_is_said_beside_it(
    stage: Stage, browser: httpx.AsyncClient, shares: dict[str, str], said: str
) -> None:
    furnish(stage.things)
    answer = await browser.post("/functions/digits/traffic", data=shares)
    assert answer.status_code == 422 and said in Document(answer.text).words
    assert stage.things.acts == []


async def test_who_may_call_is_chosen_on_the_page(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    page = await ask(browser, "/functions/digits")
    assert "Only you can call it, with a token. Change" in page.words
    answer = await browser.post("/functions/digits/access", data={"who": "public", "origins": "https://example.org"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/functions/digits#access")
    page = await ask(browser, "/functions/digits")
    assert "Anybody can call it, without signing in." in page.words
    assert [one["value"] for one in page.all("input") if one.get("name") == "origins"] == ["https://example.org"]
    for data, said in (
        ({"who": "shared", "accounts": "nobody-here"}, "no account 'nobody-here'"),
        ({"who": "shared"}, "shared with nobody"),
        ({"who": "private", "origins": "<b>"}, "'<b>' is no origin"),
        ({"who": "everyone"}, "Choose who may call it"),
    ):
        answer = await browser.post("/functions/digits/access", data=data)
        assert answer.status_code == 422 and said in Document(answer.text).words, data
    assert "Anybody can call it" in (await ask(browser, "/functions/digits")).words


async def test_a_key_is_shown_once(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    answer = await browser.post("/functions/digits/keys", data={"label": "<i>web</i>", "calls": "5", "seconds": "60"})
    [secret] = re.findall(r"rwk-[0-9a-z]{10}-[A-Za-z0-9_-]{43}", answer.text)
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    page = await ask(browser, "/functions/digits")
    assert secret not in page.words and "<i>web</i> 5 calls in" in page.words
    assert "whoever holds a key (1 now)" in page.words
    [form] = [one for one in page.all("form") if one["action"].endswith("/revoke")]
    assert (await browser.post(form["action"])).status_code == 303
    assert "There are no keys." in (await ask(browser, "/functions/digits")).words
    assert (await browser.post(form["action"])).status_code == 404
    for data in ({"calls": "0"}, {"calls": "many"}, {"seconds": "9" * 20}, {"label": "x" * 61}):
        answer = await browser.post("/functions/digits/keys", data=data)
        assert answer.status_code == 422 and "rwk-" not in answer.text
    hostile = {"origin": "http://board--ada.localhost:8001"}
    for path in ("keys", "access", "traffic"):
        assert (await browser.post(f"/functions/digits/{path}", headers=hostile)).status_code == 403


async def test_a_revision_that_is_not_kept_is_said(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    for number, status in (("9", 404), ("0", 422), ("x", 422), ("", 422)):
        answer = await browser.post("/functions/digits/rollback", data={"number": number})
        assert answer.status_code == status and len(Document(answer.text).all("h1")) == 1
    assert (await browser.post("/functions/digits/rollback")).status_code == 422
    assert stage.things.functions["digits"].revision.number == 3 and stage.things.acts == []


async def test_samples_of_a_function_fit_its_parameters(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    page = await ask(browser, "/functions/digits")
    assert """-d '{"pixels": 1}'""" in page.words and "digits(pixels=1)" in page.words
    assert page.words.count('{"pixels": 1}') == 2  # the form starts with it too


async def test_try_it_shows_the_answer_and_keeps_the_payload(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    answer = await browser.post("/functions/digits/call", data={"payload": '{"pixels": [1, 2]}'})
    page = Document(answer.text)
    assert '{"digit": 7}' in page.words and '{"pixels": [1, 2]}' in page.words
    assert ("call", '{"pixels": [1, 2]}') in stage.things.acts
    stage.things.answer = FAILURE
    failed = await browser.post("/functions/digits/call", data={"payload": "[]"})
    assert failed.status_code == FAILURE.status
    assert "ValueError: <b>x</b>" in Document(failed.text).words
    assert "<b>" not in failed.text


async def test_try_it_shows_a_picture_and_says_what_is_no_text(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    for answer, shown in (
        (png(2), '<img alt="The answer, a picture" src="data:image/png;base64,iVBOR'),
        (png(2).replace(b"\0\0\0\2", b"\x0f\xff\xff\xff"), "bytes, which are no text"),
        (b"\xff\xfe", "2 bytes, which are no text"),
        (b"<svg onload=alert(1)>", "&lt;svg onload=alert(1)&gt;"),
    ):
        stage.things.answer = answer
        assert shown in (await browser.post("/functions/digits/call", data={"payload": "1"})).text


async def test_try_it_says_where_what_was_typed_is_not_json(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    answer = await browser.post("/functions/digits/call", data={"payload": "{'name':\n1}"})
    page = Document(answer.text)
    assert answer.status_code == 422 and "{'name':" in page.words
    assert "What you typed is not JSON (line 1, column 2)." in page.words and "double quotes" in page.words
    assert "set its Content-Type" not in page.words and stage.things.acts == []
    for payload in ("", "NaN", "[" * 9999, "1" * 9999):  # the function says what it makes of these
        assert (await browser.post("/functions/digits/call", data={"payload": payload})).status_code == 200


async def test_lists_search_filter_and_page_by_their_address(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    template = stage.things.services["board"]
    for number in range(120):
        spec = template.spec.model_copy(update={"name": f"many-{number:03}"})
        stage.things.services[spec.name] = template.model_copy(update={"spec": spec})
    first = await ask(browser, "/services?q=many")
    assert "many-000" in first.words and "many-119" not in first.words
    shown: list[str] = re.findall(r"many-\d{3}", first.words)
    page = first
    while following := [one["href"] for one in page.all("a") if "after=" in one["href"]]:
        page = await ask(browser, following[-1])
        shown += re.findall(r"many-\d{3}", page.words)
    assert sorted(set(shown)) == [f"many-{number:03}" for number in range(120)]
    failed = await ask(browser, "/services?state=failed")
    assert "notes" in failed.words and "many-000" not in failed.words
    assert "No services match" in (await ask(browser, "/services?q=zzz")).words


def events(stage: Stage, after: int) -> AsyncIterator[str]:
    name = cookie_name(stage.platform.settings.door)
    headers = [(b"cookie", f"{name}={stage.cookie}".encode())]
    request = Request({"type": "http", "method": "GET", "path": "/events", "headers": headers, "app": stage.app})
    actor = stage.platform.issuer.actor_of_cookie(stage.cookie)
    assert actor
    return live._stream(request, stage.platform, actor, after)


def told(text: str) -> dict[str, str]:
    return json.loads(text.split("data: ")[1])  # type: ignore[no-any-return]


async def test_events_tell_what_changed_and_resume(stage: Stage) -> None:
    await stage.things.say("service", "first", "running")
    after = stage.platform.journal.cursor
    await stage.platform.journal.write(Append("service", "somebody", "else", "running"))
    await stage.things.say("run", "second", "done")
    position, change = await take(events(stage, after), 2)
    assert f"id: {after}\nevent: position" in position
    assert told(change) == {"kind": "run", "name": "second", "type": "done"}
    assert change.startswith(f"id: {stage.platform.journal.cursor}\n")
    everything = await take(events(stage, 0), 4)
    assert [told(one).get("name") for one in everything][-2:] == ["first", "second"]


async def test_a_waiting_stream_is_woken_and_ends_with_the_sign_in(stage: Stage) -> None:
    stream = events(stage, stage.platform.journal.cursor)
    await anext(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.05)
    await stage.things.say("notebook", "", "running")
    assert told(await asyncio.wait_for(waiting, 5))["type"] == "running"
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.05)
    actor = stage.platform.issuer.actor_of_cookie(stage.cookie)
    assert actor
    await asyncio.to_thread(stage.platform.issuer.sign_out, actor.session)
    await stage.things.say("notebook", "", "stopped")
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 5)


async def test_static_files_are_kept_and_named_by_content(browser: httpx.AsyncClient) -> None:
    page = await ask(browser, "/")
    address = page.all("link")[-1]["href"]
    answer = await browser.get(address)
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
    again = await browser.get(address, headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304
    assert "script-src 'self'" in (await browser.get("/")).headers["content-security-policy"]


def test_templates_never_trust_words() -> None:
    folder = Path(pages.__file__).parent
    for path in sorted((folder / "templates").rglob("*.html")):
        text = path.read_text()
        assert "|safe" not in text.replace(" ", ""), path
        assert "autoescape" not in text and "Markup" not in text, path
        assert not re.search(r"<[^>]+\s(style|on\w+)=", text), path


def test_an_event_stays_on_its_line() -> None:
    from ropewalk_core.model import Event
    from ropewalk_hub.pages.live import encode

    event = Event(cursor=7, at=0.0, kind="run", owner="ada", name="x\n\nevent: evil", type="done")
    text = encode(event)
    assert text.count("\n") == 4 and text.startswith("id: 7\nevent: change\ndata: ")
    assert json.loads(text.splitlines()[2].removeprefix("data: "))["name"] == event.name


async def test_every_code_is_explained_to_everybody(stage: Stage, browser: httpx.AsyncClient) -> None:
    stranger = stage.client(signed=False)
    for client in (browser, stranger):
        page = await ask(client, "/help/errors")
        for one in documented():
            assert any(section.get("id") == one.code for section in page.all("section"))
            assert one.default_hint.replace("`", "") in page.words
    missing = Document((await browser.get("/services/nothing")).text)
    assert "/help/errors#RW-NOT-FOUND" in [one.get("href") for one in missing.all("a")]
    refused = await stranger.post("/sign-in", data={"account": "ada", "password": "wrong"})
    assert "/help/errors#RW-SIGN-IN" in refused.text
    await stranger.aclose()
