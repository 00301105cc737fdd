"""Previews of what steps returned, as HTML and as a line of text. Pure.

A preview's words are a person's: they pass `look.text`, and its picture is a PNG in an ``img`` of ours. Not here: the
cards around them (``cards``), making previews (``ropewalk_runtime.previews``).
"""

from __future__ import annotations

from collections.abc import Sequence

from ropewalk_core.flows import Artifact, Step
from ropewalk_core.model import State
from ropewalk_kernel import look

_RESULT, _MOST = "result", 3


def last(steps: Sequence[Step]) -> list[Step]:
    """Return the few steps at the end of a run that are done and whose result can be looked at."""
    needed = {need for step in steps for need in step.needs}
    ends = [one for one in steps if one.id not in needed and one.status.state is State.DONE and _result(one)]
    return ends[-_MOST:]


def made(step: Step) -> str:
    """Return what a step returned as HTML: words and facts, and its table or picture."""
    found = _result(step)
    if found is None:
        return ""
    said = look.text(line(step))
    return f'<div class="rw-why">{said}</div>{inside(found, open_=False)}'


def line(step: Step) -> str:
    """Return what a step returned in one line, such as ``fit gave data frame, 3 x 4``."""
    found = _result(step)
    return f"{step.name} gave {words(found)}" if found is not None else ""


def words(artifact: Artifact) -> str:
    """Return an artifact's value in a few words, else its facts, else its size."""
    seen = artifact.preview
    text = " ".join(seen.text.split()) if seen is not None else ""
    facts = ", ".join(f"{name} {one}" for name, one in seen.facts.items()) if seen is not None else ""
    short = text if len(text) <= 80 else f"{text[:79]}…"
    return short or facts or look.amount(artifact.size)


def inside(artifact: Artifact, *, open_: bool = True) -> str:
    """Return a preview's table or picture as HTML that folds; nothing where words say it all."""
    seen = artifact.preview
    if seen is None:
        return ""
    parts = []
    if seen.image:
        parts.append(f'<img alt="{look.text(artifact.name)}" src="data:image/png;base64,{look.text(seen.image)}">')
    if seen.rows and seen.columns:
        parts.append(look.table(seen.columns, seen.rows))
    elif seen.rows:
        parts.append(f"<pre>{look.text(chr(10).join(' '.join(row) for row in seen.rows))}</pre>")
    if not parts:
        return ""
    facts = ", ".join([*(f"{name} {one}" for name, one in seen.facts.items()), look.amount(artifact.size)])
    state = " open" if open_ else ""
    return f"<details{state}><summary>{look.text(f'{artifact.name}: {facts}')}</summary>{''.join(parts)}</details>"


def _result(step: Step) -> Artifact | None:
    return next((one for one in step.artifacts if one.name == _RESULT and one.preview is not None), None)
