"""How large modules and functions are, and whether public names are explained: ``python -m tests.sizes``.

Counts non-blank lines. Bars: modules p90 <= 400 and at most 600; functions median <= 10, p90 <= 30, at most 80; every
module and public name has a docstring. Tests obey the module bar only.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("hub", "workflows/ropewalk_workflows", "workflows/ropewalk_runtime", "extensions")
OTHERS = ("tests", "bench", "workflows/examples")
Functions = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Report:
    """What was measured and what is over a bar."""

    modules: list[int] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def lines_of(text: str) -> int:
    """Return the number of lines that are not blank."""
    return sum(bool(line.strip()) for line in text.splitlines())


def percentile(values: list[int], share: float) -> int:
    """Return the value below which this share lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0


def files(folders: tuple[str, ...]) -> Iterator[Path]:
    """Yield the Python files of the folders."""
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def functions_of(tree: ast.Module) -> Iterator[Functions]:
    """Yield every function and method."""
    for node in ast.walk(tree):
        if isinstance(node, Functions):
            yield node


def unexplained(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Yield the public names without a docstring; special methods explain themselves."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, Functions | ast.ClassDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None and not _is_overload(node):
            yield f"{prefix}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from unexplained(node, f"{prefix}{node.name}.")


def _is_overload(node: ast.AST) -> bool:
    marks = [
        one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "")
        for one in getattr(node, "decorator_list", [])
    ]
    return bool({"overload", "setter"} & set(marks))


def measure(report: Report, path: Path, *, source: bool) -> None:
    """Add one file to the report."""
    text = path.read_text()
    tree, name = ast.parse(text), str(path.relative_to(ROOT))
    size = lines_of(text)
    if size > 600:
        report.faults.append(f"{name}: {size} lines; a module has at most 600")
    if not source:
        return
    report.modules.append(size)
    if ast.get_docstring(tree) is None and text.strip():
        report.faults.append(f"{name}: no docstring")
    report.faults += [f"{name}: {one} has no docstring" for one in unexplained(tree)]
    rows = text.splitlines()
    for function in functions_of(tree):
        length = lines_of("\n".join(rows[function.lineno - 1 : function.end_lineno]))
        report.functions.append(length)
        if length > 80:
            report.faults.append(f"{name}:{function.lineno} {function.name}: {length} lines; a function has at most 80")


def main() -> int:
    """Print the table and return 1 if a bar is broken."""
    report = Report()
    for path in files(SOURCES):
        measure(report, path, source=True)
    for path in files(OTHERS):
        measure(report, path, source=False)
    rows = [
        ("modules", report.modules, {"p90": 400, "max": 600}),
        ("functions", report.functions, {"median": 10, "p90": 30, "max": 80}),
    ]
    for name, sizes, bars in rows:
        seen = {
            "median": int(statistics.median(sizes)),
            "p90": percentile(sizes, 0.9),
            "max": max(sizes),
        }
        told = "  ".join(f"{key} {value}" + (f"/{bars[key]}" if key in bars else "") for key, value in seen.items())
        sys.stdout.write(f"{name:<10} {len(sizes):>5}  {told}\n")
        report.faults += [
            f"{name}: {key} is {seen[key]}, the bar is {bar}" for key, bar in bars.items() if seen[key] > bar
        ]
    sys.stdout.write("".join(f"  {fault}\n" for fault in report.faults))
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
