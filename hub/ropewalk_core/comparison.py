"""Runs of one workflow side by side: what they were given against the numbers that came of it. Pure.

A metric is a finite number that a run returned, or that a named step returned: the result itself, or a number in a
dictionary, also one inside of another (``model.accuracy``). It is read from what runs keep of short results: their
JSON, and of numbers of numpy the words of their preview. Lists, arrays, truth values and text are no metrics. Nothing
is unpickled, no file is opened. Not here: which runs there are (the port), drawing (``scatter``). Rejected: a call that
logs metrics (a second way to say what a result says), reading files of results (a thousand runs have as many).
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ropewalk_core.errors import NotFound
from ropewalk_core.flows import Compared, Comparison, Run, Step

RESULT, SECONDS = "result", "seconds"
MOST_RUNS, MOST_STEPS = 1000, 20
"""Runs that one comparison reads, and steps whose results it reads of each."""
_MOST_METRICS, _MOST_COLUMNS, _DEEPEST, _LONGEST_NAME = 100, 200, 5, 100
_JSON = "application/json"
_PREVIEW = 400
_NUMPY = re.compile(r"(float|int|uint)\d+")


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Parameters
    ----------
    name
        Of a parameter, or of a metric.
    kind
        Which of both.
    varies
        Whether runs differ in it.
    """

    name: str
    kind: Literal["parameter", "metric"]
    varies: bool


def numbers(outputs: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a run's or a step's outputs by name; that of the result itself has none."""
    found: dict[str, float] = {}
    for name, value in outputs.items():
        for path, number in _numbers("" if name == RESULT else name, value, files=True):
            if len(found) < _MOST_METRICS and len(path) <= _LONGEST_NAME:
                found.setdefault(path, number)
    return found


def row(run: Run, steps: Mapping[str, Step]) -> Compared:
    """Return a run as a row.

    Parameters
    ----------
    run
        Its steps are not looked at.
    steps
        Those whose results are wanted too, by the name that their columns begin with.
    """
    metrics: dict[str, float] = {}
    for path, number in numbers(run.outputs).items():
        metrics[f"{RESULT}.{path}" if path and path in run.arguments else path or RESULT] = number
    for name, step in steps.items():
        for path, number in numbers(step.outputs).items():
            metrics.setdefault(f"{name}.{path or RESULT}", number)
    if run.ended is not None:
        metrics.setdefault(SECONDS, round(max(0.0, run.ended - run.created), 3))
    facts = {"status": run.status, "created": run.created, "ended": run.ended}
    return Compared(run=run.id, parameters=run.arguments, metrics=metrics, **facts)


def columns(rows: Sequence[Compared]) -> list[Column]:
    """Return the columns of a table: parameters, then metrics, each kind in the order in which runs have them."""
    found: list[Column] = []
    for kind in ("parameter", "metric"):
        names = dict.fromkeys(name for one in rows for name in (one.parameters if kind == "parameter" else one.metrics))
        for name in names:
            if any(name == one.name for one in found):
                continue
            kinds = {repr(value(one, name)) for one in rows}
            found.append(Column(name, kind, varies=len(kinds) > 1))
    metrics = [one for one in found if one.kind == "metric"]
    last = [one for one in metrics if one.name == SECONDS]
    ordered = [one for one in found if one.kind == "parameter"] + [one for one in metrics if one not in last] + last
    return ordered[:_MOST_COLUMNS]


def axes(found: Sequence[Column]) -> tuple[str, str]:
    """Return which parameter to draw against which metric, where nobody chose: the first that differ, or nothing."""
    parameters = [one for one in found if one.kind == "parameter"]
    metrics = [one for one in found if one.kind == "metric"]
    x = next((one.name for one in parameters if one.varies), parameters[0].name if parameters else "")
    y = next((one.name for one in metrics if one.varies), metrics[0].name if metrics else "")
    return x, y


def value(one: Compared, name: str) -> Any:
    """Return what a run has in a column; None where it has nothing. A parameter comes before a metric of its name."""
    return one.parameters[name] if name in one.parameters else one.metrics.get(name)


def words(found: Any, most: int = 40) -> str:
    """Return what stands in a cell as text of at most so many letters."""
    if found is None:
        return ""
    if isinstance(found, float):
        return f"{found:.6g}"
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def number(found: Any) -> float | None:
    """Return a finite number, or None of anything else."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        return float(found) if math.isfinite(found) else None
    except OverflowError:
        return None


def ordered(rows: Sequence[Compared], sort: str, known: Sequence[Column]) -> list[Compared]:
    """Return the rows by a column, ``-name`` from the largest; what has nothing there comes last.

    Raises
    ------
    NotFound
        If there is no such column.
    """
    if not sort:
        return list(rows)
    names = {one.name for one in known}
    name = sort if sort in names else sort.removeprefix("-")  # a parameter may begin with a minus too
    check([name], known)
    there = [one for one in rows if value(one, name) is not None]
    missing = [one for one in rows if value(one, name) is None]
    return sorted(there, key=lambda one: _rank(value(one, name)), reverse=sort != name) + missing


def check(names: Sequence[str], known: Sequence[Column]) -> None:
    """Raise `NotFound` unless there is a column of each name."""
    there = [one.name for one in known]
    for name in names:
        if name not in there:
            hint = f"There are: {', '.join(there)}." if there else "There are none yet."
            raise NotFound(f"These runs have no column '{name[:_LONGEST_NAME]}'.", field="column", hint=hint)


def said(comparison: Comparison) -> str:
    """Return how much is compared, as a sentence."""
    count = len(comparison.rows)
    text = f"{count:,} run{'' if count == 1 else 's'} of {comparison.name}"
    return f"{text}, the latest; older ones are left out" if comparison.more else text


def _rank(found: Any) -> tuple[int, float, str]:
    known = number(found)
    return (1, 0.0, words(found, 2000)) if known is None else (0, known, "")


def _numbers(path: str, found: Any, *, files: bool, depth: int = 0) -> Iterator[tuple[str, float]]:
    """Yield the numbers in a value; with ``files`` it may hold references to files, of which short ones are known."""
    known = number(found)
    if known is not None:
        yield path, known
    elif isinstance(found, dict) and depth < _DEEPEST:
        if files and {"digest", "media_type"} <= found.keys():
            yield from _numbers(path, _short(found), files=False, depth=depth)
            return
        for key, one in found.items():
            if isinstance(key, str) and key:
                yield from _numbers(f"{path}.{key}" if path else key, one, files=files, depth=depth + 1)


def _short(reference: Mapping[str, Any]) -> Any:
    """Return a result as its reference tells it: JSON, or numbers of Python and numpy in its words; else None."""
    text, seen = reference.get("json"), reference.get("preview")
    try:
        if reference.get("media_type") == _JSON:
            return json.loads(text) if isinstance(text, str) and text else None
        whole = isinstance(seen, str) and len(seen) <= _PREVIEW
        return _literal(ast.parse(str(seen), mode="eval").body) if whole else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _literal(node: ast.expr) -> Any:
    """Return the numbers of an expression such as ``{'loss': np.float64(0.5)}``, of which nothing is evaluated."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, int | float) else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = number(_literal(node.operand))
        return None if inner is None else -inner
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {key.value: _literal(one) for key, one in pairs if isinstance(key, ast.Constant)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
        numpy = node.func.value.id in ("np", "numpy") and _NUMPY.fullmatch(node.func.attr)
        return _literal(node.args[0]) if numpy and len(node.args) == 1 and not node.keywords else None
    return None
