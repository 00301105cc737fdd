"""A run's wish as text to copy: an Argo manifest, a Hera program, the Python it was made of.

Not here: asking for the wish. The Python is put together from the code that travelled and from the text that went
beside it (``compile.source``); where that is missing, steps stand under a plain decorator and the workflow is left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ropewalk_core.flows import RunSpec
from ropewalk_core.model import Bundle
from ropewalk_workflows import names
from ropewalk_workflows.capture import MAIN
from ropewalk_workflows.compile import to_yaml

_HEAD = "from __future__ import annotations"


def as_yaml(spec: RunSpec) -> str:
    """Return the Argo manifest."""
    return to_yaml(spec.manifest)


def as_hera(spec: RunSpec) -> str:
    """Return a Hera program that makes an equal manifest.

    Raises
    ------
    BadWorkflow
        If Hera does not know something in the manifest.
    """
    from ropewalk_workflows.compile.as_hera import hera_program  # Hera takes half a second

    return hera_program(spec.manifest)


def as_python(spec: RunSpec) -> str:
    """Return the code of steps and workflow; empty for a run that was made of none of ours."""
    beside = [one for one in spec.bundles.values() if _is_beside(one)]
    code = [one for one in spec.bundles.values() if not _is_beside(one)]
    if not code:
        return ""
    code = [one for one in code if not beside or one.entry.partition(":")[0] != names.PROGRAM]
    told = [part for one in beside for part in _parts(one.files[f"{names.SOURCE}.py"])]
    written = {_name(part) for part in told} - {""}
    captured = [part for one in code for part in _of(one, written, plain=not told)]
    parts = list(dict.fromkeys([*([] if told else ["from ropewalk import step"]), *captured, *told]))
    tops = [part for part in parts if _is_top(part) and part != _HEAD]
    rest = [part for part in parts if not _is_top(part)]
    text = [_HEAD, "", *sorted(tops, key=lambda one: not one.startswith(("import ", "from "))), "", ""]
    text.append("\n\n\n".join([*rest, *_modules(code)]))
    return "\n".join(text).rstrip("\n") + "\n"


def _is_beside(bundle: Bundle) -> bool:
    return bundle.entry.partition(":")[0] == names.SOURCE


def _of(bundle: Bundle, written: set[str], *, plain: bool) -> Iterator[str]:
    """Yield the definitions of a step's code that the text beside it has not."""
    entry = bundle.entry.partition(":")[2]
    for part in _parts(bundle.files.get(f"{MAIN}.py", "")):
        if _name(part) not in written or not _name(part):
            yield f"@step\n{part}" if plain and _name(part) == entry else part


def _parts(text: str) -> list[str]:
    """Return the statements of a text, each as it stands; the whole of what is no Python."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return [text.strip("\n")]
    lines = text.split("\n")
    found = []
    for node in tree.body:
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
        found.append("\n".join(lines[first - 1 : node.end_lineno]))
    return found


def _name(part: str) -> str:
    """Return what a statement defines; empty for anything but a function or a class."""
    node = _first(part)
    return node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else ""


def _is_top(part: str) -> bool:
    return isinstance(_first(part), ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign)


def _first(part: str) -> ast.stmt | None:
    try:
        body = ast.parse(part).body
    except SyntaxError:
        return None
    return body[0] if body else None


def _modules(bundles: list[Bundle]) -> Iterator[str]:
    """Yield modules that lay beside the notebook, as comments: they are files of their own."""
    files = {path: text for one in bundles for path, text in one.files.items() if path != f"{MAIN}.py"}
    for path, text in sorted(files.items()):
        body = "\n".join(f"# {line}".rstrip() for line in text.rstrip("\n").split("\n"))
        yield f"# The file {path}:\n{body}"
