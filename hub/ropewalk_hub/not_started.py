"""Why a notebook server was not started, as JupyterHub hands it on. Both spawners raise it."""

from __future__ import annotations

from ropewalk_core.errors import RopewalkError


class NotStarted(Exception):
    """Why no server was started, in the words that the hub's page shows."""

    def __init__(self, error: RopewalkError) -> None:
        super().__init__(str(error))
        self.jupyterhub_message = f"{error.message} {error.hint}"
