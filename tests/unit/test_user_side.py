"""What is checked in the user's environment, each check as a test of its own."""

from __future__ import annotations

import ast
import json
import subprocess
from functools import cache
from pathlib import Path

import pytest

from ropewalk_core.settings import Environments

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Environments().base / "bin" / "python"
MODULES = ("formats", "kinds")


def checks() -> list[tuple[str, str]]:
    found = []
    for module in MODULES:
        tree = ast.parse((ROOT / "tests" / "user_side" / f"{module}.py").read_text())
        names = [one.name for one in tree.body if isinstance(one, ast.FunctionDef) and one.name.startswith("check_")]
        found += [(module, name) for name in names]
    return found


@cache
def outcome(module: str) -> dict[str, str]:
    done = subprocess.run(
        [str(PYTHON), "-W", "error", "-m", "tests.user_side", module],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(("module", "name"), checks(), ids=[name for _, name in checks()])
def test_checked(module: str, name: str) -> None:
    became = outcome(module)[name]
    if became.startswith("skipped"):
        pytest.skip(became)
    assert became == "passed", became


def test_there_are_checks() -> None:
    assert len(checks()) > 15
