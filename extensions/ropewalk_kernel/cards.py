"""What functions, services, tables and progress look like under a cell: a line of result, then a compact card. Pure.

Each `Picture` has an HTML and a text form that say the same. Nothing here asks the platform or knows of a display
(``live`` does) or of runs (``run_cards``); everything a person wrote is escaped by ``look.text``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ropewalk_core import access, workers
from ropewalk_core.model import Function, Service
from ropewalk_core.traffic import said
from ropewalk_kernel import look

LOG_LINES = 12


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
    text = [line, f"  {look.word(function.status)}, {facts}", *indented(look.why_text(function.status))]
    text += [f"  {one}" for one in (split, function.address, curl) if one]
    return Picture(card(line, html), "\n".join(text))


def note(text: str) -> Picture:
    """Return a line that says something before a card comes."""
    return Picture(card(text, ""), text)


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
        + (f"<pre>{look.text(chr(10).join(logs[-LOG_LINES:]))}</pre>" if logs else "")
    )
    text = [line, f"  {look.word(service.status)}, {facts}", *indented(look.why_text(service.status))]
    text += [f"  {service.address}"] if service.address else []
    text += [f"  | {one}" for one in logs[-LOG_LINES:]]
    return Picture(card(line, html), "\n".join(text))


def listing(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, empty: str) -> Picture:
    """Return a table; ``empty`` is the sentence that teaches what to do when there is nothing."""
    if not rows:
        return Picture(card("", look.text(empty)), empty)
    return Picture(card(title, look.table(head, rows)), look.columns(head, rows))


def difference(title: str, text: str) -> Picture:
    """Return a unified diff; what goes and what comes have a sign and a color."""
    tones = {"+": "rw-good", "-": "rw-bad", "@": "rw-calm"}
    lines = [
        f'<span class="{tones[line[0]]}">{look.text(line)}</span>' if line[:1] in tones else look.text(line)
        for line in text.splitlines()
    ]
    return Picture(card(title, f"<pre>{chr(10).join(lines)}</pre>"), text)


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
    return Picture(card("", html), f"{name}: {facts}")


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
    return Picture(card("", html), f"{name}: {facts}")


def building(name: str, word: str, lines: Sequence[str], seconds: float) -> Picture:
    """Return how far the environment of a function's requirements is, with the last lines of its log."""
    facts = f"{word}, {look.duration(0, seconds)}"
    title = f"environment of {name}"
    html = (
        f'<div class="rw-head"><span class="rw-name">{look.text(title)}</span>'
        f'<span class="rw-dim">{look.text(facts)}</span></div>'
        f"<pre>{look.text(chr(10).join(lines[-LOG_LINES:]))}</pre>"
    )
    text = [f"{title}: {facts}", *(f"  | {one}" for one in lines[-LOG_LINES:])]
    return Picture(card("", html), "\n".join(text))


def framed(line: str, html: str, text: str) -> Picture:
    """Return a card with HTML of ours, and the same as text."""
    return Picture(card(line, html), text)


def notice(sentence: str) -> Picture:
    """Return one sentence as a picture."""
    return Picture(card(sentence, ""), sentence)


def card(line: str, inside: str) -> str:
    """Return a line and a frame around HTML of ours, with the style that both need."""
    top = f'<p class="rw-line">{look.text(line)}</p>' if line else ""
    frame = f'<div class="rw-card">{inside}</div>' if inside else ""
    return f'{look.STYLE}<div class="rw">{top}{frame}</div>'


def indented(sentence: str) -> list[str]:
    """Return a sentence as a line of a card's text; nothing for none."""
    return [f"  {sentence}"] if sentence else []
