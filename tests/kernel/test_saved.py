"""Saved workflows in a notebook: saved from a cell, launched by name, and what launches them by itself."""

from __future__ import annotations

from ropewalk_kernel.saved import workflows
from tests.kernel.conftest import Notebook
from tests.kernel.fake import FakePlatform

CELL = """
from ropewalk import step, workflow

@step
def double(x: int) -> int:
    return 2 * x

@workflow
def work(x: int = 21):
    return double(x)
"""


def test_a_workflow_is_saved_and_launched_with_another_value(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(CELL)
    said = notebook.run("work.save()")
    assert not notebook.errors and "workflow work is saved, version 1" in said
    assert "x" in said and "integer" in said and "21" in said
    notebook.run("run = work.save().launch(x=4)")
    assert platform.submitted[-1].arguments == {"x": 4} and platform.submitted[-1].saved == "work"
    assert platform.saved["work"].version == 2
    assert [one.name for one in workflows.list()] == ["work"] and "work" in repr(workflows)
    assert workflows["work"].arguments[0].name == "x" and "workflow.parameters.x" in workflows.get("work").manifest()
    assert [one.name for one in workflows.get("work").runs()] == ["work"]
    workflows.get("work").remove()
    assert "No saved workflows yet" in repr(workflows.list())


def test_words_of_triggers_are_no_arguments(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(CELL)
    said = notebook.run("job = work.save(every='0 2 * * *', zone='Europe/Athens', x=3)")
    assert not notebook.errors and "launched every 0 2 * * *, Europe/Athens" in said
    assert [one.spec.every for one in platform.called["work"]] == ["0 2 * * *"]
    assert platform.saved["work"].spec.arguments == () and platform.saved["work"].spec.run.arguments == {"x": 3}
    assert "0 2 * * *" in notebook.run("job.triggers()")
    said = notebook.run("job.add_trigger(after='workflow:other')")
    assert "workflow work is called after workflow:other" in said
    notebook.run("work.save()")
    assert len(platform.called["work"]) == 2, "what is not named stays"


def test_wrong_words_are_refused_before_anything_is_saved(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(CELL)
    for wrong in ("every='no'", "zone='Europe/Athens'", "speed=1", "after='Not A Name'"):
        notebook.run(f"work.save({wrong})")
        assert len(notebook.errors) == 1, wrong
    assert not platform.saved and not platform.called
