"""The samples of a function fit it: the runtime itself takes them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core import samples
from ropewalk_core.model import Bundle
from ropewalk_core.signatures import Signature, read
from ropewalk_runtime.handler import CALL_TYPE, Handler


def signature(source: str) -> Signature | None:
    return read(Bundle(files={"cell.py": source}, entry="cell:handler"))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", {}),
        ("name='world'", {}),
        ("value", {"value": 1}),
        ("image: list[list[float]], threshold: float = 0.5", {"image": [[1.0]]}),
        ("a: int, b: str, *, c: bool, d: dict[str, int] = {}", {"a": 1, "b": "text", "c": True}),
        ("a: 'list[int]', b: Optional[str], c: None | float", {"a": [1], "b": "text", "c": 1.0}),
        ("mode: Literal['fast', 'slow'], pixels: np.ndarray", {"mode": "fast", "pixels": [1.0, 2.0]}),
        ("table: dict[str, list[int]], rest: 'not a type('", {"table": {"key": [1]}, "rest": 1}),
        ("value: int, *more, **options", {"value": 1}),
    ],
)
def test_what_must_be_given_is_sampled_by_its_annotation(parameters: str, expected: dict[str, Any]) -> None:
    source = f"def handler({parameters}):\n    return 1\n"
    assert samples.arguments(signature(source)) == expected
    names: dict[str, Any] = {}
    code = "from __future__ import annotations\nfrom typing import *\n" + source.replace("np.ndarray", "list")
    exec(compile(code, "cell", "exec", dont_inherit=True), names)
    handler = Handler(names["handler"])
    taken = handler.arguments(json.dumps(samples.payload(signature(source))).encode(), "application/json").arguments
    assert expected.items() <= dict(taken).items()
    body = json.dumps({"kwargs": expected}).encode()
    assert handler.arguments(body, CALL_TYPE).arguments == taken
    call = samples.python(signature(source), "handler")
    assert eval(call, names) == 1


def test_a_parameter_without_a_name_from_outside() -> None:
    one = signature("def handler(value: int, /):\n    return value\n")
    assert (samples.payload(one), samples.python(one, "f")) == (1, "f(1)")


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        ("Literal[b'x']", 1),
        ("Literal['\\ud800']", "text"),
        ("Literal[...]", 1),
        ("Literal[1e999]", 1),
        (f"Literal[0x{'f' * 5000}]", 1),
        ("Literal[-2]", -2),
        (f"'{'-' * 10_000}1'", 1),
        ("|".join(["a"] * 5000), None),
    ],
)
def test_what_json_has_not_is_no_sample(hint: str, expected: Any) -> None:
    hostile = signature(f"def handler(value: {hint}): ...\n")
    wanted = {} if expected is None else {"value": expected}
    assert samples.payload(hostile) == wanted
    assert json.dumps(wanted, ensure_ascii=False, allow_nan=False).encode()
    assert samples.python(hostile, "f").encode()


def test_a_long_source_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(source: str, **_: Any) -> Any:
        raise AssertionError("parsing this would hold up everybody")

    monkeypatch.setattr("ast.parse", parse)
    assert samples.arguments(signature("x = 1\n" * 10_000 + "def handler(value): ...\n")) == {}


@given(st.text(max_size=40), st.text(max_size=10))
def test_no_source_breaks_it(source: str, entry: str) -> None:
    assert isinstance(samples.arguments(read(Bundle(files={"cell.py": source}, entry=f"cell:{entry}"))), dict)
    assert samples.payload(read(Bundle(files={}, entry=entry))) == {}
