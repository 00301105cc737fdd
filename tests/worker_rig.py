"""A worker as a process of its own, without a sandbox: code in, frames in, frames out."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ropewalk_runtime import bundle
from ropewalk_runtime.frames import pack, read_frame

_MAIN = """
import json, socket, sys
from ropewalk_runtime import worker
sys.exit(worker.main(socket.socket(fileno=int(sys.argv[1])), json.loads(sys.argv[2])))
"""
Frame = tuple[dict[str, Any], bytes]


class Work:
    """The gateway's side of a worker."""

    def __init__(self, process: subprocess.Popen[bytes], sock: socket.socket) -> None:
        self.process, self.sock = process, sock
        self.hello: dict[str, Any] = {}

    def send(self, number: int, value: Any = None, **head: Any) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.sock.sendall(pack({"id": number, "type": "application/json", **head}, body))

    def tell(self, op: str, number: int, **more: Any) -> None:
        self.sock.sendall(pack({"op": op, "id": number, **more}))

    def take(self) -> Frame:
        frame = read_frame(self.sock)
        assert frame is not None
        return frame

    def rest(self) -> tuple[bytes, dict[str, Any]]:
        """Return the parts up to the end of a call, acknowledged as they come, and the header that ended it."""
        found = b""
        while True:
            header, body = self.take()
            if header.get("op") != "part":
                return found, header
            found += body
            self.tell("more", header["id"], bytes=len(body) + 64)

    def quiet(self, seconds: float) -> bool:
        """Say whether nothing comes for so long."""
        return not select.select([self.sock], [], [], seconds)[0]


@contextmanager
def working(folder: Path, source: str, *, entry: str = "handler", form: str = "python", **order: Any) -> Iterator[Work]:
    """Give a worker that has loaded this code, or said why not."""
    python = form in ("python", "asgi")
    files, named = ({"cell.py": source}, f"cell:{entry}") if python else ({"program": source}, "program:main")
    bundle.write(folder / "bundle", {"files": files, "entry": named, "digest": "d", "form": form})
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    argv = [sys.executable, "-c", _MAIN, str(theirs.fileno())]
    argv.append(json.dumps({"bundle": str(folder / "bundle"), **order}))
    with ours, subprocess.Popen(argv, pass_fds=[theirs.fileno()], cwd=folder) as process:
        theirs.close()
        work = Work(process, ours)
        try:
            work.hello = work.take()[0]
            yield work
        finally:
            if form == "server":  # its program outlives a kill here, where no sandbox ends with the worker
                ours.shutdown(socket.SHUT_RDWR)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(10)
            process.kill()
