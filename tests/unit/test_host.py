"""The host answers every order, also one that it cannot carry out for a reason that nobody thought of."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from ropewalk_core import settings
from ropewalk_core.errors import RopewalkError, Unavailable, UserCodeFailed
from ropewalk_core.local import accounts, cgroups
from ropewalk_core.local.channel import Channel
from ropewalk_core.local.host_client import HostClient, StepOrder, WorkerOrder
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.local.leases import Lease
from ropewalk_core.local.safe import LocalSafe
from ropewalk_core.processes import Running
from ropewalk_hub import groups
from ropewalk_hub.groups import Groups
from ropewalk_hub.host import Environments, Host, Keeper
from ropewalk_runtime.frames import receive_packet, send_packet


class BrokenEnvironments:
    """An account's environment of which nothing can be said."""

    def ensure(self, settings: Any, paths: Any) -> Path:
        raise KeyError("unforeseen")

    def fingerprint(self, paths: Any) -> str:
        raise KeyError("unforeseen")

    def seen(self, settings: Any, paths: Any) -> tuple[object, ...] | None:
        raise KeyError("unforeseen")


@pytest.fixture
async def host() -> AsyncIterator[tuple[Host, HostClient]]:
    with tempfile.TemporaryDirectory(prefix="rw-") as folder:  # short: a socket's path has at most 107 bytes
        chosen = settings.load(Path(folder) / "home", environ={})
        chosen.run.mkdir(mode=0o700, parents=True)
        chosen.logs.mkdir(mode=0o700)
        accounts.prepare(chosen, "ada")
        found = Host(chosen, BrokenEnvironments())
        serving = asyncio.create_task(found.serve())
        client = HostClient(chosen.run / "host.sock")
        yield found, client
        await client.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        cgroups.remove(chosen)


async def test_an_order_that_fails_unforeseen_is_answered(host: tuple[Host, HostClient]) -> None:
    with pytest.raises(RopewalkError) as caught:
        await asyncio.wait_for(host[1].run_step(StepOrder(id="one", account="ada")), 20)
    assert caught.value.code == "RW-INTERNAL"


async def test_an_end_that_fails_unforeseen_is_answered(
    host: tuple[Host, HostClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def close(keeper: Any) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(host[0], "_close", close)
    host[0]._keepers["ada"] = cast(Any, object())
    with pytest.raises(RopewalkError) as caught:
        await asyncio.wait_for(host[1].end_account("ada"), 20)
    assert caught.value.code == "RW-INTERNAL"
    del host[0]._keepers["ada"]


class KnownEnvironments:
    """An account's environment in which all is well."""

    def ensure(self, settings: Any, paths: Any) -> Path:
        return Path("/usr/bin/python3")

    def fingerprint(self, paths: Any) -> str:
        return ""

    def seen(self, settings: Any, paths: Any) -> tuple[object, ...] | None:
        return ()


class PlayedHost(Host):
    """A host whose keepers are played: each is a socket at whose other end a test sits."""

    def __init__(self, chosen: Any, environments: Environments) -> None:
        super().__init__(chosen, environments)
        self.played: list[socket.socket] = []
        self.may_start = asyncio.Event()
        self.may_start.set()

    async def _start_keeper(self, account: str, lease: Lease | None) -> Keeper:
        await self.may_start.wait()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.played.append(theirs)
        paths, running = AccountPaths(self._settings.home, account), Running(f"keeper.{account}", 0, 0, "", "", False)
        keeper = Keeper(account, paths, "/usr/bin/python3", running, Groups(self._settings, account))
        keeper.channel = Channel(ours, lambda m, d: self._reported(keeper, m, d), lambda: self._keeper_gone(keeper))
        keeper.ready.set()
        self._keepers[account] = keeper
        return keeper

    async def keeper(self, number: int) -> socket.socket:
        """Return the keeper that was started as this one of all, once there is one."""
        async with asyncio.timeout(10):
            while len(self.played) <= number:  # noqa: ASYNC110 - a list tells nobody
                await asyncio.sleep(0.005)
        return self.played[number]

    async def order(self, number: int, patience: float = 5.0) -> tuple[dict[str, Any], list[int]]:
        """Return the next message to a keeper."""
        sock = await self.keeper(number)
        sock.setblocking(False)
        async with asyncio.timeout(patience):
            while True:
                with contextlib.suppress(BlockingIOError):
                    found = receive_packet(sock)
                    assert found is not None
                    return found
                await asyncio.sleep(0.005)


@pytest.fixture
async def played() -> AsyncIterator[tuple[PlayedHost, HostClient]]:
    with tempfile.TemporaryDirectory(prefix="rw-") as folder:
        chosen = settings.load(Path(folder) / "home", environ={})
        chosen.run.mkdir(mode=0o700, parents=True)
        chosen.logs.mkdir(mode=0o700)
        for name in ("ada", "bob"):
            accounts.prepare(chosen, name)
        found = PlayedHost(chosen, KnownEnvironments())
        serving = asyncio.create_task(found.serve())
        client = HostClient(chosen.run / "host.sock")
        yield found, client
        await client.close()
        for sock in found.played:
            sock.close()
        await asyncio.sleep(0.05)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        cgroups.remove(chosen)


async def test_what_a_keeper_did_not_start_goes_whole_to_the_next_one_and_no_further(
    played: tuple[PlayedHost, HostClient],
) -> None:
    host, client = played
    worker = await client.start_worker(WorkerOrder(id="one", account="ada", content=b"{}"))
    for number in (0, 1):
        message, descriptors = await host.order(number)
        assert message["op"] == "start" and len(descriptors) == 2 + message["groups"], number
        for one in descriptors:
            os.close(one)
        host.played[number].close()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(worker.exit, 5)
    loop = asyncio.get_running_loop()
    assert await asyncio.wait_for(loop.sock_recv(worker.socket, 1), 5) == b""  # nobody holds its other end
    worker.socket.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser makes control groups")
async def test_a_worker_that_goes_to_the_next_keeper_has_its_limit_of_memory_there_too(
    played: tuple[PlayedHost, HostClient],
) -> None:
    host, client = played
    worker = await client.start_worker(WorkerOrder(id="one", account="ada", memory=2**28, content=b"{}"))
    message, descriptors = await host.order(0)
    if not message["groups"]:
        pytest.skip("this machine gives no control groups")
    left = await asyncio.create_subprocess_exec("/bin/sleep", "60")  # what the keeper had begun with
    os.write(descriptors[-1], str(left.pid).encode())
    host.played[0].close()
    again, more = await host.order(1)
    left.kill()
    await left.wait()
    for one in [*descriptors, *more]:
        os.close(one)
    worker.socket.close()
    assert again["groups"] == 1


async def test_what_cannot_be_handed_over_is_nobodys_job(
    played: tuple[PlayedHost, HostClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> list[int]:
        raise OSError(errno.EMFILE, "Too many open files")

    host, client = played
    monkeypatch.setattr(host, "_limited", full)
    worker = await client.start_worker(WorkerOrder(id="one", account="ada", content=b"{}"))
    with pytest.raises(RopewalkError) as caught:
        await asyncio.wait_for(worker.exit, 5)
    worker.socket.close()
    assert caught.value.code == "RW-INTERNAL" and host._keepers["ada"].jobs == {}


async def test_secrets_that_are_too_many_together_are_named(played: tuple[PlayedHost, HostClient]) -> None:
    host, client = played
    names = tuple(f"S{number}" for number in range(15))
    for name in names:
        await LocalSafe(host._settings).put("ada", name, "x" * 2**13)
    worker = await client.start_worker(WorkerOrder(id="one", account="ada", content=b"{}", secrets=names))
    with pytest.raises(UserCodeFailed) as caught:
        await asyncio.wait_for(worker.exit, 5)
    worker.socket.close()
    assert caught.value.field == "secrets" and "take 12" in caught.value.message and "fewer" in str(caught.value.hint)


async def test_groups_are_removed_whenever_they_are_empty_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        asked = 0

        def remove(self) -> bool:
            self.asked += 1
            return self.asked > 4

    monkeypatch.setattr(groups, "TO_EMPTY", 0.01)
    busy = [Full(), Full()]
    for one in busy:
        groups.end(cast(Any, one))
    async with asyncio.timeout(5):
        while [one.asked for one in busy] != [5, 5]:  # noqa: ASYNC110 - a list tells nobody
            await asyncio.sleep(0.005)


async def test_a_keeper_that_is_gone_as_it_is_given_a_job_leaves_it_to_the_next(
    played: tuple[PlayedHost, HostClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host hears of the end from its own sending, which must not end the job as well."""
    host, client = played
    complete = host._complete

    def gone(*given: Any) -> dict[str, Any]:
        if len(host.played) == 1:
            host.played[0].close()  # the loop, which has no turn before the job is handed on, has not read that yet
        return complete(*given)

    monkeypatch.setattr(host, "_complete", gone)
    worker = await client.start_worker(WorkerOrder(id="one", account="ada"))
    message, descriptors = await host.order(1)
    assert message["op"] == "start" and len(descriptors) == 1 + message["groups"]
    send_packet(host.played[1], {"op": "started", "id": message["id"], "pid": 7})
    send_packet(host.played[1], {"op": "exit", "id": message["id"], "code": 4, "signal": 0, "reason": "", "peak": 0})
    assert (await asyncio.wait_for(worker.exit, 5)).code == 4
    for one in descriptors:
        os.close(one)
    worker.socket.close()


async def test_an_account_whose_environment_takes_long_takes_one_thread(
    played: tuple[PlayedHost, HostClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are a few threads for all accounts; and what an earlier look saw must not replace what a later one did."""
    host, client = played
    looks, most, may_go_on = 0, 0, threading.Event()

    def fingerprint(self: KnownEnvironments, paths: Any) -> str:
        nonlocal looks, most
        looks += 1
        most = max(most, looks)
        may_go_on.wait(10)
        looks -= 1
        return "now"

    monkeypatch.setattr(KnownEnvironments, "fingerprint", fingerprint)
    monkeypatch.setattr(KnownEnvironments, "seen", lambda *_: None)
    workers = [asyncio.create_task(client.start_worker(WorkerOrder(id=f"{one}", account="ada"))) for one in range(4)]
    await host.keeper(0)
    await asyncio.sleep(0.1)
    may_go_on.set()
    for worker in workers:
        message, descriptors = await host.order(0)
        assert message["fingerprint"] == "now"
        for one in descriptors:
            os.close(one)
        (await worker).socket.close()
    assert (looks, most) == (0, 1)


async def test_what_was_ended_before_its_keeper_was_there_is_not_started(
    played: tuple[PlayedHost, HostClient],
) -> None:
    host, client = played
    host.may_start.clear()
    step = asyncio.create_task(client.run_step(StepOrder("one", "ada", kind="command", argv=("true",))))
    async with asyncio.timeout(10):
        while not (jobs := [job for one in host._clients for job in one.jobs.values()]):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
        while not jobs[0].unwanted:  # noqa: ASYNC110 - a flag tells nobody
            await asyncio.sleep(0.005)
    host.may_start.set()
    await host.keeper(0)
    with pytest.raises(TimeoutError):
        await host.order(0, patience=0.3)


async def test_a_client_that_goes_ends_what_it_ordered_of_each_account(played: tuple[PlayedHost, HostClient]) -> None:
    """Also where one account's keeper is just gone."""
    host, client = played
    workers = [await client.start_worker(WorkerOrder(id=name, account=name)) for name in ("ada", "bob")]
    orders = [await host.order(0), await host.order(1)]
    for (message, descriptors), sock in zip(orders, host.played, strict=True):
        for one in descriptors:
            os.close(one)
        send_packet(sock, {"op": "started", "id": message["id"], "pid": 7})
    await asyncio.sleep(0.1)
    first = "ada" if orders[0][0]["account"] == "ada" else "bob"
    host.played[0].close()
    host._client_gone(next(iter(host._clients)))
    assert first not in host._keepers
    message, _ = await host.order(1)
    assert (message["op"], message["id"]) == ("end", orders[1][0]["id"])
    for worker in workers:
        worker.socket.close()


async def test_the_end_of_an_earlier_connection_ends_no_order_of_the_next(
    played: tuple[PlayedHost, HostClient],
) -> None:
    _, client = played
    lost = await client.start_worker(WorkerOrder(id="one", account="ada"))
    channel = client._channel
    assert channel is not None
    channel.close()
    async with client._connecting:
        ordering = asyncio.create_task(client.start_worker(WorkerOrder(id="two", account="ada")))
        await asyncio.sleep(0)  # it waits for its connection
        client._lost()
    kept = await ordering
    assert (await lost.exit).reason == "lost" and not kept.exit.done()
    for one in (lost, kept):
        one.socket.close()
