"""Variables and names of secrets that a function cannot have are refused by field, with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from ropewalk_core import variables
from ropewalk_core.errors import BadInput
from ropewalk_core.model import Bundle, FunctionSpec


def spec(**changes: Any) -> FunctionSpec:
    return FunctionSpec(name="f", bundle=Bundle(files={"cell.py": ""}, entry="cell:handler"), **changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"environment": {"A\0": "x"}}, "environment.A\0"),
        ({"environment": {"": "x"}}, "environment."),
        ({"environment": {"A": "a\0b"}}, "environment"),
        ({"environment": {"A": "x" * 2**15}}, "environment"),
        ({"environment": {"A": "\1" * 6000}}, "environment"),  # six characters each in an order
        ({"environment": {f"A{number}": "" for number in range(64)}, "secrets": ("B",)}, "environment"),
        ({"environment": {"A": "x"}, "secrets": ("A",)}, "secrets"),
        ({"secrets": ("A", "B", "A")}, "secrets"),  # which a cluster would refuse
        ({"secrets": ("K_SERVICE",)}, "secrets"),
    ],
)
def test_what_cannot_be_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        variables.check(spec(**changes))
    assert caught.value.field == field and caught.value.hint


def test_what_can_be_is_not() -> None:
    variables.check(spec(environment={"A": "é" * 5000, "PATH": "/x", "HOME": ""}, secrets=("B", "_c1")))
