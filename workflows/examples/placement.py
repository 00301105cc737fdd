"""Say what a step needs. What no machine can give is refused at once, before anything starts."""

from __future__ import annotations

from ropewalk import Placement, step, workflow


@step(placement=Placement(cpu=1, memory="512Mi"))
def heavy(size: int) -> int:
    return len(bytes(size))


@workflow(timeout=600)
def needs_memory(size: int = 1000) -> object:
    return heavy(size)


EXAMPLE, ARGUMENTS, RESULT = needs_memory, {}, 1000
