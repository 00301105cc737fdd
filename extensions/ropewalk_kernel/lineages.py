"""What a result comes from, as a table under the cell, and the code of a step. Pure; asking is for ``steps``."""

from __future__ import annotations

from ropewalk_core.flows import Run, Step
from ropewalk_core.lineage import MOST, Origin, origins, words
from ropewalk_core.model import Bundle
from ropewalk_kernel import cards, look

_HEAD = ("Step", "Gave", "Was given", "State")
_INDENT = "\u00a0\u00a0"


def picture(run: Run, step: Step) -> cards.Picture:
    """Return a step and the steps before it, each below the one that took its result."""
    found = origins(run, step)
    rows = [_row(one) for one in found]
    rows += [(f"only the nearest {MOST} are shown", "", "", "")] if len(found) == MOST else []
    return cards.listing(f"what {step.name} of {run.id} comes from", _HEAD, rows, empty="")


def _row(one: Origin) -> tuple[str, str, str, str]:
    name = f"{_INDENT * one.depth}{one.step.name}{' (see above)' if one.again else ''}"
    return name, one.argument, words(one), look.word(one.step.status)


def code(bundle: Bundle) -> str:
    """Return the code of a step as it travelled: its cells and the modules beside them, each with where it is from."""
    return "\n\n".join(
        f"# {path}{f', {bundle.origin[path]}' if path in bundle.origin else ''}\n{text.strip()}"
        for path, text in sorted(bundle.files.items())
    )
