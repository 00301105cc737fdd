"""Why: what who ran out of memory is told to do next."""

from __future__ import annotations

import pytest

from ropewalk_core import why
from ropewalk_core.placement import parse_size

GI = 2**30


@pytest.mark.parametrize(
    ("limit", "most", "says"),
    [
        ("4Gi", 64 * GI, 'Ask for more: `Placement(memory="8Gi")`'),
        ("300Mi", 64 * GI, 'Ask for more: `Placement(memory="600Mi")`'),
        ("4Gi", 0, 'Ask for more: `Placement(memory="8Gi")`'),
        ("1000000000", 64 * GI, 'Ask for more: `Placement(memory="1908Mi")`'),
        ("4Gi", 6 * GI + 5, 'Ask for all that this machine has: `Placement(memory="6Gi")`'),
        ("4Gi", 4 * GI + 5, "This machine has no more memory (4.0 GiB)."),
        ("4Gi", 3 * GI, "This machine has no more memory (3.0 GiB)."),
    ],
)
def test_the_next_memory_is_more_and_no_more_than_there_is(limit: str, most: int, says: str) -> None:
    assert why.more_memory(parse_size(limit), most).startswith(says)


def test_a_function_is_told_the_option_of_its_cell() -> None:
    said = why.more_memory(GI, 64 * GI, function=True)
    assert said == 'Ask for more: `%%function --memory 2Gi`, which is `Placement(memory="2Gi")`, or use less.'


def test_a_service_that_ran_out_is_told_the_next_memory() -> None:
    error = why.exited("The service 'board'", signal=9, memory=GI, most=64 * GI)
    assert error.code == "RW-OUT-OF-MEMORY" and 'Placement(memory="2Gi")' in error.hint
    assert "Placement(memory=...)" in why.exited("The service 'board'", signal=9).hint
