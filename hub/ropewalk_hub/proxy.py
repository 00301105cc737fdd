"""The proxy of a cluster: becomes Node.js with ``proxy.mjs``, listening on the door and, for the hub, on its API port.

Run it as ``python -m ropewalk_hub.proxy``; the chart does. On one machine the supervisor starts ``proxy.mjs`` itself,
on sockets that it holds. Not here: who may speak to the API port; the chart's network policies and a token say that.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ropewalk_core import settings as settings_module
from ropewalk_core.errors import RopewalkError, Unavailable
from ropewalk_core.processes import become
from ropewalk_core.settings import Settings, child_environment, read_environment
from ropewalk_hub import node
from ropewalk_hub.siblings import ROUTES

API_PORT = 8001
_TOKEN = "CONFIGPROXY_AUTH_TOKEN"  # noqa: S105 - a name, not a secret
_ANY = "0.0.0.0"  # noqa: S104 - the pod's own address; what may reach it is the network policy's word


def command(settings: Settings) -> list[str]:
    """Return the command that this process becomes.

    Raises
    ------
    Unavailable
        If Node.js or the proxy's package is missing from the image.
    """
    folder = node.find()
    if folder is None:
        raise Unavailable(f"Node.js {node.OLDEST} or newer is missing.", hint="Use the platform's own image.")
    script = Path(__file__).with_name("proxy.mjs")
    door = settings.door
    target = [f"http://platform:{door.port}", door.host]
    listen = [f"{_ANY}:{API_PORT}", *target, f"{_ANY}:{door.port}"]
    return [str(folder / "node"), str(script), str(node.proxy_script()), str(settings.run / ROUTES), *listen]


def main() -> int:
    """Become the proxy, or say why not."""
    settings = settings_module.load()
    settings.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        become(command(settings), env=child_environment({_TOKEN: read_environment(_TOKEN)}))
    except RopewalkError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
