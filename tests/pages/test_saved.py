"""Pages of saved workflows: the table, the launch form made from what the arguments take, triggers."""

from __future__ import annotations

import httpx
import pytest

from ropewalk_core.model import Actor
from ropewalk_hub.pages.forms import PREFIX
from ropewalk_workflows.compile import to_save
from ropewalk_workflows.records import RUN
from tests.pages.stage import OWNER, Stage
from tests.pages.test_pages import HOSTILE, Document
from tests.unit.test_saved import MANIFEST, needing, once

ME = Actor(account=OWNER)
AT = "/saved-workflows/once"


@pytest.fixture
async def furnished(stage: Stage) -> Stage:
    for one in (to_save(once), to_save(needing), to_save(MANIFEST)):
        await stage.platform.saved.save(ME, OWNER, one)
    return stage


async def shown(browser: httpx.AsyncClient, path: str = AT) -> str:
    answer = await browser.get(path)
    assert answer.status_code == 200, answer.text[:500]
    Document(answer.text)
    return answer.text


def runs(stage: Stage) -> list[dict[str, object]]:
    return [one.body["run"] for one in stage.platform.journal.page(RUN, OWNER)]


async def test_nothing_saved_teaches_how(stage: Stage, browser: httpx.AsyncClient) -> None:
    assert "doubled.save()" in await shown(browser, "/saved-workflows")
    assert 'href="/saved-workflows"' in await shown(browser, "/workflows")


async def test_the_table_finds_and_pages(furnished: Stage, browser: httpx.AsyncClient) -> None:
    page = await shown(browser, "/saved-workflows")
    assert page.count("data-row") == 3 and "rate, mode, extra" in page
    assert (await shown(browser, "/saved-workflows?q=need")).count("data-row") == 1
    assert "No saved workflows match" in await shown(browser, "/saved-workflows?q=nothing")


async def test_the_form_is_made_from_what_the_arguments_take(furnished: Stage, browser: httpx.AsyncClient) -> None:
    page = await shown(browser)
    assert f'name="{PREFIX}rate" value="0.5"' in page and f'name="{PREFIX}mode"' in page and "<select" in page
    assert "Train once." in page and "ropewalk.workflows.get(&#34;once&#34;).launch()" in page
    manifest = await shown(browser, "/saved-workflows/hello")
    assert "moon</option>" in manifest and f'name="{PREFIX}times"' in manifest and "required" in manifest


async def test_a_launch_is_a_run_and_a_wrong_value_is_said_beside_its_field(
    furnished: Stage, browser: httpx.AsyncClient
) -> None:
    wrong = await browser.post(f"{AT}/launch", data={f"{PREFIX}rate": "fast", f"{PREFIX}mode": '"slow"'})
    assert wrong.status_code == 422 and "must be a number" in wrong.text and 'value="fast"' in wrong.text
    assert not runs(furnished)
    sent = {f"{PREFIX}rate": "2", f"{PREFIX}mode": '"slow"', f"{PREFIX}extra": "", "fresh": "on"}
    answer = await browser.post(f"{AT}/launch", data=sent)
    [run] = runs(furnished)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/workflows/{run['id']}")
    assert run["arguments"] == {"rate": 2, "mode": "slow", "extra": None}


async def test_what_is_missing_is_said_and_nothing_starts(furnished: Stage, browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/saved-workflows/needing/launch", data={})
    assert answer.status_code == 422 and "&#39;value&#39; is missing" in answer.text and not runs(furnished)
    assert (await browser.post("/saved-workflows/nothing/launch", data={})).status_code == 404


async def test_from_a_trigger_to_its_run(furnished: Stage, browser: httpx.AsyncClient) -> None:
    assert "None yet. It is launched when somebody launches it" in await shown(browser)
    bad = await browser.post(f"{AT}/triggers", data={"every": "never"})
    assert bad.status_code == 422 and 'value="never"' in bad.text
    made = await browser.post(f"{AT}/triggers", data={"every": "@hourly", "zone": "UTC"})
    assert (made.status_code, made.headers["location"]) == (303, f"{AT}#triggers")
    [one] = (await furnished.platform.saved_triggers.list(ME, OWNER, "once")).items
    assert "every @hourly, UTC" in await shown(browser)
    fired = await browser.post(f"{AT}/triggers/{one.id}/fire")
    [run] = runs(furnished)
    assert fired.headers["location"] == f"/workflows/{run['id']}"
    assert f"/workflows/{run['id']}" in await shown(browser)
    await browser.post(f"{AT}/triggers/{one.id}/pause")
    assert "paused" in await shown(browser)
    await browser.post(f"{AT}/triggers/{one.id}/remove")
    assert (await furnished.platform.saved_triggers.list(ME, OWNER, "once")).items == ()
    refused = await browser.post("/saved-workflows/needing/triggers", data={"every": "@hourly"})
    assert refused.status_code == 422 and "needs a value for" in refused.text


async def test_it_is_removed_and_its_runs_stay(furnished: Stage, browser: httpx.AsyncClient) -> None:
    await browser.post(f"{AT}/launch", data={f"{PREFIX}rate": "1", f"{PREFIX}mode": '"fast"'})
    answer = await browser.post(f"{AT}/remove")
    assert answer.headers["location"] == "/saved-workflows" and len(runs(furnished)) == 1
    assert (await browser.get(AT)).status_code == 404


async def test_words_of_a_person_are_never_html(stage: Stage, browser: httpx.AsyncClient) -> None:
    spec = to_save(once)
    hostile = spec.arguments[0].model_copy(update={"takes": {"default": HOSTILE}})
    spec = spec.model_copy(update={"doc": HOSTILE, "arguments": (hostile, *spec.arguments[1:])})
    await stage.platform.saved.save(ME, OWNER, spec)
    assert HOSTILE not in await shown(browser)
    assert HOSTILE not in await shown(browser, "/saved-workflows")
