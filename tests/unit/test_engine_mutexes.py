"""Mutexes of steps: who holds them, who waits and why, and what a restart, a stop or a suspension does to that."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ropewalk_workflows.engine import state as nouns
from ropewalk_workflows.engine import view
from ropewalk_workflows.engine.core import step
from ropewalk_workflows.engine.locks import Locks, Who
from tests.engine_driver import PROGRAM, Driver, fresh


def two(**more: Any) -> dict[str, Any]:
    calls = [{"name": one, "template": "alone"} for one in ("a", "b")]
    alone = {"name": "alone", "container": PROGRAM, "synchronization": {"mutex": {"name": "x"}}}
    alone["retryStrategy"] = {"limit": "1"}
    spec = {"entrypoint": "main", "templates": [{"name": "main", "steps": [calls]}, alone], **more}
    return {"kind": "Workflow", "spec": spec}


def nobody(_: Who) -> bool:
    return False


def test_a_step_waits_for_its_mutex_and_says_so() -> None:
    driver = Driver(two())
    assert driver.began == []
    why = view.status(driver.state, driver.node("a")).why
    assert why is not None and why.cause == "Waiting for the mutex 'x'."
    driver.take(nouns.Locked(11.0, "a"))
    assert driver.began == ["a"]
    driver.end("a")
    assert driver.phase("a") == "Succeeded"
    assert driver.began == ["a"], "who is next is decided for all runs together"


def test_it_is_held_between_two_attempts_and_after_a_restart() -> None:
    driver = Driver(two())
    driver.take(nouns.Locked(11.0, "a"))
    driver.end("a", ok=False)
    state = fresh(driver.state.spec.manifest, driver.state.facts)
    actions = step(state, nouns.Begin(20.0))[1]
    assert [(one.id, state.nodes[one.id].locked) for one in actions if isinstance(one, nouns.Lock)] == [
        ("a", True),
        ("b", False),
    ]


def test_a_step_that_begins_again_after_a_person_asked_for_it_waits_anew() -> None:
    driver = Driver(two())
    driver.take(nouns.Locked(11.0, "a"))
    driver.end("a", ok=False)
    driver.wait(1.0)
    driver.end("a", ok=False)
    assert driver.phase("a") == "Failed"
    state = fresh(driver.state.spec.manifest, {"a": driver.state.facts["a"].again_from_failure()})
    step(state, nouns.Begin(20.0))
    assert not state.nodes["a"].locked


def test_who_waits_takes_no_place_of_the_workflows_parallelism() -> None:
    """Else the one that holds the mutex could wait for a place that the other one has."""
    driver = Driver(two(parallelism=1))
    driver.take(nouns.Locked(11.0, "a"))
    driver.end("a", ok=False)
    driver.wait(1.0)
    assert driver.began == ["a", "a"]


def test_a_mutex_may_be_named_by_an_input() -> None:
    manifest = two()
    manifest["spec"]["templates"][1]["inputs"] = {"parameters": [{"name": "of", "value": "town"}]}
    manifest["spec"]["templates"][1]["synchronization"] = {
        "mutexes": [{"name": "{{inputs.parameters.of}}"}, {"name": "x"}]
    }
    driver = Driver(manifest)
    assert driver.node("a").mutexes == ("town", "x")
    why = view.status(driver.state, driver.node("a")).why
    assert why is not None and why.cause == "Waiting for the mutexes 'town' and 'x'."


def test_a_step_of_a_suspended_run_lets_others_pass() -> None:
    locks, first, second = Locks(), ("one", "a"), ("two", "a")
    locks.ask(first, ["x"], holds=False)
    locks.ask(second, ["x"], holds=False)
    assert locks.given(nobody, lambda who: who == first) == [second]
    assert locks.given(lambda who: who == second, nobody) == [first]


def test_a_new_life_of_a_run_does_not_wait_for_its_earlier_one() -> None:
    locks, who = Locks(), ("one", "a")
    locks.ask(who, ["x"], holds=True)
    locks.ask(who, ["x"], holds=False)
    assert locks.given(nobody, nobody) == [who]


@given(st.lists(st.tuples(st.sets(st.sampled_from("xyz"), min_size=1), st.integers(0, 3)), max_size=12))
def test_nobody_shares_a_mutex_nobody_is_passed_and_everybody_gets_theirs(asked: list[tuple[set[str], int]]) -> None:
    locks, names = Locks(), dict[Who, set[str]]()
    holding, ended, order = list[Who](), set[Who](), list[Who]()

    def turn() -> None:
        for who in locks.given(lambda one: one in ended, nobody):
            assert all(names[who].isdisjoint(names[one]) for one in holding)
            holding.append(who)
            order.append(who)

    for place, (wanted, ends) in enumerate(asked):
        who = (f"run-{place}", "a")
        names[who] = wanted
        locks.ask(who, sorted(wanted), holds=False)
        turn()
        for _ in range(min(ends, len(holding))):
            ended.add(holding.pop(0))
    while holding or len(order) < len(names):
        turn()
        assert holding, "it does not end"
        ended.add(holding.pop(0))
    for place, one in enumerate(order):
        for later in order[place + 1 :]:
            earlier = int(one[0][4:]) < int(later[0][4:])
            assert earlier or names[one].isdisjoint(names[later])
