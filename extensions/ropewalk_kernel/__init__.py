"""Magics and displays of the notebook kernel.

The kernel of a person's notebook loads this by itself when it starts. That costs almost nothing: the magics are loaded
when one is first used, nothing is asked of the platform before, and nothing is put into the person's namespace.
"""

from __future__ import annotations

from typing import Any

MAGICS = {"function": "cell", "functions": "line", "runs": "line", "services": "line"}


def load_ipython_extension(shell: Any) -> None:
    """Announce the magics, complete names, set Hera up, and show our errors with the person's own frames first."""
    from ropewalk_kernel import complain, complete, hera

    for name, kind in MAGICS.items():
        shell.magics_manager.register_lazy(name, "ropewalk_kernel.magics", kind)
    complain.install(shell)
    complete.install(shell)
    hera.install()


def unload_ipython_extension(shell: Any) -> None:
    """Leave the cards as they are, and give the shell its own error display back."""
    from ropewalk_kernel import complain, complete, hera, live

    live.freeze()
    hera.uninstall()
    complete.uninstall(shell)
    complain.uninstall(shell)
