"""The program of a notebook's pod: makes the account's Python environment, then becomes the notebook server.

The environment lies in the person's files, over the image's (``ropewalk_core.environments``), so `%pip install` lasts
and functions and steps see it too. When it cannot be made, the server starts without: a person whose files are full
must be able to remove some. Not here: the server itself (``notebook_server.py``).
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from ropewalk_core import environments
from ropewalk_core.errors import RopewalkError
from ropewalk_core.kube.volumes import HOME
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.local.sandbox import environ
from ropewalk_core.processes import become
from ropewalk_core.settings import Environments, Settings, read_environment, whole_environment
from ropewalk_hub.notebook_server import ARGUMENTS

BASE = Path("/opt/ropewalk/user")
"""The user side of Ropewalk in the images."""
log = logging.getLogger("ropewalk.notebook")


@dataclass(frozen=True)
class PodPaths(AccountPaths):
    """The folders of the account whose volume is mounted here; ``home`` is where."""

    @property
    def root(self) -> Path:
        """What is ours among the person's files."""
        return self.home / ".ropewalk"

    @property
    def files(self) -> Path:
        """The person's files."""
        return self.home


def prepare(paths: PodPaths, base: Path = BASE) -> None:
    """Make what a server and its kernels need in the person's files."""
    settings = Settings(home=paths.root, environments=Environments(base=base))
    try:
        for folder in (paths.root, paths.root / ".cache", paths.root / ".run"):
            folder.mkdir(mode=0o700, exist_ok=True)
        environments.ensure(settings, paths)
    except (OSError, RopewalkError) as error:
        log.warning("Your own Python environment is not there: %s", error)


def environment(paths: PodPaths, base: Path = BASE) -> dict[str, str]:
    """Return what the server starts with: the container's variables, and the account's."""
    ours = environ(paths, base)
    first, _, rest = ours["PATH"].partition(":")
    return whole_environment() | ours | {"PATH": f"{first}:{base / 'bin'}:{rest}"}


def main() -> None:
    """Prepare, then become the server."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    paths = PodPaths(Path(HOME), read_environment("ROPEWALK_ACCOUNT"))
    prepare(paths)
    argv = [sys.executable, "-P", "-m", "ropewalk_hub.notebook_server", *sys.argv[1:], *ARGUMENTS]
    become(argv, env=environment(paths))


if __name__ == "__main__":
    main()
