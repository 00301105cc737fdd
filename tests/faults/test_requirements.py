"""A platform that is killed while it builds an environment: nothing half-made is used, and the next one builds it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ropewalk_core import settings
from ropewalk_core.local import accounts, cgroups, sandbox
from ropewalk_core.local.layout import BUILT
from ropewalk_core.local.requirement_store import RequirementStore
from ropewalk_core.processes import run
from ropewalk_core.settings import Settings
from tests.package_index import serving

pytestmark = pytest.mark.skipif(not sandbox.probe().works, reason=f"no working bubblewrap: {sandbox.probe().why}")

BUILDER = """
import asyncio, sys
from pathlib import Path
from ropewalk_core import settings
from ropewalk_core.local.requirement_store import RequirementStore

async def nothing():
    return set()

async def main():
    store = RequirementStore(settings.load(Path(sys.argv[1]), environ={}, environments_index=sys.argv[2]), nothing)
    await store.ensure("ann", ["rope-toy"])

asyncio.run(main())
"""


async def nothing() -> set[str]:
    return set()


@pytest.fixture(autouse=True)
def groups(tmp_path: Path) -> Iterator[None]:
    """The home's control groups go with it."""
    yield
    cgroups.remove(Settings(home=(tmp_path / "home").resolve()))


@pytest.mark.parametrize("when", ["downloading", "anywhere"])
async def test_a_killed_builder_leaves_nothing_that_counts(tmp_path: Path, when: str) -> None:
    with serving() as index:
        index.wheel("rope_toy", "1.0")
        home = settings.load(tmp_path / "home", environ={}, environments_index=index.url)
        accounts.prepare(home, "ann")
        pauses = [0.0] if when == "downloading" else [0.1 * number for number in range(1, 8)]
        for pause in pauses:
            if when == "downloading":
                index.hold.clear()
            builder = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                BUILDER,
                str(home.home),
                index.url,
                env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
            )
            async with asyncio.timeout(30):
                while when == "downloading" and not any(one.startswith("/files/") for one in index.asked):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await asyncio.sleep(pause)
            if builder.returncode is None:
                builder.send_signal(signal.SIGKILL)
            await builder.wait()
            index.hold.set()
            for folder in (home.home / BUILT / "shared").glob("[0-9a-f]*"):
                assert (folder / "venv" / "bin" / "python").exists() and (folder / "ropewalk.json").exists()
        built = await RequirementStore(home, nothing).ensure("ann", ["rope-toy"])
        assert built.packages == ("rope-toy==1.0",)
        assert run([str(built.python), "-c", "import rope_toy"]).code == 0
        assert not list((home.home / BUILT).glob(".new-*"))
        assert run(["pgrep", "-f", str(home.home / BUILT)]).code != 0
