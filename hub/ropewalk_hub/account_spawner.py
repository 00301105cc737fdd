"""AccountSpawner: what starting a person's notebook server has in common wherever it runs, for JupyterHub.

JupyterHub's user is our account of the same name, and of what a person may ask for only the placement counts. Not here:
how a server is started (``spawner.py`` on this machine, ``kube_spawner.py`` on a cluster). Rejected: JupyterHub's own
application of options, by which a person could set any trait of a spawner that its author left open.
"""

from __future__ import annotations

from typing import Any

from traitlets import HasTraits, default

from ropewalk_core.placement import Placement, parse_placement


class AccountSpawner(HasTraits):
    """The common part of spawners of an account's one notebook server; beside a `Spawner`, and before it."""

    user: Any
    user_options: Any

    @default("apply_user_options")
    def _default_apply(self) -> Any:
        return lambda spawner, options: None  # `start` reads the placement itself and can refuse it

    @property
    def account(self) -> str:
        """The account's name; the authenticator gives no other."""
        return str(self.user.name)

    @property
    def placement(self) -> Placement:
        """What was asked for; raises what is wrong with it."""
        return parse_placement(self.user_options.get("placement"))
