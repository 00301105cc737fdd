"""Trace context: only what the recommendation allows is passed on, and all of that."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ropewalk_runtime.trace import LONGEST_STATE, Trace, read

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HEX = "0123456789abcdef"


def digits(count: int) -> st.SearchStrategy[str]:
    return st.text(HEX, min_size=count, max_size=count).filter(lambda text: text.strip("0") != "")


@given(digits(32), digits(16), st.text(HEX, min_size=2, max_size=2))
def test_what_is_valid_is_kept_as_it_came(trace: str, parent: str, flags: str) -> None:
    text = f"00-{trace}-{parent}-{flags}"
    assert read([text]) == Trace(text) and Trace(text).id == trace
    assert read([f" {text}\t"]) == Trace(text)


@given(st.text(max_size=80))
def test_any_text_is_read_or_left_out(text: str) -> None:
    found = read([text], [text])
    assert found is None or re.fullmatch(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", found.parent)


@given(st.integers(0, len(PARENT) - 1), st.characters(max_codepoint=0x2FF))
def test_one_wrong_character_spoils_it(at: int, other: str) -> None:
    assume(other not in HEX + "-")
    assert read([PARENT[:at] + other + PARENT[at + 1 :]]) is None


@pytest.mark.parametrize(
    "parents",
    [
        [],
        [""],
        [PARENT, PARENT],
        [PARENT.upper()],
        ["00-" + "0" * 32 + "-00f067aa0ba902b7-01"],
        ["00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01"],
        ["ff" + PARENT[2:]],
        [PARENT + "-more"],
        ["cc" + PARENT[2:] + "more"],
        [PARENT[:-1]],
        [PARENT + ","],
    ],
)
def test_what_is_not_valid_is_no_context(parents: list[str]) -> None:
    assert read(parents, ["a=b"]) is None


def test_a_later_version_is_passed_on() -> None:
    for text in ("cc" + PARENT[2:], "cc" + PARENT[2:] + "-what-comes-next"):
        assert read([text]) == Trace(text)


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        ([], ""),
        (["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (["rojo=1", "congo=2"], "rojo=1,congo=2"),
        (["a=1 , ,\tb=2,"], "a=1,b=2"),
        (["fw529a3039@dt=FfAd", "0a@b=1"], "fw529a3039@dt=FfAd,0a@b=1"),
        (["a=1,a=2"], ""),
        (["A=1"], ""),
        (["a"], ""),
        (["a="], ""),
        (["a=b=c"], ""),
        (["a=ä"], ""),
        (["a=1\r\nevil: 1"], ""),
        ([",".join(f"k{number}=1" for number in range(33))], ""),
        ([f"a={'x' * 250}", f"b={'x' * 250}", f"c={'x' * 250}"], ""),
        ([f"a={'x' * 257}"], ""),
    ],
)
def test_a_tracestate_is_whole_or_left_out_and_spoils_no_traceparent(states: list[str], kept: str) -> None:
    found = read([PARENT], states)
    assert found == Trace(PARENT, kept)
    assert found.headers() == {"traceparent": PARENT} | ({"tracestate": kept} if kept else {})


@given(st.lists(st.text(max_size=600), max_size=4))
def test_a_kept_tracestate_can_stand_in_a_header(states: list[str]) -> None:
    found = read([PARENT], states)
    assert found is not None and len(found.state) <= LONGEST_STATE
    assert found.state.isascii() and found.state.isprintable()
    assert read([PARENT], [found.state]) == found, "what was kept is kept again"
