"""What changed between revisions, in a word and in full."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import NotFound
from ropewalk_core.model import Bundle, FunctionSpec, Revision
from ropewalk_core.placement import Placement
from ropewalk_core.revisions import changed, difference, environment, pair, previous, stories

CODE = "def handler(value):\n    return value\n"


def made(number: int, source: str = CODE, *, environment: str = "e1", id: str = "", **options: Any) -> Revision:
    bundle = Bundle(files={"cell.py": source}, entry="cell:handler", digest=source)
    spec = FunctionSpec(name="double", bundle=bundle, **options)
    return Revision(id=id or f"{source}{environment}{options}", number=number, spec=spec, environment=environment)


def test_a_list_says_in_words_what_changed() -> None:
    kept = [
        made(6, "b\n", timeout=5),
        made(5, environment="e2", placement=Placement(memory="2Gi", accelerator=("npu", "cpu"))),
        made(4, environment="e2", placement=Placement(memory="1Gi")),
        made(3, "b\n", timeout=5),
        made(2, timeout=5),
        made(1),
    ]
    assert stories([one.summary() for one in kept]) == [
        "same as 3",
        "accelerator, memory",
        "code, memory, timeout, environment",
        "code",
        "timeout",
        "first",
    ]
    assert stories(kept[:2])[-1] == "" and stories([]) == []


def test_what_an_environment_held_is_compared_by_name() -> None:
    older = made(1).model_copy(update={"packages": ("numpy==1.26.4", "rope-toy==1.0")})
    newer = made(2, environment="e2", requirements=("numpy>=2",)).model_copy(
        update={"packages": ("numpy==2.3.1", "pandas==2.2.0")}
    )
    said = difference(older, newer)
    assert '@@ options @@\n-requirements: none\n+requirements: ["numpy>=2"]\n@@ environment @@\n-e1\n+e2\n' in said
    assert said.endswith("@@ packages @@\n-numpy==1.26.4\n+numpy==2.3.1\n+pandas==2.2.0\n-rope-toy==1.0")
    assert changed(older, newer) == ("requirements", "environment")
    assert [environment(one) for one in (older, newer, made(3))] == ["e1, 2 installed", "e2, 2 required", "e1"]


def test_a_difference_reads_like_a_patch() -> None:
    older = made(3, CODE)
    newer = made(
        5, CODE.replace("return value", "return 2 * value"), environment="e2", timeout=5, placement={"memory": "512Mi"}
    )
    assert difference(older, newer).splitlines() == [
        "--- revision 3",
        "+++ revision 5",
        "@@ options @@",
        "-memory: none",
        "+memory: 512Mi",
        "-timeout: 60.0",
        "+timeout: 5.0",
        "@@ environment @@",
        "-e1",
        "+e2",
        "@@ cell.py @@",
        "@@ -1,2 +1,2 @@",
        " def handler(value):",
        "-    return value",
        "+    return 2 * value",
    ]
    assert difference(older, made(4)) == "" and changed(older, made(4)) == ()


def test_files_that_came_and_went_are_shown_whole() -> None:
    older, newer = made(1, "a = 1\n"), made(2)
    files = {"helpers/maths.py": "b = 2\n"}
    newer = newer.model_copy(
        update={"spec": newer.spec.model_copy(update={"bundle": newer.spec.bundle.model_copy(update={"files": files})})}
    )
    shown = difference(older, newer).splitlines()
    assert "-a = 1" in shown and "+b = 2" in shown and "@@ helpers/maths.py @@" in shown


def test_the_one_before_is_the_latest_other_one() -> None:
    kept = [made(5, "a"), made(4, "a"), made(3, "b"), made(1, "a")]
    assert previous(kept[0], kept) == 3 and previous(kept[2], kept) == 1
    assert (
        pair(0, 0, kept[0], kept) == (3, 5)
        and pair(1, 0, kept[0], kept) == (1, 5)
        and pair(1, 3, kept[0], kept) == (1, 3)
    )
    for alone in ([made(1)], [], [made(2), made(1)]):
        with pytest.raises(NotFound):
            previous(made(2), alone)


@given(st.text(max_size=80), st.text(max_size=80), st.integers(1, 3), st.integers(1, 3))
def test_a_difference_is_empty_only_of_equals(one: str, other: str, first: int, second: int) -> None:
    older, newer = made(1, one, concurrency=first), made(2, other, concurrency=second)
    text = difference(older, newer)
    if one != other or first != second:
        assert text.startswith("--- revision 1\n+++ revision 2\n@@ ")
    else:
        assert text == ""
    removed = {line[1:] for line in text.splitlines() if line.startswith("-")}
    assert set(one.splitlines()) - set(other.splitlines()) <= removed


def test_variables_are_told_from_the_environment_of_python() -> None:
    older, newer = made(1), made(2)
    newer.spec.environment["MODE"] = "fast"
    assert changed(older, newer) == ("variables",)
    assert '+variables: {"MODE": "fast"}' in difference(older, newer) and "-variables: none" in difference(older, newer)
