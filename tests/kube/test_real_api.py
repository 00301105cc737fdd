"""The way to the API server, against a real one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ropewalk_core.errors import BadInput, Conflict, Denied, NameTaken, NotFound, Unavailable
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.config import Access, Token, find
from ropewalk_core.kube.kinds import CONFIG_MAP, NAMESPACE, POD, SERVICE_ACCOUNT, WORKFLOW, Object
from ropewalk_core.kube.view import Happened
from ropewalk_hub.platform import SystemClock
from tests.kube.real import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


@pytest.fixture
async def place(api: Api, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    name = f"t-{abs(hash(request.node.name)) % 10**8}"
    await api.create(NAMESPACE, {"metadata": {"name": name}})
    yield name
    await api.delete(NAMESPACE, name)


def settings(place: str, name: str = "one", **data: str) -> Object:
    return {"metadata": {"name": name, "namespace": place, "labels": {"test": "yes"}}, "data": data}


async def test_an_object_from_its_creation_to_its_removal(api: Api, place: str) -> None:
    made = await api.create(CONFIG_MAP, settings(place, a="1"))
    with pytest.raises(NameTaken):
        await api.create(CONFIG_MAP, settings(place, a="1"))
    assert (await api.get(CONFIG_MAP, "one", place))["data"] == {"a": "1"}
    await api.patch(CONFIG_MAP, "one", {"data": {"a": None, "b": "2"}}, namespace=place)
    assert (await api.get(CONFIG_MAP, "one", place))["data"] == {"b": "2"}
    with pytest.raises(Conflict):
        await api.delete(CONFIG_MAP, "one", place, uid="00000000-0000-0000-0000-000000000000")
    assert await api.delete(CONFIG_MAP, "one", place, uid=made["metadata"]["uid"]) is True
    assert await api.delete(CONFIG_MAP, "one", place) is False
    with pytest.raises(NotFound, match="There is no ConfigMap 'one'"):
        await api.get(CONFIG_MAP, "one", place)


async def test_applied_fields_have_an_owner(api: Api, place: str) -> None:
    await api.apply(CONFIG_MAP, settings(place, ours="1", also="1"))
    await api.apply(CONFIG_MAP, settings(place, ours="2"), manager="somebody-else", force=True)
    with pytest.raises(Conflict, match=r"\.data\.ours of ConfigMap 'one' in .* belongs to somebody-else"):
        await api.apply(CONFIG_MAP, settings(place, ours="3"))
    assert (await api.apply(CONFIG_MAP, settings(place, ours="3"), force=True))["data"] == {"ours": "3"}
    other = settings(place, ours="4")
    other["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(Conflict):
        await api.apply(CONFIG_MAP, other, force=True)


async def test_lists_in_pages_and_by_label(api: Api, place: str) -> None:
    await asyncio.gather(*(api.create(CONFIG_MAP, settings(place, f"m{number}")) for number in range(7)))
    listing = await api.list(CONFIG_MAP, place, labels={"test": "yes"}, page=3)
    assert [one["metadata"]["name"] for one in listing.items] == [f"m{number}" for number in range(7)]
    assert (await api.list(CONFIG_MAP, place, labels={"test": "no"})).items == ()
    named = await api.list(CONFIG_MAP, place, fields={"metadata.name": "m3"})
    assert [one["kind"] for one in named.items] == ["ConfigMap"]


async def test_refusals_carry_the_servers_reason(api: Api, place: str, cluster: Cluster) -> None:
    with pytest.raises(BadInput, match=r"data") as found:
        await api.create(CONFIG_MAP, {**settings(place), "data": {"not a key": "1"}})
    assert found.value.field == "data[not a key]"
    with pytest.raises(NotFound, match="does not know the kind"):
        await api.list(WORKFLOW, place)
    nobody = Api(find(cluster.kubeconfig("nobody")), SystemClock())
    with pytest.raises(Denied, match=r"may not list configmaps in the cluster \(nobody\)"):
        await nobody.list(CONFIG_MAP, place)
    await nobody.close()
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    await api.patch(NAMESPACE, place, {"metadata": {"labels": restricted}})
    with contextlib.suppress(NameTaken):
        await api.create(SERVICE_ACCOUNT, {"metadata": {"name": "default", "namespace": place}})
    pod = {
        "metadata": {"name": "root", "namespace": place},
        "spec": {"hostNetwork": True, "containers": [{"name": "main", "image": "x"}]},
    }
    with pytest.raises(Denied, match="It asks for rights that no work of people has here: host namespaces"):
        await api.create(POD, pod)


async def test_a_stranger_and_a_wrong_server_are_told_apart(cluster: Cluster, administrator: Path) -> None:
    stranger = Api(find(cluster.kubeconfig("stranger", token="wrong")), SystemClock(), patience=0)
    with pytest.raises(Unavailable, match="does not accept the platform's credentials"):
        await stranger.get(NAMESPACE, "default")
    await stranger.close()
    trusting = Api(Access(cluster.server, None, Token("x")), SystemClock(), patience=0)
    with pytest.raises(Unavailable, match="is not the one that the platform trusts"):
        await trusting.get(NAMESPACE, "default")
    await trusting.close()


class Seen:
    """What a watch has brought so far."""

    def __init__(self, api: Api, place: str) -> None:
        self.objects: dict[str, dict[str, str]] = {}
        self.lists = 0
        self.task = asyncio.create_task(self._read(api, place))

    async def _read(self, api: Api, place: str) -> None:
        async with contextlib.aclosing(api.watch(CONFIG_MAP, place, labels={"test": "yes"})) as changes:
            async for one in changes:
                name = one.object["metadata"]["name"] if one.object else ""
                if one.happened is Happened.SYNCED:
                    self.lists += 1
                elif one.happened is Happened.REMOVED:
                    del self.objects[name]
                else:
                    self.objects[name] = one.object.get("data", {})

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(90):
        while not true():  # noqa: ASYNC110  # what is waited for is another program's
            await asyncio.sleep(0.05)


async def test_a_watch_goes_on_after_its_server_ends_it(administrator: Path, api: Api, place: str) -> None:
    short = Api(find(administrator), SystemClock(), watch_seconds=1)
    seen = Seen(short, place)
    await eventually(lambda: seen.lists == 1)
    for number in range(6):
        await api.create(CONFIG_MAP, settings(place, f"m{number}", n=str(number)))
        await asyncio.sleep(0.5)
    await api.delete(CONFIG_MAP, "m0", place)
    await eventually(lambda: sorted(seen.objects) == [f"m{number}" for number in range(1, 6)])
    assert seen.lists == 1 and short.troubled() == {}
    await seen.end()
    await short.close()


async def test_a_watch_outlives_its_api_server_and_sees_what_vanished(
    administrator: Path, api: Api, place: str, cluster: Cluster
) -> None:
    """Kill the API server, change things behind the watch's back through a second life, and see them."""
    other = Api(find(administrator), SystemClock(), patience=60)
    seen = Seen(other, place)
    await api.create(CONFIG_MAP, settings(place, "stays", n="1"))
    await api.create(CONFIG_MAP, settings(place, "goes"))
    await eventually(lambda: len(seen.objects) == 2)
    cluster.stop("kube-apiserver")
    await eventually(lambda: bool(other._courses[0].failures >= 3))
    cluster.start("kube-apiserver")
    api.patience = 60
    await api.delete(CONFIG_MAP, "goes", place)
    await api.patch(CONFIG_MAP, "stays", {"data": {"n": "2"}}, namespace=place)
    await eventually(lambda: seen.objects == {"stays": {"n": "2"}})
    assert other.troubled() == {}
    await seen.end()
    await other.close()


@pytest.mark.cluster_slow
async def test_a_watch_leaves_an_api_server_that_fell_silent(
    administrator: Path, api: Api, place: str, cluster: Cluster
) -> None:
    """Stop the API server without ending it: connections stay open and nothing comes."""
    other = Api(find(administrator), SystemClock(), watch_seconds=2, slack=1)
    seen = Seen(other, place)
    await api.create(CONFIG_MAP, settings(place, "first"))
    await eventually(lambda: sorted(seen.objects) == ["first"])
    cluster.signal("kube-apiserver", signal.SIGSTOP)
    try:
        await eventually(lambda: other._courses[0].failures >= 1)
    finally:
        cluster.signal("kube-apiserver", signal.SIGCONT)
    api.patience = 60
    await api.create(CONFIG_MAP, settings(place, "second"))
    await eventually(lambda: sorted(seen.objects) == ["first", "second"])
    await eventually(lambda: other.troubled() == {})
    await seen.end()
    await other.close()
