"""The real engine and the real host in a sandbox: steps, limits, and kill -9 of engine and host."""

from __future__ import annotations

import asyncio
import importlib
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.flows import KEPT
from ropewalk_core.model import State
from ropewalk_core.placement import Placement
from ropewalk_workflows.compile import from_object
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.engine.points import ENGINE as ENGINE_POINTS
from tests.engine_rig import ADA, EngineRig
from tests.function_rig import needs_sandbox

ENGINE, HOST = "ropewalk_workflows.engine", "ropewalk_hub.host"
LATER = ["before-report:3", "after-report:2", "before-run:2", "after-run:3"]
STOPPING, RECOVERING = {"cancel-heard", "before-end", "after-end"}, {"recovering", "recovered"}
LOCKING = {"lock-given"}
EXAMPLES = Path(__file__).parents[2] / "workflows" / "examples"


@step
def write(name: str, needs: Any = None) -> str:
    """Note that it ran, in the account's files."""
    with open("order.txt", "a") as file:
        file.write(name + "\n")
    return name


@step
def slow(name: str) -> str:
    import time

    with open("slow.txt", "a") as file:
        file.write(name + "\n")
    time.sleep(1.5)
    return name


@step(placement=Placement(memory="256Mi"))
def greedy() -> int:
    return len(bytearray(2**30))


@step(timeout=1)
def sleepy() -> None:
    import time

    time.sleep(60)


@step
def who() -> dict[str, Any]:
    import os

    import ropewalk

    seen = sorted(os.listdir("/"))
    return {"uid": os.getuid(), "here": os.getcwd(), "root": seen, "name": ropewalk.__name__, "pid": os.getpid()}


@step(placement=Placement(memory="512Mi"))
def arrays(count: int) -> Any:
    import numpy
    import pandas

    return numpy.arange(count, dtype=float), pandas.DataFrame({"n": [1, 2], "text": ["a", None]})


@step(placement=Placement(memory="512Mi"))
def used(found: Any) -> dict[str, Any]:
    array, frame = found
    array += 1
    return {"sum": float(array.sum()), "mapped": not array.flags.owndata, "texts": frame["text"].isna().tolist()}


@workflow
def of_arrays() -> object:
    return [used(found := arrays(10**6)), used(found)]


@workflow
def chain(length: int = 4) -> object:
    last = None
    for index in range(length):
        last = write(str(index), last)
    return last


@step
def plain(name: str) -> str:
    return name


@workflow
def chain_of_one() -> object:
    return plain("again")


@pytest.fixture
async def rig() -> AsyncIterator[EngineRig]:
    needs_sandbox()
    with tempfile.TemporaryDirectory(prefix="rw-") as folder:  # short: a socket's path has at most 107 bytes
        found = EngineRig(Path(folder) / "home")
        yield found
        await found.close()


@pytest.mark.parametrize(
    "name", ["diamond", "fan_out", "dynamic", "passing", "retry", "argo_steps.yaml", "hera_program"]
)
async def test_examples_run_in_the_sandbox(rig: EngineRig, name: str) -> None:
    expected = None
    if name.endswith(".yaml"):
        spec = from_object((EXAMPLES / name).read_text())
    else:
        module = importlib.import_module(f"examples.{name}")
        spec, expected = from_object(module.EXAMPLE, **module.ARGUMENTS), module.RESULT
    await rig.start()
    run = await rig.wait((await rig.submit(spec)).id)
    assert run.status.state == State.DONE, [(one.name, one.error, one.traceback) for one in run.steps]
    assert expected is None or rig.result(run) == expected


async def test_arrays_pass_between_sandboxes_as_files_that_nobody_changes(rig: EngineRig) -> None:
    await rig.start()
    run = await rig.wait((await rig.submit(of_arrays.spec())).id)
    assert run.status.state == State.DONE, [(one.name, one.error, one.traceback) for one in run.steps]
    expected = {"sum": 500000500000.0, "mapped": True, "texts": [False, True]}
    given = [json.loads(one["json"]) for one in run.outputs["result"]]
    assert given == [expected, expected], "what one step changed the other did not see"
    seen = run.steps[0].artifacts[0].preview
    assert run.steps[0].artifacts[0].type == "tuple" and seen is not None and seen.text.startswith("(array(")


async def test_a_step_sees_the_account_and_nothing_else(rig: EngineRig) -> None:
    @workflow
    def flow() -> object:
        return who()

    await rig.start()
    seen = rig.result(await rig.wait((await rig.submit(flow.spec())).id))
    assert seen["uid"] == rig.paths.root.stat().st_uid
    assert seen["here"] == str(rig.paths.files)
    assert seen["name"] == "ropewalk"
    assert seen["pid"] < 100, "a process namespace of its own"


async def test_limits_end_a_step_with_a_clear_sentence(rig: EngineRig) -> None:
    @workflow
    def memory() -> object:
        return greedy()

    @workflow
    def time_() -> object:
        return sleepy()

    await rig.start()
    run = await rig.wait((await rig.submit(memory.spec())).id)
    assert run.status.why is not None
    assert run.status.why.code == "RW-OUT-OF-MEMORY"
    assert "256Mi" in run.status.why.cause
    assert 'Placement(memory="512Mi")' in run.status.why.next
    run = await rig.wait((await rig.submit(time_.spec())).id)
    assert run.status.why is not None
    assert run.status.why.code == "RW-TIMED-OUT"


async def test_a_folder_that_is_gone_fails_the_run_and_is_named(rig: EngineRig) -> None:
    await rig.start()
    (rig.paths.files / "moved").mkdir()
    spec = chain.spec(length=1).model_copy(update={"folder": "moved"})
    (rig.paths.files / "moved").rename(rig.paths.files / "elsewhere")
    run = await rig.wait((await rig.workflows.submit(ADA, "ada", spec)).id)
    assert run.status.state == State.FAILED
    assert run.status.why is not None
    assert run.status.why.code == "RW-NOT-FOUND"
    assert str(rig.paths.files / "moved") in run.status.why.cause
    assert "Put the folder back" in run.status.why.next


@step(retries=2)
def second_time(name: str) -> str:
    import os

    with open("tries.txt", "a") as file:
        file.write(name + "\n")
    if os.path.getsize("tries.txt") <= len(name) + 1:
        raise ValueError("not yet")
    return name


@workflow
def chain_after_a_failure() -> object:
    last = second_time(plain("again"))
    for index in range(3):
        last = write(str(index), last)
    return last


async def never_ends(rig: EngineRig) -> str:
    """Return a run that a person stopped once its step ran."""

    @workflow
    def flow() -> object:
        return sleepless("here")

    run = await rig.submit(flow.spec())
    await until(rig.paths.files / "sleepless.txt")
    await rig.workflows.cancel(ADA, "ada", run.id)
    return run.id


@step
def sleepless(name: str) -> None:
    import time

    with open("sleepless.txt", "a") as file:
        file.write(name + "\n")
    time.sleep(600)


async def until(path: Path) -> None:
    async with asyncio.timeout(30):
        while not path.exists():  # noqa: ASYNC110 - another process makes the file
            await asyncio.sleep(0.02)


OTHERS = [
    pytest.param(one, marks=pytest.mark.slow) for one in sorted(set(ENGINE_POINTS) - STOPPING - RECOVERING - LOCKING)
]


@pytest.mark.parametrize("point", [*LATER, *OTHERS])
async def test_an_engine_killed_at_any_point_goes_on(rig: EngineRig, point: str) -> None:
    await rig.start(crash=point)
    if point == "kept-heard":
        for _ in range(2):  # the account's environment is made for the first
            await rig.wait((await rig.submit(chain_of_one.spec(fresh=True))).id)
    run = await rig.submit(chain_after_a_failure.spec())
    if point == "hold-heard":
        await until(rig.paths.files / "tries.txt")
        await rig.workflows.suspend(ADA, "ada", run.id)
    await killed(rig)
    if point == "hold-heard":
        await rig.workflows.resume(ADA, "ada", run.id)
    await rig.spawn(ENGINE)
    found = await rig.wait(run.id)
    assert found.status.state == State.DONE, found.status
    order = (rig.paths.files / "order.txt").read_text().split()
    assert {one.status.note for one in found.steps if one.name == "plain"} == {KEPT if point == "kept-heard" else ""}
    assert sorted(set(order)) == ["0", "1", "2"]
    assert order == sorted(order), "never back to a step that was done"
    tries = (rig.paths.files / "tries.txt").read_text().split()
    assert len(order) + len(tries) <= 3 + 2 + 1, "only the step that was under way may have run twice"


@pytest.mark.slow
@pytest.mark.parametrize("point", sorted(STOPPING))
async def test_an_engine_killed_while_a_run_is_stopped_stops_it(rig: EngineRig, point: str) -> None:
    await rig.start(crash=point)
    run = await never_ends(rig)
    await killed(rig)
    await rig.spawn(ENGINE)
    assert (await rig.wait(run)).status.state == State.STOPPED
    assert (rig.paths.files / "sleepless.txt").read_text() == "here\n"


ALONE = """
kind: Workflow
metadata: {name: alone}
spec:
  entrypoint: main
  templates:
    - name: main
      steps: [[{name: a, template: alone, withSequence: {count: "3"}}]]
    - name: alone
      synchronization: {mutexes: [{name: door}]}
      script:
        image: python
        command: [python]
        source: |
          import os, time
          os.close(os.open("inside", os.O_CREAT | os.O_EXCL))
          time.sleep(0.2)
          os.remove("inside")
          open("went.txt", "a").write("one\\n")
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", [f"{one}{also}" for one in sorted(LOCKING) for also in ("", ":2")])
async def test_an_engine_killed_while_it_gives_a_mutex_gives_it_to_one(rig: EngineRig, point: str) -> None:
    await rig.start(crash=point)
    run = await rig.submit(from_object(ALONE))
    await killed(rig)
    await rig.spawn(ENGINE)
    found = await rig.wait(run.id)
    assert found.status.state == State.DONE, [(one.name, one.error) for one in found.steps]
    assert (rig.paths.files / "went.txt").read_text() == "one\n" * 3


@pytest.mark.slow
@pytest.mark.parametrize("point", sorted(RECOVERING))
async def test_an_engine_killed_again_while_it_looks_for_a_step_goes_on(rig: EngineRig, point: str) -> None:
    await rig.start(crash="after-run")
    run = await rig.submit(chain.spec(length=2))
    await killed(rig)
    await rig.spawn(ENGINE, crash=point)
    await killed(rig)
    await rig.spawn(ENGINE)
    assert (await rig.wait(run.id)).status.state == State.DONE
    assert (rig.paths.files / "order.txt").read_text() == "0\n1\n", "what the first one did was found"


async def killed(rig: EngineRig) -> None:
    """Wait for the engine's end at its point: one that is never reached fails here."""
    async with asyncio.timeout(30):
        assert await rig.processes[ENGINE].wait() == -9


async def test_a_second_engine_waits_until_the_first_one_is_gone(rig: EngineRig) -> None:
    await rig.start()
    run = await rig.submit(chain.spec(length=4))
    await until(rig.paths.files / "order.txt")
    first = rig.processes[ENGINE]
    await rig.spawn(ENGINE)
    found = await rig.wait(run.id)
    assert found.status.state == State.DONE and rig.processes[ENGINE].returncode is None
    first.kill()
    await first.wait()
    assert (await rig.wait((await rig.submit(chain.spec(length=2))).id)).status.state == State.DONE
    assert (rig.paths.files / "order.txt").read_text() == "0\n1\n2\n3\n0\n1\n"


async def test_a_killed_host_loses_only_what_was_under_way(rig: EngineRig) -> None:
    @workflow
    def flow() -> object:
        return slow(write("first"))

    await rig.start(host_apart=True)
    run = await rig.submit(flow.spec())
    async with asyncio.timeout(30):
        while not (rig.paths.files / "slow.txt").exists():  # noqa: ASYNC110 - another process makes the file
            await asyncio.sleep(0.05)
    await rig.kill(HOST)
    await rig.spawn(HOST)
    found = await rig.wait(run.id)
    assert found.status.state == State.DONE, found.status
    assert (rig.paths.files / "order.txt").read_text() == "first\n"
    assert (rig.paths.files / "slow.txt").read_text() == "first\n" * 2


async def test_a_platform_that_restarts_meanwhile_hears_of_everything(rig: EngineRig) -> None:
    await rig.start()
    run = await rig.submit(chain.spec(length=3))
    await asyncio.sleep(0.3)
    await rig.unserve()
    await asyncio.sleep(0.5)
    await rig.serve()
    found = await rig.wait(run.id)
    assert found.status.state == State.DONE
    assert (rig.paths.files / "order.txt").read_text() == "0\n1\n2\n"
