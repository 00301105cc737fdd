"""A step that runs only where a result is good enough; what is left out is None for those that take it."""

from __future__ import annotations

from ropewalk import step, workflow


@step
def score(rate: float) -> float:
    return 1 - rate


@step
def publish(name: str, value: float) -> str:
    return f"{name} with {value}"


@step
def report(published: str | None, rejected: str | None, both: list[str | None]) -> list[str | None]:
    return [published, rejected, *both]


@workflow
def gate(rate: float = 0.25) -> object:
    found = score(rate)
    good = publish.when(found > 0.5)("published", found)
    bad = publish.when(found <= 0.5)("rejected", found)
    return report(good, bad, [bad, good])


EXAMPLE, ARGUMENTS, RESULT = gate, {}, ["published with 0.75", None, None, "published with 0.75"]
