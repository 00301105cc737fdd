"""Runs, steps and the debugger."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from ropewalk_core import flows, sync
from ropewalk_core.errors import BadInput, NotFound, TimedOut, UserCodeFailed
from ropewalk_core.flows import Run, StepInputs
from ropewalk_core.model import Bundle, State, Status
from ropewalk_kernel.runs import RunHandle, runs
from ropewalk_kernel.steps import Artifact, StepGroup, StepHandle, Tail, _sound_file
from ropewalk_runtime import bundle, values
from tests.kernel.conftest import Notebook
from tests.kernel.fake import FakePlatform, step
from tests.kernel.test_bar import Terminal

WORKFLOW = """
from ropewalk import step, workflow

@step
def train(rate):
    return rate * 2

@step
def best(scores):
    return max(scores)

@workflow
def tune(rates):
    return best([train(rate) for rate in rates])
"""


def run_of(state: State, *steps: object, **facts: object) -> Run:
    return Run.model_validate(
        {"id": "run-0", "owner": "ada", "name": "tune", "status": Status(state=state), "steps": steps, **facts}
    )


def test_runs_are_compared_as_a_table_with_a_drawing(platform: FakePlatform, notebook: Notebook) -> None:
    for at in range(30):
        one = run_of(
            State.DONE, step("judge", State.DONE), arguments={"rate": at / 10, "<b>": "<i>"}, ended=2.0, created=1.0
        )
        result = {"result": {"accuracy": 1 - at / 100}}
        platform.runs[f"run-{at}"] = one.model_copy(update={"id": f"run-{at}", "outputs": result})
    found = runs.compare("tune")
    assert len(found) == 30 and found.columns == ["rate", "<b>", "accuracy", "seconds"]
    assert found["rate"][:2] == [2.9, 2.8] and found.sort("-accuracy").rows[0].run == "run-0"
    shown = found._repr_mimebundle_()
    assert "30 runs of tune" in shown["text/plain"] and "10 more runs" in shown["text/plain"]
    assert (
        shown["text/html"].count("<circle") == 30
        and 'aria-label="accuracy against rate, 30 runs"' in shown["text/html"]
    )
    assert "<i>" not in shown["text/html"] and "&lt;i&gt;" in shown["text/html"]
    drawn = found.plot(y="seconds")
    assert "seconds against rate" in drawn.html and "run-7" in drawn.text
    with pytest.raises(NotFound, match="no column 'other'"):
        found.plot("other")
    with pytest.raises(NotFound, match="no column 'other'"):
        found["other"]
    with pytest.raises(BadInput, match="No run has both"):
        found.plot("rate", "<b>")
    with pytest.raises(NotFound):
        runs.compare("nothing")
    with pytest.raises(BadInput, match="steps is one text") as caught:
        runs.compare("tune", steps="judge")
    assert 'steps=["judge"]' in caught.value.hint


def test_a_workflow_is_submitted_and_its_card_stays(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(WORKFLOW)
    three = [step(f"train-{n}", State.DONE, template="train") for n in range(3)]
    platform.logs["train-0"] = ["epoch 1", "epoch 2"]
    platform.scripts["run-0"] = [
        run_of(State.RUNNING, *[step(f"train-{n}", State.RUNNING, template="train") for n in range(3)]),
        run_of(State.DONE, *three, step("best", State.DONE, *[one.id for one in three])),
    ]
    said = notebook.run("run = tune.submit([1, 2, 3]).wait()")
    assert notebook.errors == []
    assert "run run-0 of tune: submitted" in said
    assert platform.submitted[0].arguments == {"rates": [1, 2, 3]}
    last = notebook.updates[-1]
    assert "✓ done, 4 of 4 steps" in last["text/plain"]
    assert "train x 3" in last["text/plain"]
    assert "train-0 | epoch 2" in last["text/plain"]
    assert "<svg" in last["text/html"]
    assert "<script" not in last["text/html"]


def test_the_same_submit_again_is_unchanged(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(WORKFLOW)
    notebook.run("tune.submit([1])")
    said = notebook.run("tune.submit([1])")
    assert "run run-0 of tune: unchanged" in said
    assert "Files that steps read are not compared" in said and "fresh=True" in said
    assert "run run-1 of tune: submitted" in notebook.run("tune.submit([1], fresh=True)")


def test_argo_yaml_and_hera_are_submitted_too(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(
        "import ropewalk\n"
        "run = ropewalk.submit('''\napiVersion: argoproj.io/v1alpha1\nkind: Workflow\n"
        "metadata: {generateName: hello-}\n"
        "spec: {entrypoint: a, templates: [{name: a, container: {image: alpine, command: [echo, hi]}}]}\n''')"
    )
    assert notebook.errors == []
    assert platform.submitted[0].name == "hello"
    assert platform.submitted[0].source == "argo"


def test_results_come_back_as_python_values(platform: FakePlatform) -> None:
    kept = platform.keep("result", {"rate": 0.1, "where": {1, 2}})
    other = platform.keep("result", [1, 2])
    made = {"result": kept.model_dump(mode="json")}
    last = step("saved", State.DONE, "best", artifacts=(other,))
    platform.runs["run-0"] = run_of(State.DONE, step("best", State.DONE, artifacts=(kept,)), last, outputs=made)
    run = runs.last()
    found = run["best"]
    assert isinstance(found, StepHandle)
    assert found.result == {"rate": 0.1, "where": {1, 2}}
    assert run.artifact("best").value() == found.result
    assert asyncio.run(_awaited(run)) == found.result
    for shape, wanted in (
        ([made["result"], other.model_dump(mode="json")], [found.result, [1, 2]]),
        ({"first": other.model_dump(mode="json")}, {"first": [1, 2]}),
    ):
        outputs = {"result": shape}
        platform.runs["run-0"] = platform.runs["run-0"].model_copy(update={"outputs": outputs})
        assert runs.last().result() == wanted
    platform.runs["run-0"] = platform.runs["run-0"].model_copy(update={"outputs": {}})
    assert runs.last().result() is None
    platform.runs["run-0"] = platform.runs["run-0"].model_copy(update={"source": "argo"})
    assert runs.last().result() == [1, 2]
    with pytest.raises(NotFound, match="no artifact 'model'"):
        run.artifact("model")


async def _awaited(run: RunHandle) -> object:
    return await run


def test_a_result_on_this_machine_is_read_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = tmp_path / "home" / "accounts" / "ada"
    monkeypatch.setenv("HOME", str(account / "files"))
    saved = values.save((1, "two"), account / "artifacts")
    one = Artifact("run-0", flows.Artifact(name="result", digest=saved.digest, size=saved.size))
    assert one.value() == (1, "two"), "no platform was asked: there is none"
    path = account / "artifacts" / saved.digest[:2] / saved.digest
    path.write_bytes(path.read_bytes() + b" ")
    assert _sound_file(saved.digest) is None, "somebody changed it"
    assert _sound_file("../../x") is None


def test_a_large_result_is_kept_in_a_file_and_mapped(platform: FakePlatform) -> None:
    large = bytes(3 * 2**20)
    platform.runs["run-0"] = run_of(
        State.DONE, step("best", State.DONE, artifacts=(platform.keep("result", (1, large)),))
    )
    assert runs.get("run-0").artifact("best.result").value() == (1, large)


def test_an_artifact_is_saved_whole(platform: FakePlatform, tmp_path: Path) -> None:
    kept = platform.keep("result", [1, 2])
    platform.runs["run-0"] = run_of(State.DONE, step("best", State.DONE, artifacts=(kept,)))
    path = runs.get("run-0").artifact("best.result").save(tmp_path / "best.json")
    assert json.loads(path.read_text()) == [1, 2]
    assert list(tmp_path.iterdir()) == [path]


def test_a_fan_out_is_one_name(platform: FakePlatform) -> None:
    steps = [
        step(f"train-{n}", State.DONE, template="train", artifacts=(platform.keep("result", n),)) for n in range(3)
    ]
    platform.runs["run-0"] = run_of(State.DONE, *steps)
    platform.logs["train-1"] = ["hello"]
    run = runs.get("run-0")
    group = run["train"]
    assert isinstance(group, StepGroup)
    assert group.result == [0, 1, 2]
    assert group.logs() == "train-1 | hello"
    assert run.logs() == "train-1 | hello"
    with pytest.raises(NotFound, match="no step 'test'") as caught:
        run["test"]
    assert "train-0" in caught.value.hint


def test_a_failure_shows_the_steps_own_traceback(platform: FakePlatform, notebook: Notebook) -> None:
    trace = 'Traceback (most recent call last):\n  File "cell [3]", line 4, in train\nValueError: <b>no</b>\n'
    failed = step("train", State.FAILED, error="ValueError: <b>no</b>", traceback=trace)
    platform.runs["run-0"] = run_of(State.FAILED, failed)
    notebook.run("import ropewalk\nrun = ropewalk.runs.last()\nrun.result()")
    text = notebook.errors[0]
    own, ours = text.index("run.result()"), text.index("RW-USER-CODE")
    assert own < text.index('File "cell [3]", line 4') < ours
    assert 'import ropewalk; ropewalk.runs.get("run-0")["train"].debug()' in text
    assert "ropewalk_kernel" not in text
    notebook.run("run")
    [shown] = notebook.updates
    assert "<b>no" not in shown["text/html"]
    assert "&lt;b&gt;no" in shown["text/html"]


def test_waiting_has_an_end(platform: FakePlatform) -> None:
    platform.runs["run-0"] = run_of(State.RUNNING)
    with pytest.raises(TimedOut, match="did not end within"):
        runs.get("run-0").wait(timeout=0.1)
    platform.runs["run-0"] = run_of(State.STOPPED)
    with pytest.raises(UserCodeFailed, match="was stopped"):
        runs.get("run-0").result()


def test_a_terminal_sees_how_far_it_is(platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    platform.runs["run-0"] = run_of(State.RUNNING, step("load", State.DONE), step("train", State.RUNNING))
    with pytest.raises(TimedOut):
        runs.get("run-0").wait(timeout=0.1)
    assert terminal.getvalue().startswith("\rtune: ▶ running, 1 of 2 steps") and terminal.getvalue().endswith("\n")
    platform.runs["run-0"] = run_of(State.DONE, step("load", State.DONE), step("train", State.DONE))
    runs.get("run-0").wait()
    assert "\rtune: ✓ done, 2 of 2 steps" in terminal.getvalue() and terminal.getvalue().count("\n") == 2


def test_waiting_goes_on_while_the_platform_is_away(platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    done = step("work", State.DONE, artifacts=(platform.keep("result", 7),))
    platform.runs["run-0"] = run_of(State.RUNNING)
    run = RunHandle(platform.runs["run-0"])
    platform.scripts["run-0"] = [run_of(State.RUNNING), run_of(State.DONE, done, source="manifest")]
    platform.away = {"/run-0": 4, "/digest-0": 4}
    assert run.result() == 7
    platform.away = {"/run-0": 1000}
    platform.runs["run-0"] = run_of(State.RUNNING)
    monkeypatch.setattr(sync, "ANSWER", 0.2)
    with pytest.raises(TimedOut):  # the time that was asked for is over before the platform's is
        RunHandle(platform.runs["run-0"]).wait(timeout=0.1)


def test_a_card_waits_for_no_log(platform: FakePlatform, notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "ANSWER", 0.2)
    platform.logs["work"] = ["epoch 1"]
    run, tail = run_of(State.DONE, step("work", State.DONE)), Tail("run-0")
    platform.away = {"/logs": 3}
    assert tail.lines(run) == []
    platform.away = {}
    assert tail.lines(run) == ["work | epoch 1"]


def test_debug_opens_the_step_with_its_own_inputs(
    platform: FakePlatform, notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = tmp_path / "accounts" / "ada"
    (account / "files").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(account / "files"))
    monkeypatch.setenv("ROPEWALK_ACCOUNT", "ada")
    source = "def train(rate, rows):\n    scaled = rate / len(rows)\n    return scaled\n"
    files = {"files": {"ropewalk_cells.py": source}, "entry": "ropewalk_cells:train", "digest": "d", "origin": {}}
    code = bundle.write(account / "runs" / "bundle", files)
    attempt = account / "runs" / "run-0" / "train" / "0"
    attempt.mkdir(parents=True)
    arguments = {"rate": {"json": "0.5"}, "rows": {"json": "[]"}}
    (attempt / "inputs.json").write_text(json.dumps({"bundle": str(code), "arguments": arguments}))
    platform.runs["run-0"] = run_of(State.FAILED, step("train", State.FAILED, error="ZeroDivisionError"))
    found = runs.last()["train"]
    assert isinstance(found, StepHandle)
    opened = found.debug()
    assert opened.inputs == {"rate": 0.5, "rows": []}
    assert isinstance(opened.exception, ZeroDivisionError)
    assert opened.locals == {"rate": 0.5, "rows": []}
    assert "scaled = rate / len(rows)" in opened.traceback
    assert "load_attempt" not in opened.traceback
    assert opened.again(rows=[1, 2]) == 0.25
    assert "rate = 0.5" in repr(opened)


def test_debug_asks_the_platform_where_the_machine_has_no_inputs(platform: FakePlatform, notebook: Notebook) -> None:
    source = "def train(rate, rows):\n    scaled = rate / len(rows)\n    return scaled\n"
    code = Bundle(files={"ropewalk_cells.py": source}, entry="ropewalk_cells:train", digest="d")
    rows, first = platform.keep("rows", []), platform.keep("first", (1,))
    arguments = {"rate": {"json": "0.5"}, "rows": {"list": []}}
    platform.inputs["train"] = StepInputs(bundle=code, arguments=arguments)
    platform.inputs["more"] = StepInputs(
        bundle=code, arguments={"rate": {"digest": rows.digest}, "rows": {"list": [{"digest": first.digest}]}}
    )
    platform.runs["run-0"] = run_of(State.FAILED, step("train", State.FAILED), step("more", State.FAILED))
    opened = runs.last()["train"].debug()
    assert opened.inputs == {"rate": 0.5, "rows": []}
    assert isinstance(opened.exception, ZeroDivisionError)
    assert opened.again(rows=[1, 2]) == 0.25
    assert runs.last()["more"].debug().inputs == {"rate": [], "rows": [(1,)]}


def test_a_result_says_what_it_comes_from(platform: FakePlatform, notebook: Notebook) -> None:
    rows = platform.keep("rows", [1, 2])
    made = step("load", State.DONE).model_copy(update={"artifacts": (rows,), "inputs": {"size": 2}})
    taken = step("train", State.DONE).model_copy(
        update={"needs": (made.id,), "inputs": {"rows": {"digest": rows.digest}, "rate": 0.5}}
    )
    platform.runs["run-0"] = run_of(State.DONE, made, taken)
    files = {"ropewalk_cells.py": "def train(rows, rate):\n    return rate\n"}
    code = Bundle(files=files, entry="ropewalk_cells:train", digest="d", origin={"ropewalk_cells.py": "cell [3]"})
    platform.inputs["train"] = StepInputs(bundle=code)
    found = runs.last()["train"]
    assert isinstance(found, StepHandle)
    lines = found.lineage().text.splitlines()
    assert [line.split()[0] for line in lines] == ["Step", "train", "load"]
    assert "rate=0.5" in lines[1] and lines[2].split()[1:3] == ["rows", "size=2"]
    assert "rate=0.5" in found.lineage().html
    assert runs.last().artifact("load").lineage().text.splitlines()[1].startswith("load")
    assert found.code == "# ropewalk_cells.py, cell [3]\ndef train(rows, rate):\n    return rate"


def test_debug_says_when_there_are_no_inputs(platform: FakePlatform, notebook: Notebook) -> None:
    platform.runs["run-0"] = run_of(State.FAILED, step("train", State.FAILED))
    found = runs.last()["train"]
    assert isinstance(found, StepHandle)
    with pytest.raises(NotFound, match="not on this machine"):
        found.debug()


def test_no_runs_teach(platform: FakePlatform, notebook: Notebook) -> None:
    assert "No runs yet" in notebook.run("%runs")
    with pytest.raises(NotFound, match="no run yet"):
        runs.last()


def test_every_running_step_has_its_turn_in_the_card_and_a_new_attempt_starts_over(platform: FakePlatform) -> None:
    names = [f"train-{n}" for n in range(6)]
    platform.logs.update({one: [f"{one} says so"] for one in names})
    run = run_of(State.RUNNING, *[step(one, State.RUNNING, attempt=1) for one in names])
    tail = Tail("run-0")
    tail.lines(run)
    seen = tail.lines(run)
    assert sorted(seen) == [f"{one} | {one} says so" for one in names]
    again = run_of(State.RUNNING, step("train-0", State.RUNNING, attempt=2))
    assert tail.lines(again) == [*seen, "train-0 | train-0 says so"]
    assert tail.lines(again) == [*seen, "train-0 | train-0 says so"]


def test_what_a_workflows_body_raises_shows_the_persons_lines_only(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run("import ropewalk\n@ropewalk.step\ndef train(x): return x\n")
    notebook.run("@ropewalk.workflow\ndef tune(x):\n    return train(x + 1)\n")
    notebook.run("tune.submit('a')")
    text = notebook.errors[0]
    assert text.index("tune.submit('a')") < text.index("return train(x + 1)") < text.index("RW-BAD-WORKFLOW")
    assert "Where: tune, line 3" in text
    assert "raised TypeError" in text
    assert "ropewalk_workflows" not in text
