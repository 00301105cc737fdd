"""The platform's processes: the command of each, what it inherits, and how one sees that it is ready.

Not here: starting and restarting them (``supervisor.py``) and what they do. This module stays small in memory, as it
lives in the supervisor: questions over HTTP are asked by hand. Rejected: one process for all; each can be killed alone.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ropewalk_core.errors import Unavailable
from ropewalk_core.settings import Settings, child_environment, package_environment, read_environment
from ropewalk_hub import node
from ropewalk_hub.addresses import Addresses
from ropewalk_hub.secrets_store import Secret, SecretsStore
from ropewalk_hub.sockets import Doors

Check = Callable[[], Awaitable[bool]]
_PATIENCE = 3.0
ROUTES = "routes.json"


@dataclass(frozen=True)
class Sibling:
    """One process of the platform.

    Parameters
    ----------
    name
        Its name in messages, logs and records.
    argv
        Command.
    ready
        Asks whether it does its work now.
    env
        Variables besides those of every sibling.
    sockets
        Listening sockets that it inherits.
    cwd
        Working folder.
    grace
        Seconds it gets to end by itself.
    first
        Whether the sign-in page needs it, so that it starts before the others.
    """

    name: str
    argv: list[str]
    ready: Check
    env: Mapping[str, str] = field(default_factory=dict)
    sockets: tuple[socket.socket, ...] = ()
    cwd: Path | None = None
    grace: float = 5.0
    first: bool = False


def all_of(settings: Settings, addresses: Addresses, doors: Doors) -> list[Sibling]:
    """Return every process of the platform, in the order of their start."""
    run = settings.run
    return [
        _proxy(settings, addresses, doors),
        Sibling(
            "platform",
            _module("ropewalk_hub.app"),
            lambda: unix_answers(run / "platform.sock", "/internal/ready"),
            env=package_environment(),
            first=True,
        ),
        Sibling(
            "hub",
            [*_module("jupyterhub"), "-f", str(Path(__file__).with_name("jupyterhub_config.py"))],
            lambda: port_answers(addresses.hub, "/hub/api"),
            cwd=settings.home / "hub",
        ),
        Sibling("host", _module("ropewalk_hub.host"), lambda: packets_answer(run / "host.sock")),
        Sibling(
            "gateway",
            _module("ropewalk_hub.gateway"),
            lambda: port_answers(settings.door.people_port, "/", below=600),
            env={"ROPEWALK_SOCKETS": ",".join(str(one.fileno()) for one in doors.people)},
            sockets=doors.people,
        ),
        Sibling("engine", _module("ropewalk_workflows.engine"), _always),
    ]


def environment(settings: Settings) -> dict[str, str]:
    """Return what every sibling inherits: a few variables of the machine and this very choice of settings."""
    chosen = {
        name: value
        for name in _variables(settings)
        if name not in ("ROPEWALK_HOME", "ROPEWALK_DOOR_PORT", "ROPEWALK_FOLDER") and (value := read_environment(name))
    }
    chosen |= {"ROPEWALK_HOME": str(settings.home), "ROPEWALK_DOOR_PORT": str(settings.door.port)}
    chosen |= {"ROPEWALK_FOLDER": str(settings.folder)} if settings.folder else {}
    return child_environment(chosen)


async def unix_answers(path: Path, target: str, method: str = "GET") -> bool:
    """Say whether a process answers a question on a unix socket with success."""
    return (await ask_unix(path, target, method))[0] == 200


async def ask_unix(path: Path, target: str, method: str = "GET") -> tuple[int, Any]:
    """Return status and JSON of an answer on a unix socket; status 0 when there is none."""
    status, body = await _ask(lambda: asyncio.open_unix_connection(str(path)), target, method)
    try:
        return status, json.loads(body) if body else None
    except ValueError:
        return status, None


async def port_answers(port: int, target: str, below: int = 500) -> bool:
    """Say whether a process answers on a loopback port with a status below a number."""
    status, _ = await _ask(lambda: asyncio.open_connection("127.0.0.1", port), target, "GET")
    return 0 < status < below


async def packets_answer(path: Path) -> bool:
    """Say whether somebody accepts connections on a packet socket."""

    def knock() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
            one.settimeout(_PATIENCE)
            try:
                one.connect(str(path))
            except OSError:
                return False
            return True

    return await asyncio.to_thread(knock)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _ask(connect: Callable[[], Awaitable[Streams]], target: str, method: str) -> tuple[int, str]:
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await connect()
            try:
                head = f"{method} {target} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
                writer.write(head.encode())
                answer = (await reader.read()).decode(errors="replace")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0, ""
    first, _, rest = answer.partition("\r\n")
    words = first.split()
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), rest.partition("\r\n\r\n")[2]


def _proxy(settings: Settings, addresses: Addresses, doors: Doors) -> Sibling:
    folder = node.find()
    if folder is None:
        raise Unavailable(f"Node.js {node.OLDEST} or newer is missing.", hint="Run `make setup`.")
    script = Path(__file__).with_name("proxy.mjs")
    target = [addresses.platform_url, settings.door.host]
    numbers = [str(one.fileno()) for one in doors.platform]
    return Sibling(
        "proxy",
        [
            str(folder / "node"),
            str(script),
            str(node.proxy_script()),
            str(settings.run / ROUTES),
            str(addresses.proxy_api),
            *target,
            *numbers,
        ],
        lambda: port_answers(addresses.proxy_api, "/"),
        env={"CONFIGPROXY_AUTH_TOKEN": SecretsStore(settings).text(Secret.PROXY_TOKEN)},
        sockets=doors.platform,
        grace=2.0,
        first=True,
    )


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


async def _always() -> bool:
    return True


def _variables(part: Any, prefix: str = "ROPEWALK") -> list[str]:
    found: list[str] = []
    for one in fields(part):
        name, value = f"{prefix}_{one.name.upper()}", getattr(part, one.name)
        found += _variables(value, name) if is_dataclass(value) else [name]
    return found
