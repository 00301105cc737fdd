"""A retried run of the real engine: what belongs to a failed step runs again with it, what an attempt did is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ropewalk_core.model import State
from ropewalk_workflows.compile import from_object
from tests.workflow_rig import ALICE, Rig


def script(name: str, source: str) -> dict[str, Any]:
    return {"name": name, "script": {"image": "python", "command": ["python"], "source": source}}


async def test_what_belongs_to_a_failed_step_runs_again_with_it(rig: Rig, tmp_path: Path) -> None:
    note = f"open('{tmp_path}/{{}}', 'a').write('x')"
    steps = [
        [{"name": "a", "template": "fine", "onExit": "after"}],
        [{"name": "b", "template": "bad", "onExit": "sad"}],
    ]
    templates = [
        {"name": "main", "steps": steps},
        script("fine", "print(1)"),
        script("bad", f"open('{tmp_path}/there')"),
        *(script(name, note.format(name)) for name in ("after", "sad", "last")),
    ]
    spec = {"entrypoint": "main", "onExit": "last", "templates": templates}
    run = await rig.wait((await rig.submit(from_object({"kind": "Workflow", "spec": spec}))).id)
    assert run.status.state is State.FAILED
    (tmp_path / "there").touch()
    await rig.workflows.retry(ALICE, "alice", run.id)
    assert (await rig.wait(run.id)).status.state is State.DONE
    assert {name: (tmp_path / name).read_text() for name in ("after", "sad", "last")} == {
        "after": "x",
        "sad": "xx",
        "last": "xx",
    }


async def test_a_retried_run_goes_on_in_the_last_attempt_of_a_group(rig: Rig, tmp_path: Path) -> None:
    note = f"open('{tmp_path}/first', 'a').write('x')"
    group = {"name": "group", "retryStrategy": {"limit": "1"}}
    group["steps"] = [[{"name": "first", "template": "first"}], [{"name": "bad", "template": "bad"}]]
    main = {"name": "main", "steps": [[{"name": "g", "template": "group"}]]}
    templates = [main, group, script("first", note), script("bad", f"open('{tmp_path}/there')")]
    spec = {"entrypoint": "main", "templates": templates}
    run = await rig.wait((await rig.submit(from_object({"kind": "Workflow", "spec": spec}))).id)
    assert run.status.state is State.FAILED
    assert (tmp_path / "first").read_text() == "xx"
    (tmp_path / "there").touch()
    await rig.workflows.retry(ALICE, "alice", run.id)
    again = await rig.wait(run.id)
    assert again.status.state is State.DONE
    assert (tmp_path / "first").read_text() == "xx"
    assert {one.name: one.status.state for one in again.steps}["g(0).bad"] is State.FAILED
