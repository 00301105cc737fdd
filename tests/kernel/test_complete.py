"""Tab completion of names inside ``get("...")``: what is there, quickly, and never an error."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

from IPython.core.completer import provisionalcompleter

from ropewalk_core.model import State
from ropewalk_kernel import complete
from tests.kernel.conftest import Notebook
from tests.kernel.fake import FakePlatform
from tests.kernel.test_runs import run_of


def completions(notebook: Notebook, code: str) -> list[str]:
    with provisionalcompleter():
        found = list(notebook.shell.Completer.completions(code, len(code)))
    return [code[: one.start] + one.text for one in found if one.type == "name"]


def test_names_are_completed_inside_get(platform: FakePlatform, notebook: Notebook) -> None:
    platform.runs["run-0"] = run_of(State.DONE)
    notebook.run("import ropewalk\nfrom ropewalk import runs as mine\n")
    assert completions(notebook, 'ropewalk.runs.get("ru') == ['ropewalk.runs.get("run-0']
    assert completions(notebook, "x = 1\nmine.get('run-") == ["x = 1\nmine.get('run-0"]
    assert completions(notebook, 'ropewalk.runs.get("other') == []


def test_what_is_not_ours_is_left_alone(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run("runs = {'run-7': 1}\nclass services:\n    functions = {}\n")
    for code in ('runs.get("r', 'services.functions.get("r', 'nothing.get("r', 'ropewalk.nothing.get("'):
        assert completions(notebook, code) == []
    assert notebook.errors == []


def test_a_platform_that_is_slow_or_fails_costs_a_moment_and_no_error() -> None:
    answered, calls = threading.Event(), []

    class Slow:
        def _ipython_key_completions_(self) -> list[str]:
            calls.append(1)
            answered.wait(10)
            return ["late"]

    class Failing:
        def _ipython_key_completions_(self) -> Any:
            raise KeyError("away")

    names = complete.Names(patience=0.01)
    assert list(names.of(Failing())) == []
    assert list(names.of(Slow())) == []
    assert list(names.of(Slow())) == [], "asked once, not once for each tab"
    answered.set()
    names._asking["Slow"].join(10)
    assert list(names.of(Slow())) == ["late"]
    assert len(calls) == 1


def test_a_kernel_that_starts_loads_no_client() -> None:
    code = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell\n"
        "InteractiveShell.instance().extension_manager.load_extension('ropewalk_kernel')\n"
        "sys.exit('pydantic' in sys.modules or 'httpx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
