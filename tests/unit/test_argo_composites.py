"""Composites that are tried again, as Argo has them: its nodes are read into our tree, and our tree drawn as its nodes.

What Argo calls them and what is around what follows `executeTemplate` in its `workflow/controller/operator.go`: the
attempts of a Retry node are children of it, with its name, their number and its boundary.
"""

from __future__ import annotations

from typing import Any

import pytest

from ropewalk_core.flows import Run, Step
from ropewalk_core.model import State
from ropewalk_core.settings import Settings
from ropewalk_workflows.argo.nodes import known
from ropewalk_workflows.argo.retrying import retried
from ropewalk_workflows.argo.seen import Asked, Seen, seen
from ropewalk_workflows.argo_server.nodes import node_id, nodes
from ropewalk_workflows.argo_server.told import Told
from ropewalk_workflows.engine import view
from ropewalk_workflows.engine.state import Fact
from ropewalk_workflows.manifest import read
from tests.engine_driver import IMAGES, Driver
from tests.unit.test_engine_retries import manifest

RUN = "run-1"


def drawn(run: Driver, phase: str) -> dict[str, dict[str, Any]]:
    """Return a driven run as Argo's clients get it."""
    state = run.state
    steps = tuple(view.step(state, one) for one in state.nodes.values() if view.visible(one))
    shown = Run(id=RUN, owner="alice", name="x", status=view.run_status(state), steps=steps, created=1.0)
    facts = {name: Fact(**one.as_dict()) for name, one in state.facts.items()}
    found, _ = nodes(Told(RUN, "alice", shown, state.spec, facts), phase)
    return found


def looked(run: Driver, there: dict[str, Any]) -> Seen:
    checked = read(run.state.spec.manifest, IMAGES)
    return seen(Asked("alice", RUN, run.state.spec, checked), there, known(there, checked, RUN), {}, Settings(), 1e9)


def stood(steps: tuple[Step, ...]) -> dict[str, tuple[str, str]]:
    begins = (State.WAITING, State.STARTING)  # on a cluster what has room is starting
    return {one.id: ("begins" if one.status.state in begins else one.status.state, one.status.note) for one in steps}


def tried(*, ended: bool = False) -> Driver:
    """Return a run whose group failed once and is in its second attempt, or has ended well in it."""
    run = Driver(manifest({"limit": 2}))
    run.end("g(0)/a")
    run.end("g(0)/b", ok=False)
    run.wait()
    run.end("g(1)/a")
    if ended:
        run.end("g(1)/b")
    return run


def test_attempts_are_drawn_with_argos_names() -> None:
    found = {one["name"]: one for one in drawn(tried(), "Running").values()}
    group = found[f"{RUN}[0].g"]
    assert (group["type"], group["phase"]) == ("Retry", "Running")
    assert group["children"] == [node_id(RUN, f"{RUN}[0].g({number})") for number in (0, 1)]
    for number, phase in enumerate(("Failed", "Running")):
        attempt = found[f"{RUN}[0].g({number})"]
        assert (attempt["type"], attempt["phase"], attempt["boundaryID"]) == ("DAG", phase, group["boundaryID"])
        assert attempt["nodeFlag"] == {"retried": True} and attempt["templateName"] == "group"
        inner = found[f"{RUN}[0].g({number}).a"]
        assert (inner["displayName"], inner["boundaryID"]) == ("a", attempt["id"])


@pytest.mark.parametrize("ended", [False, True])
def test_what_argo_has_is_read_back_as_it_was(ended: bool) -> None:
    run = tried(ended=ended)
    phase = "Succeeded" if ended else "Running"
    there = {"metadata": {"name": RUN}, "status": {"phase": phase, "nodes": drawn(run, phase)}}
    found = looked(run, there)
    mine = tuple(view.step(run.state, one) for one in run.state.nodes.values() if view.visible(one))
    assert stood(tuple(one for one, _ in found.steps)) == stood(mine)
    assert {one.id: fact.attempt for one, fact in found.steps}["g"] == 2


def test_between_two_attempts_the_group_waits() -> None:
    run = Driver(manifest({"limit": 2, "backoff": {"duration": "1h"}}))
    run.end("g(0)/a", ok=False)
    there = {"metadata": {"name": RUN}, "status": {"phase": "Running", "nodes": drawn(run, "Running")}}
    [group] = [one for one, _ in looked(run, there).steps if one.id == "g"]
    assert group.status.state is State.WAITING and group.status.why is not None
    assert group.status.why.cause.startswith("Attempt 1 failed")


def again(run: Driver, phase: str) -> tuple[dict[str, Any], list[str], dict[str, dict[str, Any]]]:
    there = {"metadata": {"name": RUN, "resourceVersion": "1"}, "status": {"phase": phase, "nodes": drawn(run, phase)}}
    patch, pods = retried(there, 2, "2026-01-01T00:00:00Z")
    return patch["status"]["nodes"], pods, there["status"]["nodes"]


def test_a_retry_goes_on_in_the_first_attempt_and_takes_the_others_away() -> None:
    run = Driver(manifest({"limit": 1}))
    run.end("g(0)/a")
    run.end("g(0)/b", ok=False)
    run.wait()
    run.end("g(1)/a", ok=False)
    changed, pods, before = again(run, "Failed")

    def named(name: str) -> str:
        return node_id(RUN, f"{RUN}[0].{name}")

    gone = {name for name, one in changed.items() if one is None}
    assert gone >= {named("g(1)"), named("g(1).a"), named("g(0).b")} and named("g(0).a") not in gone
    assert set(pods) == {named("g(1).a"), named("g(0).b")}
    assert changed[named("g")]["phase"] == changed[named("g(0)")]["phase"] == "Running"
    assert changed[named("g")]["children"] == [named("g(0)")]
    assert before[named("g(0).a")]["phase"] == "Succeeded"


def test_a_retry_leaves_alone_what_a_later_attempt_made_up_for() -> None:
    given = manifest({"limit": 1})
    given["spec"]["templates"][0]["steps"].append([{"name": "last", "template": "p"}])
    run = Driver(given)
    run.end("g(0)/a", ok=False)
    run.wait()
    run.end("g(1)/a")
    run.end("g(1)/b")
    run.end("last", ok=False)
    changed, pods, _ = again(run, "Failed")
    assert pods == [node_id(RUN, f"{RUN}[1].last")]
    assert not [name for name, one in changed.items() if one is None and "g" in name.partition("]")[2]]
    assert node_id(RUN, f"{RUN}[0].g") not in changed
