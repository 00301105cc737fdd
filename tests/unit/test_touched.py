"""What a step touches besides its inputs is seen, as far as Python tells."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from ropewalk_runtime import touched
with touched.watched() as found:
    {code}
open("after.txt", "w").close()
print(json.dumps(found.said))
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("open('data.csv').read()", "data.csv"),
        ("open(os.path.expanduser('~/deep/../data.csv'), 'rb').read()", "data.csv"),
        ("open('made.txt', 'w').write('x')", "made.txt"),
        ("import pathlib; pathlib.Path('data.csv').read_text()", "data.csv"),
        ("os.open(b'data.csv', os.O_RDONLY)", "data.csv"),
        ("open('.cache', 'w').close()", ""),
        ("import sqlite3, csv, asyncio; open('/etc/hostname').read()", ""),
        ("import tempfile; tempfile.TemporaryFile().close()", ""),
        ("os.fdopen(os.pipe()[0]).close()", ""),
        ("import socket; one = socket.socket(); one.settimeout(1); one.connect_ex(('127.0.0.1', 9))", "the network"),
        ("import asyncio; asyncio.run(asyncio.sleep(0))", ""),
        ("import subprocess; subprocess.run(['true'])", "another program"),
        ("os.system('true')", "another program"),
        ("sys.audit('open', object(), 'r', 0)", "something that has no name"),
    ],
)
def test_what_is_touched_is_named(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "data.csv").write_text("a,b")
    (tmp_path / "deep").mkdir()
    program = [sys.executable, "-c", PROGRAM.format(code=code), str(ROOT / "workflows")]
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == said
