"""From payload to arguments and from result to answer, by properties."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import inspect
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_runtime.handler import (
    CALL_TYPE,
    TRIGGER_TYPE,
    BadAnswer,
    BadPayload,
    Handler,
    TooLong,
    answer,
    plain,
    user_line,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def two(image: list, threshold: float = 0.5) -> None: ...  # type: ignore[type-arg]
def one(value): ...  # type: ignore[no-untyped-def]
def many(a, b): ...  # type: ignore[no-untyped-def]
def nothing() -> None: ...
def keywords(**options: Any) -> None: ...


def arguments(function: Any, value: Any, kind: str = "application/json", query: str = "") -> dict[str, Any]:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return dict(Handler(function).arguments(body, kind, query).arguments)


@given(values)
def test_one_parameter_takes_any_value(value: Any) -> None:
    if isinstance(value, dict) and ("value" in value or not value):
        return
    assert arguments(one, value) == {"value": value}


@given(st.lists(values, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=2))
def test_the_envelope_binds_as_python_does(args: list[Any], kwargs: dict[str, Any]) -> None:
    handler = Handler(many)
    body = json.dumps({"args": args, "kwargs": kwargs}).encode()
    try:
        expected = inspect.signature(many).bind(*args, **kwargs)
    except TypeError:
        with pytest.raises(BadPayload):
            handler.arguments(body, CALL_TYPE)
    else:
        assert handler.arguments(body, CALL_TYPE).arguments == expected.arguments


@given(st.binary(max_size=60), st.sampled_from(["application/json", "text/plain", CALL_TYPE, "", "image/png"]))
def test_no_payload_breaks_it(body: bytes, kind: str) -> None:
    for function in (one, two, nothing, keywords):
        try:
            Handler(function).arguments(body, kind)
        except BadPayload as error:
            assert error.field and str(error)


def test_an_object_with_names_of_parameters_gives_keywords() -> None:
    assert arguments(two, {"image": [1], "threshold": 1}) == {"image": [1], "threshold": 1}
    assert arguments(two, [1, 2]) == {"image": [1, 2]}
    assert arguments(many, {"b": 1, "a": 2}) == {"a": 2, "b": 1}
    assert arguments(keywords, {"x": 1}) == {"options": {"x": 1}}
    assert arguments(one, {"x": 1}) == {"value": {"x": 1}}
    assert arguments(one, b"raw", "image/png") == {"value": b"raw"}
    assert arguments(one, b"text", "text/plain; charset=utf-8") == {"value": "text"}


@pytest.mark.parametrize(
    ("function", "value", "field"),
    [
        (two, {"image": [1], "threshhold": 1}, "threshhold"),
        (two, {"threshold": 1}, "image"),
        (two, {"image": "x"}, "image"),
        (two, {"image": [], "threshold": True}, "threshold"),
        (two, {"imag": [1]}, "image"),
        (many, {"a": 1}, "b"),
        (many, {"x": 1}, "x"),
    ],
)
def test_a_misfit_names_its_field(function: Any, value: Any, field: str) -> None:
    with pytest.raises(BadPayload) as caught:
        arguments(function, value)
    assert caught.value.field == field


def test_a_query_is_converted_by_the_annotations() -> None:
    def typed(count: int, share: float = 1.0, really: bool = False, name: str = "") -> None: ...

    assert arguments(typed, b"", "", "count=3&share=0.5&really=true&name=4") == {
        "count": 3,
        "share": 0.5,
        "really": True,
        "name": "4",
    }
    with pytest.raises(BadPayload) as caught:
        arguments(typed, b"", "", "count=x")
    assert caught.value.field == "count"


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: float
    tags: set[str]


class Array:
    def tolist(self) -> list[float]:
        return [1.0, 2.0]


class Frame:
    columns = ["a"]

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        return [{"a": Array()}]


class NaTType(datetime.datetime):
    """As pandas' own: a date by class, and no date."""

    __module__ = "pandas.api.typing"

    def __new__(cls) -> NaTType:
        return super().__new__(cls, 2026, 1, 1)


@given(values)
def test_plain_json_crosses_unchanged(value: Any) -> None:
    body, kind = answer(value)
    assert kind == "application/json" and json.loads(body) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Point(1.5, {"a"}), {"x": 1.5, "tags": ["a"]}),
        ({1: Color.RED}, {"1": "red"}),
        ((1, frozenset({2})), [1, [2]]),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (Array(), [1.0, 2.0]),
        (Frame(), [{"a": [1.0, 2.0]}]),
        ([{"day": NaTType()}], [{"day": None}]),
        ({3, 1, 2}, [1, 2, 3]),
        (range(2), [0, 1]),
    ],
)
def test_known_kinds_become_plain(value: Any, expected: Any) -> None:
    assert plain(value) == expected and json.loads(answer(value)[0]) == expected


def test_bytes_go_as_they_are_and_the_rest_is_refused_by_name() -> None:
    assert answer(bytearray(b"x")) == (b"x", "application/octet-stream")
    with pytest.raises(BadAnswer, match="object"):
        answer({"a": object()})
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(BadAnswer):
        answer(circle)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (math.nan, "answer"),
        ({"score": [0.0, 1.0, 2.0, math.nan]}, 'answer["score"][3]'),
        ([{"a": {1: -math.inf}}, math.nan], 'answer[0]["a"]["1"]'),
        (Point(math.inf, set()), 'answer["x"]'),
    ],
)
def test_a_number_that_json_has_not_is_refused_by_its_place(value: Any, place: str) -> None:
    with pytest.raises(BadAnswer, match="which JSON does not have") as caught:
        answer(value)
    assert caught.value.field == place and "frame" in caught.value.hint
    with pytest.raises(BadPayload) as refused:
        arguments(one, json.dumps(plain(value)).encode())
    assert refused.value.field == place.replace("answer", "payload")


@pytest.mark.parametrize("number", ["1e999", "1E+309", "9" * 400 + ".0", "1" + "0" * 250 + "e99"])
def test_a_number_too_large_for_python_is_refused_by_its_place(number: str) -> None:
    with pytest.raises(BadPayload, match="Infinity") as caught:
        arguments(one, f'["e100", {number}]'.encode())
    assert caught.value.field == "payload[1]"
    assert arguments(one, b'["1e999", 1e308]')["value"] == ["1e999", 1e308]


def test_between_python_and_python_every_number_travels() -> None:
    sent = [math.nan, {"a": math.inf}, 1.0]
    [got] = arguments(one, {"args": [sent]}, CALL_TYPE).values()
    body, kind = answer(got, content_type=f"{CALL_TYPE}; charset=utf-8")
    back = json.loads(body)
    assert kind == CALL_TYPE and math.isnan(back[0]) and back[1:] == sent[1:]
    assert answer(got[1:], content_type=CALL_TYPE)[0] == b'[{"a":Infinity},1.0]'


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity"])
def test_a_query_has_finite_numbers(text: str) -> None:
    def typed(share: float, count: int = 1) -> None: ...

    with pytest.raises(BadPayload):
        arguments(typed, b"", "", f"share={text}")
    assert arguments(typed, b"", "", f"share=1&count={'9' * 400}")["count"] > 0


@given(st.binary(max_size=40))
def test_an_answer_over_its_limit_says_both_sizes(body: bytes) -> None:
    assert answer(body, limit=len(body))[0] == body
    with pytest.raises(TooLong, match=f"{len(body) + 1} bytes, over the limit of {len(body)}"):
        answer(body + b"x", limit=len(body))


def test_the_line_of_an_error_is_the_persons_own() -> None:
    try:
        exec(compile("def f():\n    return 1 / 0\nf()", "In [3]", "exec"), {})
    except ZeroDivisionError as error:
        assert user_line(error) == ("In [3]", 2)


TOLD = {"trigger": "t-1", "kind": "on_file", "at": "2027-01-15T08:05:00+00:00", "file": {"path": "a", "size": 1}}


def test_what_a_trigger_tells_goes_where_it_is_wanted() -> None:
    def told(function: Any) -> dict[str, Any]:
        return arguments(function, TOLD, TRIGGER_TYPE)

    assert told(lambda: 1) == {} and told(lambda days=7: 1) == {}
    assert told(lambda value: 1) == {"value": TOLD}
    assert told(lambda event, at: 1) == {"event": TOLD, "at": TOLD["at"]}
    assert told(lambda event=None: 1) == {"event": TOLD}
    assert told(lambda file, days=7: 1) == {"file": TOLD["file"]}
    assert told(lambda **everything: 1) == {"everything": TOLD}
    with pytest.raises(BadPayload) as caught:
        told(lambda file, other: 1)
    assert caught.value.field == "other"
