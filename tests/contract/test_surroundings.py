"""What a function finds around it in a real worker: its variables, and files that it may only read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ropewalk_core.errors import BadInput
from ropewalk_core.testing import ADA
from tests.function_rig import Rig, running

TELLS = """
import os, pathlib

AT_IMPORT = os.environ.get("MODE")

def handler(what: str):
    if what == "variables":
        return [os.environ.get("MODE"), AT_IMPORT, os.environ["HOME"].endswith("files")]
    if what == "read":
        return pathlib.Path("data.txt").read_text()
    if what == "write":
        return pathlib.Path("data.txt").write_text("changed")
    if what == "absolute":
        return open(os.environ["HOME"] + "/new.txt", "w").close()
    if what == "remove":
        os.remove("data.txt")
    if what == "mount":
        import ctypes
        return ctypes.CDLL(None).mount(None, os.environ["HOME"].encode(), None, 0x1020, None)
    if what == "scratch":
        return pathlib.Path("/tmp/x").write_text("fine")
    if what == "elsewhere":
        open("/usr/x", "w")
"""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        yield rig


async def said(rig: Rig, what: str) -> Any:
    return (await rig.call(f'"{what}"'.encode())).json()


def data(rig: Rig, text: str = "mine") -> Any:
    file = rig.settings.home / "accounts" / "ada" / "files" / "data.txt"
    file.write_text(text)
    file.chmod(0o666)
    return file


async def test_variables_are_there_while_it_loads_and_in_each_call(rig: Rig) -> None:
    deployed = await rig.functions.deploy(ADA, "ada", rig.spec(TELLS, environment={"MODE": "a $(b) c"}))
    assert deployed.revision.spec.environment == {"MODE": "a $(b) c"}
    assert await said(rig, "variables") == ["a $(b) c", "a $(b) c", True]
    await rig.functions.deploy(ADA, "ada", rig.spec(TELLS, environment={"MODE": "next"}))
    assert await said(rig, "variables") == ["next", "next", True]
    await rig.functions.deploy(ADA, "ada", rig.spec(TELLS))
    assert await said(rig, "variables") == [None, None, True]


@pytest.mark.parametrize("name", ["ROPEWALK_HOME", "PYTHONPATH", "LD_PRELOAD", "PORT", "1st", "a-b", ""])
async def test_variables_that_are_not_a_functions_are_refused_by_name(rig: Rig, name: str) -> None:
    with pytest.raises(BadInput) as caught:
        await rig.functions.deploy(ADA, "ada", rig.spec(TELLS, environment={name: "x"}))
    assert caught.value.field == f"environment.{name}" and caught.value.hint


async def test_files_that_may_only_be_read_are_not_changed(rig: Rig) -> None:
    file = data(rig)
    await rig.functions.deploy(ADA, "ada", rig.spec(TELLS, files="read"))
    assert await said(rig, "read") == "mine"
    for what, name in (("write", "data.txt"), ("absolute", "new.txt"), ("remove", "data.txt")):
        problem = await said(rig, what)
        assert (problem["code"], problem["field"]) == ("RW-USER-CODE", "files"), what
        assert problem["message"].startswith("The function may only read your files, and not write ")
        assert name in problem["message"] and "/tmp" in problem["hint"] and "handler" in problem["details"]["traceback"]
    assert await said(rig, "mount") == -1  # nobody in it can make it writable again
    assert file.read_text() == "mine" and not file.with_name("new.txt").exists()
    assert await said(rig, "scratch") == 4
    assert (await said(rig, "elsewhere"))["field"] is None  # nobody's files


async def test_files_may_be_changed_otherwise(rig: Rig) -> None:
    file = data(rig)
    await rig.functions.deploy(ADA, "ada", rig.spec(TELLS))
    assert await said(rig, "write") == 7 and file.read_text() == "changed"
