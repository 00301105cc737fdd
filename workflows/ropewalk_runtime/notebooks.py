"""Run a notebook as a step: put its parameters into it, execute it in a kernel of its own, leave it as it is then.

Parameters come after the cell that is tagged ``parameters``, as papermill has it. Plain values stand there as literals,
which are read back before they count as such; all else comes from a file. The executed notebook, also of a failure, and
a page of it are left beside the result. The kernel listens on sockets in a folder that only this step sees, and ends
with the step. Not here: what cells may call (``cells``), what a notebook may be (``ropewalk_workflows.notebooks``).
Rejected: papermill (its own store of notebooks and clouds, for a cell of assignments around nbclient); running cells in
the step's own process (a crash would take the notebook with it).
"""

from __future__ import annotations

import ast
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ropewalk_runtime import beside, cells, hidden, values
from ropewalk_runtime.cells import CellFailed

NOTEBOOK, PAGE = "notebook", "page"
"""What the executed notebook and the page of it are called."""
PARAMETERS, INJECTED = "parameters", "injected-parameters"
_LONGEST = 2000
"""Characters of a literal."""
_COLORS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def run(text: str, given: Mapping[str, Any]) -> Any:
    """Execute a notebook with these parameters and return what its cells gave to ``ropewalk.result``.

    Parameters
    ----------
    text
        The notebook as JSON, in the fourth version of the format.
    given
        Values by the names of its parameters.

    Raises
    ------
    CellFailed
        If a cell raised something, with the person's own traceback.
    """
    try:
        from ropewalk_runtime import executing  # brings nbclient, for which only notebooks pay
    except ImportError as error:
        raise CellFailed(f"A notebook needs {error.name}, which is not in this environment.") from None
    with tempfile.TemporaryDirectory(prefix="ropewalk-notebook-") as name:
        folder = Path(name)
        notebook = executing.read(text)
        inject(notebook.cells, given, folder)
        try:
            executing.execute(notebook, folder)
        finally:
            _leave(executing, notebook)
        return cells.returned(folder)


def inject(listed: list[Any], given: Mapping[str, Any], folder: Path) -> None:
    """Put a cell with the parameters after the tagged one; nothing where none are given."""
    if not given:
        return
    texts = {name: literal(value) for name, value in given.items()}
    for name in (one for one, text in texts.items() if not text):
        cells.give(folder, name, given[name])
    lines = ["# Parameters", *([] if all(texts.values()) else ["import ropewalk_runtime.cells"])]
    lines += [f"{name} = {text or f'ropewalk_runtime.cells.given({name!r})'}" for name, text in texts.items()]
    tagged = next(at for at, cell in enumerate(listed) if PARAMETERS in cell.metadata.get("tags", []))
    own = type(listed[tagged])
    made: dict[str, Any] = {"id": INJECTED, "cell_type": "code", "outputs": [], "execution_count": None}
    listed.insert(tagged + 1, own(**made, source="\n".join(lines), metadata=own(tags=[INJECTED])))


def literal(value: Any) -> str:
    """Return the text that Python reads as exactly this value and nothing else; empty where there is none so short."""
    if not values.is_exact(value):
        return ""
    text = repr(value)
    try:
        same = len(text) <= _LONGEST and values.text_of(ast.literal_eval(text)) == values.text_of(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    return text if same else ""


def plain(traceback: list[str]) -> str:
    """Return IPython's traceback without its colors."""
    return _COLORS.sub("", "\n".join(traceback))


def _leave(executing: Any, notebook: Any) -> None:
    if not beside.expected():
        return
    notebook = executing.read(json.dumps(_hidden(notebook))) if hidden.knows() else notebook
    beside.leave(NOTEBOOK, executing.written(notebook).encode("utf-8", "replace"), "application/x-ipynb+json")
    if page := executing.page(notebook):
        beside.leave(PAGE, page.encode("utf-8", "replace"), "text/html")


def _hidden(told: Any) -> Any:
    """Return what cells and their outputs say without the values of secrets."""
    if isinstance(told, dict):
        return {key: _hidden(one) for key, one in told.items()}
    return [_hidden(one) for one in told] if isinstance(told, list) else hidden.hide(told)
