"""A function's figures on its page: drawn, said in a sentence, and as a table for whoever does not see drawings."""

from __future__ import annotations

import httpx

from ropewalk_core.model import State
from tests.pages.stage import Stage, furnish
from tests.pages.test_pages import ask


async def test_figures_are_drawn_and_told(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    page = await ask(browser, "/functions/digits")
    labels = [one.get("aria-label", "") for one in page.all("svg") if one.get("role") == "img"]
    assert any(one.startswith("Calls in the last hour, by minute: ") for one in labels)
    assert any(one.startswith("Times in the last hour, by minute: p50 ") for one in labels)
    said = "".join(page.text)
    assert "p50 20 ms" in said or "p50 21 ms" in said or "p50 19 ms" in said
    assert "As a table" in said and "What calls cost by day" in said and "GB-s" in said
    day = await ask(browser, "/functions/digits?window=day")
    assert "by quarter of an hour" in "".join(one.get("aria-label", "") for one in day.all("svg"))
    assert any(one.get("hx-get") == "/functions/digits?window=day" for one in day.all("div"))
    odd = await ask(browser, "/functions/digits?window=%3Cscript%3E")
    assert "by minute" in "".join(one.get("aria-label", "") for one in odd.all("svg"))


async def test_without_calls_it_says_so(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    stage.things.calls.clear()
    page = await ask(browser, "/functions/digits")
    assert "No calls in the last hour." in "".join(page.text)
    assert not [one for one in page.all("svg") if one.get("class") == "plot"]


async def test_a_call_that_goes_on_shows_what_it_printed(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    first = stage.things.calls["digits"][0]
    changed = {"ended": None, "state": State.RUNNING, "logs": "epoch <1>\n", "worker": "worker-1"}
    stage.things.calls["digits"].insert(0, first.model_copy(update=changed))
    page = await ask(browser, "/functions/digits")
    assert "epoch <1>" in page.words and "worker-1" in page.words
    assert any("open" in one for one in page.all("details"))
