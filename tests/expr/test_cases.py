"""Every expression gives here what it gives on Argo: ``cases.json`` is what Argo's own evaluator said (``ask.py``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ropewalk_workflows.manifest import text

HERE = Path(__file__).parent
CASES: list[dict[str, str]] = json.loads((HERE / "cases.json").read_text())
REFUSED = {  # what Argo answers and we refuse, by a word of the refusal
    "jsonpath(inputs.parameters.config, '$..name')": "the path",
    "jsonpath(inputs.parameters.config, '$.employees[?(@.age>42 && @.age<44)].age')": "the path",
    "sprig.b64dec('!')": "no base64",
    "sprig.regexMatch('(', 'abc')": "no pattern",
    "sprig.rest([])": "nil",  # Go's nil list is `null` as JSON
    "inputs.parameters.missing == nil": "",  # refused before the start, see test_manifest
}
KINDS_REFUSED = (  # the same for all that ...
    ("date(", "not supported"),
    ("duration(", "not supported"),
    ("groupBy(", "nil"),  # a group that is not there: Go's nil list
    ("sum(", "takes a list"),  # the bytes of a text
    ("sort(", "must be a list"),  # nothing, of what is no list
)
OTHERWISE = {
    "split('a,b', ',', 0)": "[]",  # Go's nil list
    "[i, array | findLastIndex(true)]": "[1,4]",  # a defect of expr 1.17: it loses what is before it in a list
}


def _floats(value: Any) -> Any:
    """Return a value as Go reads it from JSON."""
    if isinstance(value, list):
        return [_floats(one) for one in value]
    if isinstance(value, dict):
        return {key: _floats(one) for key, one in value.items()}
    return float(value) if type(value) is int else value


NAMES = text.nested({name: _floats(one) for name, one in json.loads((HERE / "names.json").read_text()).items()})


def _known(path: str) -> bool:
    here: Any = NAMES
    for one in path.split("."):
        if not isinstance(here, dict) or one not in here:
            return False
        here = here[one]
    return True


class Around(dict[str, str]):
    """The names around the cases."""

    def expression(self, inside: str) -> str:
        missing = [path for path, _ in text.expression(inside).names if not _known(path)]
        if missing:
            raise text.BadText(f"nothing is known as {missing[0]}")
        return text.evaluated(inside, NAMES)


def ours(expression: str) -> tuple[str, str]:
    """Return ("value", it) or ("error", why)."""
    try:
        return "value", text.fill(f"{{{{={expression} }}}}", Around())
    except text.BadText as error:
        return "error", str(error)


def test_there_are_many() -> None:
    assert len(CASES) > 2_000
    assert sum("value" in one for one in CASES) > 1_000


@pytest.mark.parametrize("number", range(0, len(CASES), 100))
def test_as_on_argo(number: int) -> None:
    for case in CASES[number : number + 100]:
        kind, found = ours(case["text"])
        if "value" not in case:
            continue  # what Argo refuses by the kinds of values, before it runs, may have a value here
        words = [word for begin, word in KINDS_REFUSED if begin in case["text"]]
        words += [REFUSED[case["text"]]] if case["text"] in REFUSED else []
        if case["value"].startswith("{{="):  # Argo leaves a tag with an unknown name as it is, for whoever knows it
            words.append("nothing is known as")
        if kind == "error" and any(word in found for word in words):
            continue
        wanted = OTHERWISE.get(case["text"], case["value"])
        assert (kind, found) == ("value", wanted), case["text"]


def test_what_argo_cannot_read_is_refused() -> None:
    """Whatever is no expression at all for Argo is none here."""
    unread = [one["text"] for one in CASES if "unexpected token" in one.get("error", "")]
    assert len(unread) > 30
    assert [one for one in unread if ours(one)[0] == "value"] == []


def test_exceptions_are_few_and_still_there() -> None:
    texts = {one["text"] for one in CASES}
    assert {*REFUSED, *OTHERWISE} <= texts
    assert all(ours(one)[0] == "error" for one in REFUSED)
