"""Listening sockets: of the two doors, bound once by the supervisor and handed on, and of the home's own processes.

Browsers ask ``[::1]`` before ``127.0.0.1``; whoever else listened there could serve a false sign-in page, so both are
held or nothing starts. Not here: what is said on them. Rejected: letting each process bind; between two of its starts
another could take the port.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from ropewalk_core.errors import BadInput
from ropewalk_core.settings import Settings

_LOOPBACKS = ("127.0.0.1", "::1")
_BACKLOG = 1024


@dataclass(frozen=True)
class Doors:
    """Listening sockets of the platform's door and of the people's door."""

    platform: tuple[socket.socket, ...]
    people: tuple[socket.socket, ...]

    def close(self) -> None:
        """Give the ports back."""
        for one in (*self.platform, *self.people):
            one.close()


def listen(settings: Settings) -> Doors:
    """Bind both doors on every address, or none of them.

    Raises
    ------
    BadInput
        If a port is taken or may not be used; the message names it and, where we can see it, who holds it.
    """
    door = settings.door
    if not 0 < door.port < 65535:
        raise BadInput(
            f"Port {door.port} cannot be used: a port is a number from 1 to 65534, as the next one is used too.",
            field="--port",
            hint="Choose one from 1024 to 65534, such as --port 9000.",
        )
    made: list[list[socket.socket]] = []
    try:
        for port in (door.port, door.people_port):
            made.append([])
            for address in _addresses(door.bind):
                made[-1].append(_bind(address, port))
    except BadInput:
        for one in (one for group in made for one in group):
            one.close()
        raise
    return Doors(tuple(made[0]), tuple(made[1]))


def private(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Return a listening unix socket that only our own user can connect to.

    Its mode is set before it is bound: changing the process's umask would lock what another thread makes meanwhile.
    """
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, kind)
    os.fchmod(made.fileno(), 0o600)
    made.bind(str(path))
    made.listen(256)
    return made


def holder(port: int) -> str:
    """Return who listens on a port, such as ``process 17 (nginx)``; an empty text where we cannot see it."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in _lines(Path(f"/proc/net/{table}")):
            field = line.split()
            if field[3:4] == ["0A"] and int(field[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{field[9]}]")
    for pid in (one for one in os.listdir("/proc") if one.isdigit()):  # noqa: PTH208 - hot enough
        try:
            for one in Path(f"/proc/{pid}/fd").iterdir():
                if str(one.readlink()) in inodes:
                    return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"
        except OSError:
            continue
    return ""


def _addresses(bind: str) -> list[str]:
    if bind == "127.0.0.1":
        return [one for one in _LOOPBACKS if one == "127.0.0.1" or _has_ipv6()]
    if bind == "0.0.0.0":  # noqa: S104 - what the person asked for
        return [bind, *(["::"] if _has_ipv6() else [])]
    return [bind]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


def _bind(address: str, port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ":" in address:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        one.bind((address, port))
        one.listen(_BACKLOG)
    except OSError as error:
        one.close()
        raise _refusal(address, port, error) from error
    return one


def _refusal(address: str, port: int, error: OSError) -> BadInput:
    if error.errno == errno.EADDRINUSE:
        who = holder(port)
        by = f" by {who}" if who else ""
        return BadInput(
            f"Port {port} is taken on {address}{by}.",
            field="--port",
            hint="Stop it, or choose two free ports with --port N (N and N+1 are used).",
        )
    if error.errno == errno.EACCES:
        hint = "Choose a port above 1023."
        return BadInput(f"You may not listen on port {port}.", field="--port", hint=hint)
    reason = re.sub(r"\.$", "", error.strerror or "unknown reason")
    return BadInput(f"Nothing can listen on {address} port {port}: {reason}.", field="door.bind")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()[1:]
    except OSError:
        return []
