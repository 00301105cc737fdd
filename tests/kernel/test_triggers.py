"""Triggers in a notebook: options of a cell, a table, and what is refused before anything is deployed."""

from __future__ import annotations

import pytest

from ropewalk_core.errors import BadInput
from ropewalk_core.model import State
from ropewalk_kernel.functions import functions
from tests.kernel.conftest import Notebook
from tests.kernel.fake import FakePlatform

BODY = "def double(x: int) -> int:\n    return 2 * x\n"


def test_a_cell_says_when_it_is_called(platform: FakePlatform, notebook: Notebook) -> None:
    said = notebook.run(f'%%function --every "0 2 * * mon-fri" --zone Europe/Athens --every @hourly\n{BODY}')
    assert not notebook.errors
    assert "called every 0 2 * * mon-fri, Europe/Athens and every @hourly, Europe/Athens" in said
    assert [one.spec.every for one in platform.called["double"]] == ["0 2 * * mon-fri", "@hourly"]
    kept = [one.id for one in platform.called["double"]]
    notebook.run(f"%%function --every '0 2 * * mon-fri' --zone Europe/Athens --on-file inbox/*.csv --existing\n{BODY}")
    assert [one.id for one in platform.called["double"]][:1] == kept[:1]
    assert platform.called["double"][1].spec.on_file == "inbox/*.csv" and platform.called["double"][1].spec.existing
    notebook.run(f"%%function\n{BODY}")
    assert len(platform.called["double"]) == 2  # what is not named stays
    notebook.run(f"import ropewalk\n@ropewalk.function(triggers=[])\n{BODY}")
    assert platform.called["double"] == []


def test_a_decorator_takes_the_same_words(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(
        "import ropewalk\n"
        "@ropewalk.function(triggers=[{'every': '@daily'}, {'after': 'clean', 'when': 'always'}], on_file='inbox/')\n"
        f"{BODY}"
    )
    assert not notebook.errors
    assert [one.spec.word for one in platform.called["double"]] == ["every", "after", "on_file"]
    assert platform.called["double"][1].spec.after == "function:clean"


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("--every 'no'", "every"),
        ("--zone Europe/Athens", "zone"),
        ("--every @daily --when always", "when"),
        ("--after 'Not A Name'", "after"),
        ("--on-file ../x", "on_file"),
    ],
)
def test_wrong_words_deploy_nothing(platform: FakePlatform, notebook: Notebook, line: str, field: str) -> None:
    notebook.run(f"%%function {line}\n{BODY}")
    [said] = notebook.errors
    assert f"Where: {field}" in said and "Next: " in said and not platform.functions


def test_a_handle_adds_pauses_fires_and_removes(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(f"%%function\n{BODY}")
    double = functions.get("double")
    assert "No triggers" in repr(double.triggers())
    said = notebook.run("one = double.add_trigger(every='@daily')")
    one = notebook.value("one")
    assert f"is called every @daily, UTC; trigger {one.id}" in said
    assert one.id in notebook.run("double.triggers()") and [each.id for each in double.triggers()] == [one.id]
    assert double.triggers()[0].id == one.id
    notebook.run("double.pause_trigger(one.id)")
    assert "paused" in repr(double.triggers())
    notebook.run("double.resume_trigger(one.id)")
    assert "waits" in repr(double.triggers())
    call = double.fire_trigger(one.id)
    assert call.state is State.WAITING and call.result() == 42
    assert "is removed" in notebook.run("double.remove_trigger(one.id)") and len(double.triggers()) == 0
    for wrong in ({}, {"every": "@daily", "after": "clean"}, {"every": "x" * 201}):
        with pytest.raises(BadInput):
            double.add_trigger(**wrong)


@pytest.mark.parametrize("wrong", [7, "@daily", [7], {"every": 7}, {"nonsense": 1}])
def test_what_is_no_list_of_triggers_is_refused(platform: FakePlatform, wrong: object) -> None:
    with pytest.raises(BadInput):
        functions.deploy(lambda: 1, "x", triggers=wrong)
    assert not platform.functions
