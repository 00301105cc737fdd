"""Accelerators over a real gateway, host and sandbox: one holder each, in order of preference, waited for, given back.

No real one is needed: a device is what its nodes are, and here those are a file of the test's own and a device node
that most machines have.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ropewalk_core.errors import BadCode, Limited
from ropewalk_core.flows import RunSpec
from ropewalk_core.local.host_client import StepOrder
from ropewalk_core.local.leases import Leases, Line
from ropewalk_core.model import FunctionSpec, State
from ropewalk_core.placement import Placement
from ropewalk_core.testing import ADA
from ropewalk_devices.found import devices
from ropewalk_hub.gateway import pool
from ropewalk_workflows.names import PLACEMENT
from tests.engine_rig import EngineRig
from tests.function_rig import Rig, needs_sandbox, running, scratch_home

REAL = next((one for one in ("/dev/fuse", "/dev/net/tun", "/dev/kvm", "/dev/loop0") if Path(one).exists()), "")
SEES = """
import os, time
def handler(seconds=0.0):
    time.sleep(seconds)
    there = [one for one in NODES if os.path.exists(one)]
    cuda = os.environ["CUDA_VISIBLE_DEVICES"], os.environ["NVIDIA_VISIBLE_DEVICES"]
    return {"there": there, "on": os.environ["ROPEWALK_ACCELERATOR"], "cuda": cuda, "pid": os.getpid()}
"""


class Toys:
    """A rig with two devices called toy and one called other."""

    def __init__(self, rig: Rig, nodes: list[str]) -> None:
        self.rig, self.nodes = rig, nodes
        self.leases = Leases(rig.settings, devices(rig.settings))

    def spec(self, name: str, *accelerator: str, source: str = SEES, **changes: Any) -> FunctionSpec:
        placement = Placement(accelerator=accelerator)
        source = source.replace("NODES", repr(self.nodes))
        return self.rig.spec(source, name, placement=placement, **{"idle": 0.0, **changes})

    async def deploy(self, name: str, *accelerator: str, **changes: Any) -> None:
        await self.rig.functions.deploy(ADA, "ada", self.spec(name, *accelerator, **changes))

    async def ask(self, name: str, seconds: float = 0.0) -> dict[str, Any]:
        answer = await self.call(name, seconds)
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    async def call(self, name: str, seconds: float = 0.0) -> httpx.Response:
        return await self.rig.call(json.dumps(seconds).encode(), function=name)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(15):
            while not true():  # noqa: ASYNC110 - the end of a lock wakes nobody
                await asyncio.sleep(0.02)

    def held(self) -> list[str]:
        return [f"{one.name} {one.account} {one.what}" for one in self.leases.held()]


def nodes_in(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return paths of nodes, and the settings that make devices of them."""
    nodes = [str(folder / "toy0"), str(folder / "toy1"), str(folder / "other")]
    for one in nodes:
        Path(one).write_text("a device")
    more = f" {REAL}" if REAL else ""
    return [*nodes, *([REAL] if REAL else [])], {"toy": f"{nodes[0]}, {nodes[1]}", "other": nodes[2] + more}


@pytest.fixture
async def toys(tmp_path: Path) -> AsyncIterator[Toys]:
    nodes, said = nodes_in(tmp_path)
    async with running(accelerators=said) as rig:
        yield Toys(rig, nodes)


@pytest.fixture
async def apart(tmp_path: Path) -> AsyncIterator[Toys]:
    nodes, said = nodes_in(tmp_path)
    async with running(apart=True, accelerators=said) as rig:
        yield Toys(rig, nodes)


async def test_each_worker_sees_its_own_and_the_last_one_none(toys: Toys) -> None:
    await toys.deploy("f", "toy", "cpu", max_workers=3)
    said = await asyncio.gather(*(toys.ask("f", 2.0) for _ in range(3)))
    assert sorted(one["on"] for one in said) == ["cpu", "toy", "toy"]
    assert sorted(one["there"] for one in said) == [[], [toys.nodes[0]], [toys.nodes[1]]]
    assert {tuple(one["cuda"]) for one in said} == {("", "void")}
    await toys.until(lambda: not toys.held())  # idle workers give theirs back
    await toys.until(lambda: len(toys.rig.functions.called.latest("ada", "f", 9)) == 3)
    assert sorted(one.accelerator for one in toys.rig.functions.called.latest("ada", "f", 9)) == ["cpu", "toy", "toy"]


async def test_without_asking_there_is_none(toys: Toys) -> None:
    await toys.deploy("plain")
    said = await toys.ask("plain")
    assert (said["there"], said["on"], said["cuda"]) == ([], "cpu", ["", "void"])
    await toys.until(lambda: bool(toys.rig.functions.called.latest("ada", "plain", 9)))
    assert toys.rig.functions.called.latest("ada", "plain", 9)[0].accelerator == ""


async def test_in_order_of_preference_and_with_all_nodes(toys: Toys) -> None:
    await toys.deploy("f", "other", "toy", max_workers=2)
    said = await asyncio.gather(*(toys.ask("f", 2.0) for _ in range(2)))
    assert sorted(one["on"] for one in said) == ["other", "toy"]
    other = next(one for one in said if one["on"] == "other")
    assert other["there"] == toys.nodes[2:]


async def test_a_call_waits_for_one_and_gets_it(toys: Toys) -> None:
    await toys.deploy("holder", "other")
    await toys.deploy("waiter", "other")
    first = asyncio.create_task(toys.ask("holder", 2.0))
    await toys.until(lambda: toys.held() == ["other ada function 'holder'"])
    assert (await toys.ask("waiter"))["on"] == "other"
    assert first.done() and (await first)["on"] == "other"


async def test_who_only_idles_on_one_gives_it_to_who_waits(toys: Toys) -> None:
    await toys.deploy("holder", "other", idle=600.0)
    await toys.deploy("waiter", "other", idle=600.0)
    assert (await toys.ask("holder"))["on"] == (await toys.ask("waiter"))["on"] == "other"
    assert toys.held() == ["other ada function 'waiter'"]
    first = (await toys.ask("waiter"))["pid"]
    assert (await toys.ask("waiter"))["pid"] == first  # while nobody waits it stays


async def test_who_waits_in_vain_is_told_who_has_it(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_DEVICE_PATIENCE", 0.5)
    await toys.deploy("holder", "other")
    await toys.deploy("waiter", "other")
    first = asyncio.create_task(toys.ask("holder", 4.0))
    await toys.until(lambda: bool(toys.held()))
    answer = await toys.call("waiter")
    said = answer.json()
    assert (answer.status_code, said["code"]) == (429, "RW-LIMITED") and answer.headers["retry-after"]
    assert "other by your function 'holder'" in said["message"] and "add `cpu`" in said["hint"]
    assert "taken" not in said["details"]
    await first


async def test_code_that_needs_one_to_load_is_tried_with_one(toys: Toys) -> None:
    needs = "open(NODES[2]).close()\n" + SEES
    await toys.deploy("f", "other", source=needs)
    await toys.until(lambda: not toys.held())
    held = toys.leases.take(("other",), "bob", "notebook")
    assert held
    with pytest.raises(BadCode) as caught:
        await toys.deploy("f", "other", source="1\n" + needs)
    assert "tried without an accelerator" in caught.value.hint and "other by somebody else" in caught.value.hint
    with pytest.raises(BadCode) as caught:
        await toys.deploy("g", source=needs)
    assert "accelerator" not in caught.value.hint
    held.close()
    await toys.deploy("f", "other", source="1\n" + needs)
    assert (await toys.ask("f"))["on"] == "other"


async def test_steps_have_them_too(toys: Toys) -> None:
    def order(name: str, *wanted: str, patience: float | None = None) -> StepOrder:
        argv = ("sh", "-c", f"test -r {toys.nodes[2]} && echo $ROPEWALK_ACCELERATOR >>$HOME/{name} && sleep 1")
        return StepOrder(name, "ada", kind="command", argv=argv, accelerator=wanted, patience=patience, what="run 'r'")

    assert (await toys.rig.client.run_step(order("none"))).code == 1
    first = asyncio.create_task(toys.rig.client.run_step(order("first", "other")))
    await toys.until(lambda: toys.held() == ["other ada run 'r'"])
    with pytest.raises(Limited, match="your run 'r'"):
        await toys.rig.client.run_step(order("third", "other", patience=0.0))
    waiting = asyncio.create_task(toys.rig.client.run_step(order("waiting", "other")))
    await asyncio.sleep(0.1)
    waiting.cancel()  # whoever leaves the line is not started
    assert (await toys.rig.client.run_step(order("second", "other"))).code == 0 and (await first).code == 0
    files = toys.rig.settings.home / "accounts/ada/files"
    assert (files / "first").read_text() == (files / "second").read_text() == "other\n"
    assert not (files / "waiting").exists() and not (files / "third").exists()


async def test_an_account_that_is_ended_gives_back_what_it_has(toys: Toys) -> None:
    await toys.deploy("f", "other", idle=60.0)
    await toys.ask("f")
    assert toys.held() == ["other ada function 'f'"]
    await asyncio.sleep(0.5)
    spares = [one for one in processes_of(toys.rig, "zygote") if comm(one) == "ropewalk-spare"]
    assert len(spares) < 2  # one of the ordinary zygote that tried the code, none where the accelerator is
    waiting = asyncio.create_task(
        toys.rig.client.run_step(StepOrder("x", "ada", kind="command", argv=("true",), accelerator=("other",)))
    )
    await asyncio.sleep(0.1)
    await toys.rig.client.end_account("ada")
    assert toys.held() == []
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.exception() is not None


async def test_a_step_of_a_run_has_what_its_placement_says(tmp_path: Path) -> None:
    needs_sandbox()
    nodes, said = nodes_in(tmp_path)
    see = f"test -r {nodes[2]} && test $ROPEWALK_ACCELERATOR = other"
    step = {
        "name": "see",
        "metadata": {"annotations": {PLACEMENT: json.dumps({"accelerator": ["other", "cpu"]})}},
        "container": {"image": "alpine", "command": ["sh", "-c"], "args": [see]},
    }
    manifest = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "see-"},
        "spec": {"entrypoint": "see", "templates": [step]},
    }
    with scratch_home() as home:
        rig = EngineRig(home, accelerators=said)
        try:
            await rig.start()
            spec = RunSpec(name="see", manifest=manifest, source="argo", fresh=True)
            assert (await rig.wait((await rig.submit(spec)).id)).status.state is State.DONE
            line = Line(Leases(rig.settings, devices(rig.settings)))
            held = await line.take(("other",), "bob", "notebook", 10.0)  # its sandbox ends a moment after the run
            assert held
            assert (await rig.wait((await rig.submit(spec)).id)).status.state is State.FAILED  # it ran without
            held.close()
        finally:
            await rig.close()


# Kills


def processes_of(rig: Rig, word: str) -> list[int]:
    """Return the processes of the rig's home whose command line has a word."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = Path(f"/proc/{name}/environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if word in line and str(rig.settings.home) in line + environment:
            found.append(int(name))
    return found


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


async def test_a_killed_worker_gives_it_back(apart: Toys) -> None:
    await apart.deploy("f", "other", idle=60.0)
    await apart.ask("f")
    assert apart.held() == ["other ada function 'f'"]
    workers = processes_of(apart.rig, "ropewalk_runtime.zygote")
    for pid in workers:
        with contextlib.suppress(ProcessLookupError):  # one ends with its zygote
            os.kill(pid, signal.SIGKILL)
    await apart.until(lambda: not apart.held())
    assert (await apart.ask("f"))["on"] == "other"


@pytest.mark.parametrize("module", ["ropewalk_hub.host", "ropewalk_hub.gateway"])
async def test_a_killed_platform_holds_nothing(apart: Toys, module: str) -> None:
    await apart.deploy("f", "other", idle=60.0)
    call = asyncio.create_task(apart.call("f", 60.0))
    await apart.until(lambda: apart.held() == ["other ada function 'f'"])
    await asyncio.sleep(0.5)
    await apart.rig.kill(module)
    await apart.until(lambda: not apart.held())
    await asyncio.gather(call, return_exceptions=True)
    await (apart.rig.start_host if module.endswith("host") else apart.rig.start_gateway)(apart=True)
    await apart.rig.settled()
    assert (await apart.ask("f"))["on"] == "other"
