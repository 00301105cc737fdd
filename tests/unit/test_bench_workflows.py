"""The bench of workflows names every row that was promised, and runs its parts."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import flows
from bench.command import sizes_of
from bench.flows import ALL, MEASURES, PARTS, SMOKE, Sizes, floor_of
from bench.scratch import CHECKOUT
from bench.workflows import parser

PROMISED = [
    ("100-step chain, full sandbox, per step", "<= 2.5"),
    ("100-wide fan-out, full sandbox, per step", "<= 2.5"),
    ("10,000-wide fan-out, per step", "<= 1.3"),
    ("memory of the engine, 10,000-wide fan-out", "<= 200"),
    ("a step with numpy, pandas and scikit-learn, per step", "<= 5"),
    ("two steps, an array of 100,000,000 bytes between them", "<= 1.5"),
    ("two steps, an array of 1,000,000 bytes, beyond a number", "<= 3"),
    ("submit to first step running", "<= 20"),
    ("submit to first step running, the first ever", None),
    ("1,000 steps that take earlier results, per step", "<= 0.3"),
    ("list of 10,000 runs, one page", "<= 100"),
    ("a run of 5,000 steps, its answer", "<= 1000"),
]


def test_every_promise_is_a_row_with_its_target() -> None:
    assert [(one.alone(Sizes(), [1.0]).name, one.target) for one in ALL] == PROMISED
    assert tuple(MEASURES) == PARTS
    made = {one.id for one in ast.walk(ast.parse(inspect.getsource(flows))) if isinstance(one, ast.Name)}
    assert {name for name, value in vars(flows).items() if value in ALL} <= made


def test_the_page_of_figures_has_every_row_and_target() -> None:
    text = (CHECKOUT / "docs" / "benchmarks.md").read_text()
    for name, target in PROMISED:
        assert any((target or "") in line for line in text.splitlines() if line.startswith(f"| {name} |")), name


def test_a_run_can_be_made_smaller() -> None:
    assert sizes_of(parser().parse_args(["--smoke", "--steps", "7"]), Sizes(), SMOKE) == Sizes(
        **{**vars(SMOKE), "steps": 7}
    )
    assert sizes_of(parser().parse_args([]), Sizes(), SMOKE) == Sizes()


@pytest.mark.parametrize("wide", [True, False])
def test_the_floor_writes_each_row_and_leaves_nothing(wide: bool, tmp_path: Path) -> None:
    assert asyncio.run(floor_of(tmp_path, 5, wide=wide)) > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.bench
@pytest.mark.timeout(400)
@pytest.mark.parametrize("part", PARTS)
def test_each_part_runs(part: str) -> None:
    argv = [sys.executable, "-m", "bench.workflows", "--json", "--smoke", "--only", part]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {one["name"] for one in json.loads(done.stdout)["rows"]}
    assert {one.alone(SMOKE, [1.0]).name for one in ALL if one.part == part} <= rows
