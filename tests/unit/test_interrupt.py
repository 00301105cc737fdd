"""Ctrl-C at any moment of a command's start ends it quietly, with the exit code that shells expect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ropewalk_core.cli import INTERRUPTED

_COMMAND = """
import os, signal, sys

class Press:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Press())
from ropewalk_core.cli import main
sys.exit(main(sys.argv[2:]))
"""
_BECOME = """
import os, signal, sys
from ropewalk_core.processes import become
then = "import os, signal; os.kill(os.getpid(), signal.SIGINT); from ropewalk_hub import supervisor;"
then += "raise SystemExit(supervisor.main(['--home', %r]))" % sys.argv[1]
become([sys.executable, "-c", then], env=dict(os.environ))
"""


def _run(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("module", ["ropewalk_core.cli.program", "pydantic", "httpx", "ropewalk_hub.commands"])
@pytest.mark.parametrize("words", [("status",), ("functions", "list")])
def test_while_its_modules_load(tmp_path: Path, module: str, words: tuple[str, ...]) -> None:
    done = _run(_COMMAND, module, *words, "--home", str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "", "")


def test_while_up_becomes_the_supervisor(tmp_path: Path) -> None:
    done = _run(_BECOME, str(tmp_path / "home"))
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "", "")
    assert not (tmp_path / "home").exists()
