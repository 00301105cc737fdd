"""A plain Hera program in a real notebook of a real platform: nobody sets anything up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ropewalk_core.local import sandbox
from tests.platform_rig import House, ended

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not sandbox.probe().works, reason=f"no working bubblewrap: {sandbox.probe().why}"),
]
PROGRAM = """
from hera.workflows import Container, Workflow

with Workflow(generate_name="hello-", entrypoint="say") as w:
    Container(name="say", image="alpine", command=["sh", "-c"], args=["echo hello from Hera"])

done = w.create(wait=True, poll_interval=1)
print(done.status.phase, done.metadata.namespace)
"""


@pytest.fixture
def house() -> Iterator[House]:
    with ended(House()) as one:
        one.sign_up(one.up()["first"])
        yield one


def test_create_and_wait_just_works(house: House) -> None:
    house.start_notebook()
    kernel = house.kernel()
    assert "False" in kernel.run("import sys; print('hera' in sys.modules)")
    assert "Succeeded ann" in kernel.run(PROGRAM)
    said = kernel.run("import ropewalk; run = ropewalk.runs.last(); print(run.name, run.logs())")
    assert "hello" in said and "hello from Hera" in said
    kernel.run("run.remove()")
    assert house.api("GET", "workflows/ann")["items"] == []
