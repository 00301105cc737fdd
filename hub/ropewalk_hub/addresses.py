"""Which loopback ports the platform's own processes use: one small file that the supervisor writes and all read.

The ports are picked free at the first start and kept, so that a process that is restarted alone comes back where its
siblings look for it. It must not know what listens there. Rejected: ports derived from the door's port; the next one
up may belong to somebody else.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from ropewalk_core.errors import Unavailable
from ropewalk_core.settings import Settings


@dataclass(frozen=True)
class Addresses:
    """The internal ports, all on 127.0.0.1."""

    hub: int
    """JupyterHub itself."""
    platform: int
    """`ropewalk_hub.app`: what the proxy sends people to."""
    proxy_api: int
    """The command interface of configurable-http-proxy."""

    @property
    def hub_url(self) -> str:
        """Base URL of JupyterHub."""
        return f"http://127.0.0.1:{self.hub}"

    @property
    def platform_url(self) -> str:
        """Base URL of the platform process."""
        return f"http://127.0.0.1:{self.platform}"

    @property
    def proxy_api_url(self) -> str:
        """Base URL of the proxy's command interface."""
        return f"http://127.0.0.1:{self.proxy_api}"


def file_of(settings: Settings) -> Path:
    """Return where the ports are kept."""
    return settings.run / "ports.json"


def read(settings: Settings) -> Addresses:
    """Return the ports of this home.

    Raises
    ------
    Unavailable
        If the supervisor has not written them yet.
    """
    try:
        return Addresses(**json.loads(file_of(settings).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise Unavailable(f"{file_of(settings)} cannot be read: {error}.", hint="Run `ropewalk up`.") from error


def write(settings: Settings, addresses: Addresses) -> None:
    """Keep the ports, whole or not at all."""
    target = file_of(settings)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(addresses)))
    temporary.replace(target)


def pick() -> Addresses:
    """Return three ports that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        hub, platform, proxy_api = (int(one.getsockname()[1]) for one in sockets)
    return Addresses(hub=hub, platform=platform, proxy_api=proxy_api)
