"""A peer of a cold call: containerd and runc, from the start of a container to its first HTTP answer.

The container holds one static program, the echo in C, and has the machine's network. It is started by `ctr run`, as
who has containerd and no cluster does. Only the superuser can; `missing` says what else lacks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench import peers
from bench.parts import BODY, Bench, request_of
from bench.scratch import until

_UNUSED = (
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",  # it would make /opt/containerd
    *(f"io.containerd.snapshotter.v1.{one}" for one in ("aufs", "btrfs", "devmapper", "zfs")),
)
_PATIENCE = 30.0


def missing() -> str:
    """Return why containers cannot be started here; nothing if they can."""
    if os.geteuid() != 0:
        return "only the superuser can start containers"
    lacking = [one for one in ("containerd", "ctr", "runc") if shutil.which(one) is None]
    return f"{' and '.join(lacking)} not installed" if lacking else ""


class Containers:
    """Starts containers, one after another, on the servers' core."""

    def __init__(self, bench: Bench, address: Path, image: Path) -> None:
        self._bench, self._address, self._image = bench, address, image
        self._numbers = itertools.count(1)

    def start(self) -> float:
        """Return the milliseconds from the start of a container to its first answer, and end it."""
        name, port = f"bench-{os.getpid()}-{next(self._numbers)}", peers.free_port()
        asked = request_of({"Host": f"127.0.0.1:{port}"})
        argv = ["run", "--detach", "--null-io", "--net-host", "--rootfs", str(self._image), name, "/echo", str(port)]
        begin = time.perf_counter()
        program = subprocess.Popen(self._ctr(*argv), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _first_answer(port, asked, begin + _PATIENCE)
            return (time.perf_counter() - begin) * 1e3
        finally:
            complaint = _ended(program)
            self._end(name)
            if program.returncode:
                self._bench.say(f"ctr: {complaint[-300:]}")

    def _end(self, name: str) -> None:
        for words in (["tasks", "delete", "--force", name], ["containers", "delete", name]):
            subprocess.run(self._ctr(*words), capture_output=True, timeout=_PATIENCE, check=False)

    def _ctr(self, *words: str) -> list[str]:
        pinned = ["taskset", "-c", str(self._bench.serving)]
        return [*pinned, "ctr", "--address", str(self._address), "--namespace", "bench", *words]


@contextlib.contextmanager
def containers(bench: Bench) -> Iterator[Containers]:
    """Run a containerd of our own meanwhile."""
    folder = bench.ground.folder / "containerd"
    image = folder / "image"
    image.mkdir(parents=True)
    shutil.copy(bench.compiled("echo", "-static"), image / "echo")
    address, config = folder / "containerd.sock", folder / "containerd.toml"
    config.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        f"disabled_plugins = [{', '.join(f'{one!r}' for one in _UNUSED)}]\n"
        f'[grpc]\n  address = "{address}"\n'
    )
    argv = ["containerd", "--config", config, "--log-level", "error"]
    with bench.ground.running("containerd", argv, cores=[bench.serving]):
        started = Containers(bench, address, image)
        until(lambda: _answers(address), "containerd", _PATIENCE)
        yield started


def _answers(address: Path) -> bool:
    done = subprocess.run(
        ["ctr", "--address", str(address), "version"], capture_output=True, timeout=_PATIENCE, check=False
    )
    return done.returncode == 0


def _first_answer(port: int, asked: bytes, end: float) -> None:
    while time.perf_counter() < end:
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=5) as line:
            line.sendall(asked)
            if BODY in line.recv(65536):
                return
        time.sleep(0.0005)
    raise TimeoutError(f"no container answered in {_PATIENCE:g} s")


def _ended(program: subprocess.Popen[bytes]) -> str:
    try:
        return program.communicate(timeout=_PATIENCE)[1].decode(errors="replace").strip()
    except subprocess.TimeoutExpired:
        program.kill()
        return program.communicate()[1].decode(errors="replace").strip()
