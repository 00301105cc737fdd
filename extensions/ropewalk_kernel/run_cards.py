"""A run under its cell: state, graph, timeline, its steps with logs and results, parameters, and itself to copy. Pure.

One picture in HTML that needs no script, so that it is the same in a live notebook, a saved one and an exported page:
what is folded is native ``<details>``. What a person wrote is escaped by ``look.text``. Not here: asking the platform
(``runs``), following it (``live``), and what can be done with it while the kernel lives (``actions``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ropewalk_core import timeline
from ropewalk_core.flows import KEPT, Run, Step
from ropewalk_core.model import State
from ropewalk_kernel import graph, look, pictures, timelines
from ropewalk_kernel.cards import LOG_LINES, Picture, card, indented

_MOST_REASONS, _MOST_STEPS, _MOST_ROWS = 40, 24, 24
_LONGEST_VALUE, _LONGEST_COPY = 400, 8000
_FIRST = (State.FAILED, State.RUNNING, State.STARTING, State.STOPPING)


def draw(
    run: Run,
    *,
    line: str = "",
    logs: Sequence[str] = (),
    printed: Mapping[str, Sequence[str]] | None = None,
    copies: Mapping[str, str] | None = None,
    address: str = "",
) -> Picture:
    """Return a run's card.

    Parameters
    ----------
    run
        As it is now.
    line
        What is said above the card.
    logs, printed
        The newest lines of all steps, and those of each by its identifier.
    copies
        The run as text in several languages, by what each is called.
    address
        Of its page on the dashboard.
    """
    steps = [step for step in run.steps if step.kind == "step"]
    facts = _facts(run, steps)
    boxes = graph.arrange(run.steps)
    line = line or f"run {run.id} of {run.name}"
    failed = [step for step in steps if step.error]
    ends = pictures.last(steps)
    html = [
        f'<div class="rw-head"><span class="rw-name">{look.text(run.name)}</span>{look.chip(run.status)}'
        f'<span class="rw-dim">{look.text(run.id)}, {look.text(facts)}</span>{_opening(address)}</div>',
        look.why_html(run.status),
        graph.svg(boxes) or _many(boxes),
        *(_failure(step) for step in failed[:3]),
        *(pictures.made(step) for step in ends),
        f"<pre>{look.text(chr(10).join(logs[-LOG_LINES:]))}</pre>" if logs else "",
        _timeline(run),
        _steps(steps, printed or {}, {one.id for one in ends}),
        _reasons(steps),
        _folded("Parameters", _table("Parameter", run.arguments)),
        _copies(copies or {}),
    ]
    text = [line, f"  {look.word(run.status)}, {facts}", *indented(look.why_text(run.status))]
    text += [f"  {box.label:<24} {box.summary}" for box in boxes]
    text += [f"  {step.name}: {step.error}" for step in failed[:3]]
    text += [f"  {pictures.line(step)}" for step in ends]
    text += [f"  | {one}" for one in logs[-LOG_LINES:]]
    text += [f"  {address}"] if address else []
    return Picture(card(line, "".join(html)), "\n".join(text))


def said(run: Run) -> str:
    """Return how far a run is, in one line."""
    steps = [step for step in run.steps if step.kind == "step"]
    return f"{run.name}: {look.word(run.status)}, {_facts(run, steps)}"


def _facts(run: Run, steps: Sequence[Step]) -> str:
    took = look.duration(run.created, run.ended)
    done = sum(step.status.state.terminal for step in steps)
    kept = sum(step.status.note == KEPT for step in steps)
    return f"{done} of {len(steps)} steps, {f'{kept} kept, ' if kept else ''}{took}" if steps else took


def _opening(address: str) -> str:
    """Return a link to a page of the dashboard, which opens beside the notebook; empty without an address."""
    link = f'<a href="{look.text(address)}" target="_blank" rel="noopener">Open on the dashboard</a>'
    return link if address else ""


def _folded(title: str, inside: str, *, key: str = "", open_: bool = False) -> str:
    """Return something behind its title, known by a key when the card is drawn again; empty where there is nothing."""
    state = " open" if open_ else ""
    known = look.text(key or title)
    return (
        f'<details data-rw="{known}"{state}><summary>{look.text(title)}</summary>{inside}</details>' if inside else ""
    )


def _timeline(run: Run) -> str:
    laid = timeline.lay(run, time.time(), most=_MOST_ROWS)
    more = f'<div class="rw-dim">and {laid.left_out} more that began later</div>' if laid.left_out else ""
    drawn = timelines.svg(laid)
    return _folded("Timeline", drawn + more if drawn else "", open_=True)


def _steps(steps: Sequence[Step], printed: Mapping[str, Sequence[str]], shown: set[str]) -> str:
    """Return each step behind its name: what needs attention first, and the others in their order."""
    ordered = sorted(steps, key=lambda one: one.status.state not in _FIRST)
    inside = [_step(one, printed.get(one.id, ()), previewed=one.id not in shown) for one in ordered[:_MOST_STEPS]]
    if len(steps) > _MOST_STEPS:
        inside.append(f'<div class="rw-dim">and {len(steps) - _MOST_STEPS} more</div>')
    return _folded(f"Steps ({len(steps)})", "".join(inside), key="Steps") if steps else ""


def _step(step: Step, lines: Sequence[str], *, previewed: bool) -> str:
    took = f", {look.duration(step.started, step.ended)}" if step.started is not None else ""
    tries = f", attempt {step.attempt}" if step.attempt > 1 else ""
    inside = [
        look.why_html(step.status) if step.status.state is not State.DONE else "",
        f'<div class="rw-why rw-bad">{look.text(step.error)}</div>' if step.error else "",
        f"<pre>{look.text(step.traceback)}</pre>" if step.traceback else "",
        _table("Input", step.inputs),
        *(_artifact(one, previewed) for one in step.artifacts),
        f"<pre>{look.text(chr(10).join(lines))}</pre>" if lines else "",
    ]
    title = (
        f'<span class="rw-name">{look.text(step.name)}</span> {look.chip(step.status)}'
        f'<span class="rw-dim">{look.text(took + tries)}</span>'
    )
    key = look.text(f"step {step.id}")
    return f'<details data-rw="{key}"><summary>{title}</summary>{"".join(inside)}</details>'


def _artifact(one: Any, previewed: bool) -> str:
    facts = f"{one.name}: {pictures.words(one)}, {look.amount(one.size)}"
    return f"<div>{look.text(facts)}</div>{pictures.inside(one, open_=False) if previewed else ''}"


def _table(head: str, values: Mapping[str, Any]) -> str:
    rows = [(name, _brief(value)) for name, value in values.items()]
    return look.table((head, "Value"), rows) if rows else ""


def _brief(value: Any) -> str:
    """Return a value in a few words; of a file, what it looks like."""
    if isinstance(value, dict) and "digest" in value:
        value = ", ".join(str(value[one]) for one in ("preview", "type") if value.get(one)) or value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _copies(copies: Mapping[str, str]) -> str:
    """Return the run as text to copy; what is long is left to who asks for it."""
    inside = [
        _folded(name, f"<pre>{look.text(text)}</pre>")
        for name, text in copies.items()
        if text and len(text) <= _LONGEST_COPY
    ]
    left = [name for name, text in copies.items() if len(text) > _LONGEST_COPY]
    if left:
        inside.append(f'<div class="rw-dim">{look.text(", ".join(left))}: too long to stand here</div>')
    return _folded("Copy as", "".join(inside))


def _reasons(steps: Sequence[Step]) -> str:
    """Return why each step ran, or what it was spared by, folded away; empty while nobody can say."""
    rows = [(step.name, step.status.why.cause) for step in steps if step.status.state is State.DONE and step.status.why]
    more = [(f"and {len(rows) - _MOST_REASONS} more", "")] if len(rows) > _MOST_REASONS else []
    return _folded("Why steps ran", look.table(("Step", "Why"), rows[:_MOST_REASONS] + more) if rows else "")


def _failure(step: Step) -> str:
    """Return a failed step's reason with the person's own traceback."""
    trace = f"<pre>{look.text(step.traceback)}</pre>" if step.traceback else ""
    return f'<div class="rw-why rw-bad">{look.text(step.name)}: {look.text(step.error)}</div>{trace}'


def _many(boxes: Iterable[graph.Box]) -> str:
    """Return a graph that is too large to draw as a short table of its parts."""
    rows = [(box.label, box.summary) for box in boxes][: graph.MOST_BOXES]
    return look.table(("step", "state"), rows) if rows else ""
