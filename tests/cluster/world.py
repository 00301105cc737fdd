"""The cluster's first process: process 1 of namespaces of its own, which start and end with it.

``python -m tests.cluster.world RUN`` is run under ``unshare`` and knows nothing of Kubernetes. It hides the folders
that the programs of a node write to wherever they are told to live, starts and restarts *parts* (long-lived programs),
reaps, and passes connections from sockets of this machine into the cluster (*doors*), which has no route to it. When it
ends, however it ends, the kernel ends every process, mount and interface of the cluster. Rejected: containers of
containers (another daemon), and ``ip netns exec`` (it mounts another /sys and hides the control groups).
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHIELDED = {  # what a kubelet writes for the whole machine, and the value that it is shown instead
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


@dataclass
class Part:
    """One long-lived program, how it is started, and whether it should be running."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    log: str
    pid: int = 0
    wanted: bool = True
    starts: int = 0
    ended: str = ""
    since: float = field(default_factory=time.time)

    def told(self) -> dict[str, Any]:
        """Return what a person may want to know of it."""
        return {"pid": self.pid, "wanted": self.wanted, "starts": self.starts, "ended": self.ended, "log": self.log}


Doors = dict[int, tuple[str, int]]
"""Where each port of this machine's loopback leads."""


class World:
    """Parts, doors and the control socket, on one event loop."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.parts: dict[str, Part] = {}
        self.gone = asyncio.Event()
        self._doors: Doors = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def live(self) -> None:
        """Serve until told to end."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(one, self.gone.set)
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = self.run / "control.sock"
        path.unlink(missing_ok=True)
        control.bind(str(path))
        path.chmod(0o600)
        control.listen(16)
        control.setblocking(False)
        self._spawn(self._serve(control))
        await self.gone.wait()
        for part in reversed(self.parts.values()):
            self._stop(part, signal.SIGTERM)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, control: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(control)
            self._spawn(self._answer(connection))

    async def _answer(self, connection: socket.socket) -> None:
        """Answer one request: a line of JSON, with the door's listening socket beside it."""
        connection.setblocking(True)
        connection.settimeout(10)
        with connection:
            try:
                text, handles = await asyncio.to_thread(_received, connection)
                answer = self._do(json.loads(text), handles)
            except (OSError, ValueError, KeyError) as error:
                answer = {"error": str(error)}
            await asyncio.to_thread(connection.sendall, json.dumps(answer).encode() + b"\n")

    def _do(self, request: dict[str, Any], handles: list[int]) -> dict[str, Any]:
        match request["do"]:
            case "start":
                return self._add(request)
            case "stop" | "kill":
                part = self._named(request["name"])
                part.wanted = False
                self._stop(part, signal.SIGTERM if request["do"] == "stop" else signal.SIGKILL)
                return part.told()
            case "door":
                self._open((request["host"], request["port"]), request["listen"], handles)
                return {}
            case "doors":
                return {str(listen): list(target) for listen, target in self._doors.items()}
            case "parts":
                return {name: part.told() for name, part in self.parts.items()}
            case other:
                return {"error": f"nothing is called {other}"}

    def _open(self, target: tuple[str, int], listen: int, handles: list[int]) -> None:
        """Let a door lead there: one that is open already, or a new one on the socket that came with the request."""
        known = listen in self._doors
        self._doors[listen] = target
        if not known:
            self._spawn(_door(socket.socket(fileno=handles[0]), listen, self._doors))

    def _add(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["name"]
        if "argv" in request and not (name in self.parts and self.parts[name].pid):
            argv = [str(one) for one in request["argv"]]
            environment, log = dict(request.get("environment", {})), str(self.run / "logs" / f"{name}.log")
            self.parts[name] = Part(name, argv, environment, log)
        part = self._named(name)
        part.wanted = True
        if not part.pid:
            self._start(part)
        return part.told()

    def _named(self, name: str) -> Part:
        if name not in self.parts:
            raise ValueError(f"no part is called {name}; there are {', '.join(self.parts)}")
        return self.parts[name]

    def _start(self, part: Part) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        part.pid = os.posix_spawnp(
            part.argv[0],
            part.argv,
            {**os.environ, **part.environment},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, part.log, flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGCHLD],
        )
        part.starts, part.since = part.starts + 1, time.time()

    def _stop(self, part: Part, number: signal.Signals) -> None:
        if part.pid:
            try:
                os.kill(part.pid, number)
            except ProcessLookupError:
                part.pid = 0

    def _reap(self) -> None:
        """Take in every child that ended, also those that its own parents left behind, and start parts again."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for part in self.parts.values():
                if part.pid == pid:
                    part.pid, part.ended = 0, _ended(status)
                    if part.wanted and not self.gone.is_set():
                        self._spawn(self._again(part))

    async def _again(self, part: Part) -> None:
        await asyncio.sleep(min(5.0, 0.2 * 2**part.starts))
        if part.wanted and not part.pid and not self.gone.is_set():
            self._start(part)


def _ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit {code}"


def _received(connection: socket.socket) -> tuple[str, list[int]]:
    text, handles = b"", array.array("i")
    while not text.endswith(b"\n"):
        data, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(4 * handles.itemsize))
        if not data:
            break
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                handles.frombytes(content[: len(content) - len(content) % handles.itemsize])
        text += data
    return text.decode(), list(handles)


async def _door(listener: socket.socket, listen: int, doors: Doors) -> None:
    """Pass what connects to a socket of the machine's network on to where its door leads now."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(*doors[listen])
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass(reader, inner_writer), _pass(inner_reader, writer))
        for end in (writer, inner_writer):
            end.close()

    listener.setblocking(False)
    server = await asyncio.start_server(one, sock=listener)
    await server.serve_forever()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


def settle(run: Path) -> None:
    """Give the cluster mounts of its own, so that nothing is written where the machine could see it."""
    mount = ["mount", "--types"]
    for argv in (
        ["mount", "--make-rslave", "/"],  # what the machine mounts is seen here, what we mount is not seen there
        ["mount", "--make-rshared", "/"],  # kubelets ask for propagation between themselves and their pods
        [*mount, "proc", "proc", "/proc"],
        [*mount, "tmpfs", "-o", "mode=755", "tmpfs", "/run"],
        [*mount, "tmpfs", "-o", "mode=755", "tmpfs", "/var/log"],
    ):
        subprocess.run(argv, check=True)
    for name in ("upper", "work", "shield"):
        (run / "hidden" / name).mkdir(parents=True, exist_ok=True)
    hidden = run / "hidden"
    layers = f"lowerdir=/var/lib,upperdir={hidden / 'upper'},workdir={hidden / 'work'}"
    subprocess.run([*mount, "overlay", "-o", layers, "overlay", "/var/lib"], check=True)
    for name, value in SHIELDED.items():
        shield, path = hidden / "shield" / name.replace("/", "-"), Path("/proc/sys") / name
        shield.write_text(value + "\n")
        if path.exists():
            subprocess.run(["mount", "--bind", str(shield), str(path)], check=True)


def main() -> None:
    """Become process 1 of the cluster."""
    run = Path(sys.argv[1])
    settle(run)
    socket.sethostname("ropewalk-cluster")
    asyncio.run(World(run).live())


if __name__ == "__main__":
    main()
