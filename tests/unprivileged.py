"""Run the fast tests as an ordinary user when the superuser calls: `python -m tests.unprivileged`.

The checkout may lie where an ordinary user cannot read, so that user gets a read-only copy of the sources and uses the
same environments. Called by an ordinary user, it only says so: `make test` did the same already.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

USER = 20999


def main() -> int:
    if os.geteuid() != 0:
        sys.stdout.write("you are an ordinary user: `make test` has run these already\n")
        return 0
    checkout = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory(prefix="ropewalk-test-") as folder:
        scratch = Path(folder)
        copy = scratch / "checkout"
        ignored = shutil.ignore_patterns(".git", ".cache", "build", "__pycache__", ".venv", ".venv-user", ".*_cache")
        shutil.copytree(checkout, copy, ignore=ignored)
        for path in [scratch, *scratch.rglob("*")]:
            os.chown(path, USER, USER, follow_symlinks=False)
        command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", sys.executable]
        command += ["-m", "pytest", "-m", "not slow and not browser", "-q", *sys.argv[1:]]
        environment = os.environ | {"HOME": folder, "TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, cwd=copy, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
