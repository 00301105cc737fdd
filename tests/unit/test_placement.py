"""Placement: sizes, fields, and what fits where."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import BadInput, Unsatisfiable
from ropewalk_core.placement import Inventory, Node, Placement, fit, format_size, parse_placement, parse_size

GPU = Node(name="gpu", arch="amd64", cpu=8, memory=32 * 2**30, accelerators={"nvidia-h100": 1})
ARM = Node(name="arm", arch="arm64", cpu=4, memory=8 * 2**30, labels={"zone": "a"}, isolations=("microvm",))
BOTH = Inventory(nodes=(ARM, GPU))


@given(size=st.integers(0, 2**50))
def test_a_size_is_read_back(size: int) -> None:
    assert parse_size(format_size(size)) == size == parse_size(size) == parse_size(str(size))


@pytest.mark.parametrize(
    ("text", "size"),
    [("512Mi", 512 << 20), ("1.5 GiB", 3 << 29), ("2G", 2 * 10**9), (" 10 ", 10), (1e3, 1000), ("4KB", 4000)],
)
def test_sizes(text: Any, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1 Pi", "1e5", "0x10", True, None, [], math.nan, math.inf, "1,5G"])
def test_what_is_not_a_size(text: Any) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda one: st.lists(one) | st.dictionaries(st.sampled_from(list(Placement.model_fields)), one),
    )
)
def test_any_value_is_a_placement_or_a_named_field(value: Any) -> None:
    try:
        parse_placement(value)
    except BadInput as error:
        assert error.field is not None and error.field.startswith("placement")


placements = st.builds(
    Placement,
    arch=st.lists(st.sampled_from(["amd64", "arm64", "riscv64"]), max_size=2).map(tuple),
    accelerator=st.lists(st.sampled_from(["nvidia-h100", "npu", "cpu"]), max_size=3).map(tuple),
    cpu=st.none() | st.floats(0.1, 16),
    memory=st.none() | st.integers(1, 64).map(lambda size: size << 30),
    labels=st.dictionaries(st.just("zone"), st.sampled_from("ab")),
    isolation=st.none() | st.sampled_from(["microvm", "process"]),
)


@given(placement=placements)
def test_a_placement_survives_json(placement: Placement) -> None:
    assert Placement.model_validate_json(placement.model_dump_json()) == placement
    assert parse_placement(placement.model_dump(mode="json")) == placement
    assert placement.describe()


@given(placement=placements)
def test_what_fits_has_what_was_asked_and_a_refusal_says_what_is_lacking(placement: Placement) -> None:
    try:
        found = fit(placement, BOTH)
    except Unsatisfiable as error:
        assert error.field is not None and error.field.startswith("placement")
        assert "arm:" in error.message and "gpu:" in error.message
        return
    node = found.node
    assert not placement.arch or node.arch in placement.arch
    assert (placement.cpu or 0) <= node.cpu and (placement.memory or 0) <= node.memory
    assert found.accelerator is None or node.accelerators[found.accelerator]
    assert placement.labels.items() <= node.labels.items()


def test_accelerators_are_tried_in_order() -> None:
    assert fit(Placement(accelerator=("npu", "nvidia-h100")), BOTH).accelerator == "nvidia-h100"
    assert fit(Placement(accelerator=("npu", "cpu")), BOTH) == fit(Placement(), BOTH)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"accelerator": "npu"}, "placement.accelerator"),
        ({"arch": "riscv64"}, "placement.arch"),
        ({"memory": "1Ti"}, "placement.memory"),
        ({"isolation": "enclave"}, "placement.isolation"),
    ],
)
def test_what_does_not_exist_is_refused_by_field(asked: dict[str, Any], field: str) -> None:
    with pytest.raises(Unsatisfiable) as caught:
        fit(parse_placement(asked), BOTH)
    assert caught.value.field == field
    assert caught.value.details["asked"] and caught.value.details["exists"]


def test_an_empty_inventory_says_so() -> None:
    with pytest.raises(Unsatisfiable, match="no node"):
        fit(Placement(), Inventory())


@pytest.mark.parametrize(("field", "value"), [("cpu", 0), ("cpu", -1), ("memory", "x"), ("arch", 3), ("gpu", 1)])
def test_a_wrong_field_is_named(field: str, value: Any) -> None:
    with pytest.raises(BadInput) as caught:
        parse_placement({field: value})
    assert caught.value.field == f"placement.{field}"


def test_a_node_that_is_kept_takes_only_work_that_asks_for_it() -> None:
    kept = GPU.model_copy(update={"reserved": ("accelerator:nvidia-a100,nvidia-h100", "labels:pool=blue")})
    blue = kept.model_copy(update={"labels": {"pool": "blue"}})
    asked = Placement(accelerator="nvidia-h100", labels={"pool": "blue"})
    assert fit(asked, Inventory(nodes=(blue,))).node is blue
    for placement in (Placement(), Placement(accelerator="nvidia-h100"), Placement(labels={"pool": "blue"})):
        with pytest.raises(Unsatisfiable, match="kept for accelerator:nvidia-a100,nvidia-h100 and labels:pool=blue"):
            fit(placement, Inventory(nodes=(blue,)))
