"""A diamond: one step feeds two, and a fourth joins them.

Calling a step inside a workflow gives a stand-in for its result; passing it on makes the arrows. Run the whole thing
here with ``diamond(4)``, or on the platform with ``diamond.submit(4)``.
"""

from __future__ import annotations

from ropewalk import step, workflow


@step
def numbers(count: int) -> list[int]:
    return list(range(1, count + 1))


@step
def total(values: list[int]) -> int:
    return sum(values)


@step
def product(values: list[int]) -> int:
    result = 1
    for one in values:
        result *= one
    return result


@step
def report(added: int, multiplied: int) -> str:
    return f"sum {added}, product {multiplied}"


@workflow
def diamond(count: int = 4) -> object:
    values = numbers(count)
    return report(total(values), product(values))


EXAMPLE, ARGUMENTS, RESULT = diamond, {"count": 4}, "sum 10, product 24"
