"""``ropewalk argo-env``: what the real `argo` command must have in its environment to speak to the platform.

Printed for a shell to take over; a token is in it, good for ten minutes, so it goes through `eval` and into no file.
Not here: the server's side (``ropewalk_hub.argo_api``).
"""

from __future__ import annotations

import argparse
import json
import shlex
from urllib.parse import urlsplit

from ropewalk_core.cli.output import echo
from ropewalk_core.cli.parsing import Subparsers, verb
from ropewalk_core.client import Client, argo_server
from ropewalk_core.errors import Unavailable


def register(subparsers: Subparsers) -> None:
    """Declare the command."""
    verb(
        subparsers,
        "argo-env",
        "print what the argo command needs in its environment; its token is good for ten minutes",
        run=_print,
        example='eval "$(ropewalk argo-env)"; argo list',
    )


def variables(address: str, account: str, token: str) -> dict[str, str]:
    """Return the variables.

    Parameters
    ----------
    address
        Of the platform: scheme, host and, unless it is the scheme's own, a port.
    account
        Whose namespace.
    token
        A bearer token for the API.
    """
    parts = urlsplit(address)
    secure = parts.scheme == "https"
    return {
        "ARGO_SERVER": f"{parts.hostname}:{parts.port or (443 if secure else 80)}",
        "ARGO_BASE_HREF": "/argo",
        "ARGO_HTTP1": "true",
        "ARGO_SECURE": "true" if secure else "false",
        "ARGO_NAMESPACE": account,
        "ARGO_TOKEN": f"Bearer {token}",
        "KUBECONFIG": "/dev/null",
    }


async def _print(client: Client, arguments: argparse.Namespace) -> int:
    address = argo_server(arguments.home)
    if not address:
        raise Unavailable("No platform runs here.", hint="Start it with `ropewalk up`, or name its folder with --home.")
    token = await client.token("api")
    found = variables(address, token.account or await client.account(), token.text)
    if arguments.json:
        echo(json.dumps(found))
    else:
        for name, value in found.items():
            echo(f"export {name}={shlex.quote(value)}")
    return 0
