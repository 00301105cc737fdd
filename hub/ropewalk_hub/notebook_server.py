"""The program of a person's notebook server: JupyterHub's single-user server, started without what nobody needs.

Its open connections end with their sign-in (``notebook_sockets.py``).

JupyterLab runs yarn at each start wherever there is Node.js, to learn from where it would build itself; nothing here
builds it, and that takes a quarter of the start. So Node.js is out of its sight while it is loaded; terminals and
kernels see it. Nothing is garbage while modules load, so nothing looks for it then. Not here: who starts the server
(``spawner.py``). Rejected: replacing the private function that calls yarn.
"""

from __future__ import annotations

import gc
import importlib
from urllib.parse import urlsplit

from ropewalk_core.settings import read_environment, shown_instead


def main() -> None:
    """Run the server until it is ended."""
    gc.disable()
    with shown_instead("PATH", "/nonexistent"):
        importlib.import_module("jupyterlab.labapp")
    from jupyterhub.singleuser import main as serve

    from ropewalk_hub import notebook_door, notebook_sockets

    notebook_sockets.install()
    if gateway := urlsplit(read_environment("ROPEWALK_GATEWAY")).netloc:  # in a pod whose people's host is localhost
        host, _, port = gateway.rpartition(":")
        notebook_door.lead(notebook_door.listeners(int(port)), host, int(port))
    gc.freeze()
    gc.enable()
    serve()


if __name__ == "__main__":
    main()
