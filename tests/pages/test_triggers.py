"""The triggers on a function's page: made, refused beside the form, paused, fired, removed."""

from __future__ import annotations

import httpx
import pytest

from ropewalk_core.model import Actor, FunctionRoute
from ropewalk_hub.triggers import functions as functions_target
from tests.pages.stage import OWNER, Stage, furnish
from tests.pages.test_folds import opened
from tests.pages.test_pages import HOSTILE, Document

ME = Actor(account=OWNER)
AT = "/functions/digits/triggers"


@pytest.fixture
def furnished(stage: Stage) -> Stage:
    furnish(stage.things)
    functions = stage.things.functions

    def route(owner: str, name: str) -> FunctionRoute | None:
        one = functions.get(name)
        return FunctionRoute(owner=owner, name=name, revision="r", spec=one.revision.spec) if one else None

    stage.platform.desk._route = route
    targets = stage.platform.house.targets
    targets["function"] = functions_target(route, lambda: stage.platform.desk, stage.platform.journal)
    return stage


async def shown(browser: httpx.AsyncClient) -> str:
    page = (await browser.get("/functions/digits")).text
    Document(page)
    return page


async def test_from_the_form_to_the_call(furnished: Stage, browser: httpx.AsyncClient) -> None:
    assert "It is called when somebody calls it" in await shown(browser)
    made = await browser.post(AT, data={"every": "*/5 * * * *", "zone": "Europe/Athens", "when": "success"})
    assert (made.status_code, made.headers["location"]) == (303, "/functions/digits#triggers")
    [one] = (await furnished.platform.triggers.list(ME, OWNER, "digits")).items
    page = await shown(browser)
    assert "every */5 * * * *, Europe/Athens" in page and "not yet" in page and f"{AT}/{one.id}/pause" in page
    assert (await browser.post(f"{AT}/{one.id}/fire")).status_code == 303
    page = await shown(browser)
    [call] = (await furnished.platform.durable.list(ME, OWNER, "digits")).items
    assert f"/functions/digits/durable/{call.id}" in page and "1 time" in page
    assert one.id in (await browser.get(f"/functions/digits/durable/{call.id}")).text
    assert (await browser.post(f"{AT}/{one.id}/pause")).status_code == 303
    assert f"{AT}/{one.id}/resume" in await shown(browser)
    assert (await browser.post(f"{AT}/{one.id}/resume")).status_code == 303
    assert (await browser.post(f"{AT}/{one.id}/remove")).status_code == 303
    assert one.id not in await shown(browser)
    assert (await browser.post(f"{AT}/{one.id}/fire")).status_code == 404
    assert (await browser.post(f"{AT}/{one.id}/nonsense")).status_code in (404, 422)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"every": "61 * * * *"}, "is no minute"),
        ({"every": "@daily", "zone": "Nowhere"}, "no time zone"),
        ({"every": "@daily", "after": "hello"}, "Say one of"),
        ({"after": "nothing"}, "There is no function"),
        ({}, "The trigger says nothing"),
        ({"on_file": HOSTILE}, "on_file"),
        ({"every": "x" * 300}, "may have at most 200"),
    ],
)
async def test_what_is_wrong_is_said_beside_the_form_which_keeps_it(
    furnished: Stage, browser: httpx.AsyncClient, typed: dict[str, str], says: str
) -> None:
    answer = await browser.post(AT, data=typed)
    page = Document(answer.text)
    assert answer.status_code in (404, 422) and says in page.words, page.words
    assert opened(answer.text) == ["Triggers"]
    assert "<script>alert(1)" not in answer.text
    held = {one["name"]: one.get("value", "") for one in page.all("input") if one.get("name") in typed}
    assert held == typed


async def test_another_field_that_says_nothing_is_no_mistake(furnished: Stage, browser: httpx.AsyncClient) -> None:
    typed = {"after": "hello", "zone": "UTC", "when": "always", "existing": "on"}
    assert (await browser.post(AT, data=typed)).status_code == 303
    [one] = (await furnished.platform.triggers.list(ME, OWNER, "digits")).items
    assert (one.spec.after, one.spec.when, one.spec.existing) == ("function:hello", "always", False)
