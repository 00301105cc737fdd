"""Reaches into a running cluster: runs commands in its namespaces, and asks its first process for parts and doors."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.layout import ROOT, ClusterError, Layout


def environment(layout: Layout) -> dict[str, str]:
    """Return the environment of everything that runs inside."""
    temporary = layout.folder("tmp")
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(layout.run),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


class Inside:
    """A running cluster, seen from this machine."""

    def __init__(self, layout: Layout, pid: int) -> None:
        self.layout = layout
        self.pid = pid  # the first process, as this machine numbers it

    def command(self, argv: Sequence[str | Path], network: str = "") -> list[str]:
        """Return the command that runs another in the cluster's namespaces, in this node's network or the control's."""
        net = f"/proc/{self.pid}/root/run/netns/{network}" if network else f"/proc/{self.pid}/ns/net"
        into = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--ipc", "--uts", f"--net={net}", "--"]
        return [*into, *map(str, argv)]

    def run(self, *argv: str | Path, network: str = "", text: str = "", timeout: float = 60) -> str:
        """Run a command inside and return what it wrote; a failure says what it said."""
        done = subprocess.run(
            self.command(argv, network),
            input=text,
            capture_output=True,
            text=True,
            env=environment(self.layout),
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-2000:]
            raise ClusterError(f"{' '.join(map(str, argv))[:200]} failed in the cluster: {said}")
        return done.stdout

    def start(
        self, name: str, argv: Sequence[str | Path] = (), network: str = "", env: Mapping[str, str] | None = None
    ) -> None:
        """Start a part, or one that was stopped again."""
        request: dict[str, Any] = {"do": "start", "name": name, "environment": dict(env or {})}
        if argv:
            into = ["nsenter", f"--net=/run/netns/{network}", "--"] if network else []
            request["argv"] = [*into, *map(str, argv)]
        self.ask(request)

    def stop(self, name: str, *, kill: bool = False) -> None:
        """Stop a part until it is started again."""
        self.ask({"do": "kill" if kill else "stop", "name": name})

    def parts(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each part."""
        return self.ask({"do": "parts"})

    def door(self, host: str, port: int, listen: int = 0) -> int:
        """Open a port on this machine's loopback that leads to an address in the cluster, and return it.

        One that leads in already leads there from now on. Raises `OSError` if another program has the port.
        """
        request = {"do": "door", "host": host, "port": port}
        if listen in self.doors():
            self.ask(request | {"listen": listen})
            return listen
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", listen))
            listener.listen(128)
            found = int(listener.getsockname()[1])
            self.ask(request | {"listen": found}, [listener.fileno()])
            return found

    def doors(self) -> set[int]:
        """Return the ports on this machine's loopback that lead in."""
        return {int(one) for one in self.ask({"do": "doors"})}

    def ask(self, request: Mapping[str, Any], handles: Sequence[int] = ()) -> dict[str, Any]:
        """Ask the first process for something."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(20)
            try:
                control.connect(str(self.layout.control))
                socket.send_fds(control, [json.dumps(request).encode() + b"\n"], handles)
                answer = json.loads(control.makefile().readline() or "{}")
            except (OSError, ValueError) as error:
                raise ClusterError(f"the cluster's first process does not answer: {error}") from error
        if set(answer) == {"error"}:
            raise ClusterError(f"{request.get('do')} {request.get('name', '')}: {answer['error']}")
        return dict(answer)


def alive(layout: Layout) -> Inside | None:
    """Return the cluster that runs in this folder, if one does."""
    try:
        state = json.loads(layout.state.read_text())
        pid, started = int(state["pid"]), str(state["started"])
    except (OSError, ValueError, KeyError):
        return None
    return Inside(layout, pid) if started_at(pid) == started else None


def started_at(pid: int) -> str:
    """Return when a process was started, which tells it from a later one with its number.

    Nothing if there is none, or if it has ended and its parent, which may be we ourselves, has not waited for it.
    """
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if told[0] in "ZX" else told[19] + _boot()


def _boot() -> str:
    return "@" + Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def signal_first(inside: Inside, number: int) -> None:
    """Send the cluster's first process a signal."""
    try:
        os.kill(inside.pid, number)
    except ProcessLookupError:
        pass
