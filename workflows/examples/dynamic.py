"""Fan out over what an earlier step found: nobody knows beforehand how many there are.

``step.map(result)`` runs the step once for each member of the list, and the results of all come back in order.
"""

from __future__ import annotations

from ropewalk import step, workflow

TEXT = "the rope walks the lane and the lane twists the rope"


@step
def words(text: str) -> list[str]:
    return sorted(set(text.split()))


@step
def count(word: str, text: str) -> dict[str, int]:
    return {word: text.split().count(word)}


@step
def together(counts: list[dict[str, int]]) -> dict[str, int]:
    return {word: number for one in counts for word, number in one.items()}


@workflow
def word_counts(text: str = TEXT) -> object:
    return together(count.map(words(text), text=text))


EXAMPLE, ARGUMENTS = word_counts, {"text": "a b a c a"}
RESULT = {"a": 3, "b": 1, "c": 1}
