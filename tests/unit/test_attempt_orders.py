"""One attempt: what goes with its order, and whose word about its end counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.local.host_client import StepExit, StepOrder
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import State
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.engine import attempts
from tests.workflow_rig import ALICE, Rig, step_named


@step
def length(text: str) -> int:
    return len(text)


@step
def together(a: str, b: str, c: str) -> int:
    return len(a + b + c)


@workflow
def flow(text: str) -> object:
    return length(text)


@workflow
def three(text: str) -> object:
    return together(text, text, text)


@pytest.mark.parametrize(("size", "written"), [(10, 0), (15_000, 1)])
async def test_inputs_too_long_for_a_packet_are_written_down(
    rig: Rig, size: int, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = attempts.written_down, list[StepOrder]()

    def writing(settings: Any, order: StepOrder) -> StepOrder:
        seen.append(order)
        return real(settings, order)

    monkeypatch.setattr(attempts, "written_down", writing)
    run = await rig.wait((await rig.submit(three.spec("x" * size))).id)
    assert (rig.result(run), len(seen)) == (3 * size, written)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ('{"attempt": "ID", "ok": true}', State.DONE),
        ('{"attempt": "ID", "ok": false, "error": "E"}', State.FAILED),
        ('{"attempt": "another", "ok": true}', State.FAILED),
        ("no JSON", State.DONE),
        ("[" * 100_000, State.DONE),
    ],
)
async def test_what_an_attempt_said_counts_before_what_it_wrote(
    rig: Rig, said: str, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it wrote that it is done."""
    real = rig.host.run_step

    async def run_step(order: StepOrder, *rest: Any) -> StepExit:
        await real(order, *rest)
        assert json.loads((Path(order.folder) / "outputs.json").read_text())["ok"]
        return StepExit(0, said=said.replace("ID", order.id))

    monkeypatch.setattr(rig.host, "run_step", run_step)
    run = await rig.wait((await rig.submit(flow.spec("x"))).id)
    assert step_named(run, "length").status.state is state


@step
def plus(number: int) -> int:
    return number + 1


@workflow
def chain() -> object:
    return plus(plus(1))


async def test_a_power_cut_takes_no_short_result(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their files are not synced, so all of them may be empty afterwards."""
    real, store = rig.host.run_step, AccountPaths(rig.settings.home, "alice").artifacts

    async def run_step(order: StepOrder, *rest: Any) -> StepExit:
        ended = await real(order, *rest)
        for one in store.glob("??/*"):
            one.write_bytes(b"")
        return ended

    monkeypatch.setattr(rig.host, "run_step", run_step)
    run = await rig.wait((await rig.submit(chain.spec())).id)
    assert run.status.state is State.DONE
    digest = run.outputs["result"]["digest"]
    parts = await rig.workflows.artifact(ALICE, "alice", run.id, digest)
    assert b"".join([one async for one in parts]) == b"3"


async def test_a_short_result_that_is_another_is_not_given_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    real = rig.host.run_step

    async def run_step(order: StepOrder, *rest: Any) -> StepExit:
        await real(order, *rest)
        said = json.loads((Path(order.folder) / "outputs.json").read_text())
        said["artifacts"]["result"]["json"] = "4"
        return StepExit(0, said=json.dumps(said))

    monkeypatch.setattr(rig.host, "run_step", run_step)
    run = await rig.wait((await rig.submit(flow.spec("x"))).id)
    parts = await rig.workflows.artifact(ALICE, "alice", run.id, run.outputs["result"]["digest"])
    assert b"".join([one async for one in parts]) == b"1"
