"""How values read on a page: times, sizes, durations, states. Pure functions, registered as filters by ``render``.

Every result is text or `Markup` built from escaped parts; nothing here marks a person's words as safe. Rejected: doing
this in the browser, because reading must work without scripts.
"""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from ropewalk_core import plots
from ropewalk_core.model import Figures, State

_SHAPES: dict[State, str] = {
    State.ASKED: '<circle cx="8" cy="8" r="5.5" class="line" stroke-dasharray="2.2 2.2"/>',
    State.WAITING: '<circle cx="8" cy="8" r="5.5" class="line"/><path d="M8 4.8V8l2.2 1.6" class="line"/>',
    State.STARTING: '<circle cx="8" cy="8" r="5.5" class="line"/><path d="M8 2.5a5.5 5.5 0 0 1 0 11z"/>',
    State.RUNNING: '<path d="M4.5 2.6v10.8L13.5 8z"/>',
    State.IDLE: '<path d="M9.8 2.6a5.7 5.7 0 1 0 3.9 8.2A6 6 0 0 1 9.8 2.6z"/>',
    State.STOPPING: '<path d="M3 3h10v10H3z" class="line"/><path d="M3 8h10v5H3z"/>',
    State.STOPPED: '<path d="M3 3h10v10H3z"/>',
    State.FAILED: '<path d="M3.5 3.5l9 9m0-9l-9 9" class="line thick"/>',
    State.DONE: '<path d="M2.8 8.6l3.4 3.4 7-7.6" class="line thick"/>',
}


def ticked(text: str) -> Markup:
    """Return our own text with what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(one) if at % 2 else one for at, one in enumerate(parts))


def sign(state: State | str) -> Markup:
    """Return the sign of a state as a small drawing; the word always stands beside it."""
    shape = _SHAPES[State(state)]
    return Markup(  # noqa: S704 - only our own constants
        f'<svg class="sign" viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">{shape}</svg>'
    )


def state(value: State | str, note: str = "") -> Markup:
    """Return a state as color, sign and word."""
    one = State(value)
    return Markup('<span class="state state-{0}">{1}<span>{0}</span>{2}</span>').format(
        one.value, sign(one), Markup(' <span class="note">{}</span>').format(note) if note else ""
    )


def exact(seconds: float) -> str:
    """Return Unix seconds as people write a moment, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b %Y, %H:%M:%S UTC")


def relative(seconds: float, now: float) -> str:
    """Return how long ago a moment was, in one unit."""
    gap = now - seconds
    if gap < 0:
        return "now" if gap > -5 else f"in {_unit(-gap)}"
    return "just now" if gap < 5 else f"{_unit(gap)} ago"


def ago(seconds: float | None, now: float | None = None) -> Markup:
    """Return a `time` element: relative words, the exact time in ``datetime`` and ``title``."""
    if not seconds:
        return Markup('<span class="none">never</span>')
    iso = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        iso, exact(seconds), relative(seconds, time.time() if now is None else now)
    )


def _unit(gap: float) -> str:
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if gap >= size:
            count = int(gap // size)
            return f"{count} {word}{'s' if count != 1 else ''}"
    return "a moment"


def size(number: int | float | None) -> str:
    """Return bytes in binary units, such as ``12.5 MiB``."""
    value = float(number or 0)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def duration(seconds: float | None) -> str:
    """Return seconds as ``1.2 s``, ``230 ms``, ``3 min 4 s`` or ``2 h 5 min``."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def pretty(value: Any, longest: int = 20_000) -> str:
    """Return a JSON value indented for reading, cut with a mark when it is very long."""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return text if len(text) <= longest else text[:longest] + f"\n... {len(text) - longest} more characters"


def brief(value: Any, longest: int = 80) -> str:
    """Return a value on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= longest else text[: longest - 1] + "…"


def plural(count: int, word: str) -> str:
    """Return ``1 run`` or ``2 runs``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def longest(figures: Figures) -> str:
    """Return the time at the top of the drawing of times."""
    return plots.span(plots.longest(figures))


def drawn_calls(figures: Figures) -> Markup:
    """Return the drawing of calls, which holds numbers only."""
    return Markup(plots.calls(figures))  # noqa: S704 - made of numbers


def drawn_times(figures: Figures) -> Markup:
    """Return the drawing of times, which holds numbers only."""
    return Markup(plots.times(figures))  # noqa: S704 - made of numbers
