"""A function's page from top to bottom: what people look at is open, what changes it is folded under a line."""

from __future__ import annotations

import re

import httpx
import pytest

from ropewalk_core.model import Access, Actor, Bundle, CallKey, FunctionSpec, Share, Traffic, Trigger, TriggerSpec, Why
from ropewalk_hub.pages import folds
from tests.pages.stage import OWNER, Stage, furnish
from tests.pages.test_pages import HOSTILE, Document, ask

KEY = CallKey(id="k", calls=1, seconds=1)
ORDER = [
    "Address", "Try it", "Call it from elsewhere", "Figures", "Calls", "Durable calls",
    "Who may call it", "Revisions", "Triggers", "Settings", "Code as captured", "Remove",
]  # fmt: skip


def opened(text: str) -> list[str]:
    """Return the titles of folded parts that are open."""
    return re.findall(r'<details class="fold" open>\s*<summary><h2>([^<]*)</h2>', text)


def closed(text: str) -> list[str]:
    return re.findall(r'<details class="fold">\s*<summary><h2>([^<]*)</h2>', text)


async def test_what_people_look_at_comes_first(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    text = (await browser.get("/functions/digits")).text
    titles = re.findall(r"<dt>(Address)</dt>|<h2>([^<]*)</h2>", text)
    assert [one or other for one, other in titles] == ORDER
    assert opened(text) == [] and closed(text) == ["Call it from elsewhere", *ORDER[6:]]
    shown = text.partition('<div class="folds">')[0]
    posts = set(re.findall(r'<form [^>]*method="post" action="([^"]*)"', shown))
    assert posts == {"/sign-out", "/functions/digits/call#try"}


async def test_a_closed_part_says_how_it_stands(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    said = (await ask(browser, "/functions/digits")).words
    for words in (
        "Who may call it Only you, no keys",
        "Revisions Revision 3 takes all calls, 3 kept",
        "Triggers None",
        "Settings 1Gi of memory, 1 min a call, up to 4 workers",
        "Code as captured digits.py, from cell 12",
    ):
        assert words in said, words
    for name in ("grace", "alan"):
        stage.platform.issuer.sign_up(name, "a long enough password", full_name=name)
    await browser.post("/functions/digits/access", data={"who": "shared", "accounts": "grace alan"})
    await browser.post("/functions/digits/keys", data={"label": "site"})
    await browser.post("/functions/digits/traffic", data={"latest": "10", "r2": "90"})
    said = (await ask(browser, "/functions/digits")).words
    assert "Shared with 2 people, 1 key" in said
    assert "Revisions Of 100 calls revision 2 takes 90, revision 3, the latest, takes 10, 3 kept" in said


@pytest.mark.parametrize(
    ("path", "data", "status", "title"),
    [
        ("access", {"who": "shared"}, 422, "Who may call it"),
        ("keys", {"calls": "many"}, 422, "Who may call it"),
        ("keys", {"label": "site"}, 200, "Who may call it"),
        ("traffic", {"latest": "10"}, 422, "Revisions"),
        ("call", {"payload": "{"}, 422, ""),
    ],
)
async def test_a_part_is_open_when_a_form_of_it_has_something_to_say(
    stage: Stage, browser: httpx.AsyncClient, path: str, data: dict[str, str], status: int, title: str
) -> None:
    furnish(stage.things)
    answer = await browser.post(f"/functions/digits/{path}", data=data)
    assert answer.status_code == status and opened(answer.text) == ([title] if title else [])
    Document(answer.text)


async def test_each_form_comes_back_to_a_part_that_its_address_opens(stage: Stage, browser: httpx.AsyncClient) -> None:
    """A browser opens what holds the target of an address; so the targets lie inside, and not beside their lines."""
    furnish(stage.things)
    text = (await browser.get("/functions/digits")).text
    for name in ("access", "revisions", "triggers", "new-trigger", "settings", "code", "remove"):
        before = text.partition(f'id="{name}"')[0]
        assert before.count("<details") > before.count("</details>"), name
        assert before.count("<summary") == before.count("</summary>"), name


async def test_a_refused_key_keeps_what_was_typed(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    typed = {"label": HOSTILE[:50], "calls": "many", "seconds": "60"}
    page = Document((await browser.post("/functions/digits/keys", data=typed)).text)
    assert {one["name"]: one["value"] for one in page.all("input") if one.get("name") in typed} == typed


async def test_earlier_calls_are_folded(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    page = await ask(browser, "/functions/digits")
    assert "14 earlier calls" in page.words
    del stage.things.calls["digits"][10:]
    assert "earlier call" not in (await ask(browser, "/functions/digits")).words


async def test_a_missing_secret_is_said_first_and_leads_to_its_form(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    function = stage.things.functions["digits"]
    spec = function.revision.spec.model_copy(update={"secrets": ("DB_PASSWORD", "TOKEN")})
    revision = function.revision.model_copy(update={"spec": spec})
    stage.things.functions["digits"] = function.model_copy(update={"revision": revision})
    await stage.platform.secrets.set(Actor(account=OWNER), OWNER, "DB_PASSWORD", "open sesame")
    page = await ask(browser, "/functions/digits")
    assert "There is no secret TOKEN, which it needs." in page.words.partition("Address")[0]
    assert [one["href"] for one in page.all("a") if "/secrets" in one["href"]] == ["/secrets?name=TOKEN", "/secrets"]
    assert "2 secrets" in page.words
    await stage.platform.secrets.set(Actor(account=OWNER), OWNER, "TOKEN", "open sesame")
    assert "There is no secret" not in (await ask(browser, "/functions/digits")).words


def test_words_of_sharing() -> None:
    several = Access(who="shared", accounts=("a", "b"), origins=("*",))
    assert folds.sharing(Access(), ()) == "Only you, no keys"
    assert folds.sharing(several, (KEY,)) == "Shared with 2 people, 1 key, 1 web page"
    assert folds.sharing(Access(who="shared", accounts=("a",)), None) == "Shared with 1 person, keys not known now"
    assert folds.sharing(Access(who="public"), (KEY, KEY)) == "Anybody, without signing in, 2 keys"


def test_words_of_the_rest(stage: Stage) -> None:
    furnish(stage.things)
    function = stage.things.functions["digits"]
    assert folds.revisions(function, None) == "Revision 3 takes all calls, cannot be shown now"
    share = Share(number=2, revision="r", weight=100)
    assert folds.revisions(function.model_copy(update={"traffic": Traffic(latest=0, shares=(share,))}), ()) == (
        "Of 100 calls revision 2 takes 100, revision 3, the latest, takes none"
    )
    one = Trigger(id="t", owner="ada", name="f", spec=TriggerSpec(every="@daily"), created=1.0)
    paused = one.model_copy(update={"paused": True, "why": Why(cause="x")})
    assert folds.triggers(None) == "cannot be shown now" and folds.triggers(()) == "None"
    assert folds.triggers((one, paused)) == "2 triggers, 1 paused, 1 with a problem"
    spec = FunctionSpec(
        name="f", bundle=Bundle(files={}, entry="x:y"), secrets=("A",), environment={"B": "1"}, requirements=("c",)
    )
    assert folds.settings(spec) == "1 min a call, up to 4 workers, 1 requirement, 1 variable, 1 secret"
    assert folds.code(spec.bundle) == "not shown"
    assert folds.code(Bundle(files={"a.py": "", "b.py": ""}, entry="a:x")) == "2 files"
