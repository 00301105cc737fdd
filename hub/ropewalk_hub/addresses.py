"""Where the platform's own processes find each other.

On one machine these are loopback ports in one small file that the supervisor writes and all read: picked free at the
first start and kept, so that a process that is restarted alone comes back where its siblings look for it. On a cluster
they are services of the platform's namespace, whose names and ports never change. It must not know what listens there.
Rejected: ports derived from the door's port; the next one up may belong to somebody else.
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

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 - in a pod; policies say who reaches it
HUB_PORT, PROXY_API_PORT, HEALTH_PORT = 8081, 8001, 8089
"""Fixed ports on a cluster. Health is asked at the last one where a process serves nothing else."""


@dataclass(frozen=True)
class Addresses:
    """The internal ports and the hosts that they are on."""

    hub: int
    """JupyterHub itself."""
    platform: int
    """`ropewalk_hub.app`: what the proxy sends people to."""
    proxy_api: int
    """The command interface of configurable-http-proxy."""
    hub_host: str = LOOPBACK
    platform_host: str = LOOPBACK
    proxy_host: str = LOOPBACK
    bind: str = LOOPBACK
    """Where each of them listens."""

    @property
    def hub_url(self) -> str:
        """Base URL of JupyterHub."""
        return f"http://{self.hub_host}:{self.hub}"

    @property
    def platform_url(self) -> str:
        """Base URL of the platform process."""
        return f"http://{self.platform_host}:{self.platform}"

    @property
    def proxy_api_url(self) -> str:
        """Base URL of the proxy's command interface."""
        return f"http://{self.proxy_host}:{self.proxy_api}"


def file_of(settings: Settings) -> Path:
    """Return where the ports are kept."""
    return settings.run / "ports.json"


def read(settings: Settings) -> Addresses:
    """Return where the processes of this platform are.

    Raises
    ------
    Unavailable
        If the supervisor has not written them yet.
    """
    if settings.backend == "kube":
        return of_cluster(settings)
    try:
        return Addresses(**json.loads(file_of(settings).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise Unavailable(f"{file_of(settings)} cannot be read: {error}.", hint="Run `ropewalk up`.") from error


def of_cluster(settings: Settings) -> Addresses:
    """Return the services of the platform's namespace."""
    space = settings.cluster.namespace
    return Addresses(
        hub=HUB_PORT,
        platform=settings.door.port,
        proxy_api=PROXY_API_PORT,
        hub_host=f"hub.{space}",
        platform_host=f"platform.{space}",
        proxy_host=f"proxy.{space}",
        bind=listening(settings),
    )


def names(settings: Settings) -> frozenset[str]:
    """Return the hosts by which siblings ask the platform."""
    space = settings.cluster.namespace
    kube = {"platform", f"platform.{space}"} if settings.backend == "kube" else set()
    return frozenset({LOOPBACK, "[::1]", *kube})


def listening(settings: Settings) -> str:
    """Return the address that a process of the platform listens on; loopback is of no use in a pod."""
    bind = settings.door.bind
    return EVERYWHERE if settings.backend == "kube" and bind == LOOPBACK else bind


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
