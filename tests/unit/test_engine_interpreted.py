"""Whatever the order of ends, losses and restarts, the engine agrees with an interpreter that knows of no order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropewalk_workflows.engine.state import Node, Outcome
from tests.engine_world import World
from tests.generated import VALUES, manifests
from tests.interpreter import Interpreter

Told = dict[tuple[str, int], tuple[str, str]]
ENDS = ("ok", "ok", "ok", "3", "4", "error")


def interpreted(manifest: dict[str, Any], draw: Callable[[Any], Any]) -> tuple[str, Interpreter, Told]:
    """Return how a run ends, drawing what each attempt gives when the interpreter asks for it."""
    told: Told = {}

    def attempt(path: str, number: int) -> tuple[str, str]:
        how = draw(st.sampled_from(ENDS))
        told[path, number] = how, (draw(st.sampled_from([*VALUES, f"from {path}"])) if how == "ok" else "")
        return told[path, number]

    interpreter = Interpreter(manifest, attempt)
    return interpreter.run(), interpreter, told


def script(told: Told) -> Callable[[str, int], Outcome]:
    def ends(path: str, tries: int) -> Outcome:
        how, value = told[path, tries]  # what the interpreter would not have tried is not there
        if how == "ok":
            return Outcome(True, parameters={"v": value})
        return Outcome(False, error="no", code=int(how) if how != "error" else 0, is_error=how == "error")

    return ends


def agrees(world: World, interpreter: Interpreter, phase: str) -> None:
    expected = {path: (one.phase, one.outputs, one.tries) for path, one in interpreter.ends.items()}
    found = {one.path: (one.phase, one.outputs, one.fact.tries) for one in world.state.nodes.values()}
    assert found == expected
    assert world.state.finished and world.state.phase == phase


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(manifests(), st.data())
def test_the_engine_ends_a_run_as_the_interpreter_does(manifest: dict[str, Any], data: st.DataObject) -> None:
    phase, interpreter, told = interpreted(manifest, data.draw)
    world = World(manifest, script(told))
    world.live(data.draw, 60)
    agrees(world, interpreter, phase)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(manifests(), st.data())
def test_results_of_an_earlier_run_change_nothing_but_what_runs(manifest: dict[str, Any], data: st.DataObject) -> None:
    phase, interpreter, told = interpreted(manifest, data.draw)
    first = World(manifest, script(told))
    first.live(data.draw, 0)
    equal = Counter(key_of(one).partition(".")[0] for one in first.state.nodes.values())
    keys = [key_of(one) for one in first.state.nodes.values() if one.phase == "Succeeded"]
    single = {key for key in keys if key and equal[key.partition(".")[0]] == 1}  # of equals any may be the first
    taken = set(data.draw(st.lists(st.sampled_from(sorted(single))))) if single else set()
    had = {key_of(one): one for one in first.state.nodes.values() if key_of(one) in taken}
    kept = {key: {"parameters": one.fact.parameters, "from": "run-0/x", "at": 1.0} for key, one in had.items()}
    second = World(manifest, script(told), kept={key: {**one, "artifacts": {}} for key, one in kept.items()})
    second.live(data.draw, 60)
    for one in had.values():
        interpreter.ends[one.path].tries = 0
    assert not {one.id for one in had.values()} & set(second.launched)
    agrees(second, interpreter, phase)


def key_of(node: Node) -> str:
    """Return what a leaf's result is kept under; nothing for what is no leaf, or never began."""
    return str(node.fact.memo.get("key", ""))
