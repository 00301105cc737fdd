"""When a file server runs: started once however many ask, ended when idle, and its absence explained."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from ropewalk_core.errors import Denied, NotFound, Unavailable
from ropewalk_core.journal import Journal, Put
from ropewalk_core.kube.api import Api, Listing
from ropewalk_core.kube.file_client import FileClient, Server
from ropewalk_core.kube.file_pod import key_of, render, settled
from ropewalk_core.kube.file_servers import IDLE, KIND, FileServers
from ropewalk_core.kube.kinds import CLAIM, DEPLOYMENT, EVENT, POD, SECRET, Kind, Object
from ropewalk_core.kube.volumes import claim
from ropewalk_core.settings import Settings
from tests.clock import Hands

SETTINGS = Settings(home=Path("/home"))


class Cluster:
    """An API server that runs what is applied at once, unless told otherwise."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.applied: list[str] = []
        self.pods: list[Object] = []
        self.events: list[Object] = []
        self.status: Object = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "observedGeneration": 1}
        self.deleting: Callable[[], None] = lambda: None

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        if kind is CLAIM:
            return claim(SETTINGS)
        if (kind.name, name) not in self.objects:
            raise NotFound(f"There is no {name}.")
        return {**self.objects[kind.name, name], "status": self.status}

    async def apply(self, kind: Kind, body: Object, *, force: bool = False) -> Object:
        await asyncio.sleep(0)
        self.applied.append(kind.name)
        body = {**body, "metadata": {**body["metadata"], "generation": 1}}
        self.objects[kind.name, body["metadata"]["name"]] = body
        return body

    async def delete(self, kind: Kind, name: str, namespace: str = "") -> bool:
        self.deleting()
        return self.objects.pop((kind.name, name), None) is not None

    async def list(self, kind: Kind, namespace: str = "", **_: Any) -> Listing:
        return Listing(tuple({POD: self.pods, EVENT: self.events}[kind]), "1")


class Client:
    """Says that a server is ready, or not."""

    up = True

    async def ready(self, server: Server) -> bool:
        await asyncio.sleep(0)
        return self.up


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    one = Journal(tmp_path / "journal.db")
    yield one
    one.close()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def clock() -> Hands:
    return Hands(1000.0)


def servers(cluster: Cluster, clock: Hands, journal: Journal, client: Client | None = None) -> FileServers:
    async def space(owner: str) -> str:
        return f"ropewalk--{owner}"

    return FileServers(
        settings=SETTINGS,
        journal=journal,
        clock=clock,
        api=cast(Api, cluster),
        space=space,
        key=b"k",
        client=cast(FileClient, client or Client()),
    )


@contextlib.asynccontextmanager
async def living(one: FileServers) -> Any:
    task = asyncio.create_task(one.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0)
    await asyncio.sleep(0.5)
    assert true()


async def test_many_who_ask_at_once_start_it_once(cluster: Cluster, clock: Hands, journal: Journal) -> None:
    one = servers(cluster, clock, journal)
    found = await asyncio.gather(*(one.up("ada") for _ in range(20)))
    assert {one.address for one in found} == {"http://files.ropewalk--ada.svc:8873"}
    assert cluster.applied == ["Secret", "Service", "Deployment"]
    clock.now += 60  # not believed any more, but it answers
    await one.up("ada")
    assert len(cluster.applied) == 3


async def test_one_that_fell_silent_is_applied_again(cluster: Cluster, clock: Hands, journal: Journal) -> None:
    one = servers(cluster, clock, journal)
    await one.up("ada")
    cluster.objects.clear()  # with kubectl
    await one.up("ada", again=True)
    assert ("Deployment", "files") in cluster.objects


async def test_an_idle_one_is_ended_and_one_in_use_is_not(cluster: Cluster, clock: Hands, journal: Journal) -> None:
    one = servers(cluster, clock, journal)
    release = await one.take("ada")
    await one.up("ada")
    assert [record.owner for record in journal.page(KIND)] == ["ada"]
    async with living(one):
        began = clock.now
        await until(lambda: clock.now > began + 3 * IDLE)
        assert ("Deployment", "files") in cluster.objects
        release()
        release()  # closing twice counts once
        await until(lambda: ("Deployment", "files") not in cluster.objects)
        await until(lambda: journal.page(KIND) == [])
    assert ("Secret", "file-server") in cluster.objects
    again = await one.take("ada")
    await one.up("ada")
    again()
    assert ("Deployment", "files") in cluster.objects


async def test_after_a_restart_none_of_very_many_is_forgotten(cluster: Cluster, clock: Hands, journal: Journal) -> None:
    journal.write_now(*(Put(KIND, f"a{number}", "files", {"namespace": f"n{number}"}) for number in range(1001)))
    one = servers(cluster, clock, journal)
    async with living(one):
        await asyncio.sleep(0)
        assert len(one._courses) == 1001


async def test_after_a_restart_the_journal_says_what_is_to_be_ended(
    cluster: Cluster, clock: Hands, journal: Journal
) -> None:
    await servers(cluster, clock, journal).up("ada")
    journal.write_now(Put(KIND, "gone", "files", {"namespace": "ropewalk--gone"}))

    def refused() -> None:
        if ("Deployment", "files") not in cluster.objects:
            raise Denied("The platform may not delete there.")  # the namespace is gone, and its bindings with it

    cluster.deleting = refused
    async with living(servers(cluster, clock, journal)):
        await until(lambda: journal.page(KIND) == [])
    assert ("Deployment", "files") not in cluster.objects


async def test_an_api_server_that_is_away_is_asked_again_at_the_next_turn(
    cluster: Cluster, clock: Hands, journal: Journal
) -> None:
    one, tries = servers(cluster, clock, journal), list[int]()
    await one.up("ada")

    def away() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise Unavailable("The cluster's API server does not answer.")

    cluster.deleting = away
    async with living(one):
        await until(lambda: journal.page(KIND) == [])
    assert len(tries) == 3


QUOTA = 'pods "files-1" is forbidden: exceeded quota: tenant, requested: pods=1, used: pods=50, limited: pods=50'


@pytest.mark.parametrize(
    ("status", "pods", "events", "said"),
    [
        (
            {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": QUOTA, "reason": "FailedCreate"}]},
            [],
            [],
            "pods",
        ),
        (
            {},
            [
                {
                    "metadata": {"name": "files-1"},
                    "status": {
                        "containerStatuses": [
                            {
                                "state": {
                                    "waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}
                                }
                            }
                        ]
                    },
                }
            ],
            [],
            "image",
        ),
        (
            {},
            [{"metadata": {"name": "files-1"}, "status": {"phase": "Pending"}}],
            [
                {"type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed: connection refused"},
            ],
            "still starting",
        ),
    ],
)
async def test_what_does_not_start_says_why(
    cluster: Cluster,
    clock: Hands,
    journal: Journal,
    status: Object,
    pods: list[Object],
    events: list[Object],
    said: str,
) -> None:
    cluster.status, cluster.pods, cluster.events = status, pods, events
    with pytest.raises(Unavailable, match=said) as caught:
        await servers(cluster, clock, journal).up("ada")
    assert caught.value.hint and caught.value.message.startswith("Your files are not there yet")


def test_the_pod_holds_no_token_and_no_right_that_it_does_not_need() -> None:
    key = key_of(b"k", "ropewalk--ada")
    assert key != key_of(b"k", "ropewalk--bob") and key != key_of(b"other", "ropewalk--ada")
    objects = {kind.name: body for kind, body in render("ada", "ropewalk--ada", claim(SETTINGS), key, SETTINGS)}
    assert objects[SECRET.name]["stringData"] == {"key": key}
    template = objects[DEPLOYMENT.name]["spec"]["template"]
    pod, (container,) = template["spec"], template["spec"]["containers"]
    assert key not in str(objects[DEPLOYMENT.name])
    assert pod["automountServiceAccountToken"] is False and pod["securityContext"]["runAsUser"] == 1000
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert {"requests", "limits"} == set(container["resources"])
    assert str(10 * 2**30) in container["command"]
    assert container["command"][:2] == ["python", "-P"]  # no module of the person's own beside the key


def test_a_rollout_is_over_when_the_new_pod_is_the_only_one() -> None:
    good = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
    assert settled({"metadata": {"generation": 2}, "status": good})
    for bad in ({"observedGeneration": 1}, {"replicas": 2}, {"updatedReplicas": 0}, {"readyReplicas": 0}):
        assert not settled({"metadata": {"generation": 2}, "status": good | bad})
    assert not settled({"metadata": {"generation": 1}})
