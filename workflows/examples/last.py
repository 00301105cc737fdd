"""A last step, which runs however the others ended, and is told how."""

from __future__ import annotations

from pathlib import Path

from ropewalk import step, workflow


@step
def halve(number: int) -> float:
    return number / 2


@step
def tell(status: str) -> None:
    with Path("diary.txt").open("a") as diary:
        diary.write(f"the run has ended: {status}\n")


@workflow(on_exit=tell)
def half(number: int = 42) -> object:
    return halve(number)


EXAMPLE, ARGUMENTS, RESULT = half, {}, 21.0
