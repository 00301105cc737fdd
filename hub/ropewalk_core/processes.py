"""The one place that spawns. A process has a name, a record on disk and an identity that no stranger can take over.

A record holds the process id with its start time and the machine's boot id, so whoever restarts can adopt or end what
an earlier, killed owner left. Every process carries a mark in its environment that names the folder of records: one
that was started but not yet recorded is found too. Everything a process started is ended with it, except what has a
record of its own (a notebook server outlives the hub). Not here: what the processes are, sandboxes
(``local/sandbox.py``), restarts (``supervisor.py``).

Rejected: process groups alone (kernels make their own session), cgroups alone (an ordinary user cannot make them), and
a pid file without the start time (ids are reused).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from ropewalk_core.errors import BadInput, Internal, StorageFull
from ropewalk_core.process_table import Seen, boot_id, seen, send, table

MARK = "ROPEWALK_PROCESS"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
_FULL = 28  # errno.ENOSPC
_STEP = 0.02


@dataclass(frozen=True)
class Running:
    """One process that was started here or by an earlier owner of the folder.

    Parameters
    ----------
    name
        The name it was spawned under.
    pid
        Its process id; also its session, because it leads one.
    started
        Its start time in clock ticks since boot.
    boot
        The machine's boot id; a record of an earlier boot is dead.
    mark
        A random text that tells this start of the name from others.
    adopt
        Whether it may outlive its owner and be adopted by the next one.
    """

    name: str
    pid: int
    started: int
    boot: str
    mark: str
    adopt: bool = True


@dataclass(frozen=True)
class Finished:
    """What a short command left: exit code (negative: the signal), output and error output."""

    code: int
    out: str
    err: str


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 30.0,
    data: str = "",
) -> Finished:
    """Run a short command to its end; a missing program is code 127, a time-out 124."""
    try:
        done = subprocess.run(
            list(argv),
            env=None if env is None else dict(env),
            cwd=cwd,
            timeout=timeout,
            input=data,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finished(124, "", f"{argv[0]} took longer than {timeout:g} seconds")
    except OSError as error:
        return Finished(127, "", f"{argv[0]}: {error.strerror}")
    return Finished(done.returncode, done.stdout, done.stderr)


def become(argv: Sequence[str], *, env: Mapping[str, str]) -> NoReturn:
    """Turn this process into another program; the terminal, the process id and its parent stay.

    It starts with Ctrl-C held back, and lets it come (``SIG_UNBLOCK``) when it can answer.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        os.execve(argv[0], list(argv), dict(env))  # noqa: S606
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        raise BadInput(f"{argv[0]} cannot be started: {error.strerror}.") from error


class _Child:
    """A child of this very process, waited for by its id: whoever adopts it may be somebody else."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.pid = child.pid
        self.code: int | None = None
        child.returncode = 0  # tells Popen that its caller does the waiting

    def poll(self) -> int | None:
        """Return the exit code once it has ended, and take the zombie away."""
        if self.code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # reaped elsewhere
                return None
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code


class Processes:
    """Named processes with records in one folder.

    Parameters
    ----------
    directory
        Folder of the records, ``<home>/run/processes``; made when missing. Several owners may share it, each with
        names of its own.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._children: dict[str, _Child] = {}

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path | int,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
        adopt: bool = True,
    ) -> Running:
        """Start a process in a session of its own; output goes to the end of ``log``.

        Parameters
        ----------
        name
            Unique name; one that runs must be ended first.
        argv
            Command; the sandbox and limits are part of it.
        env
            Its whole environment; the mark is added.
        log
            Path of a file, or an open descriptor where the folder belongs to somebody who must not choose the file.
        cwd
            Working folder.
        pass_fds
            Descriptors that it inherits.
        adopt
            Whether the next owner may adopt it.

        Raises
        ------
        BadInput
            If the name is unusable or the program does not exist.
        StorageFull
            If the disk has no room for the record or the log.
        """
        before = self._read(self._path(_check(name)))
        if before is not None and not self._lives(before):
            self._end(before, 1.0)  # somebody killed its first process alone; its record is about to be replaced
        mark = secrets.token_hex(8)
        output = log if isinstance(log, int) else -1
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if isinstance(log, Path):
                log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            child = subprocess.Popen(
                list(argv),
                env=dict(env) | {MARK: f"{self.directory}:{name}:{mark}"},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
        except OSError as error:
            raise _spawn_failed(name, argv, error) from error
        finally:
            if isinstance(log, Path) and output >= 0:
                os.close(output)
        return self._record(name, child, mark, adopt)

    def find(self, name: str) -> Running | None:
        """Return the recorded process of this name while it lives."""
        record = self._read(self._path(_check(name)))
        return record if record and self._lives(record) else None

    def alive(self, name: str) -> bool:
        """Say whether the named process lives."""
        return self.find(name) is not None

    def living(self, prefix: str = "") -> list[Running]:
        """Return every recorded process that lives and whose name starts with ``prefix``."""
        return [one for one in self._records() if one.name.startswith(prefix) and self._lives(one)]

    def exit_code(self, running: Running) -> int | None:
        """Return how a child of this very owner ended (negative: the signal); None while it lives or is not ours."""
        child = self._children.get(running.name)
        return child.poll() if child and child.pid == running.pid else None

    async def wait(self, running: Running) -> int | None:
        """Wait until the process has ended; return its exit code where it was our own child."""
        try:
            descriptor = os.pidfd_open(running.pid)
        except ProcessLookupError:
            return self.exit_code(running)
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        try:
            if self._lives(running):
                loop.add_reader(descriptor, gone.set)
                await gone.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        return self.exit_code(running)

    def end(self, name: str, grace: float = 5.0) -> bool:
        """End the named process and all it started; return whether anything lived.

        Blocks. TERM first, KILL to what is left after ``grace`` seconds. What has a record of its own is not touched.
        """
        record = self._read(self._path(_check(name)))
        if record is None:
            return False
        found = self._end(record, grace)
        self._forget(name)
        return found

    def sweep(self, which: Callable[[str], bool] = lambda name: True, grace: float = 2.0) -> list[str]:
        """End every process of this folder whose name ``which`` accepts; return the names that still lived.

        Finds recorded ones and, by their mark, ones whose owner was killed before it could record them, and what a
        killed first process left.
        """
        ended = []
        for record in self._records():
            if which(record.name):
                if self._end(record, grace):
                    ended.append(record.name)
                self._forget(record.name)
        recorded = {record.pid for record in self._records()}
        everyone = table()
        for one in everyone.values():
            name, mark = self._marked(one.pid)
            if name and which(name) and one.session not in recorded and not one.dead:
                leader = everyone.get(one.session)
                left = Running(name, one.session, leader.started if leader else 0, boot_id(), mark)
                if self._end(left, grace):
                    ended.append(name)
        return ended

    def _end(self, record: Running, grace: float) -> bool:
        members = self._members(record)
        if not members:
            self._reap(record)
            return False
        for one in members:
            if one.session == record.pid:
                send(one, signal.SIGTERM)
        self._until_gone(record, grace)
        deadline = time.monotonic() + 5.0
        while (left := self._members(record)) and time.monotonic() < deadline:
            for one in left:
                send(one, signal.SIGKILL)
            self._until_gone(record, 0.2)
        self._reap(record)
        if left:
            raise Internal(f"Process {record.name} ({record.pid}) cannot be ended.")
        return True

    def _until_gone(self, record: Running, patience: float) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            self._reap(record)
            if not self._members(record):
                return
            time.sleep(_STEP)

    def _members(self, record: Running) -> list[Seen]:
        """Return the process, its session, and all their descendants that have no record of their own."""
        if record.boot != boot_id():
            return []
        everyone = table()
        leader = everyone.get(record.pid)
        ours = leader is not None and leader.started == record.started
        others = {one.pid for one in self._records() if one.pid != record.pid}
        found = {
            one.pid
            for one in everyone.values()
            if one.session == record.pid and (ours or self._marked(one.pid) == (record.name, record.mark))
        }
        children: dict[int, list[int]] = {}
        for one in everyone.values():
            children.setdefault(one.parent, []).append(one.pid)
        waiting = list(found)
        while waiting:
            new = [pid for pid in children.get(waiting.pop(), ()) if pid not in found and pid not in others]
            found.update(new)
            waiting.extend(new)
        return [everyone[pid] for pid in sorted(found) if not everyone[pid].dead]

    def _lives(self, record: Running) -> bool:
        self._reap(record)
        now = seen(record.pid)
        return bool(now and not now.dead and now.started == record.started and record.boot == boot_id())

    def _reap(self, record: Running) -> None:
        child = self._children.get(record.name)
        if child and child.pid == record.pid:
            child.poll()

    def _marked(self, pid: int) -> tuple[str, str]:
        """Return the name and mark of a process started under this folder, or two empty texts."""
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return "", ""
        start = f"{MARK}={self.directory}:".encode()
        for one in environ.split(b"\0"):
            if one.startswith(start):
                name, _, mark = one[len(start) :].decode(errors="replace").rpartition(":")
                return name, mark
        return "", ""

    def _record(self, name: str, child: subprocess.Popen[bytes], mark: str, adopt: bool) -> Running:
        now = seen(child.pid)
        running = Running(name, child.pid, now.started if now else 0, boot_id(), mark, adopt)
        self._children[name] = _Child(child)
        path = self._path(name)
        try:
            temporary = path.with_suffix(f".{mark}")
            temporary.write_text(json.dumps(asdict(running)))
            temporary.replace(path)
        except OSError as error:
            self._end(running, 0.0)
            raise _spawn_failed(name, (name,), error) from error
        return running

    def _records(self) -> Iterator[Running]:
        for path in sorted(self.directory.glob("*.json")):
            if record := self._read(path):
                yield record

    def _read(self, path: Path) -> Running | None:
        try:
            return Running(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):  # a record that a full disk or another version left: the mark still finds it
            return None

    def _forget(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)
        self._children.pop(name, None)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.json"


def _check(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadInput(f"'{name}' cannot name a process.", field="name")
    return name


def _spawn_failed(name: str, argv: Sequence[str], error: OSError) -> BadInput | StorageFull:
    if error.errno == _FULL:
        return StorageFull(f"The disk is full, so {name} was not started.")
    return BadInput(f"{argv[0]} cannot be started: {error.strerror}.", field=name)
