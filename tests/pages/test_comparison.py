"""Runs of one workflow side by side, as its reader gets them."""

from __future__ import annotations

import re
from urllib.parse import quote

import httpx

from tests.pages.stage import Stage, furnish, study
from tests.pages.test_pages import HOSTILE, Document

HERE = "/workflows/compare?name=study"


def rows(text: str) -> list[str]:
    return re.findall(r'href="/workflows/(run-0000study\d+)">run', text)


async def test_runs_are_compared_in_a_table_and_a_drawing(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    study(stage.things, 60)
    assert "/workflows/compare?name=study" in (await browser.get("/workflows/run-0000study01")).text
    assert 'href="/workflows/compare"' in (await browser.get("/workflows")).text
    choice = (await browser.get("/workflows/compare")).text
    assert HERE in choice and "/workflows/compare?name=tune" in choice
    answer = await browser.get(HERE)
    page = Document(answer.text)
    assert answer.status_code == 200 and "60 runs of study" in page.words and "1 to 50 of 60 runs" in page.words
    assert (
        answer.text.count("<circle") == 59
        and "accuracy against rate, 59 runs; rate on a logarithmic axis" in page.words
    )
    assert "1 run without a place in it is left out" in page.words and "the same in all" in page.words
    assert rows(answer.text)[:2] == ["run-0000study59", "run-0000study58"] and len(rows(answer.text)) == 50
    second = (await browser.get(f"{HERE}&row=50")).text
    assert "51 to 60 of 60 runs" in Document(second).words and len(rows(second)) == 10
    assert "51 to 60" in (await browser.get(f"{HERE}&row=999")).text


async def test_what_is_shown_is_chosen_by_links_and_stays_in_the_address(
    stage: Stage, browser: httpx.AsyncClient
) -> None:
    study(stage.things, 20)
    page = (await browser.get(HERE)).text
    for link, order, first in (
        ("sort=-loss", "descending", "run-0000study00"),
        ("sort=loss", "ascending", "run-0000study19"),
    ):
        assert f"{link}#runs" in page
        page = (await browser.get(f"{HERE}&{link}")).text
        assert f'aria-sort="{order}"' in page and rows(page)[0] == first
        assert rows(page)[-1] == "run-0000study07", "what has nothing comes last"
    chosen = f"{HERE}&column=rows&column=score.result&step=score&x=rate&y=score.result&sort=-score.result"
    text = (await browser.get(chosen)).text
    heads = re.findall(r"<th class=\"num\"[^>]*><a [^>]*>([^<]*)", text)
    assert heads == ["rows", "score.result"] and rows(text)[0] == "run-0000study19"
    assert "score.result against rate" in text and "steps=[&#39;score&#39;]" in text
    assert "column=rows&amp;column=score.result" in text, "links keep what was chosen"
    nonsense = await browser.get(f"{HERE}&sort=nothing&x=none&y=none&column=none&step=none")
    assert nonsense.status_code == 200 and nonsense.text.count("<circle") == 19


async def test_what_is_not_there_is_said(stage: Stage, browser: httpx.AsyncClient) -> None:
    assert "No runs yet." in (await browser.get("/workflows/compare")).text
    furnish(stage.things)
    answer = await browser.get("/workflows/compare?name=nothing")
    assert answer.status_code == 404 and "There is no run of &#39;nothing&#39;." in answer.text
    bare = Document((await browser.get("/workflows/compare?name=nightly")).text)
    assert "1 run of nightly" in bare.words and "Nothing to draw" in bare.words


async def test_nothing_that_a_person_wrote_is_markup(stage: Stage, browser: httpx.AsyncClient) -> None:
    study(stage.things, 20, HOSTILE)
    for more in (
        "",
        f"&x={quote(HOSTILE)}&y=accuracy&sort={quote(HOSTILE)}&column={quote(HOSTILE)}&step={quote(HOSTILE)}",
    ):
        answer = await browser.get(f"/workflows/compare?name={quote(HOSTILE)}{more}")
        assert answer.status_code == 200 and "20 runs of" in answer.text
        assert "<script>alert" not in answer.text and "<img src=x" not in answer.text
        Document(answer.text)
