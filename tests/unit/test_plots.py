"""Figures as drawings: valid SVG of numbers alone, everything inside the frame, and the same numbers in words."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core import plots
from ropewalk_core.figures import Cell, Series
from ropewalk_core.model import Figures, Window

NOW = 1_800_000_000.0
GIVEN = st.lists(st.tuples(st.floats(0, 90_000), st.floats(1e-5, 5000), st.booleans()), max_size=60)


def drawn(calls: list[tuple[float, float, bool]], window: Window = "hour") -> Figures:
    series = Series()
    for age, seconds, failed in calls:
        cell = Cell(calls=1, errors=int(failed))
        cell.took(seconds)
        series.add(NOW - age, cell, NOW)
    return series.figures(window, NOW, owner="ada", function="<b>")


@given(GIVEN, st.sampled_from(["hour", "day"]))
def test_drawings_are_svg_within_their_frame(calls: list[tuple[float, float, bool]], window: Window) -> None:
    found = drawn(calls, window)
    for text in (plots.calls(found), plots.times(found)):
        tree = ElementTree.fromstring(text)
        assert tree.get("role") == "img" and found.window in (tree.get("aria-label") or "")
        assert "<b>" not in text
        for one in tree.iter("rect"):
            x, y, width, height = (float(one.get(name) or "x") for name in ("x", "y", "width", "height"))
            assert x >= -0.1 and x + width <= plots.WIDE + 0.1 and y >= -0.1 and y + height <= plots.HIGH + 0.1
        for one in tree.iter("path"):
            for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", one.get("d") or ""):
                assert -0.1 <= float(x) <= plots.WIDE + 0.1 and -0.1 <= float(y) <= plots.HIGH + 0.1


def test_lines_have_gaps_where_there_were_no_calls() -> None:
    text = plots.times(drawn([(3000, 0.1, False), (1200, 0.1, False), (1140, 0.2, False)]))
    [path] = re.findall(r'class="plot-p50" d="([^"]*)"', text)
    assert path.count("M") == 2 and path.count("L") == 1


def test_a_failed_call_is_drawn_however_many_there_were() -> None:
    text = plots.calls(drawn([(10, 0.1, False)] * 5000 + [(10, 0.1, True)]))
    [height] = re.findall(r'class="plot-errors"[^>]*height="([\d.]+)"', text)
    assert float(height) >= 1.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.00085, "0.85 ms"),
        (0.012, "12 ms"),
        (1.24, "1.2 s"),
        (12.4, "12 s"),
        (210.0, "3.5 min"),
        (0, "0 ms"),
    ],
)
def test_a_time_in_one_unit(seconds: float | None, words: str) -> None:
    assert plots.span(seconds) == words


def test_a_stretch_in_words() -> None:
    found = drawn([(10, 0.1, False), (20, 0.1, True)])
    said = plots.said(found.total)
    assert said.startswith("2 calls, 1 failed, p50 ") and said.endswith(".")
    assert plots.said(drawn([]).total) == "No calls." and plots.moment(found) == "in the last hour, by minute"
    assert [one.calls for one in plots.rows(found)] == [2]
