"""The page of secrets: stored, replaced and removed by a form, listed with what needs them, and never shown."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from ropewalk_core.errors import Unavailable
from ropewalk_core.local.safe import read
from ropewalk_core.model import Actor, Share, Traffic
from tests.pages.stage import OWNER, Stage, furnish
from tests.pages.test_pages import HOSTILE, Document, ask

ME = Actor(account=OWNER)
VALUE = "open-sesame-4711"


def needs(stage: Stage, function: str, *names: str) -> None:
    """Let a function name secrets."""
    one = stage.things.functions[function]
    spec = one.revision.spec.model_copy(update={"secrets": names})
    revision = one.revision.model_copy(update={"spec": spec})
    stage.things.functions[function] = one.model_copy(update={"revision": revision})
    stage.things.revisions[function][0] = revision


async def store(browser: httpx.AsyncClient, name: str, value: str = VALUE) -> httpx.Response:
    return await browser.post("/secrets", data={"name": name, "secret": value})


async def test_an_empty_page_teaches(browser: httpx.AsyncClient) -> None:
    page = await ask(browser, "/secrets")
    assert "No secrets yet" in page.words and "--secret DB_PASSWORD" in page.words and not page.all("table")
    fields = {one["name"]: one["type"] for one in page.all("input") if one.get("name")}
    assert fields == {"name": "text", "secret": "password"}
    assert [one["autocomplete"] for one in page.all("input") if one.get("name") == "secret"] == ["new-password"]


async def test_stored_replaced_and_removed(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    made = await store(browser, "DB_PASSWORD")
    assert (made.status_code, made.headers["location"]) == (303, "/secrets?stored=DB_PASSWORD")
    page = await ask(browser, made.headers["location"])
    assert "DB_PASSWORD is stored. Workers that start from now on have it." in page.words
    assert "no function" in page.words and "just now" in page.words
    assert read(stage.platform.settings, OWNER, ["DB_PASSWORD"]) == {"DB_PASSWORD": VALUE}

    again = [one["href"] for one in page.all("a") if one.get("aria-label") == "Replace DB_PASSWORD"]
    form = await ask(browser, again[0])
    assert "Replace a secret" in form.words and "It takes the place of the one that is stored." in form.words
    assert [one.get("value") for one in form.all("input") if one.get("name")] == ["DB_PASSWORD", ""]
    await store(browser, "DB_PASSWORD", "another")
    assert read(stage.platform.settings, OWNER, ["DB_PASSWORD"]) == {"DB_PASSWORD": "another"}
    assert len((await stage.platform.secrets.list(ME, OWNER)).items) == 1

    removed = await browser.post("/secrets/DB_PASSWORD/remove")
    assert (removed.status_code, removed.headers["location"]) == (303, "/secrets")
    assert "No secrets yet" in (await ask(browser, "/secrets")).words
    gone = Document((await browser.post("/secrets/DB_PASSWORD/remove")).text)
    assert "There is no secret DB_PASSWORD." in gone.words and "on the dashboard under Secrets" in gone.words


async def test_which_functions_need_it_and_what_is_lost(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    needs(stage, "digits", "DB_PASSWORD", "API_TOKEN")
    needs(stage, "hello", "DB_PASSWORD")
    await store(browser, "DB_PASSWORD")
    await store(browser, "OLD")
    page = await ask(browser, "/secrets")
    rows = page.words.partition("Used by")[2]
    assert "API_TOKEN not stored digits Store" in rows
    assert "Workers of digits, hello cannot start any more until it is stored again." in rows
    assert rows.count("Its value cannot be brought back.") == 2 and "no function" in rows.partition("OLD")[2]
    assert "/functions/digits" in [one["href"] for one in page.all("a")]
    removals = [one["action"] for one in page.all("form") if one["action"].endswith("/remove")]
    assert removals == ["/secrets/DB_PASSWORD/remove", "/secrets/OLD/remove"]
    assert not any("open" in one for one in page.all("details"))  # one sees what is lost before the button


async def test_a_revision_that_answers_beside_the_latest_needs_its_own(
    stage: Stage, browser: httpx.AsyncClient
) -> None:
    furnish(stage.things)
    older = stage.things.revisions["digits"][1]
    spec = older.spec.model_copy(update={"secrets": ("OLD",)})
    stage.things.revisions["digits"][1] = older.model_copy(update={"spec": spec})
    await store(browser, "OLD")
    assert "no function" in (await ask(browser, "/secrets")).words
    shares = (Share(number=2, revision="r", weight=0),)
    one = stage.things.functions["digits"]
    stage.things.functions["digits"] = one.model_copy(update={"traffic": Traffic(latest=100, shares=shares)})
    assert "Workers of digits cannot start" in (await ask(browser, "/secrets")).words


@pytest.mark.parametrize(
    ("name", "value", "status", "field"),
    [
        ("", VALUE, 422, "name"),
        ("two words", VALUE, 422, "name"),
        (HOSTILE, VALUE, 422, "name"),
        ("PYTHONPATH", VALUE, 422, "name"),
        ("GOOD", "", 422, "secret"),
        ("GOOD", VALUE + "\0", 422, "secret"),
        ("GOOD", VALUE * 600, 413, "secret"),
    ],
)
async def test_a_refusal_says_what_rest_says_and_keeps_the_name_only(
    stage: Stage, browser: httpx.AsyncClient, name: str, value: str, status: int, field: str
) -> None:
    answer = await store(browser, name, value)
    page = Document(answer.text)
    assert answer.status_code == status and VALUE not in answer.text and "<script>alert" not in answer.text
    assert [one["name"] for one in page.all("input") if one.get("aria-invalid")] == [field]
    assert [one.get("value") for one in page.all("input") if one.get("name")] == [name[:100], ""]
    assert (await stage.platform.secrets.list(ME, OWNER)).items == ()
    if name and "/" not in name:
        rest = await browser.put(f"/api/v1/secrets/{OWNER}/{name}", json={"value": value})
        told = rest.json()
        assert told["message"] in page.words and told["hint"] in page.words
        assert rest.status_code == status and told["field"] == {"secret": "value"}.get(field, field)


async def test_one_too_many_is_said_beside_the_form(stage: Stage, browser: httpx.AsyncClient) -> None:
    for number in range(100):
        await stage.platform.secrets.set(ME, OWNER, f"S{number}", VALUE)
    answer = await store(browser, "ONE_MORE")
    assert answer.status_code == 422 and "There are 100 secrets already." in Document(answer.text).words
    assert (await store(browser, "S7")).status_code == 303


async def test_it_is_linked_from_account_and_functions(stage: Stage, browser: httpx.AsyncClient) -> None:
    for path in ("/account", "/functions"):
        assert "/secrets" in [one["href"] for one in (await ask(browser, path)).all("a")], path
    page = await ask(browser, "/secrets")
    assert [one["href"] for one in page.all("a") if one.get("aria-current")] == ["/account"]


async def test_an_address_cannot_make_the_page_say_what_is_not_so(stage: Stage, browser: httpx.AsyncClient) -> None:
    page = await ask(browser, f"/secrets?stored=NOTHING&name={HOSTILE}")
    assert "is stored" not in page.words and not page.all("img") and "Replace a secret" not in page.words


async def test_functions_that_are_away_do_not_hide_the_names(
    stage: Stage, browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("The cluster does not answer.")

    await store(browser, "DB_PASSWORD")
    monkeypatch.setattr(type(stage.platform.functions), "list", away)
    page = await ask(browser, "/secrets")
    assert "The cluster does not answer." in page.words and "not known now" in page.words
    assert "no function" not in page.words


async def test_what_changes_is_told_to_open_pages_by_name(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    needs(stage, "digits", "DB_PASSWORD")
    for path, part in (("/secrets", "stored"), ("/functions/digits", "function")):
        page = await ask(browser, path)
        assert ["rw:secret" in one["hx-trigger"] for one in page.all("div") if one.get("id") == part] == [True]
    after = stage.platform.journal.cursor
    await store(browser, "DB_PASSWORD")
    [event] = [one for one in stage.platform.journal.events(after=after) if one.kind == "secret"]
    assert (event.name, event.type, event.owner) == ("DB_PASSWORD", "stored", OWNER)
