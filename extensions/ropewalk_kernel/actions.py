"""What can be done with a run from under its cell: buttons, which are there only while their kernel answers.

They are a small anywidget beside the card, which is an ordinary output: a saved or exported notebook has the picture
and no button. The script (``actions.js``) hides itself until it is answered. Not here: what an act does (``runs``).
Rejected: the whole card as a widget, which a saved notebook loses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from IPython import display as screen
from IPython import get_ipython

from ropewalk_core.errors import RopewalkError
from ropewalk_core.flows import Run
from ropewalk_core.model import State

_display: Any = screen.display
_VIEW = "application/vnd.jupyter.widget-view+json"
COPIES = {"yaml": "Argo YAML", "hera": "Hera", "python": "Python"}
_STYLE = """
.rw-actions{font:13px/1.5 system-ui,sans-serif;color:var(--jp-ui-font-color1,inherit);margin:0 0 8px}
.rw-actions span{display:flex;flex-wrap:wrap;gap:6px;align-items:center}
.rw-actions button{font:inherit;font-weight:600;padding:1px 10px;border:1px solid var(--jp-border-color1,#8888);
border-radius:6px;background:var(--jp-layout-color1,#fff);color:inherit;cursor:pointer}
.rw-actions button:hover{background:var(--jp-layout-color2,#8882)}
.rw-actions button:focus-visible{outline:2px solid var(--jp-brand-color1,#3d5a80);outline-offset:2px}
.rw-actions button.rw-risk{color:var(--jp-error-color1,#b3261e);border-color:currentColor}
.rw-actions .rw-said{color:var(--jp-ui-font-color2,inherit);min-height:1.5em}
.rw-actions[hidden]{display:none}
"""


@dataclass(frozen=True)
class Answer:
    """What became of an act, in words; ``text`` goes to the clipboard."""

    said: str
    text: str = ""


def offered(run: Run) -> list[dict[str, Any]]:
    """Return the acts that make sense for a run as it is: what each is called, and whether it loses something."""
    state = run.status.state
    acts: list[dict[str, Any]] = []
    if run.resumable:
        acts.append({"id": "resume", "label": "Resume"})
    if not run.suspended and not state.terminal and state is not State.STOPPING:
        acts.append({"id": "suspend", "label": "Suspend"})
    if not state.terminal and state is not State.STOPPING:
        acts.append({"id": "stop", "label": "Stop", "risk": True})
    if state in (State.FAILED, State.STOPPED):
        acts.append({"id": "retry", "label": "Retry from failure"})
    return [*acts, *({"id": name, "label": f"Copy as {title}"} for name, title in COPIES.items())]


def act(do: Callable[[str], Answer], name: str) -> dict[str, Any]:
    """Return what is sent back for a message of the script: that we are there, or what became of an act."""
    if not name:
        return {"here": True}
    try:
        answer = do(name)
    except RopewalkError as error:
        return {"said": f"{error.message} {error.hint or ''}".strip()}
    return {"said": answer.said, "text": answer.text}


class Buttons:
    """The buttons of one card.

    Parameters
    ----------
    run
        As it is now.
    do
        Carries out an act by its name, and raises as the person's own call would. May be called in any thread.
    """

    def __init__(self, run: Run, do: Callable[[str], Answer]) -> None:
        self._widget = _kind()(name=run.id, acts=offered(run))
        self._widget.on_msg(lambda widget, content, buffers: self._heard(do, content))

    def show(self) -> None:
        """Put them under the running cell."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        _display({_VIEW: view, "text/plain": ""}, raw=True)

    def follow(self, run: Run) -> None:
        """Offer what makes sense now."""
        if (acts := offered(run)) != self._widget.acts:
            self._widget.acts = acts

    def _heard(self, do: Callable[[str], Answer], content: Any) -> None:
        name = content.get("act", "") if isinstance(content, dict) else ""
        self._widget.send(act(do, str(name)))


def possible() -> bool:
    """Say whether there is a kernel around us whose messages could reach buttons."""
    return getattr(get_ipython(), "kernel", None) is not None


@functools.cache
def _kind() -> Any:
    """Return the widget's class; made late, because its libraries take 50 ms."""
    import anywidget
    import traitlets

    script = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    fields = {
        "_esm": script,
        "_css": _STYLE,
        "name": traitlets.Unicode().tag(sync=True),
        "acts": traitlets.List().tag(sync=True),
    }
    return type("Actions", (anywidget.AnyWidget,), fields)
