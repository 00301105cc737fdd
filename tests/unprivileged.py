"""Run the fast tests as an ordinary user when the superuser calls: `python -m tests.unprivileged`.

The user gets a copy of the sources and the same environments. Where the interpreter lies under a folder that ordinary
users cannot enter (a superuser's own Python, say), a mount namespace of its own makes just the interpreter visible.
Called by an ordinary user, it only says so: `make test` did the same already. What asks the kernel for nothing is the
same for every user and is left out; paths after the command choose otherwise.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

USER = 20999
_SIDE_BY_SIDE = ("-n", "2", "--dist", "loadfile")
_PROXY = Path(".cache/proxy")
_LEFT_OUT = {"browser", "cluster", "conformance", "kube", "notebooks", "pages", "rest", "unit"}
_OF_UNIT = [
    "environments",
    "host",
    "journal",
    "machine",
    "mounts",
    "processes",
    "requirement_store",
    "sockets",
    "worker",
    "workflows_local",
]


def closed_ancestor(path: Path) -> Path | None:
    """Return the outermost folder on the way to `path` that others cannot enter."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), None)


def reveal(path: Path, scratch: Path) -> str:
    """Return shell lines that make `path` reachable inside a private mount namespace."""
    closed = closed_ancestor(path)
    if closed is None:
        return ""
    held, target = shlex.quote(str(scratch / "held")), shlex.quote(str(path))
    return (
        f"mkdir -p {held} && mount --bind {target} {held} && "
        f"mount -t tmpfs -o mode=0755 tmpfs {shlex.quote(str(closed))} && "
        f"mkdir -p {target} && mount --bind {held} {target} && "
    )


def _concerned(tests: Path) -> list[str]:
    """Return the tests for which it matters who runs them."""
    folders = {one.parent.name for one in tests.glob("*/test_*.py")} - _LEFT_OUT
    return [*(f"tests/{one}" for one in sorted(folders)), *(f"tests/unit/test_{one}.py" for one in _OF_UNIT)]


def main() -> int:
    if os.geteuid() != 0:
        sys.stdout.write("you are an ordinary user: `make test` has run these already\n")
        return 0
    checkout = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory(prefix="ropewalk-test-") as folder:
        scratch = Path(folder)
        home, copy = scratch / "home", scratch / "home" / "checkout"
        ignored = shutil.ignore_patterns(".git", ".cache", "build", "__pycache__", ".venv", ".venv-user", ".*_cache")
        shutil.copytree(checkout, copy, ignore=ignored)
        shutil.copytree(checkout / _PROXY, copy / _PROXY, symlinks=True)
        for path in [scratch, home, *home.rglob("*")]:
            os.chown(path, USER, USER, follow_symlinks=False)
        asked = sys.argv[1:] or _concerned(copy / "tests")
        tests = ["-m", "pytest", "-m", "not slow and not browser and not cluster", "-q", *_SIDE_BY_SIDE, *asked]
        become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", sys.executable, *tests]
        script = reveal(Path(sys.base_prefix).resolve(), scratch) + "exec " + shlex.join(become)
        environment = os.environ | {"HOME": str(home), "TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        command = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script]
        return subprocess.run(command, cwd=copy, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
