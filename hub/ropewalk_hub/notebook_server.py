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
import signal
from pathlib import Path
from urllib.parse import urlsplit

from ropewalk_core.settings import read_environment, shown_instead

ARGUMENTS = (
    "--KernelManager.transport=ipc",  # no kernel listens on a port that other accounts could reach
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.news_url=None",
    f"--LabApp.app_settings_dir={Path(__file__).with_name('lab')}",  # a link to the dashboard in the top bar
    "--LabApp.extension_manager=readonly",
    "--LanguageServerManager.autodetect=False",  # looks for 20 programs at each start
)
"""What every notebook server is started with, besides what the hub says."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS")
"""Variables that say how many threads libraries for numbers use; they count a machine's cores, not one's own."""


def main() -> None:
    """Run the server until it is ended."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # else no kernel could be interrupted: they inherit it
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
