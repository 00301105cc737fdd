"""A step that fails now and then: two more attempts, with a wait between them.

The counter lies in a file beside the notebook, because each attempt is a process of its own.
"""

from __future__ import annotations

from pathlib import Path

from ropewalk import step, workflow


@step(retries=2, backoff=0.1, timeout=60)
def flaky(counter: str) -> int:
    path = Path(counter)
    tries = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(tries))
    if tries < 3:
        raise ConnectionError(f"no luck at try {tries}")
    return tries


@workflow
def try_again(counter: str = "tries.txt") -> object:
    return flaky(counter)


EXAMPLE, ARGUMENTS, RESULT = try_again, {}, 3
