"""A run's timeline as SVG inside the output: when each step waited and ran. Pure.

Where all of it lies is for `ropewalk_core.timeline`. Names of steps are a person's and pass `look.text`; colors are the
card's own, so that light and dark both work.
"""

from __future__ import annotations

from ropewalk_core.timeline import LEFT, ROW, WIDE, Bar, Mark, Row, Timeline, short
from ropewalk_kernel import look


def svg(timeline: Timeline) -> str:
    """Return the picture; empty before anything began."""
    if not any(row.bars for row in timeline.rows):
        return ""
    inside = [*(_mark(one, timeline.height) for one in timeline.marks), *(_row(one) for one in timeline.rows)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {timeline.height}" width="{WIDE}" '
        f'height="{timeline.height}" role="img" aria-label="{look.text(timeline.said)}">{"".join(inside)}</svg>'
    )


def _mark(one: Mark, height: int) -> str:
    return (
        f'<path d="M{one.x} 16V{height}" stroke="#8886"/>'
        f'<text x="{one.x}" y="11" text-anchor="middle" class="rw-small">{look.text(one.words)}</text>'
    )


def _row(row: Row) -> str:
    parts = [f"<g><title>{look.text(row.title)}</title>"]
    parts.append(f'<rect x="0" y="{row.y}" width="{WIDE}" height="{ROW - 1}" fill="#8880"/>')  # it has the title too
    parts.append(f'<text x="{LEFT - 8}" y="{row.y + 14}" text-anchor="end">{look.text(short(row.label))}</text>')
    parts += [_bar(one) for one in row.bars]
    if row.took:
        parts.append(f'<text x="{row.end + 6}" y="{row.y + 14}" class="rw-small">{look.text(row.took)}</text>')
    return f"{''.join(parts)}</g>"


def _bar(one: Bar) -> str:
    color = "#8888" if one.waited else f"var(--rw-{look.tone(one.state)})"
    faint = "" if one.waited or one.state.terminal else ' fill-opacity=".6"'
    return f'<rect x="{one.x}" y="{one.y}" width="{one.width}" height="{one.height}" rx="1.5" fill="{color}"{faint}/>'
