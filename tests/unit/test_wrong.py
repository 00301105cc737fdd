"""No word of the library that checks models reaches a person."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core.core_schema import ErrorType

from ropewalk_core.errors import BadInput
from ropewalk_core.flows import RunSpec
from ropewalk_core.model import FunctionSpec, ServiceSpec, Snapshot
from ropewalk_core.placement import parse_placement
from ropewalk_core.wrong import words, wrong
from ropewalk_hub.api.common import as_error

THEIRS = re.compile(
    r"Input should|Value error|Field required|Extra inputs|valid (integer|number|string)|unable to parse"
)
HOUSE = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("value", "field", "says"),
    [
        ({"memory": "much"}, "placement.memory", "'placement.memory' is wrong: 'much' is not a size"),
        ({"cpu": 0}, "placement.cpu", "'placement.cpu' must be more than 0."),
        ({"cpu": "two"}, "placement.cpu", "'placement.cpu' must be a number."),
        ({"gpu": 1}, "placement.gpu", "'placement.gpu' is not known here."),
        ({"arch": ["amd64", 3]}, "placement.arch[1]", "'placement.arch[1]' must be text."),
        ({"labels": 3}, "placement.labels", "'placement.labels' must be an object."),
        ([1], "placement", "'placement' must be an object."),
    ],
)
def test_a_placement_says_what_is_wrong_in_our_words(value: Any, field: str, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_placement(value)
    assert caught.value.field == field and caught.value.message.startswith(says)
    assert "0.0" not in caught.value.message


def test_several_wrong_fields_are_all_named() -> None:
    with pytest.raises(BadInput) as caught:
        parse_placement({"cpu": -1, "memory": "x"})
    assert set(caught.value.details["fields"]) == {"placement.cpu", "placement.memory"}


@given(
    st.sampled_from([FunctionSpec, ServiceSpec, RunSpec, Snapshot]),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda one: (
            st.lists(one, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "placement", "cpu", "timeout", "bundle", "files", "values", "cursor", "x"]),
                one,
            )
        ),
        max_leaves=6,
    ),
)
def test_any_value_is_refused_in_our_words(kind: Any, value: Any) -> None:
    try:
        kind.model_validate(value)
    except ValidationError as error:
        as_ours = as_error(RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]))
        assert as_ours.problem() == wrong(error.errors()).problem()
        assert as_ours.field and not THEIRS.search(as_ours.message), as_ours.message


def test_every_kind_of_complaint_has_words() -> None:
    for kind in get_args(ErrorType):
        assert "{" not in words({"type": kind, "loc": (), "msg": "Input should be {gt}", "ctx": {}}), kind


def test_nobody_hands_on_the_librarys_sentence() -> None:
    """Its sentence is the entry's ``msg``; only this house's words may be shown instead."""
    packages = [HOUSE / name for name in ("hub", "workflows", "extensions")]
    users = [
        path
        for package in packages
        for path in package.rglob("*.py")
        if re.search(r"""(\[|get\()["']msg["']|\.error_count|error\.errors\(\)\[0\]\[""", path.read_text())
    ]
    assert users == []
