"""Messages with frames and arrays, as anybody may write them: one failure or a value, and no other surprise."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_runtime import packed
from ropewalk_runtime.formats import NPY, Unformed
from ropewalk_runtime.packed import MAGIC, Packing, Part

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
)
DIGEST = "0123456789abcdef" * 4


def message(parts: Any, text: str, inside: bytes = b"") -> bytes:
    listed, said = json.dumps(parts).encode(), text.encode()
    return MAGIC + struct.pack("!II", len(listed), len(said)) + listed + said + inside


@given(JSON)
def test_a_value_without_parts_comes_back(value: Any) -> None:
    try:
        body = b"".join(Packing().pieces(json.dumps(value)))
    except Unformed:
        assert '"$ropewalk.part":' in json.dumps(value)
        return
    assert packed.read(memoryview(body), {}) == value and packed.files(body) == []


@given(st.binary(max_size=200), st.integers(0, 100), st.binary(max_size=8), JSON, JSON)
def test_no_message_breaks_its_reader(start: bytes, at: int, put: bytes, parts: Any, value: Any) -> None:
    whole = message(parts, json.dumps(value), start)
    for body in (start, MAGIC + start, whole, whole[:at] + put + whole[at + len(put) :]):
        assert isinstance(packed.files(body), list)
        with contextlib.suppress(Unformed):
            packed.read(memoryview(body), {})


@pytest.mark.parametrize(
    "facts",
    [
        {"type": NPY, "of": "numpy", "size": -1},
        {"type": NPY, "of": "numpy", "size": True},
        {"type": NPY, "of": "numpy", "size": 10**4000},
        {"type": NPY, "of": 3, "size": 1},
        {"type": "application/x-python-pickle", "of": "", "size": 1},
        {"type": NPY, "of": "numpy", "size": 1, "digest": "../" * 21 + "a"},
        {"type": NPY, "of": "numpy", "size": 1, "digest": DIGEST.upper()},
        {"type": NPY, "of": "numpy", "size": 2},
        "x",
    ],
)
def test_a_part_is_an_array_or_a_frame_that_is_whole(facts: Any) -> None:
    with pytest.raises(Unformed):
        packed.read(memoryview(message([facts], "0", b"x")), {})


def test_a_file_is_read_only_where_whoever_passes_it_on_says() -> None:
    body = message([Part(NPY, "numpy", 5, DIGEST).as_dict()], '{"$ropewalk.part":0}')
    assert packed.files(body) == [DIGEST]
    for named in ({}, {DIGEST[::-1]: "/etc/passwd"}, {DIGEST: "/no/such/file"}, {DIGEST: "/etc/passwd"}):
        with pytest.raises(Unformed):
            packed.read(memoryview(body), named)


def test_people_are_shown_words_for_arrays() -> None:
    body = message([Part(NPY, "numpy", 5, DIGEST).as_dict()], '{"a":[{"$ropewalk.part":0}],"n":1}')
    assert json.loads(packed.outline(body)) == {"a": ["an array of 5 bytes"], "n": 1}
    assert b"did not come whole" in packed.outline(body[:20])


def test_what_people_are_shown_is_no_longer_than_what_came() -> None:
    parts = [Part(NPY, "numpy", 10**4000, DIGEST).as_dict()]
    body = message(parts, json.dumps([{"$ropewalk.part": 0}] * 1000))
    assert len(packed.outline(body)) < 2 * len(body)


def test_which_files_are_named_is_found_without_a_look_at_the_text() -> None:
    parts = [Part(NPY, "numpy", 5, DIGEST).as_dict()]
    head = message(parts, "")
    text = b"\xff" * 100  # no UTF-8, which its reader says
    body = head[:8] + struct.pack("!I", len(text)) + head[12:] + text
    assert packed.files(body) == [DIGEST]
    with pytest.raises(Unformed):
        packed.read(memoryview(body), {DIGEST: __file__})


def test_a_value_too_deep_is_refused() -> None:
    with pytest.raises(Unformed):
        packed.read(memoryview(message([], "[" * 100_000)), {})
