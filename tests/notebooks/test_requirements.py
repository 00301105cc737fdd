"""Requirements in a real notebook of a real platform: the log under the cell, the stop button, and a kill meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.function_rig import needs_sandbox
from tests.package_index import Index, serving
from tests.platform_rig import House, Kernel, ended, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
CELL = "%%function -r rope-toy=={VERSION}\nimport rope_toy\ndef toy(value):\n    return [rope_toy.version, value]\n"


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with serving() as one:
        for version in ("1.0", "2.0", "3.0"):
            one.wheel("rope_toy", version)
        yield one


@pytest.fixture(scope="module")
def house(index: Index) -> Iterator[House]:
    needs_sandbox()
    with ended(House()) as one:
        one.home.mkdir()
        (one.home / "ropewalk.toml").write_text(f'[environments]\nindex = "{index.url}"\n')
        one.sign_up(one.up()["first"])
        one.start_notebook()
        yield one


@pytest.fixture(scope="module")
def kernel(house: House) -> Kernel:
    return house.kernel()


def begun(index: Index, kernel: Kernel, version: str) -> tuple[threading.Thread, list[str]]:
    """Run the cell until its build waits for a download."""
    index.hold.clear()
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(kernel.run(CELL.replace("{VERSION}", version))), daemon=True)
    thread.start()
    until(lambda: any(f"/files/rope_toy-{version}" in one for one in index.asked))
    return thread, said


def test_the_log_is_under_the_cell_and_the_function_runs(kernel: Kernel) -> None:
    said = kernel.run(CELL.replace("{VERSION}", "1.0"))
    assert "environment of toy: " in said and "function toy: deployed, revision 1" in said, said
    assert "['1.0', 7]" in kernel.run("toy(7)")
    assert "environment of toy" not in kernel.run(CELL.replace("{VERSION}", "1.0"))


def test_the_stop_button_ends_the_build(house: House, index: Index, kernel: Kernel) -> None:
    thread, said = begun(index, kernel, "2.0")
    kernel.server("POST", f"kernels/{kernel.id}/interrupt")
    thread.join(30)
    assert said and "KeyboardInterrupt" in said[0], said
    until(lambda: not house.processes.living("build."))
    index.hold.set()
    assert "['1.0', 7]" in kernel.run("import ropewalk; ropewalk.functions.get('toy')(7)")  # nothing was deployed


def test_a_platform_that_is_killed_meanwhile_costs_a_wait(house: House, index: Index, kernel: Kernel) -> None:
    thread, said = begun(index, kernel, "3.0")
    os.kill(house.pid("platform"), signal.SIGKILL)
    index.hold.set()
    thread.join(120)
    assert said and "deployed, revision 2" in said[0], said
    assert "['3.0', 7]" in kernel.run("toy(7)")
    assert not list((house.home / "environments").glob(".new-*")) and not house.processes.living("build.")


STEPS = """
from ropewalk import step, workflow

@step(requirements=["rope-toy=={VERSION}"])
def toy(value: int) -> list:
    import rope_toy
    return [rope_toy.version, value]

@step
def without(value: list) -> str:
    try:
        import rope_toy
    except ImportError:
        return f"{value[0]} was there, and is not here"

@workflow
def toys(value: int = 7):
    return without(toy(value))

run = toys.submit({VALUE})
run.wait()
print(run.result(), run["toy"].why)
"""


def test_a_step_has_packages_of_its_own(kernel: Kernel, house: House) -> None:
    first = STEPS.replace("{VERSION}", "2.0").replace("{VALUE}", "7")
    said = kernel.run(first)
    assert "environment of toy: " in said and "2.0 was there, and is not here It ran: " in said, said
    said = kernel.run(first.replace("submit(7)", "submit(7, fresh=True)"))
    assert "environment of toy" not in said and "It ran: everything was to run again" in said, said
    said = kernel.run(first.replace("toys", "others"))
    assert "2.0 was there, and is not here Its result is that of run-" in said, said
    said = kernel.run(STEPS.replace("{VERSION}", "3.0").replace("{VALUE}", "7"))
    assert "3.0 was there, and is not here It ran: the packages have changed" in said, said
    assert len([*(house.home / "environments").rglob("ropewalk.json")]) >= 2
    said = kernel.run('@step(requirements=["rope-toy @ http://localhost/x.whl"])\ndef bad():\n    pass')
    assert "Where: requirements" in said and "RW-BAD-WORKFLOW" in said, said
    wrong = STEPS.replace("{VERSION}", "77.0").replace("{VALUE}", "7")
    said = kernel.run(wrong)
    assert "rope-toy==77.0" in said and "submitted" not in said, said
