"""What a run, a function and a service look like under a cell: one line of result, then a compact card. Pure.

Each `Picture` has an HTML and a text form that say the same. Nothing here asks the platform or knows of a display
(``live`` does); everything a person wrote is escaped by ``look.text``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ropewalk_core import access, workers
from ropewalk_core.flows import KEPT, Run, Step
from ropewalk_core.model import Function, Service, State
from ropewalk_core.traffic import said
from ropewalk_kernel import graph, look, pictures

_LOG_LINES = 12
_MOST_REASONS = 40


@dataclass(frozen=True)
class Picture:
    """The same thing as HTML and as text."""

    html: str
    text: str

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}

    def __repr__(self) -> str:
        return self.text


class Pictured:
    """Something that shows itself as a picture made when it is looked at."""

    def _picture(self) -> Picture:
        raise NotImplementedError

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return self._picture()._repr_mimebundle_()

    def __repr__(self) -> str:
        return self._picture().text


def run_card(run: Run, *, line: str = "", logs: Sequence[str] = (), address: str = "") -> Picture:
    """Return a run's card: state, graph, why steps ran or failed, the ends of the logs, and a link to its page."""
    steps = [step for step in run.steps if step.kind == "step"]
    facts = _facts(run, steps)
    boxes = graph.arrange(run.steps)
    line = line or f"run {run.id} of {run.name}"
    failed = [step for step in steps if step.error]
    ends = pictures.last(steps)
    html = [
        f'<div class="rw-head"><span class="rw-name">{look.text(run.name)}</span>{look.chip(run.status)}'
        f'<span class="rw-dim">{look.text(run.id)}, {look.text(facts)}</span></div>',
        look.why_html(run.status),
        graph.svg(boxes) or _many(boxes),
        _reasons(steps),
        *(_failure(step) for step in failed[:3]),
        *(pictures.made(step) for step in ends),
        f"<pre>{look.text(chr(10).join(logs[-_LOG_LINES:]))}</pre>" if logs else "",
        _opening(address),
    ]
    text = [line, f"  {look.word(run.status)}, {facts}", *_indented(look.why_text(run.status))]
    text += [f"  {box.label:<24} {box.summary}" for box in boxes]
    text += [f"  {step.name}: {step.error}" for step in failed[:3]]
    text += [f"  {pictures.line(step)}" for step in ends]
    text += [f"  | {one}" for one in logs[-_LOG_LINES:]]
    text += [f"  {address}"] if address else []
    return Picture(_card(line, "".join(html)), "\n".join(text))


def run_line(run: Run) -> str:
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
    return f"<div>{link}</div>" if address else ""


def _reasons(steps: Sequence[Step]) -> str:
    """Return why each step ran, or what it was spared by, folded away; empty while nobody can say."""
    rows = [(step.name, step.status.why.cause) for step in steps if step.status.state is State.DONE and step.status.why]
    if not rows:
        return ""
    more = [(f"and {len(rows) - _MOST_REASONS} more", "")] if len(rows) > _MOST_REASONS else []
    table = look.table(("Step", "Why"), rows[:_MOST_REASONS] + more)
    return f"<details><summary>Why steps ran</summary>{table}</details>"


def function_card(function: Function, *, line: str = "", curl: str = "") -> Picture:
    """Return a function's card: state, address, what it asks of the machine, and how to call it."""
    spec = function.revision.spec
    facts = f"revision {function.revision.number}, {spec.placement.describe()}, {spec.timeout:g} s per call"
    facts += f", {around}" if (around := workers.said(spec)) else ""
    line = line or f"function {function.name}"
    split = " ".join(one for one in (_opened(function), said(function)) if one)
    html = (
        f'<div class="rw-head"><span class="rw-name">{look.text(function.name)}</span>{look.chip(function.status)}'
        f'<span class="rw-dim">{look.text(facts)}</span></div>{look.why_html(function.status)}'
        f"{f'<div>{look.text(split)}</div>' if split else ''}"
        f"<div>{look.text(function.address)}</div>{f'<pre>{look.text(curl)}</pre>' if curl else ''}"
    )
    text = [line, f"  {look.word(function.status)}, {facts}", *_indented(look.why_text(function.status))]
    text += [f"  {one}" for one in (split, function.address, curl) if one]
    return Picture(_card(line, html), "\n".join(text))


def note(text: str) -> Picture:
    """Return a line that says something before a card comes."""
    return Picture(_card(text, ""), text)


def _opened(function: Function) -> str:
    """Return who may call a function, where that is more than its owner."""
    return access.said(function.access) if function.access.who != "private" else ""


def service_card(service: Service, *, line: str = "", logs: Sequence[str] = ()) -> Picture:
    """Return a service's card: state, address as a link, and the last log lines when it failed."""
    spec = service.spec
    facts = f"template {spec.template}, {spec.placement.describe()}"
    line = line or f"service {spec.name}"
    link = f'<a href="{look.text(service.address)}" target="_blank" rel="noopener">{look.text(service.address)}</a>'
    html = (
        f'<div class="rw-head"><span class="rw-name">{look.text(spec.name)}</span>{look.chip(service.status)}'
        f'<span class="rw-dim">{look.text(facts)}</span></div>{look.why_html(service.status)}'
        f"<div>{link if service.address.startswith(('http://', 'https://')) else look.text(service.address)}</div>"
        + (f"<pre>{look.text(chr(10).join(logs[-_LOG_LINES:]))}</pre>" if logs else "")
    )
    text = [line, f"  {look.word(service.status)}, {facts}", *_indented(look.why_text(service.status))]
    text += [f"  {service.address}"] if service.address else []
    text += [f"  | {one}" for one in logs[-_LOG_LINES:]]
    return Picture(_card(line, html), "\n".join(text))


def listing(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, empty: str) -> Picture:
    """Return a table; ``empty`` is the sentence that teaches what to do when there is nothing."""
    if not rows:
        return Picture(_card("", look.text(empty)), empty)
    return Picture(_card(title, look.table(head, rows)), look.columns(head, rows))


def difference(title: str, text: str) -> Picture:
    """Return a unified diff; what goes and what comes have a sign and a color."""
    tones = {"+": "rw-good", "-": "rw-bad", "@": "rw-calm"}
    lines = [
        f'<span class="{tones[line[0]]}">{look.text(line)}</span>' if line[:1] in tones else look.text(line)
        for line in text.splitlines()
    ]
    return Picture(_card(title, f"<pre>{chr(10).join(lines)}</pre>"), text)


def progress(
    name: str, done: int, total: int | None, seconds: float, *, failed: int = 0, held_back: int = 0, ended: str = ""
) -> Picture:
    """Return how far many calls of a function are; ``ended`` is ``done`` or ``stopped`` when nothing more comes."""
    count = f"{done:,}" if total is None or ended == "done" else f"{done:,} of {total:,}"
    parts = [f"stopped after {count} calls" if ended == "stopped" else f"{count} calls", look.duration(0, seconds)]
    rate = done / seconds if seconds > 0 else 0.0
    if rate:
        parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
    if rate and total and not ended:
        parts.append(f"{look.duration(0, (total - done) / rate)} left")
    parts += [f"{failed:,} failed"] if failed else []
    parts += [f"{held_back:,} wait for room"] if held_back else []
    facts = ", ".join(parts)
    bar = f'<progress max="{total}" value="{done}"></progress>' if total else ""
    html = (
        f'<div class="rw-head"><span class="rw-name">{look.text(name)}</span>{bar}'
        f'<span class="rw-dim">{look.text(facts)}</span></div>'
    )
    return Picture(_card("", html), f"{name}: {facts}")


def sending(name: str, done: int, total: int, seconds: float, *, ended: str = "") -> Picture:
    """Return how far an argument of a function is on its way; ``ended`` as of `progress`."""
    parts = [look.amount(total) if ended == "done" else f"{look.amount(done)} of {look.amount(total)}"]
    parts.append(look.duration(0, seconds))
    if seconds > 0 and done:
        parts.append(f"{look.amount(done / seconds)}/s")
        parts += [] if ended else [f"{look.duration(0, (total - done) * seconds / done)} left"]
    said = {"done": "an argument was sent", "stopped": "an argument was not sent whole"}
    word = said.get(ended, "sending an argument")
    facts = f"{word}, {', '.join(parts)}"
    bar = "" if ended else f'<progress max="{total}" value="{done}"></progress>'
    html = (
        f'<div class="rw-head"><span class="rw-name">{look.text(name)}</span>{bar}'
        f'<span class="rw-dim">{look.text(facts)}</span></div>'
    )
    return Picture(_card("", html), f"{name}: {facts}")


def building(name: str, word: str, lines: Sequence[str], seconds: float) -> Picture:
    """Return how far the environment of a function's requirements is, with the last lines of its log."""
    facts = f"{word}, {look.duration(0, seconds)}"
    title = f"environment of {name}"
    html = (
        f'<div class="rw-head"><span class="rw-name">{look.text(title)}</span>'
        f'<span class="rw-dim">{look.text(facts)}</span></div>'
        f"<pre>{look.text(chr(10).join(lines[-_LOG_LINES:]))}</pre>"
    )
    text = [f"{title}: {facts}", *(f"  | {one}" for one in lines[-_LOG_LINES:])]
    return Picture(_card("", html), "\n".join(text))


def framed(line: str, html: str, text: str) -> Picture:
    """Return a card with HTML of ours, and the same as text."""
    return Picture(_card(line, html), text)


def notice(sentence: str) -> Picture:
    """Return one sentence as a picture."""
    return Picture(_card(sentence, ""), sentence)


def _card(line: str, inside: str) -> str:
    top = f'<p class="rw-line">{look.text(line)}</p>' if line else ""
    card = f'<div class="rw-card">{inside}</div>' if inside else ""
    return f'{look.STYLE}<div class="rw">{top}{card}</div>'


def _indented(sentence: str) -> list[str]:
    return [f"  {sentence}"] if sentence else []


def _failure(step: Step) -> str:
    """Return a failed step's reason with the person's own traceback."""
    trace = f"<pre>{look.text(step.traceback)}</pre>" if step.traceback else ""
    return f'<div class="rw-why rw-bad">{look.text(step.name)}: {look.text(step.error)}</div>{trace}'


def _many(boxes: Sequence[graph.Box]) -> str:
    """Return a graph that is too large to draw as a short table of its parts."""
    rows = [(box.label, box.summary) for box in boxes[: graph.MOST_BOXES]]
    return look.table(("step", "state"), rows) if rows else ""
