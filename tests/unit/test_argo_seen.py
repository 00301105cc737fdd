"""What is seen of runs on Argo: workflows as a real cluster had them, once they had ended, and cut off earlier.

``tests/unit/argo`` holds their objects without what nobody reads.
"""

from __future__ import annotations

import base64
import copy
import gzip
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import Unavailable
from ropewalk_core.flows import RunSpec, Step
from ropewalk_core.model import State
from ropewalk_core.settings import Settings
from ropewalk_workflows.argo.nodes import hydrated, known
from ropewalk_workflows.argo.retrying import retried
from ropewalk_workflows.argo.seen import ELSEWHERE, Asked, Seen, artifacts, seen
from ropewalk_workflows.compile import from_object
from ropewalk_workflows.manifest import read
from ropewalk_workflows.manifest.images import AnyImage

HERE = Path(__file__).parent / "argo"
EXAMPLES = Path(__file__).parents[2] / "workflows" / "examples"


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    return found


def spec_of(name: str) -> RunSpec:
    if name == "argo_steps":
        return from_object((EXAMPLES / "argo_steps.yaml").read_text())
    module = importlib.import_module(f"examples.{name}")
    return from_object(module.EXAMPLE, **module.ARGUMENTS)


def look(name: str, there: dict[str, Any], **more: Any) -> Seen:
    spec = spec_of(name)
    asked = Asked("ada", "run-0", spec, read(spec.manifest, AnyImage()), **more)
    has = known(there, asked.manifest, "run-0")
    files = {step: artifacts(leaf) for step, leaf in has.leaves.items() if leaf.phase == "Succeeded"}
    return seen(asked, there, has, files, Settings(), 1e9)


def steps(found: Seen) -> dict[str, Step]:
    return {step.name: step for step, _ in found.steps}


def node(there: dict[str, Any], shown: str) -> dict[str, Any]:
    return next(one for one in there["status"]["nodes"].values() if one["displayName"] == shown)


def test_a_fan_out_and_its_join() -> None:
    found = look("fan_out", recorded("fan_out"))
    assert found.status.state is State.DONE
    assert found.outputs["result"]["json"] == "2.0" and len(found.outputs["result"]["digest"]) == 64
    named = steps(found)
    assert set(named) == {"best", "fit(0)", "fit(1)", "fit(2)", "fit(3)"}
    assert named["best"].needs == ("fit-0", "fit-1", "fit-2", "fit-3")
    assert all(one.status.state is State.DONE and one.attempt == 1 for one in named.values())
    assert named["fit(0)"].artifacts[0].media_type == "application/x-python-pickle"


def test_groups_a_condition_a_loop_and_an_exit_handler() -> None:
    found = look("argo_steps", recorded("argo_steps"))
    states = {name: (one.kind, one.status.state, one.status.note) for name, one in steps(found).items()}
    done = ("step", State.DONE, "")
    assert states == {
        "toss": done,
        "won": done,
        "lost": ("step", State.DONE, "skipped"),
        "count": ("group", State.DONE, ""),
        **{f"count({n})": done for n in range(3)},
        "onExit": done,
    }


def test_a_step_that_was_tried_three_times() -> None:
    found = look("retry", recorded("retry_failed"), earlier={"flaky": 2})
    [flaky] = steps(found).values()
    assert (flaky.status.state, flaky.attempt) == (State.FAILED, 5)
    assert flaky.error == "ConnectionError: no luck at try 2"
    assert "raise ConnectionError" in flaky.traceback
    assert found.status.why is not None and found.status.why.cause.startswith("The step flaky failed: ConnectionError")


def test_the_exit_code_is_that_of_the_last_attempt() -> None:
    there = recorded("retry_failed")
    codes = {step.name: fact.code for step, fact in look("retry", there).steps}
    assert set(codes.values()) == {1}
    tries = [one for one in there["status"]["nodes"].values() if (one.get("nodeFlag") or {}).get("retried")]
    max(tries, key=lambda one: one["startedAt"])["outputs"]["exitCode"] = "3"
    assert 3 in {fact.code for _, fact in look("retry", there).steps}
    for one in tries:
        one["outputs"]["exitCode"] = "many"
    assert {fact.code for _, fact in look("retry", there).steps} == {0}


def test_a_step_between_two_attempts_waits_and_says_why() -> None:
    there = recorded("retry_failed")
    there["status"]["phase"] = "Running"
    retries = node(there, "flaky")
    retries["phase"] = "Running"
    gone = retries["children"].pop()
    del there["status"]["nodes"][gone]
    found = look("retry", there)
    [flaky] = steps(found).values()
    assert (found.status.state, flaky.status.state, flaky.attempt) == (State.RUNNING, State.WAITING, 2)
    assert flaky.status.why is not None and flaky.status.why.cause.startswith("Attempt 2 failed: ")


def test_what_follows_a_failure_is_left_out() -> None:
    found = look("dynamic", recorded("dynamic_failed"))
    named = steps(found)
    assert found.status.state is State.FAILED
    assert named["together"].status.note == "omitted"
    assert named["count"].status.state is State.FAILED and named["words"].status.state is State.DONE


@pytest.mark.parametrize(
    ("phase", "message", "state", "cause"),
    [
        ("Pending", "", State.STARTING, None),
        ("Pending", "PodInitializing", State.STARTING, None),
        (
            "Pending",
            "Unschedulable: 0/2 nodes are available: 2 Insufficient cpu.",
            State.WAITING,
            "It waits for a machine with enough free cores",
        ),
        (
            "Pending",
            'ImagePullBackOff: Back-off pulling image "nobody/none:1"',
            State.STARTING,
            "The image 'nobody/none:1' could not be fetched",
        ),
        ("Running", "", State.RUNNING, None),
    ],
)
def test_a_step_on_its_way(phase: str, message: str, state: State, cause: str | None) -> None:
    there = recorded("fan_out")
    there["status"]["phase"] = "Running"
    best = node(there, "best")
    best |= {"phase": phase, "message": message, "outputs": None, "finishedAt": None}
    found = look("fan_out", there)
    status = steps(found)["best"].status
    assert (found.status.state, status.state) == (State.RUNNING, state)
    assert (status.why is None) == (cause is None)
    assert status.why is None or status.why.cause.startswith(str(cause))


def test_what_has_not_begun_waits_for_what_it_needs() -> None:
    there = recorded("fan_out")
    there["status"]["phase"] = "Running"
    del there["status"]["nodes"][node(there, "best")["id"]]
    node(there, "fit-0")["phase"] = "Running"
    status = steps(look("fan_out", there))["best"].status
    assert status.state is State.WAITING and status.why is not None and status.why.cause == "Waits for fit(0)."


@pytest.mark.parametrize(("cancel", "why"), [(True, None), (False, ELSEWHERE)])
def test_a_workflow_that_was_stopped(cancel: bool, why: str | None) -> None:
    there = recorded("fan_out")
    there["status"] |= {"phase": "Failed", "message": "Stopped with strategy 'Terminate'"}
    there["spec"]["shutdown"] = "Terminate"
    node(there, "best").update(phase="Failed", message="workflow shutdown with strategy: Terminate", outputs=None)
    found = look("fan_out", there, cancel=cancel)
    assert found.status.state is State.STOPPED
    assert (found.status.why.cause if found.status.why else None) == why
    named = steps(found)
    assert named["best"].status.state is State.STOPPED and named["fit(0)"].status.state is State.DONE


@pytest.mark.parametrize(
    ("message", "code", "error"),
    [
        ("OOMKilled (exit code 137)", "RW-OUT-OF-MEMORY", "It needed more memory than its limit of 1Gi."),
        ("Error (exit code 139)", "RW-USER-CODE", "Its process ended with exit code 139 before it returned anything."),
        ("Pod was active on the node longer than the specified deadline", "RW-TIMED-OUT", "It ran over its time"),
    ],
)
def test_a_step_that_could_not_say_how_it_failed(message: str, code: str, error: str) -> None:
    there = recorded("fan_out")
    there["status"]["phase"] = "Failed"
    node(there, "best").update(phase="Failed", message=message, outputs=None)
    best = steps(look("fan_out", there))["best"]
    assert best.error.startswith(error)
    assert best.status.why is not None and best.status.why.code == code


def test_a_workflow_that_argo_refuses() -> None:
    there = recorded("fan_out")
    there["status"] = {"phase": "Error", "message": "invalid spec: templates.main.tasks.fit-0 no such thing"}
    found = look("fan_out", there)
    assert found.status.state is State.FAILED
    assert found.status.why is not None and found.status.why.cause.startswith("invalid spec")
    assert all(one.status.state.terminal for one in steps(found).values())


def test_what_a_step_that_failed_left_beside_its_result_is_kept() -> None:
    there = recorded("fan_out")
    there["status"]["phase"] = "Failed"
    page = {"digest": "cd" * 32, "size": 3, "media_type": "text/html", "type": "file", "preview": ""}
    told = {"ok": False, "error": "Cell 1 of 2 failed: E", "traceback": "its own", "artifacts": {"page": page}}
    best = node(there, "best")
    best |= {"phase": "Failed", "message": "Error (exit code 1)"}
    best["outputs"] = {
        "artifacts": [{"name": "page", "s3": {"key": "run-0/best/page"}}],
        "parameters": [{"name": "ropewalk-facts", "value": json.dumps(told)}],
        "exitCode": "1",
    }
    spec = spec_of("fan_out")
    asked = Asked("ada", "run-0", spec, read(spec.manifest, AnyImage()))
    has = known(there, asked.manifest, "run-0")
    files = {step: artifacts(leaf) for step, leaf in has.leaves.items()}
    failed = steps(seen(asked, there, has, files, Settings(), 1e9))["best"]
    assert (failed.error, failed.traceback) == (told["error"], "its own")
    assert [(one.name, one.digest) for one in failed.artifacts] == [("page", "cd" * 32)]
    assert has.leaves["best"].files() == {"page": "run-0/best/page"}


@pytest.mark.parametrize("told", ["{", "[]", '{"artifacts": {"result": {"digest": 7}}}', '{"peak_memory": "much"}'])
def test_what_a_step_tells_is_believed_in_its_form_only(told: str) -> None:
    there = recorded("fan_out")
    for one in there["status"]["nodes"].values():
        for parameter in (one.get("outputs") or {}).get("parameters") or ():
            parameter["value"] = told
    found = look("fan_out", there)
    assert found.status.state is State.DONE and steps(found)["best"].artifacts == ()


def test_many_nodes_come_packed() -> None:
    there = recorded("argo_steps")
    nodes = there["status"].pop("nodes")
    there["status"]["compressedNodes"] = base64.b64encode(gzip.compress(json.dumps(nodes).encode())).decode()
    assert hydrated(there) == nodes
    there["status"]["compressedNodes"] = "AAAA"
    with pytest.raises(Unavailable):
        hydrated(there)


# Trying again


def test_a_retry_runs_what_failed_and_what_follows_it() -> None:
    there = recorded("dynamic_failed")
    before = copy.deepcopy(there)
    patch, pods = retried(there, 2, "2026-11-21T18:00:00Z")
    assert there == before
    nodes = before["status"]["nodes"]
    changed = patch["status"]["nodes"]
    gone = {nodes[one]["displayName"].partition("(")[0] for one, body in changed.items() if body is None}
    assert gone == {"count", "together"}
    assert len(pods) == 3
    running = {body["displayName"] for body in changed.values() if body is not None and body["phase"] == "Running"}
    assert running == {"run-0", "count"}
    words = node(before, "words")
    assert changed.get(words["id"]) is None and words["id"] not in changed
    group = changed[node(before, "count")["id"]]
    assert group["children"] == []
    assert patch["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert patch["metadata"]["annotations"] == {"ropewalk.dev/generation": "2"}
    assert patch["spec"] == {"shutdown": None, "suspend": None} and patch["status"]["phase"] == "Running"


def test_a_retry_of_a_step_with_attempts_begins_them_anew() -> None:
    there = recorded("retry_failed")
    patch, pods = retried(there, 3, "2026-11-21T18:00:00Z")
    tries = node(there, "flaky")["children"]
    assert sorted(pods) == sorted(tries)
    assert all(patch["status"]["nodes"][one] is None for one in tries)
    again = patch["status"]["nodes"][node(there, "flaky")["id"]]
    assert again["phase"] == "Running" and again["children"] == []


def test_a_retry_of_many_nodes_leaves_them_packed() -> None:
    there = recorded("dynamic_failed")
    plain, pods = retried(copy.deepcopy(there), 2, "2026-11-21T18:00:00Z")
    nodes = there["status"].pop("nodes")
    there["status"]["compressedNodes"] = base64.b64encode(gzip.compress(json.dumps(nodes).encode())).decode()
    patch, the_same = retried(there, 2, "2026-11-21T18:00:00Z")
    assert the_same == pods and "nodes" not in patch["status"]
    changed = plain["status"]["nodes"]
    whole = {name: changed.get(name, one) for name, one in nodes.items()}
    assert hydrated({"status": patch["status"]}) == {name: one for name, one in whole.items() if one is not None}
