"""The tree of failures: documented, stable over the wire, and silent about our own faults."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core import errors
from ropewalk_core.errors import RopewalkError
from tests import reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
classes = [one for one in errors.all_errors() if one is not RopewalkError and one.__module__ == errors.__name__]
texts = st.text(max_size=40)
SOURCES = [path for folder in ("hub", "extensions", "workflows") for path in (PAGE.parents[1] / folder).rglob("*.py")]


def test_codes_are_distinct_and_of_one_form() -> None:
    codes = [one.code for one in classes]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"RW(-[A-Z]+)+", code) for code in codes)


def test_the_page_says_what_the_code_says() -> None:
    assert PAGE.read_text() == reference.errors_page(), "run `python -m tests.reference`"
    assert set(errors.documented()) == set(classes)
    assert all(one.example and one.__doc__ for one in classes)


def test_every_hint_is_a_step_that_somebody_can_take() -> None:
    verb, what = r"(please )?(try|check|look at|send|correct)", r"(it|both|this|the input)"
    empty = re.compile(rf"{verb}( {what})?( and (try|send)( it)?)?( again)?( later)?\.?", re.IGNORECASE)
    hints = {(one.code, one.default_hint) for one in errors.all_errors()}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "hint" and isinstance(node.value, ast.Constant):
                hints.add((f"{path.name}:{node.value.lineno}", str(node.value.value)))
    assert [one for one in sorted(hints) if empty.fullmatch(one[1]) or len(one[1]) < 10] == []
    assert len(hints) > 50


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = re.findall(r"([A-Z]\w+)\s+(RW-[A-Z-]+)\s+(\d{3})", errors.__doc__ or "")
    assert sorted(drawn) == sorted((one.__name__, one.code, str(one.status)) for one in classes)


@pytest.mark.parametrize("cls", classes)
def test_hints_are_sentences(cls: type[RopewalkError]) -> None:
    assert cls.default_hint.endswith(".") and "!" not in cls.default_hint


@given(cls=st.sampled_from(classes), message=texts, hint=texts, field=st.none() | texts)
def test_an_error_crosses_a_boundary_unchanged(
    cls: type[RopewalkError], message: str, hint: str, field: str | None
) -> None:
    error = cls(message, hint=hint, field=field, details={"traceback": message})
    for copy in (errors.from_problem(error.problem(reveal=True)), pickle.loads(pickle.dumps(error))):
        assert type(copy) is cls
        assert copy.problem(reveal=True) == error.problem(reveal=True)


def test_a_private_message_stays_inside() -> None:
    error = errors.Internal("the key is 42", field="key", details={"key": 42})
    assert "42" not in str(error.problem()) and "key" not in str(error.problem()["message"])


@given(problem=st.dictionaries(st.sampled_from(["code", "message", "hint", "field", "details"]), texts | st.none()))
def test_any_body_becomes_an_error(problem: dict[str, str | None]) -> None:
    assert isinstance(errors.from_problem(dict(problem)), RopewalkError)


def test_limited_says_when() -> None:
    copy = errors.from_problem(errors.Limited("slow down", retry_after=7.0).problem())
    assert isinstance(copy, errors.Limited) and copy.retry_after == 7.0
