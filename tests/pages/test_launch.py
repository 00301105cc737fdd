"""The launch form: made from the schema, errors beside the field, nothing typed is lost, last values come back."""

from __future__ import annotations

import httpx

from tests.pages.stage import Stage, furnish
from tests.pages.test_pages import Document, ask


def values(page: Document) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in page.all("input") if "name" in one}


async def test_the_form_is_made_from_the_schema(browser: httpx.AsyncClient) -> None:
    page = await ask(browser, "/services/new/tensorboard")
    shown = values(page)
    assert shown["value.folder"] == "logs" and shown["value.reload_seconds"] == "5"
    assert shown["name"] == "tensorboard"
    assert "Seconds between two looks at the folder. From 1 to 3600." in page.words
    voila = await ask(browser, "/services/new/voila")
    assert [one["value"] for one in voila.all("option")][:2] == ["light", "dark"]
    assert any(one.get("type") == "checkbox" for one in voila.all("input"))


async def test_a_launch_shows_the_service(stage: Stage, browser: httpx.AsyncClient) -> None:
    form = {"name": "board", "value.folder": "runs/1", "value.reload_seconds": "30", "placement.memory": "1Gi"}
    answer = await browser.post("/services/new/tensorboard", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/services/board")
    spec = stage.things.services["board"].spec
    assert spec.values == {"folder": "runs/1", "reload_seconds": 30}
    assert spec.placement.memory == 2**30


async def test_a_refused_form_loses_nothing(stage: Stage, browser: httpx.AsyncClient) -> None:
    form = {
        "name": "my board",
        "value.folder": "../elsewhere",
        "value.reload_seconds": "soon",
        "placement.memory": "lots",
        "placement.cpu": "2",
    }
    answer = await browser.post("/services/new/tensorboard", data=form)
    assert answer.status_code == 422
    page = Document(answer.text)
    shown = values(page)
    for name, text in form.items():
        assert shown[name] == text, name
    wrong = {one["name"] for one in page.all("input") if one.get("aria-invalid")}
    assert wrong == {"name", "value.folder", "value.reload_seconds", "placement.memory"}
    for words in ("must be a whole number, not 'soon'", "'my board' cannot be used", "inside your files", "512Mi"):
        assert words in page.words
    assert not stage.things.services


async def test_each_complaint_stands_beside_its_field(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    cases = [
        ({"name": "board", "value.reload_seconds": "5"}, "name", "already"),
        ({"name": "b2", "value.reload_seconds": "0"}, "value.reload_seconds", "1 or more"),
        ({"name": "b2", "value.folder": "/etc"}, "value.folder", "'Folder of logs' must be a path inside your files"),
        ({"name": "b2", "value.folder": "full"}, "value.folder", "full"),
        ({"name": "b2", "placement.memory": "lots"}, "placement.memory", "'Memory' is wrong: 'lots' is not a size"),
        ({"name": "b2", "placement.cpu": "0"}, "placement.cpu", "'Cores' must be more than 0. Correct it and send"),
    ]
    for form, field, words in cases:
        answer = await browser.post("/services/new/tensorboard", data=form)
        assert answer.status_code == 422, form
        page = Document(answer.text)
        assert [one["name"] for one in page.all("input") if one.get("aria-invalid")] == [field]
        assert words in page.words
        links = [one["href"] for one in page.all("a") if one.get("class") == "code-link"]
        assert len(links) == 1 and links[0].startswith("/help/errors#RW-")


async def test_settings_show_and_change_the_values(stage: Stage, browser: httpx.AsyncClient) -> None:
    furnish(stage.things)
    page = await ask(browser, "/services/board/settings")
    assert values(page)["value.reload_seconds"] == "5" and "name" not in values(page)
    answer = await browser.post("/services/board/settings", data={"value.folder": "a", "value.reload_seconds": "9"})
    assert answer.status_code == 303
    assert stage.things.services["board"].spec.values == {"folder": "a", "reload_seconds": 9}


async def test_only_what_exists_here_is_offered(stage: Stage, browser: httpx.AsyncClient) -> None:
    page = await ask(browser, "/services/new/tensorboard")
    offered = [one["value"] for one in page.all("option")]
    assert offered == ["", "a100", "", "amd64"]
    form = {"name": "b2", "placement.arch": "riscv64", "placement.memory": "64Gi"}
    answer = await browser.post("/services/new/tensorboard", data=form)
    assert answer.status_code == 422 and "riscv64 (not here)" in answer.text
    stage.platform.inventory.nodes[0].accelerators.clear()
    assert "There is none here." in (await ask(browser, "/services/new/tensorboard")).words
