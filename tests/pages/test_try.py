"""The form that tries a function: a field for each parameter, complaints beside it, what came of the call as text."""

from __future__ import annotations

import html
import json
import time
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ropewalk_core import samples
from ropewalk_core.errors import BadInput, Denied, UserCodeFailed
from ropewalk_core.model import Bundle, Call, State
from ropewalk_core.signatures import Signature, read
from ropewalk_hub.pages import trying
from ropewalk_hub.pages.forms import PREFIX
from ropewalk_hub.pages.functions import Try
from tests.pages.stage import SCORE, Stage, deployed
from tests.pages.test_pages import Document, ask
from tests.unit.test_openapi import BODY, HOSTILE, accepts, document


def signature(source: str) -> Signature:
    found = read(Bundle(files={"cell.py": source}, entry="cell:handler"))
    assert found is not None
    return found


def first(of: Signature) -> dict[str, str]:
    """Return what a browser sends of a form that nobody touched: a checkbox that is off is not there."""
    made = {}
    for one in trying.fields(of, None, {}):
        value = one.value
        if one.kind == "choice" and value not in [text for text, _ in one.options]:
            value = one.options[0][0]
        if one.kind != "check" or value:
            made[one.name] = value
    return made


async def test_each_parameter_has_a_field_with_a_value(stage: Stage, browser: httpx.AsyncClient) -> None:
    deployed(stage.things, "score", SCORE)
    page = await ask(browser, "/functions/score")
    inputs = {one["name"]: one for one in page.all("input") if one.get("name", "").startswith(PREFIX)}
    assert {name: one.get("value") for name, one in inputs.items()} == {
        "value.count": "1",
        "value.title": "text",
        "value.rate": "0.5",
        "value.exact": "on",
        "value.note": "",
    }
    assert inputs["value.exact"]["type"] == "checkbox" and "checked" in inputs["value.exact"]
    assert inputs["value.count"]["inputmode"] == "decimal"
    others = ("private", "shared", "public", "success", "failure", "always")  # of who may call it, and of triggers
    offered = [one for one in page.all("option") if one["value"] not in others]
    assert [one["value"] for one in offered] == ['"dark"', '"light"', "", '"fast"', '"slow"', "3"]
    assert [one["value"] for one in offered if "selected" in one] == ['"light"', ""]
    areas = [one["name"] for one in page.all("textarea")]
    assert areas == ["value.at", "value.rows", "payload"] and '{"x": 1.0}' in page.words
    elsewhere = {"who", "accounts", "origins", "label", "quota", "seconds"}
    elsewhere |= {"every", "zone", "after", "when", "on-file", "existing"}
    labels = {one["for"] for one in page.all("label")} - elsewhere
    assert labels == {
        "payload",
        *(name.replace("value.", "f-value-") for name in [*inputs, "value.at", "value.rows"]),
    } | {
        "f-value-shade",
        "f-value-mode",
    }
    links = [one["href"] for one in page.all("a") if "openapi" in one["href"]]
    assert links == ["/api/v1/functions/ada/score/openapi.json"]
    described = (await browser.get(links[0])).json()
    assert described["info"]["title"] == "score" and "Point" in described["components"]["schemas"]


async def test_fields_become_a_payload_and_the_answer_is_shown(stage: Stage, browser: httpx.AsyncClient) -> None:
    deployed(stage.things, "score", SCORE)
    stage.things.printed, stage.things.answer = "</pre><b>half way</b>", b'"</pre><img src=x>"'
    typed = first(signature(SCORE)) | {"value.count": " 7 ", "value.title": "", "value.mode": "3"}
    typed.pop("value.exact")
    answer = await browser.post("/functions/score/call", data=typed)
    page = Document(answer.text)
    assert answer.status_code == 200
    [(_, sent)] = stage.things.acts
    assert json.loads(sent) == {
        "count": 7, "title": "", "at": {"x": 1.0}, "rate": 0.5, "shade": "light", "mode": 3, "exact": False, "rows": [],
    }  # fmt: skip
    assert "a worker was started for it (cold)" in page.words and "done after" in page.words
    assert "<b>half way</b>" in page.words and "<img" not in answer.text and not page.all("b")
    assert [one["value"] for one in page.all("input") if one.get("name") == "value.count"] == [" 7 "]
    assert not [one for one in page.all("input") if one.get("name") == "value.exact" and "checked" in one]


async def test_what_cannot_be_a_value_stands_beside_its_field(stage: Stage, browser: httpx.AsyncClient) -> None:
    deployed(stage.things, "score", SCORE)
    typed = first(signature(SCORE)) | {
        "value.count": "many", "value.at": "{'x':\n1}", "value.rate": "1e999", "value.shade": '"green"',
    }  # fmt: skip
    answer = await browser.post("/functions/score/call", data=typed)
    page = Document(answer.text)
    assert answer.status_code == 422 and stage.things.acts == [] and "nothing was called" in page.words
    wrong = [one["name"] for _, one in page.tags if one.get("aria-invalid")]
    assert wrong == ["value.count", "value.at", "value.rate", "value.shade"]
    for words in (
        "'count' must be a whole number, not 'many'. Correct it and send it again.",
        "'at' must be JSON, and is not at line 1, column 2: text stands in double quotes",
        "'rate' must be a number that JSON has.",
        "'shade' must be one of those offered.",
    ):
        assert words in page.words
    assert "{'x':" in page.words  # what was typed stays


async def test_what_the_function_says_of_a_parameter_stands_beside_it(stage: Stage, browser: httpx.AsyncClient) -> None:
    deployed(stage.things, "score", SCORE)
    stage.things.answer = BadInput(
        "The value for 'count' is missing.", field="count", hint="The function takes: count."
    )
    answer = await browser.post("/functions/score/call", data=first(signature(SCORE)))
    page = Document(answer.text)
    assert [one["name"] for _, one in page.tags if one.get("aria-invalid")] == ["value.count"]
    assert page.words.count("The value for 'count' is missing. The function takes: count.") == 1
    for error in (BadInput("Elsewhere.", field="nothing"), Denied("No.", field="count")):
        stage.things.answer = error
        page = Document((await browser.post("/functions/score/call", data=first(signature(SCORE)))).text)
        assert not [one for _, one in page.tags if one.get("aria-invalid")] and error.message in page.words


async def test_a_failure_shows_the_persons_own_lines_as_text(stage: Stage, browser: httpx.AsyncClient) -> None:
    deployed(stage.things, "score", SCORE)
    stage.things.printed = "one step"
    details = {"traceback": 'File "cell 3"\nValueError: <img src=x>', "call": "tried-0"}
    stage.things.answer = UserCodeFailed("The function raised ValueError.", details=details)
    answer = await browser.post("/functions/score/call", data=first(signature(SCORE)))
    page = Document(answer.text)
    assert answer.status_code == 500 and "ValueError: <img src=x>" in page.words and "<img" not in answer.text
    assert page.words.index("ValueError") < page.words.index("What it printed") < page.words.index("Call it from")


def test_what_another_call_printed_is_never_shown() -> None:
    """Two calls at once cannot be told apart by their answers; then neither record is shown as this call's."""

    def call(id: str, started: float) -> Call:
        return Call(id=id, function="score", owner="ada", revision="r", started=started, state=State.DONE)

    calls = [call("late", 31.0), call("b", 12.0), call("a", 11.0), call("early", 9.0)]
    assert Try(began=10.0, ended=30.0).record(calls) is None
    assert Try(began=10.0, ended=30.0, call="a").record(calls) == calls[2]
    assert Try(began=10.0, ended=30.0, call="gone").record(calls[:2]) is None
    assert Try(began=11.5, ended=30.0).record(calls) == calls[1]
    assert Try(began=10.0).record(calls) is None and Try().record(calls) is None


async def test_what_has_no_fields_is_written_by_hand(stage: Stage, browser: httpx.AsyncClient) -> None:
    for name, source in {
        "bare": "def handler(a: int, /): ...",
        "many": HOSTILE["names"],
        "unread": "def handler(",
    }.items():
        deployed(stage.things, name, source)
        page = await ask(browser, f"/functions/{name}")
        assert [one["name"] for one in page.all("textarea")] == ["payload"]
        assert "open" in page.all("details")[0] and "Write the payload by hand" not in page.words
        answer = await browser.post(f"/functions/{name}/call", data={"payload": "[1]"})
        assert answer.status_code == 200 and stage.things.acts[-1] == ("call", "[1]")
    deployed(stage.things, "nothing", "def handler(): ...")
    assert "It takes no values." in (await ask(browser, "/functions/nothing")).words
    await browser.post("/functions/nothing/call")
    assert stage.things.acts[-1] == ("call", "{}")


async def test_a_call_needs_our_own_page(stage: Stage, browser: httpx.AsyncClient) -> None:
    deployed(stage.things, "score", SCORE)
    hostile = {"origin": "http://board--ada.localhost:8001"}
    answer = await browser.post("/functions/score/call", data=first(signature(SCORE)), headers=hostile)
    assert answer.status_code == 403 and stage.things.acts == []
    long = await browser.post("/functions/score/call", data={"payload": "1" * 100_001})
    assert long.status_code == 413 and "RW-TOO-LARGE" in long.text and stage.things.acts == []


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_source_leaves_the_page_whole(stage: Stage, browser: httpx.AsyncClient, name: str) -> None:
    deployed(stage.things, "odd", HOSTILE[name])
    began = time.process_time()
    answer = await browser.get("/functions/odd")
    assert answer.status_code == 200
    if name != "long":  # its source is on the page, which costs what it costs
        assert time.process_time() - began < 3.0
        page = Document(answer.text)
        assert len(page.all("h1")) == 1 and not page.all("img")
    assert "<script>alert" not in answer.text
    described = await browser.get("/api/v1/functions/ada/odd/openapi.json")
    assert described.status_code == 200 and described.headers["content-type"] == "application/json"
    assert described.headers["x-content-type-options"] == "nosniff"


_HINTS = "int float str bool list dict Any None int|str tuple[int,str]"
_MORE = ("Literal['a', 1, None]", "Literal['1', 1, True]", "Optional[int]", "Optional[str]", "Optional[bool]")


def test_an_empty_field_says_what_it_stands_for() -> None:
    of = signature("def handler(a: int | None, b: str = '', c: int = x(), d: bool | None = None, *, e: str): ...")
    shown = {one.title: (one.help, one.required) for one in trying.fields(of, None, {})}
    assert shown == {
        "a": ("A whole number. Empty is None.", False),
        "b": ("", False),
        "c": ("A whole number. Empty takes the default.", False),
        "d": ("Empty takes the default.", False),
        "e": ("", True),
    }
    assert trying.parse(of, dict.fromkeys([f"{PREFIX}{name}" for name in "abcde"], "")) == (
        {"a": None, "e": ""},
        {},
    )


@settings(max_examples=80, deadline=None)
@example([("Literal['a', 1, None]", "=True"), ("float", "=1"), ("None", "")])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(_HINTS.split() + list(_MORE)),
            st.sampled_from(
                ["", "=None", "=1", "=0.5", "='a'", "=''", "='a\\n'", "=True", "=False", "=object()", "=[]"]
            ),
        ),
        max_size=5,
    )
)
def test_a_form_that_nobody_touched_is_a_call_that_fits(made_of: list[tuple[str, str]]) -> None:
    words = ", ".join(f"p{number}: {hint} {default}" for number, (hint, default) in enumerate(made_of))
    source = f"def handler({'*, ' if words else ''}{words}): ..."
    of = signature(source)
    values, errors = trying.parse(of, first(of))
    assert not errors
    told = {one.name: one.schema["default"] for one in of.parameters if "default" in one.schema}
    for name, value in values.items():  # what a parameter has by itself is what is sent for it, or nothing is
        assert name in samples.arguments(of) or (name in told and json.dumps(value) == json.dumps(told[name])), name
    assert {one.name for one in of.parameters if one.required} <= values.keys()
    given_ = {name: value for name, value in values.items() if name in samples.arguments(of)}
    assert accepts(document(source), BODY, given_)


@given(st.dictionaries(st.sampled_from(["count", "title", "at", "rate", "shade", "mode", "exact", "rows"]), st.text()))
def test_no_text_breaks_it(typed: dict[str, str]) -> None:
    of = signature(SCORE)
    sent = {PREFIX + name: text for name, text in typed.items()}
    values, errors = trying.parse(of, sent)
    assert not values.keys() & errors.keys()
    json.dumps(values, allow_nan=False)
    again: dict[str, Any] = {one.name: one.value for one in trying.fields(of, sent, errors)}
    assert {name: again[name] for name in sent} == sent and html.escape(str(again))
