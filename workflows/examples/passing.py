"""Pass on what JSON does not know: a tuple with a date, a set and bytes in it comes back as itself.

Arrays, data frames, tensors and estimators do too. An object of a library that has no form of its own is pickled, and
its step says so: ``@step(pickle=True)``.
"""

from __future__ import annotations

import random
from datetime import date

from ropewalk import step, workflow


@step
def seen(text: str) -> tuple[date, set[str], bytes]:
    return date(2024, 2, 29), set(text.split()), text.encode()


@step(pickle=True)
def dice(seed: int) -> random.Random:
    return random.Random(seed)


@step
def report(found: tuple[date, set[str], bytes], thrower: random.Random) -> str:
    day, words, raw = found
    return f"{day:%d %B}: {len(words)} words, {len(raw)} bytes, {thrower.randint(1, 6)} thrown"


@workflow
def passing(text: str = "a b a") -> object:
    return report(seen(text), dice(7))


EXAMPLE, ARGUMENTS, RESULT = passing, {"text": "to be or not to be"}, "29 February: 4 words, 18 bytes, 3 thrown"
