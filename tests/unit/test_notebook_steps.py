"""Notebooks as steps: their parameters, results and failures; what is kept of them; that no value ever becomes code."""

from __future__ import annotations

import ast
import asyncio
import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ropewalk
from ropewalk import notebook, step, workflow
from ropewalk_core.errors import BadCode, BadWorkflow
from ropewalk_core.flows import Run
from ropewalk_core.model import State
from ropewalk_runtime import beside, cells, hidden, notebooks, values
from ropewalk_runtime import step as running
from ropewalk_workflows import copies
from tests.workflow_rig import ALICE, Rig

TOLD = "print('told', rate, label)"
FAILS = "if rate > 1:\n    raise ValueError('too much')"
GIVES = "import ropewalk\nropewalk.result({'rate': rate, 'rows': len(rows)})"
HOSTILE = ["'; import os; os.abort() #", "\n!kill -9 $PPID", "%%bash\nexit 1", "{{x}}", "\\", '"""', "a\0b", "\u202e"]


def written(
    folder: Path, *sources: str, tagged: str = "rate = 0.5\nlabel = 'x'\nrows: list = []", **facts: Any
) -> Path:
    """Write a notebook with a cell of parameters before the others."""
    first = [nbformat.v4.new_code_cell(tagged, metadata={"tags": ["parameters"]})] if tagged else []
    rest = [nbformat.v4.new_code_cell(one) for one in sources]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A report"), *first, *rest], metadata=facts)
    path = folder / "report.ipynb"
    path.write_text(nbformat.writes(made))
    return path


def test_it_takes_parameters_and_gives_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = notebook(written(tmp_path, TOLD, "", GIVES))
    assert repr(report) == "<step report(*, rate=0.5, label='x', rows=[])>"
    assert report(rate=0.25, label=HOSTILE[1], rows=(1, 2)) == {"rate": 0.25, "rows": 2}
    said = capsys.readouterr().out
    assert "Cell 1 of 3\n" in said and f"told 0.25 {HOSTILE[1]}\n" in said and "Cell 3 of 3\n" in said


def test_a_failed_cell_is_told_with_its_number_and_its_own_traceback(tmp_path: Path) -> None:
    report = notebook(written(tmp_path, TOLD, FAILS, GIVES))
    with pytest.raises(cells.CellFailed) as caught:
        report(rate=2)
    assert str(caught.value) == "Cell 3 of 4 failed: ValueError: too much"
    assert "Cell In[3], line 2" in caught.value.told["traceback"] and "\x1b" not in caught.value.told["traceback"]


def test_a_kernel_that_ends_is_told(tmp_path: Path) -> None:
    with pytest.raises(cells.CellFailed, match="Cell 1 of 1 failed: its kernel ended"):
        notebook(written(tmp_path, "import os\nos._exit(3)", tagged=""))()


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=8,
    )
)
def test_a_literal_is_exactly_its_value_and_one_line(value: Any) -> None:
    text = notebooks.literal(value)
    if not text:
        return
    assert len(text.splitlines()) == 1 and values.text_of(ast.literal_eval(text)) == values.text_of(value)
    [assigned] = ast.parse(f"name = {text}").body
    assert isinstance(assigned, ast.Assign)


def test_hostile_texts_stay_literals() -> None:
    for text in HOSTILE:
        assert ast.literal_eval(notebooks.literal(text)) == text
    assert not notebooks.literal(float("nan")) and not notebooks.literal("x" * 3000) and not notebooks.literal(object())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no json", "is no notebook"),
        ("[]", "fourth version"),
        ('{"nbformat": 3, "worksheets": []}', "fourth version"),
        ('{"nbformat": 4, "cells": [], "metadata": {"language_info": {"name": "R"}}}', "notebook of R"),
        ('{"nbformat": 4, "cells": [{"cell_type": 3, "source": []}]}', "cell 1"),
        (
            '{"nbformat": 4, "cells": [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "%x"}]}',
            "cannot be read: line 1",
        ),
    ],
)
def test_what_is_no_notebook_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(content)
    with pytest.raises(BadWorkflow, match=said) as caught:
        notebook(path)
    assert caught.value.field == "path"


def test_what_is_not_there_and_what_is_no_parameter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadWorkflow, match="cannot be read: No such file"):
        notebook(tmp_path / "none.ipynb")
    plain = notebook(written(tmp_path, TOLD, tagged=""))

    @workflow
    def flow() -> Any:
        return plain(rate=1)

    with pytest.raises(BadWorkflow, match="unexpected keyword argument 'rate'") as caught:
        flow.spec()
    assert "Tag the cell" in (caught.value.hint or "")


def test_what_travels_is_what_cells_say(tmp_path: Path) -> None:
    first = notebook(written(tmp_path, TOLD))
    path = tmp_path / "report.ipynb"
    kept = nbformat.read(path, as_version=4)
    kept.cells[-1].outputs = [nbformat.v4.new_output("stream", text="a secret that was printed")]
    kept.cells[-1].execution_count = 7
    path.write_text(nbformat.writes(kept))
    second = notebook(path)
    assert first.made is not None and second.made is not None
    assert first.made.bundle.digest == second.made.bundle.digest
    assert "a secret" not in second.made.bundle.files["report.ipynb"]
    nbformat.validate(nbformat.reads(second.made.bundle.files["report.ipynb"], as_version=4))
    with pytest.raises(BadCode, match="private key"):
        notebook(written(tmp_path, "x = '''-----BEGIN PRIVATE KEY-----'''"))


def test_secrets_are_in_no_output_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "correct horse")
    hidden.know(["A_KEY"])
    beside.begin()
    try:
        notebook(written(tmp_path, "import os\nprint(os.environ['A_KEY'])\nos.environ['A_KEY']", tagged=""))()
        kept = {name: content.decode() for name, (content, _) in beside._left.items()}
    finally:
        hidden.know([])
        beside.kept(tmp_path)
    assert set(kept) == {"notebook", "page"} and not any("correct horse" in one for one in kept.values())
    assert "***" in kept["notebook"]


def test_a_result_in_a_notebook_of_ones_own_is_its_value() -> None:
    value = [1]
    assert ropewalk.result(value) is value


@step
def rows() -> list[int]:
    return [1, 2, 3]


async def ran(rig: Rig, flow: Any) -> Run:
    spec = flow.spec().model_copy(update={"folder": ""})
    return await rig.wait((await rig.submit(spec)).id, seconds=50)


async def read(rig: Rig, run: Run, name: str, file: str) -> str:
    one = next(each for each in run.steps if each.name == name)
    digest = next(each.digest for each in one.artifacts if each.name == file)
    content = await rig.workflows.artifact(ALICE, "alice", run.id, digest)
    return b"".join([chunk async for chunk in content]).decode()


async def test_it_is_a_step_like_others_and_its_notebook_is_kept(tmp_path: Path) -> None:
    report = notebook(written(tmp_path, TOLD, "'<script>alert(1)</script>'", FAILS, GIVES))

    @workflow
    def good() -> Any:
        return report(rows=rows(), label="it's")

    @workflow
    def bad() -> Any:
        return report(rate=3)

    rig = Rig(tmp_path / "home")
    rig.start()
    try:
        run = await ran(rig, good)
        assert run.status.state == State.DONE and rig.result(run) == {"rate": 0.5, "rows": 3}
        done = nbformat.reads(await read(rig, run, "report", "notebook"), as_version=4)
        nbformat.validate(done)
        assert "rows = [1, 2, 3]" in done.cells[2].source and done.cells[3].outputs[0].text == "told 0.5 it's\n"
        page = await read(rig, run, "report", "page")
        assert "told 0.5" in page and "default-src &#x27;none&#x27;" in page
        run = await ran(rig, bad)
        failed = next(one for one in run.steps if one.name == "report")
        assert run.status.state == State.FAILED and failed.error == "Cell 4 of 5 failed: ValueError: too much"
        assert "raise ValueError('too much')" in failed.traceback and "ropewalk_runtime" not in failed.traceback
        done = nbformat.reads(await read(rig, run, "report", "notebook"), as_version=4)
        assert done.cells[-2].outputs[0].ename == "ValueError" and not done.cells[-1].outputs
    finally:
        await rig.close()


async def test_a_limit_ends_the_kernel_too(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    source = f"import os, pathlib, time\npathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\ntime.sleep(600)"
    slow = notebook(written(tmp_path, source, tagged=""), name="slow", timeout=8)

    @workflow
    def flow() -> Any:
        return slow()

    rig = Rig(tmp_path / "home")
    rig.start()
    try:
        run = await ran(rig, flow)
        assert "longer than its limit" in next(one.error for one in run.steps if one.name == "slow")
    finally:
        await rig.close()
    if mark.exists():  # on a very busy machine the limit came before the kernel
        for _ in range(600):
            if not Path(f"/proc/{mark.read_text()}").exists():
                return
            await asyncio.sleep(0.1)
        pytest.fail("the kernel outlived its step")


def test_only_a_workflow_calls_a_notebook(tmp_path: Path) -> None:
    inner = notebook(written(tmp_path, TOLD))

    @step
    def outer() -> Any:
        return inner()

    @workflow
    def flow() -> Any:
        return outer()

    with pytest.raises(BadCode, match="only a workflow calls"):
        flow.spec()


def test_the_text_of_a_workflow_makes_the_notebook_again(tmp_path: Path) -> None:
    path = written(tmp_path, TOLD)
    again = notebook(path, name="again")

    @workflow
    def flow() -> Any:
        return again(rate=1)

    spec = flow.spec()
    assert f"again = notebook({str(path)!r}, name='again')" in copies.as_python(spec)
    template = next(one for one in spec.manifest["spec"]["templates"] if one["name"] == "again")
    assert [one["name"] for one in template["outputs"]["artifacts"]] == ["result", "notebook", "page"]


def test_an_attempt_that_fails_names_what_was_left(tmp_path: Path) -> None:
    beside.begin()
    beside.leave("notebook", b"{}", "application/x-ipynb+json")
    outputs = running._failure(cells.CellFailed("Cell 1 of 1 failed: E", "its traceback"))
    running._keep_beside(outputs, {"store": str(tmp_path)})
    assert outputs["traceback"] == "its traceback" and json.dumps(outputs)
    assert outputs["artifacts"]["notebook"]["size"] == 2 and not beside.expected()
