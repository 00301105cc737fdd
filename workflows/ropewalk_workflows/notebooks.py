"""`notebook`: a step that executes a notebook, called in a workflow like every other step.

It is read where this is called, and travels as what it says: cells, without outputs and without what an editor notes
about them, so the same cells are the same code. Like a program it is a step of ours whose code is a few lines, so
retries, limits, places and fan-outs are those of steps, on one machine as on a cluster. Not here: how it is executed
(``ropewalk_runtime.notebooks``). Rejected: the path as the code (a cluster has no such file, and an edit would change
what a run was).
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.placement import Placement
from ropewalk_runtime import notebooks
from ropewalk_workflows import dag, names
from ropewalk_workflows.capture import sealed
from ropewalk_workflows.here import here

_ENTRY = "call"
_SUFFIX = ".ipynb"
_KINDS = ("code", "markdown", "raw")
_TAG = "Tag the cell that holds their defaults `parameters`: in JupyterLab in the property inspector at the right."
_CODE = """\
from pathlib import Path

from ropewalk_runtime.notebooks import run


def {entry}(**given):
    notebook = Path({entry}.__code__.co_filename).with_name({file!r})
    return run(notebook.read_text(encoding="utf-8"), given)
"""


def notebook(
    path: str | Path,
    /,
    *,
    name: str = "",
    placement: Placement | dict[str, Any] | None = None,
    retries: int = 0,
    backoff: float = 1.0,
    timeout: float | None = None,
    cache: bool | float | None = None,
    secrets: Sequence[str] = (),
) -> dag.Step:
    """Make a notebook a step: ``report = notebook("report.ipynb")``, then ``report(rate=0.1)`` in a workflow.

    Its parameters are what the cell tagged ``parameters`` assigns; what is given comes in a cell after it. Its result
    is what a cell gives to `ropewalk.result`. The executed notebook is kept, also of a step that failed.

    Parameters
    ----------
    path
        Of the notebook, which is read now.
    name
        What people call it; the file's name by default.
    placement, retries, backoff, timeout, cache, secrets
        As of `step`. As nobody can say what a notebook reads, its result is kept only with ``cache=True`` or a number.

    Raises
    ------
    BadWorkflow
        If one of these is wrong, or it is no Python notebook.
    """
    file = Path(path)
    told = _told(file)
    takes = dict(_parameters(told["cells"]))
    name = name or file.name.removesuffix(_SUFFIX)
    text = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
    files = {f"{names.PROGRAM}.py": _CODE.format(entry=_ENTRY, file=file.name), file.name: text}
    bundle = sealed(files, f"{names.PROGRAM}:{_ENTRY}", {}, ("ropewalk_runtime",))
    made = dag.Made(
        bundle,
        f"notebook({str(path)!r}, name={name!r})",
        leaves=(notebooks.NOTEBOOK, notebooks.PAGE),
        alone=True,
        hint="" if takes else _TAG,
    )
    decorate = dag.step(
        name=name,
        placement=placement,
        retries=retries,
        backoff=backoff,
        timeout=timeout,
        cache=cache,
        secrets=secrets,
        made=made,
    )
    return decorate(_function(text, takes, name))


def _told(file: Path) -> dict[str, Any]:
    """Return of a notebook what travels.

    Raises
    ------
    BadWorkflow
        If it is none of Python's.
    """
    try:
        found = json.loads((here() / file).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadWorkflow(f"The notebook {file} cannot be read: {error.strerror}.", field="path") from error
    except ValueError as error:
        raise BadWorkflow(f"{file} is no notebook: {error}.", field="path") from error
    if not isinstance(found, dict) or not isinstance(found.get("cells"), list) or found.get("nbformat") != 4:
        hint = "Open it in JupyterLab and save it, which writes the fourth version of the format."
        raise BadWorkflow(f"{file} is no notebook of the fourth version of the format.", field="path", hint=hint)
    facts = found.get("metadata") or {}
    language = (facts.get("kernelspec") or {}).get("language") or (facts.get("language_info") or {}).get("name")
    if language not in (None, "", "python"):
        raise BadWorkflow(f"{file} is a notebook of {language}; a step runs those of Python.", field="path")
    spec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for number, cell in enumerate(found["cells"], 1):
        if not isinstance(cell, dict) or cell.get("cell_type") not in _KINDS:
            raise BadWorkflow(f"{file} has a cell {number} of no known kind.", field="path")
    cells = [_cell(cell, at) for at, cell in enumerate(found["cells"])]
    return {"cells": cells, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5}


def _cell(cell: dict[str, Any], at: int) -> dict[str, Any]:
    kind, source = cell.get("cell_type"), cell.get("source") or ""
    text = source if isinstance(source, str) else "".join(map(str, source))
    tags = [one for one in (cell.get("metadata") or {}).get("tags") or () if isinstance(one, str)]
    kept = {"id": f"cell-{at}", "cell_type": kind, "metadata": {"tags": tags} if tags else {}, "source": text}
    if kind == "code":
        return kept | {"outputs": [], "execution_count": None}
    return kept | ({"attachments": cell["attachments"]} if cell.get("attachments") else {})


def _parameters(cells: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the names that the tagged cell assigns, and what to: as a value where it is one, else as its text.

    Raises
    ------
    BadWorkflow
        If it cannot be read.
    """
    tagged = [one for one in cells if notebooks.PARAMETERS in one["metadata"].get("tags", ())]
    for cell in tagged[:1]:
        try:
            statements = ast.parse(cell["source"]).body
        except SyntaxError as error:
            said = f"The cell tagged `parameters` cannot be read: line {error.lineno}: {error.msg}."
            raise BadWorkflow(said, field="path", hint="Put magics into another cell.") from error
        for one in statements:
            if isinstance(one, ast.Assign | ast.AnnAssign):
                targets = one.targets if isinstance(one, ast.Assign) else [one.target]
                yield from ((each.id, _default(one.value)) for each in targets if isinstance(each, ast.Name))


def _default(value: ast.expr | None) -> Any:
    if value is None:
        return inspect.Parameter.empty
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _Written(ast.unparse(value))


class _Written:
    """A default that only the notebook itself can make."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _function(text: str, takes: dict[str, Any], name: str) -> Callable[..., Any]:
    """Return what executes the notebook here, where its step is called outside of a workflow."""
    kind = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.Signature([inspect.Parameter(one, kind, default=value) for one, value in takes.items()])

    def call(*args: Any, **kwargs: Any) -> Any:
        return notebooks.run(text, signature.bind(*args, **kwargs).arguments)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"Execute the notebook {name}."
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call
