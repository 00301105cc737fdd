"""Buttons beside a run's card: which there are, what they do, and that nobody is misled where there is no kernel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import Conflict
from ropewalk_core.flows import PAUSE, Run, RunSpec
from ropewalk_core.model import State, Status, Why
from ropewalk_kernel import actions
from ropewalk_kernel.runs import RunHandle
from tests.kernel.conftest import Notebook
from tests.kernel.fake import FakePlatform, step

MANIFEST = {"metadata": {"name": "a"}, "spec": {"templates": [{"name": "a", "container": {"image": "busybox"}}]}}


def run(state: State, note: str = "") -> Run:
    return Run(id="run-0", owner="ada", name="a", status=Status(state=state, note=note), steps=(step("s", state),))


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (run(State.RUNNING), ["suspend", "stop"]),
        (run(State.RUNNING, "suspended"), ["resume", "stop"]),
        (run(State.STOPPING), []),
        (run(State.FAILED), ["retry"]),
        (run(State.STOPPED), ["retry"]),
        (run(State.DONE), []),
    ],
)
def test_only_what_makes_sense_is_offered(one: Run, expected: list[str]) -> None:
    offered = actions.offered(one)
    assert [act["id"] for act in offered] == [*expected, "yaml", "hera", "python"]
    assert all(act["label"] and act.get("risk", False) is (act["id"] == "stop") for act in offered)


def test_a_run_at_a_pause_can_be_resumed() -> None:
    pause = step("approve", State.WAITING).model_copy(
        update={"status": Status(state=State.WAITING, why=Why(cause=PAUSE))}
    )
    for state, expected in ((State.RUNNING, ["resume", "suspend", "stop"]), (State.STOPPING, [])):
        one = run(state).model_copy(update={"steps": (pause,)})
        assert [act["id"] for act in actions.offered(one)][:-3] == expected


def test_a_refusal_is_said_and_a_greeting_is_answered() -> None:
    def refuse(name: str) -> actions.Answer:
        raise Conflict("The run has ended.", hint="Submit it again.")

    assert actions.act(refuse, "stop") == {"said": "The run has ended. Submit it again."}
    assert actions.act(refuse, "") == {"here": True}


def test_acts_do_what_the_handle_does(platform: FakePlatform, notebook: Notebook) -> None:
    platform.runs["run-0"] = run(State.DONE)
    platform.submitted.append(RunSpec(name="a", manifest=MANIFEST, source="argo"))
    handle = RunHandle(platform.runs["run-0"])
    copied = actions.act(handle._act, "yaml")
    assert copied["said"] == "Copied as Argo YAML." and "image: busybox" in copied["text"] == handle.as_yaml()
    assert actions.act(handle._act, "python") == {"said": "It was not made of Python.", "text": ""}
    assert "no such action" in actions.act(handle._act, "remove")["said"]


def test_without_a_kernel_there_are_no_buttons(notebook: Notebook) -> None:
    assert not actions.possible()


def test_the_widget_follows_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(actions, "_display", lambda bundle, raw: shown.append(bundle))
    buttons = actions.Buttons(run(State.RUNNING), lambda name: actions.Answer(name))
    buttons.show()
    assert shown[0]["text/plain"] == "" and shown[0][actions._VIEW]["model_id"]
    buttons.follow(run(State.FAILED))
    assert buttons._widget.acts[0]["id"] == "retry"


def test_the_script_loads_nothing_and_writes_text_only() -> None:
    script = Path(actions.__file__).with_suffix(".js").read_text()
    assert not re.search(r"innerHTML|insertAdjacentHTML|\bimport\b|https?:|eval\(", script)
