"""Who holds which accelerator of this machine: a locked file for each, and a line of those who wait.

``run/leases/<device>`` is locked as long as anything lives that was started with the lock's descriptor, so it ends with
its holder however that ends, and nobody must clean up. The holder is the sandbox's own first process and its watcher
outside (``sandbox.command(lease=...)``); people's code is not given the descriptor. Where it may trace its neighbors it
could take it from the first process and unlock it, so a device counts as held, too, while the process lives whose
record the lease names: the watcher, which no sandbox shows. ``<device>.json`` says who it is.

Not here: who comes first (``ropewalk_core.leases``), and what a sandbox shows. Rejected: a table in one process (after
a kill it does not know who still runs), records alone (what a killed watcher left has none), and locking the device
itself (opening some wakes them).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ropewalk_core.errors import StorageFull
from ropewalk_core.leases import Device, Holder, Wish, check, grants, taken
from ropewalk_core.placement import WITHOUT
from ropewalk_core.processes import Processes, Running
from ropewalk_core.settings import Settings

LOOK = 0.2
"""Seconds between two looks at what is free, while somebody waits; a lock's end wakes nobody."""
_FLOCK = "hhqqi4x"


@dataclass(eq=False)
class Lease:
    """A device that is held. Whoever starts the holder says so with `given`, and closes it then."""

    device: Device
    descriptor: int
    _note: Path
    _who: dict[str, str]

    def given(self, running: Running) -> None:
        """Note which process it was started with."""
        self._who |= {"process": running.name, "mark": running.mark}
        self.note()

    def note(self) -> None:
        """Write who has it."""
        new = self._note.with_suffix(".new")
        new.write_text(json.dumps(self._who))
        new.replace(self._note)

    def close(self) -> None:
        """Give up this process's part in it; it goes on while something else has the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


class Leases:
    """The devices of this machine and their locks. Several processes may have one each, on the same folder.

    Parameters
    ----------
    settings
        Their home says where the locks lie.
    devices
        What there is, in the order in which it is lent.
    """

    def __init__(self, settings: Settings, devices: Sequence[Device]) -> None:
        self._folder = settings.run / "leases"
        self._processes = Processes(settings.run / "processes")
        self.devices = tuple(devices)

    def free(self) -> list[Device]:
        """Return the devices that nobody holds."""
        return [one for one in self.devices if self._holder(one) is None]

    def held(self) -> list[Holder]:
        """Return who holds what; without names where those are just being written."""
        return [found for one in self.devices if (found := self._holder(one))]

    @contextlib.contextmanager
    def lend(self, wanted: Sequence[str], account: str, what: str) -> Iterator[Lease | None]:
        """Take one as `take`, for whatever is started meanwhile with its descriptor."""
        lease = self.take(wanted, account, what)
        try:
            yield lease
        finally:
            if lease is not None:
                lease.close()

    def take(self, wanted: Sequence[str], account: str, what: str) -> Lease | None:
        """Return the first of these that is free, None where it is to run without.

        Raises
        ------
        Limited
            If all are taken; `Unsatisfiable` if there is none.
        """
        check(wanted, self.devices)
        while True:
            found = grants([Wish(0, tuple(wanted))], self.free() if wanted else ())
            if 0 not in found:
                raise taken(wanted, self.held(), account)
            if (device := found[0]) is None:
                return None
            if (lease := self.lock(device, account, what)) is not None:
                return lease

    def lock(self, device: Device, account: str, what: str) -> Lease | None:
        """Take a device; None if somebody has it. Raises `StorageFull`."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        guard = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)  # for a moment: what is handed on can only be read, so its lock is shared
            if self._holder(device) is not None:
                return None
            path = self._folder / device.id
            descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            lease = Lease(device, descriptor, path.with_suffix(".json"), {"account": account, "what": what})
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
                lease.note()
            except OSError as error:
                lease.close()
                raise StorageFull(f"It cannot be noted who has {device.name}: {error.strerror}.") from error
            return lease
        finally:
            os.close(guard)

    def _holder(self, device: Device) -> Holder | None:
        said = _read(self._folder / f"{device.id}.json")
        if not self._locked(device) and not self._lives(said):
            return None
        return Holder(device.id, device.name, said.get("account", ""), said.get("what", ""))

    def _lives(self, said: dict[str, str]) -> bool:
        found = self._processes.find(said["process"]) if said.get("process") else None
        return found is not None and found.mark == said.get("mark")

    def _locked(self, device: Device) -> bool:
        try:
            descriptor = os.open(self._folder / device.id, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            return bool(struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK)
        finally:
            os.close(descriptor)


@dataclass(eq=False)
class _Waiting:
    wish: Wish
    account: str
    what: str
    got: asyncio.Future[Lease | None]


class Line:
    """Those who wait for a device in this process, in the order in which they came."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._waiting: list[_Waiting] = []
        self._next: asyncio.TimerHandle | None = None

    async def take(self, wanted: Sequence[str], account: str, what: str, patience: float | None) -> Lease | None:
        """Wait for a device; None where it is to run without.

        Parameters
        ----------
        wanted
            Names in order of preference; empty wants none.
        account, what
            Who will hold it, as in `Holder`.
        patience
            Seconds; None waits for ever.

        Raises
        ------
        Limited
            If none became free in time; `Unsatisfiable` if there is none.
        """
        if not wanted or wanted[0] == WITHOUT:
            return None
        check(wanted, self._leases.devices)
        one = _Waiting(Wish(object(), tuple(wanted)), account, what, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        given: Lease | None = None
        try:
            self._look()
            async with asyncio.timeout(patience):
                given = await one.got
            return given
        except TimeoutError:
            raise taken(wanted, self._leases.held(), account) from None
        finally:
            if one in self._waiting:
                self._waiting.remove(one)
            if given is None and one.got.done() and not one.got.cancelled() and one.got.exception() is None:
                _settle(one.got, one.got.result())  # it was given one in the moment in which it left

    def _look(self) -> None:
        """Give out what is free, and look again in a moment while somebody waits."""
        found = grants([one.wish for one in self._waiting], self._leases.free())
        for one in [each for each in self._waiting if each.wish.id in found]:
            device = found[one.wish.id]
            try:
                lease = self._leases.lock(device, one.account, one.what) if device else None
            except StorageFull as error:
                self._waiting.remove(one)
                one.got.set_exception(error)
                continue
            if device is None or lease is not None:  # else another process was faster
                self._waiting.remove(one)
                _settle(one.got, lease)
        if self._next is not None:
            self._next.cancel()
        self._next = asyncio.get_running_loop().call_later(LOOK, self._look) if self._waiting else None


def _settle(got: asyncio.Future[Lease | None], lease: Lease | None) -> None:
    """Give it what it waits for; whoever left meanwhile needs it no more."""
    if not got.done():
        got.set_result(lease)
    elif lease is not None:
        lease.close()


def _read(path: Path) -> dict[str, str]:
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {key: str(value)[:200] for key, value in said.items()} if isinstance(said, dict) else {}
