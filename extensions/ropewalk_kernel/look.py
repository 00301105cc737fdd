"""How states look in a notebook: sign, color and word, and the one small style block of every card. Pure text.

Not here: what is shown (``cards``, ``graph``). Everything a person wrote passes `text` before it reaches HTML. The
style is part of each output, because a saved or exported notebook has nothing else; colors come from JupyterLab's own
variables where they exist, so that light and dark both work. Rejected: a widget with a script, which a saved notebook
loses.
"""

from __future__ import annotations

import html
import time
from collections.abc import Sequence

from ropewalk_core.model import State, Status

SIGNS: dict[State, str] = {
    State.ASKED: "○",
    State.WAITING: "◔",
    State.STARTING: "◐",
    State.RUNNING: "▶",
    State.IDLE: "☾",
    State.STOPPING: "◧",
    State.STOPPED: "■",
    State.FAILED: "✕",
    State.DONE: "✓",
}

STYLE = """<style>
.rw{--rw-good:#1b6e3c;--rw-bad:#b3261e;--rw-wait:#885200;--rw-calm:#3d5a80;--rw-soft:#55615e;
font:13px/1.5 system-ui,sans-serif;color:var(--jp-ui-font-color1,inherit);max-width:900px}
[data-jp-theme-light="false"] .rw{--rw-good:#6fd08c;--rw-bad:#ff8f85;--rw-wait:#f0b35c;--rw-calm:#9db9de;
--rw-soft:#a3b0ac}
.rw-line{font-weight:600;margin:0 0 6px}
.rw-card{border:1px solid var(--jp-border-color2,#8884);border-radius:6px;padding:8px 12px;margin:0 0 8px}
.rw-head{display:flex;flex-wrap:wrap;gap:4px 16px;align-items:baseline}
.rw-name{font-weight:600}
.rw-dim{color:var(--jp-ui-font-color2,var(--rw-soft))}
.rw-state{font-weight:600;white-space:nowrap}
.rw-good{color:var(--rw-good)}.rw-bad{color:var(--rw-bad)}.rw-wait{color:var(--rw-wait)}
.rw-calm{color:var(--rw-calm)}.rw-soft{color:var(--rw-soft)}
.rw table{border-collapse:collapse;margin:6px 0;font-size:13px}
.rw th,.rw td{text-align:left!important;padding:2px 16px 2px 0;border:0;vertical-align:top}
.rw th{font-weight:600;color:var(--jp-ui-font-color2,var(--rw-soft))}
.rw .rw-card pre{margin:8px 0 0!important;padding:6px 8px!important;max-height:224px;overflow:auto;
white-space:pre-wrap;font:12px/17px ui-monospace,monospace;border-radius:4px;
background:var(--jp-layout-color2,#8881)!important}
.rw svg{display:block;max-width:100%;height:auto;margin:8px 0 0}
.rw svg text{font:12px system-ui,sans-serif;fill:var(--jp-ui-font-color1,currentColor)}
.rw svg .rw-name{font-weight:600}
.rw svg .rw-small{font-size:11px;fill:var(--jp-ui-font-color2,var(--rw-soft))}
.rw summary{cursor:pointer;width:fit-content;padding:1px 2px}
.rw summary:focus-visible,.rw a:focus-visible{outline:2px solid var(--rw-calm);outline-offset:2px;border-radius:3px}
.rw details details{margin-left:14px}
.rw-why{margin:6px 0 0}
.rw details{margin:4px 0 0}.rw details table,.rw details pre{max-height:320px;overflow:auto}
.rw img{display:block;max-width:100%;margin:6px 0;image-rendering:auto}
.rw .plot{width:100%;margin:2px 0 8px}
.plot-base{stroke:var(--rw-soft);stroke-width:1;opacity:.4}
.plot-calls{fill:var(--rw-calm)}.plot-errors{fill:var(--rw-bad)}
.plot-p50,.plot-p95,.plot-p99{fill:none;stroke:var(--rw-calm);stroke-width:2;stroke-linecap:round;
vector-effect:non-scaling-stroke}
.plot-p95{stroke:var(--rw-wait)}.plot-p99{stroke:var(--rw-bad)}
</style>"""

# The same five tones as the dashboard's style sheet.
_TONES: dict[State, str] = {
    State.DONE: "good",
    State.RUNNING: "good",
    State.FAILED: "bad",
    State.ASKED: "wait",
    State.WAITING: "wait",
    State.STARTING: "wait",
    State.STOPPING: "wait",
    State.IDLE: "calm",
    State.STOPPED: "soft",
}


def text(value: object) -> str:
    """Return any value as text that is safe inside HTML and inside an attribute."""
    return html.escape(str(value), quote=True)


def tone(state: State) -> str:
    """Return the state's color as the name of a variable of the style block."""
    return _TONES[state]


def word(status: Status) -> str:
    """Return sign and word, with the note when there is one."""
    note = f" ({status.note})" if status.note else ""
    return f"{SIGNS[status.state]} {status.state.value}{note}"


def chip(status: Status) -> str:
    """Return the state as HTML: color, sign and word."""
    return f'<span class="rw-state rw-{tone(status.state)}">{text(word(status))}</span>'


def duration(started: float | None, ended: float | None = None) -> str:
    """Return how long something took or takes, such as ``1.2 s`` or ``3 min 20 s``; empty when it never began."""
    if started is None:
        return ""
    seconds = max((time.time() if ended is None else ended) - started, 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def amount(size: float) -> str:
    """Return a number of bytes in words, such as ``1.9 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def why_text(status: Status) -> str:
    """Return cause and next step as one line; empty without a cause."""
    return f"{status.why.cause} {status.why.next}".strip() if status.why else ""


def why_html(status: Status) -> str:
    """Return cause and next step as HTML; empty without a cause."""
    return f'<div class="rw-why">{text(why_text(status))}</div>' if status.why else ""


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a plain table as HTML; every cell is escaped."""
    top = "".join(f"<th>{text(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def columns(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return the same table as aligned text for terminals."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]
    return "\n".join(lines)
