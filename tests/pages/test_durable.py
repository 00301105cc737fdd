"""Pages of durable calls: listed in pages, each with its result or why it failed, canceled, replayed, forgotten."""

from __future__ import annotations

import httpx
import pytest

from ropewalk_core.durable import Report
from ropewalk_core.errors import UserCodeFailed
from ropewalk_core.model import Actor, FunctionRoute
from tests.pages.stage import OWNER, Stage, furnish
from tests.pages.test_pages import HOSTILE, Document

ME = Actor(account=OWNER)


@pytest.fixture
def furnished(stage: Stage) -> Stage:
    furnish(stage.things)
    functions = stage.things.functions

    def route(owner: str, name: str) -> FunctionRoute | None:
        one = functions.get(name)
        return FunctionRoute(owner=owner, name=name, revision="r", spec=one.revision.spec) if one else None

    stage.platform.desk._route = route
    return stage


async def spawned(stage: Stage, count: int) -> list[str]:
    calls = [(await stage.platform.durable.spawn(ME, OWNER, "digits", b"%d" % one)).id for one in range(count)]
    return sorted(calls)  # those of one millisecond have no order but this


async def carried(stage: Stage, body: bytes = b"7", error: UserCodeFailed | None = None) -> None:
    problem = error.problem() if error else None
    for one in (await stage.platform.desk.take("life", [], 64)).work:
        report = Report(id=one.id, attempt=one.attempt, owner=OWNER, body=body, problem=problem)
        await stage.platform.desk.report([report])


async def test_a_function_without_any_says_how(furnished: Stage, browser: httpx.AsyncClient) -> None:
    page = (await browser.get("/functions/digits")).text
    Document(page)
    assert "digits.spawn(...)" in page and "tried again up to 3 times, but not after its own exception" in page
    empty = (await browser.get("/functions/digits/durable")).text
    Document(empty)
    assert "No durable calls here" in empty


async def test_a_list_pages_and_is_linked(furnished: Stage, browser: httpx.AsyncClient) -> None:
    calls = await spawned(furnished, 60)
    page = (await browser.get("/functions/digits")).text
    assert page.count("/cancel") == 5 and "/functions/digits/durable" in page
    first = (await browser.get("/functions/digits/durable")).text
    Document(first)
    shown = [f"<code>{one}</code>" for one in calls]
    assert all(one in first for one in shown[10:]) and shown[9] not in first
    more = next(
        attributes["href"] for tag, attributes in Document(first).tags if "after=" in attributes.get("href", "")
    )
    second = (await browser.get(more)).text
    assert all(one in second for one in shown[:10]) and shown[10] not in second and "First page" in second
    assert (await browser.get("/functions/digits/durable?shelf=x&after=y")).status_code == 200
    assert calls[0] not in (await browser.get("/functions/digits/durable?shelf=failed")).text


async def test_one_call_from_cancel_to_replay(furnished: Stage, browser: httpx.AsyncClient) -> None:
    [call] = await spawned(furnished, 1)
    at = f"/functions/digits/durable/{call}"
    assert f'action="{at}/cancel"' in (await browser.get(at)).text
    await carried(furnished, error=UserCodeFailed(HOSTILE, details={"traceback": f"line 3 {HOSTILE}"}))
    for address in (at, "/functions/digits/durable", "/functions/digits"):
        page = (await browser.get(address)).text
        Document(page)
        assert "<script>alert(1)" not in page and f'action="{at}/replay"' in page
    answer = await browser.post(f"{at}/replay")
    assert (answer.status_code, answer.headers["location"]) == (303, at)
    await carried(furnished, HOSTILE.encode())
    page = (await browser.get(at)).text
    Document(page)
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page
    assert (await browser.post(f"{at}/forget")).headers["location"] == "/functions/digits/durable"
    assert (await browser.get(at)).status_code == 404


async def test_what_is_not_there_is_not_found(furnished: Stage, browser: httpx.AsyncClient) -> None:
    [call] = await spawned(furnished, 1)
    assert (await browser.get(f"/functions/hello/durable/{call}")).status_code == 404
    assert (await browser.get("/functions/digits/durable/nonsense")).status_code == 404
    answer = await browser.post(f"/functions/digits/durable/{call}/cancel")
    assert answer.status_code == 303
    assert "stopped" in (await browser.get(f"/functions/digits/durable/{call}")).text
