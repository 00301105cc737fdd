"""What a step's result comes from: the steps before it, by way of which argument, back to what the person gave. Pure.

It is read from the run alone, in which each file that goes in has the digest of the one that came out of another step.
Not here: how it is drawn, and a step's code (the port's ``inputs``). Rejected: an index of all files by digest (who has
a file has it from a run, and equal files of two runs have two histories).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from ropewalk_core.errors import NotFound
from ropewalk_core.flows import Run, Step
from ropewalk_core.model import Noun

MOST = 500
"""Steps that are followed."""


class Origin(Noun):
    """One step that a result comes from; it stands below the step that took its result."""

    step: Step
    depth: int = Field(default=0, description="How many steps lie between it and the result; 0 gave the result itself")
    argument: str = Field(default="", description="Which argument it gave; empty where it was only waited for")
    again: bool = Field(default=False, description="It stands further up already, with all that it comes from")
    given: dict[str, Any] = Field(default_factory=dict, description="Its own inputs that no step gave")


def maker(run: Run, digest: str) -> Step:
    """Return the step of a run that gave a file.

    Raises
    ------
    NotFound
        If none did.
    """
    for step in run.steps:
        if step.kind == "step" and any(one.digest == digest for one in step.artifacts):
            return step
    raise NotFound("No step of this run gave it.", field="digest", hint="It may have come with the run.")


def origins(run: Run, step: Step) -> list[Origin]:
    """Return what a step's result comes from, it itself first and each step after the one that took it."""
    known = {one.id: one for one in run.steps}
    before = _Before(run.steps)
    found: list[Origin] = []
    seen: set[str] = set()
    waiting = [Origin(step=step)]
    while waiting and len(found) < MOST:
        one = waiting.pop()
        sources, given = before.of(one.step)
        again = one.step.id in seen
        found.append(one.model_copy(update={"again": again and bool(sources), "given": given}))
        if not again:
            seen.add(one.step.id)
            below = [Origin(step=known[name], depth=one.depth + 1, argument=by) for by, name in sources]
            waiting += reversed(below)
    return found


class _Before:
    """Who gave what to whom in a run."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._groups = {one.id: one.needs for one in steps if one.kind == "group"}
        self._known = {one.id for one in steps}
        self._makers: dict[str, list[str]] = {}
        for step in steps:
            for one in step.artifacts if step.kind == "step" else ():
                self._makers.setdefault(one.digest, []).append(step.id)

    def of(self, step: Step) -> tuple[list[tuple[str, str]], dict[str, Any]]:
        """Return the sources of a step, each with its argument, and the inputs that are none."""
        needs = list(self._through(step.needs))
        sources: list[tuple[str, str]] = []
        given: dict[str, Any] = {}
        for name, value in step.inputs.items():
            digests = _digests(value)
            makers: list[str] = []
            for digest in digests:
                if maker := self._maker(step, digest, needs, {*(one for _, one in sources), *makers}):
                    makers.append(maker)
            sources += [(name, one) for one in makers]
            if not digests or len(makers) < len(digests):
                given[name] = value
        taken = {one for _, one in sources}
        return sources + [("", one) for one in needs if one not in taken], given

    def _maker(self, step: Step, digest: str, needs: Sequence[str], taken: set[str]) -> str:
        """Return who gave a file: of several with equal content one that is waited for and not yet named."""
        makers = [one for one in self._makers.get(digest, ()) if one != step.id]
        return min(makers, key=lambda one: (one not in needs, one in taken), default="")

    def _through(self, needs: Sequence[str]) -> Iterator[str]:
        """Yield the steps that are waited for, those inside of groups too."""
        waiting, met = list(reversed(needs)), set()
        while waiting:
            one = waiting.pop()
            if one in met or one not in self._known:
                continue
            met.add(one)
            if one in self._groups:
                waiting += reversed(self._groups[one])
            else:
                yield one


def words(origin: Origin, most: int = 80) -> str:
    """Return a step's own inputs in at most so many letters: ``rate=0.5, rows=(a file)``."""
    text = ", ".join(f"{name}={_word(value)}" for name, value in origin.given.items())
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def _word(value: Any) -> str:
    return "(a file)" if _digests(value) or (isinstance(value, dict) and "key" in value) else json.dumps(value)


def _digests(value: Any) -> list[str]:
    """Return the digests of an input that is a file, or a list of files."""
    many = value if isinstance(value, list) else [value]
    found = [one.get("digest") for one in many if isinstance(one, dict)]
    return [one for one in found if isinstance(one, str)] if len(found) == len(many) else []
