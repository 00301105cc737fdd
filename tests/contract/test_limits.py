"""Limits that the kernel holds a real worker to, each met by code that goes too far, and what its caller reads then."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.local import cgroups
from ropewalk_core.testing import ADA
from ropewalk_runtime.zygote import SPARE_NAME
from tests.function_rig import Rig, running

MOST = 40
AROUND = """
import multiprocessing, os, subprocess, tempfile, threading, time, zlib

def child():
    data = bytearray(150 * 2**20)
    for at in range(0, len(data), 4096):
        data[at] = 1
    time.sleep(5)

def handler(what: str):
    if what == "nothing":
        return os.getpid()
    if what == "bytes":
        return len(bytearray(2**30))
    if what == "children":
        context = multiprocessing.get_context("fork")
        all_of_them = [context.Process(target=child) for _ in range(4)]
        for one in all_of_them:
            one.start()
        for one in all_of_them:
            one.join()
        return [one.exitcode for one in all_of_them]
    if what == "forks":
        for _ in range(1000):
            if not os.fork():
                time.sleep(30)
                os._exit(0)
    if what == "programs":
        return [subprocess.Popen(["sleep", "30"]).pid for _ in range(1000)]
    if what == "threads":
        for _ in range(1000):
            threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
    if what == "scratch":
        with open("/tmp/much", "wb") as file:
            return file.write(bytes(2**26))
    if what == "gone scratch":
        with tempfile.NamedTemporaryFile() as file:
            return file.write(bytes(2**26))
    if what == "shared memory":
        with open("/dev/shm/much", "wb") as file:
            return file.write(bytes(2**26))
    if what == "loop":
        while True:
            pass
    if what == "compiled":
        return len(zlib.compress(os.urandom(2**20) * 2000, 9))
    if what == "a little":
        until = time.process_time() + 0.6
        while time.process_time() < until:
            pass
        return "done"
"""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running(limits_processes=MOST) as rig:
        yield rig


async def fails(rig: Rig, what: str, **changes: Any) -> dict[str, Any]:
    """Return the problem of a call that goes too far; the next one has a worker again."""
    await rig.functions.deploy(ADA, "ada", rig.spec(AROUND, **changes))
    answer = await rig.call(f'"{what}"'.encode())
    assert answer.status_code == 500, answer.text
    assert (await rig.call(b'"nothing"')).status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_out_of_memory_names_limit_peak_and_placement(rig: Rig) -> None:
    problem = await fails(rig, "bytes", placement={"memory": "256Mi"})
    assert (problem["code"], problem["field"]) == ("RW-OUT-OF-MEMORY", "placement.memory")
    assert "its limit of 256Mi (it had used " in problem["message"]
    assert 'Placement(memory="512Mi")' in problem["hint"]
    assert "bytearray" in problem["details"]["traceback"]


@pytest.fixture
def groups(rig: Rig) -> Path:
    """Where the control groups of Ada's workers are."""
    if os.geteuid() != 0 or (trial := cgroups.worker_group(rig.settings, "ada", "trial")) is None:
        pytest.skip("control groups cannot be made here")
    assert trial.remove()
    return trial.folder.parent


def members(groups: Path) -> dict[str, list[str]]:
    """Return what the processes in each group call themselves."""
    found = {}
    for one in groups.glob("*/"):
        with suppress(OSError):
            pids = (one / "cgroup.procs").read_text().split()
            found[one.name] = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids]
    return found


@pytest.mark.parametrize("spare", [False, True])
async def test_all_that_a_worker_starts_has_one_limit_of_memory(rig: Rig, groups: Path, spare: bool) -> None:
    wanted = {"placement": {"memory": "256Mi", "scratch": "16Mi"}}
    if spare:  # it is in its group before it has an order, and a limit
        await rig.functions.deploy(ADA, "ada", rig.spec(AROUND, **wanted))
        await rig._until(lambda: [SPARE_NAME] in members(groups).values())
    problem = await fails(rig, "children", **wanted)
    assert (problem["code"], problem["field"]) == ("RW-OUT-OF-MEMORY", "placement.memory"), problem
    peak = int(problem["message"].partition("it had used ")[2].split()[0])
    assert 200 <= peak <= 300  # of all together: each alone had 150 at most


@pytest.mark.parametrize("what", ["forks", "programs", "threads"])
async def test_too_many_processes_name_the_limit(rig: Rig, what: str) -> None:
    problem = await fails(rig, what)
    assert (problem["code"], problem["field"]) == ("RW-USER-CODE", "limits.processes")
    assert problem["message"] == f"The function started more processes and threads than its limit of {MOST}."
    assert "Start fewer" in problem["hint"] and "handler" in problem["details"]["traceback"]


@pytest.mark.parametrize("what", ["scratch", "gone scratch", "shared memory"])
async def test_a_full_scratch_names_the_limit_and_the_placement(rig: Rig, what: str) -> None:
    problem = await fails(rig, what, placement={"scratch": "16Mi"})
    assert (problem["code"], problem["field"]) == ("RW-USER-CODE", "placement.scratch")
    assert "/tmp and /dev/shm hold 16Mi each" in problem["message"]
    assert 'Placement(scratch="32Mi")' in problem["hint"]
    assert "No space left on device" in problem["details"]["error"]


@pytest.mark.parametrize("what", ["loop", "compiled"])
async def test_processor_time_names_the_limit_and_the_option(rig: Rig, what: str) -> None:
    problem = await fails(rig, what, cpu_time=1)
    assert (problem["code"], problem["field"]) == ("RW-USER-CODE", "cpu_time")
    assert problem["message"] == "The call used more processor time than its limit of 1 s."
    assert "`cpu_time=2`" in problem["hint"]


async def test_processor_time_is_each_calls_own(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(AROUND, cpu_time=1))
    pids = set()
    for _ in range(4):  # of one worker, which uses more than a call may by then
        assert (await rig.call(b'"a little"')).json() == "done"
        pids.add((await rig.call(b'"nothing"')).json())
    assert len(pids) == 1


async def test_a_program_has_a_limit_of_processor_time_too(rig: Rig) -> None:
    text = "#!/bin/sh\nwhile :; do :; done\n"
    spec = rig.spec("", cpu_time=1)
    bundle = spec.bundle.model_copy(update={"files": {"program": text}, "entry": "program:main", "form": "program"})
    await rig.functions.deploy(ADA, "ada", spec.model_copy(update={"bundle": bundle}))
    problem = (await rig.call(b"1")).json()
    assert (problem["code"], problem["field"]) == ("RW-USER-CODE", "cpu_time")


async def test_a_workers_group_goes_with_it_and_a_spares_with_the_sandbox(rig: Rig, groups: Path) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(AROUND, idle=0.0))
    for _ in range(3):
        await rig._until(lambda: [*members(groups).values()] == [[SPARE_NAME]])
        (before,) = members(groups)
        assert (await rig.call(b'"nothing"')).status_code == 200
        await rig._until(lambda before=before: before not in members(groups))
    await rig.client.end_account("ada")
    await rig._until(lambda: not [*groups.glob("*/")])


async def test_a_worker_that_can_be_no_spare_leaves_a_spare_its_group(rig: Rig, groups: Path) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(AROUND))
    await rig._until(lambda: [SPARE_NAME] in members(groups).values())
    (ahead,) = (name for name, inside in members(groups).items() if inside == [SPARE_NAME])
    await rig.functions.deploy(ADA, "ada", rig.spec(AROUND, "reading", files="read"))
    assert (await rig.call(b'"nothing"', function="reading")).status_code == 200
    assert members(groups)[ahead] == [SPARE_NAME]
