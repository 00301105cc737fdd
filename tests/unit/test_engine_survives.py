"""What one person's step says must never end the engine that carries everybody's runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ropewalk_core.errors import Unavailable
from ropewalk_core.model import State
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.engine import attempts, view
from ropewalk_workflows.engine.shell import Engine
from ropewalk_workflows.engine.state import Outcome
from tests.workflow_rig import ALICE, Rig, step_named


@step
def half_a_character() -> int:
    raise ValueError("cut: \ud83d")


@step
def one() -> int:
    return 1


@step
def endless() -> None:
    import time

    time.sleep(600)


@workflow
def forever() -> object:
    return endless()


@workflow
def cut() -> object:
    return half_a_character()


@workflow
def single() -> object:
    return one()


async def test_an_error_with_half_a_character_is_shown_without_it(rig: Rig) -> None:
    run = await rig.wait((await rig.submit(cut.spec())).id)
    assert run.status.state is State.FAILED
    assert "cut: ?" in step_named(run, "half_a_character").error


@pytest.mark.parametrize("said", ["\ud800", "\udfff" * 3])
async def test_a_run_that_cannot_be_reported_fails_alone(rig: Rig, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, bad = attempts.outcome, await rig.submit(cut.spec())

    def outcome(settings: Any, state: Any, *rest: Any) -> Outcome | None:
        found: Outcome | None = real(settings, state, *rest)
        return Outcome(False, error=said) if state.run == bad.id else found

    monkeypatch.setattr(attempts, "outcome", outcome)
    good = await rig.submit(single.spec(fresh=True))
    assert (await rig.wait(good.id)).status.state is State.DONE
    found = await rig.wait(bad.id)
    assert found.status.state is State.FAILED
    assert found.status.why is not None and found.status.why.code == "RW-INTERNAL"
    assert rig.running is not None and not rig.running.done()
    assert (await rig.wait((await rig.submit(single.spec(fresh=True))).id)).status.state is State.DONE


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file", "gone"), KeyError("x"), asyncio.CancelledError()]
)
@pytest.mark.parametrize("where", ["prepare", "host", "outcome"])
async def test_whatever_an_attempt_raises_ends_the_run(
    rig: Rig, where: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    async def broken_host(*_: Any) -> Any:
        raise error

    if where == "host":
        monkeypatch.setattr(rig.host, "run_step", broken_host)
    else:
        monkeypatch.setattr(attempts, where, broken)
    run = await rig.wait((await rig.submit(single.spec(fresh=True))).id)
    assert run.status.state is State.FAILED
    assert run.status.why is not None and run.status.why.code == "RW-INTERNAL"
    assert type(error).__name__ in run.status.why.cause
    monkeypatch.undo()
    assert (await rig.wait((await rig.submit(single.spec(fresh=True))).id)).status.state is State.DONE


async def test_an_order_to_end_that_cannot_be_given_is_given_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refused = rig.host.end, list[str]()

    async def end(identifier: str) -> None:
        if len(refused) < 2:
            refused.append(identifier)
            raise Unavailable("away")
        await real(identifier)

    monkeypatch.setattr(rig.host, "end", end)
    run = await rig.submit(forever.spec())
    await rig.until(run.id, lambda _: bool(rig.host.processes))
    await rig.workflows.cancel(ALICE, "alice", run.id)
    assert (await rig.wait(run.id)).status.state is State.STOPPED
    process = rig.host.processes[f"{run.id}.endless.1"]
    async with asyncio.timeout(10):
        await process.wait()
    assert len(refused) == 2


async def test_a_run_that_cannot_begin_fails_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(engine: Any, wanted: Any) -> Any:
        raise TypeError("an older fact")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_begun", begun)
        bad = await rig.wait((await rig.submit(cut.spec())).id)
    assert bad.status.state is State.FAILED
    assert bad.status.why is not None and "cannot read this run" in bad.status.why.cause
    assert (await rig.wait((await rig.submit(single.spec())).id)).status.state is State.DONE


async def test_a_run_that_cannot_be_shown_fails_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    real, bad = view.step, await rig.submit(cut.spec())

    def shown(state: Any, node: Any) -> Any:
        if state.run == bad.id:
            raise RecursionError
        return real(state, node)

    monkeypatch.setattr(view, "step", shown)
    assert (await rig.wait(bad.id)).status.state is State.FAILED
    assert (await rig.wait((await rig.submit(single.spec())).id)).status.state is State.DONE


def test_values_past_all_showing_stay_text() -> None:
    for text in ("[" * 100_000, "[" * 200 + "]" * 200, '"\\ud800"', "no json"):
        assert view._value(text) == text
    assert view._value('{"a": [1, "\\u00e9"]}') == {"a": [1, "é"]}
