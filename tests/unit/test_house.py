"""The rules of the house that no linter knows: one door to the environment, no print, one public surface."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ropewalk
from tests import sizes

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    [*(ROOT / "hub").rglob("*.py"), *(ROOT / "workflows").rglob("*.py"), *(ROOT / "extensions").rglob("*.py")]
)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def uses(path: Path) -> frozenset[str]:
    return frozenset(_uses(path))


def _uses(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield f"{node.func.id}()"


def test_only_the_settings_touch_the_environment() -> None:
    doors = {"hub/ropewalk_core/settings.py"}
    touching = {
        named(path)
        for path in SOURCES
        if {"os.environ", "os.getenv", "os.putenv"} & uses(path)
        and not named(path).startswith(("workflows/ropewalk_runtime/", "workflows/examples/"))
    }
    assert touching <= doors


def test_nothing_prints() -> None:
    printing = {named(path) for path in SOURCES if {"print()", "pprint()"} & uses(path)}
    inside = ("workflows/examples/", "workflows/ropewalk_runtime/")  # their standard output is a person's log
    assert {one for one in printing if not one.startswith(inside)} == set()


def test_one_module_writes_to_standard_output() -> None:
    writing = {named(path) for path in SOURCES if "sys.stdout" in uses(path)}
    assert {one for one in writing if one.startswith("hub/ropewalk_core/")} <= {
        "hub/ropewalk_core/cli/program.py",
        "hub/ropewalk_core/cli/output.py",
        "hub/ropewalk_core/cli/platform.py",
        "hub/ropewalk_core/cli/work.py",
    }


_OF_NOTEBOOKS = {"jupyter_client", "nbclient", "nbconvert", "nbformat", "pygments", "traitlets"}


def test_the_runtime_is_standard_library_only() -> None:
    for path in (ROOT / "workflows" / "ropewalk_runtime").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            found += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            tops = {one.partition(".")[0] for one in found}
            more = _OF_NOTEBOOKS if path.name == "executing.py" else set()
            assert tops <= set(sys.stdlib_module_names) | {"ropewalk_runtime", "cloudpickle"} | more, named(path)


def test_the_runtime_runs_where_notebooks_cannot_be_executed() -> None:
    code = "import sys; sys.modules['nbclient'] = None; import ropewalk_runtime.step, ropewalk_runtime.notebooks as n; "
    code += "print(sorted(one for one in sys.modules if one.startswith('nb'))); n.run('', {})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['nbclient']"
    assert "CellFailed: A notebook needs nbclient, which is not in this environment." in done.stderr


_UNPICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "torch", "marshal"}
_OF_ACCOUNTS = {"load", "decode", "load_attempt"}
"""What reads an account's values or code in the runtime; only sandboxes and kernels may call it."""


def unpickling(source: str) -> list[str]:
    """Return what in a module could run what lies in an account's values."""
    found: list[str] = []
    runtime = {"values", "kinds", "bundle", "step"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names if one.name.partition(".")[0] in _UNPICKLES]
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module] if node.module.partition(".")[0] in _UNPICKLES else []
            from_runtime = node.module.startswith("ropewalk_runtime.")
            found += [one.name for one in node.names if from_runtime and one.name in _OF_ACCOUNTS]
        if isinstance(node, ast.Attribute) and node.attr in _OF_ACCOUNTS and isinstance(node.value, ast.Name):
            found += [f"{node.value.id}.{node.attr}"] if node.value.id in runtime else []
    return found


def test_the_platform_never_unpickles() -> None:
    for bad in (
        "import pickle",
        "from joblib import load",
        "from ropewalk_runtime.values import decode",
        "values.load(x)",
    ):
        assert unpickling(bad), bad
    platform = [*(ROOT / "hub").rglob("*.py"), *(ROOT / "workflows" / "ropewalk_workflows").rglob("*.py")]
    assert len(platform) > 100
    assert {named(one): found for one in platform if (found := unpickling(one.read_text()))} == {}


def test_broad_excepts_are_rare_and_explained() -> None:
    found = []
    for path in SOURCES:
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.search(r"except \(?(Base)?Exception\b|except:", line):
                near = lines[max(0, number - 1) : number + 6]
                found.append((named(path), number + 1, any("#" in one for one in near) or "raise" in " ".join(near)))
    assert [one for one in found if not one[2]] == []
    size = sum(sizes.lines_of(path.read_text()) for path in SOURCES)
    assert len(found) <= max(8, 1.5 * size / 1000), found


def test_the_public_surface_is_what_it_says() -> None:
    assert list(ropewalk.__all__) == sorted(ropewalk.__all__, key=str.lower) or list(ropewalk.__all__) == sorted(
        ropewalk.__all__
    )
    for name in ropewalk.__all__:
        assert getattr(ropewalk, name) is not None


@pytest.mark.parametrize(("name", "text"), [("x.py", "'''d.'''\n\n\nx = 1\n"), ("y.py", "")])
def test_sizes_count_lines_that_are_not_blank(name: str, text: str) -> None:
    assert sizes.lines_of(text) == len([line for line in text.split("\n") if line])


def test_the_sizes_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert sizes.main() == 0, capsys.readouterr().out
