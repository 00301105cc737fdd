"""Files on the real cluster: the contract, and what happens when the file server dies, idles, or cannot start.

The image of the file server is the hub's, which `make images` pushes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ropewalk_core.errors import NotFound, RopewalkError, Unavailable
from ropewalk_core.journal import Journal
from ropewalk_core.kube import restricted
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.file_pod import LABELS, PORT, host_of
from ropewalk_core.kube.file_servers import KIND, by_name
from ropewalk_core.kube.kinds import CLAIM, DEPLOYMENT, POD, SECRET, Object
from ropewalk_core.kube.storage import KubeStorage
from ropewalk_core.kube.tenancy import WORK
from ropewalk_core.kube.volumes import mount
from ropewalk_core.settings import Settings
from ropewalk_core.testing import ADA, StorageContract
from ropewalk_core.why import cluster as why
from ropewalk_hub.platform import SystemClock
from tests.cluster.layout import nodes
from tests.kube.stage import ADMINISTRATOR, Stage, until

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(240)]
KEY = b"k" * 32
HUB = "registry.local:5000/ropewalk/hub:0.1"


ASKING = """
import time, urllib.request
for wait in [1] * 30 + [0]:  # the cluster's own names may be slow on a busy machine
    try:
        assert urllib.request.urlopen("{url}", timeout=5).status == 204
        break
    except OSError as error:
        assert wait, error
        time.sleep(wait)
"""


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@dataclass
class Scene:
    """The port on the cluster, with what a test looks at besides."""

    port: KubeStorage
    api: Api
    journal: Journal
    space: str

    async def pods(self) -> list[Object]:
        found = (await self.api.list(POD, self.space, labels=LABELS)).items
        return [one for one in found if not one["metadata"].get("deletionTimestamp")]


def built(
    stage: Stage,
    journal: Journal,
    space: Callable[[str], Awaitable[str]],
    idle: float = 600,
    patience: float = 150,
    **chosen: Any,
) -> KubeStorage:
    async def address(host: str, port: int) -> str:
        return f"http://127.0.0.1:{await stage.names.door(host, port)}"

    chosen = {"images": {"hub": HUB}, **chosen}
    settings = replace(stage.settings, cluster=replace(stage.cluster, **chosen))
    return KubeStorage(
        settings=settings,
        journal=journal,
        clock=SystemClock(),
        api=stage.api("platform"),
        space=space,
        key=KEY,
        address=address,
        idle=idle,
        patience=patience,
    )


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.db")


@pytest.fixture
async def scene(stage: Stage, journal: Journal) -> AsyncIterator[Scene]:
    space = stage.spaces("files")
    port = built(stage, journal, space)
    yield Scene(port, stage.api(ADMINISTRATOR), journal, await space("ada"))
    await port.close()


class TestKubeStorage(StorageContract):
    @pytest.fixture
    async def port(self, stage: Stage, journal: Journal) -> AsyncIterator[KubeStorage]:
        space = stage.spaces("storage-contract")
        port = built(stage, journal, space, files_size=str(self.quota))
        for name in [one.path for one in (await port.list(ADA, "ada")).items]:
            await port.remove(ADA, "ada", name)
        yield port
        await port.close()


async def test_the_old_file_stays_whole_when_the_server_is_killed_in_mid_write(scene: Scene) -> None:
    block, begun, killed = b"x" * 2**20, asyncio.Event(), asyncio.Event()
    await scene.port.write(ADA, "ada", "kept", chunks(b"old"))

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield block
        begun.set()
        await killed.wait()
        for _ in range(8):
            yield block

    writing = asyncio.create_task(scene.port.write(ADA, "ada", "kept", slow()))
    await begun.wait()
    (pod,) = await scene.pods()
    assert kill(pod["metadata"]["uid"]) == 1
    killed.set()
    with pytest.raises(Unavailable):
        await writing
    with await scene.port.open(ADA, "ada", "kept") as file:
        assert await asyncio.to_thread(file.read) == b"old"
    assert "kept" in [one.path for one in (await scene.port.list(ADA, "ada")).items]


async def test_an_idle_server_is_ended_and_comes_back_with_the_files(
    scene: Scene, stage: Stage, journal: Journal
) -> None:
    await scene.port.write(ADA, "ada", "here", chunks(b"x"))
    assert [one.owner for one in journal.page(KIND)] == ["ada"]
    later = built(
        stage, journal, stage.spaces("files"), idle=1.0
    )  # as after a restart: it learns of it from the journal
    running = asyncio.create_task(later.run())
    try:
        await until("the server is ended", lambda: gone(scene.api, scene.space))
        assert journal.page(KIND) == []
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await later.close()
    with await scene.port.open(ADA, "ada", "here") as file:
        assert await asyncio.to_thread(file.read) == b"x"


async def test_a_server_in_use_is_not_ended(stage: Stage, journal: Journal) -> None:
    space = stage.spaces("files")
    port = built(stage, journal, space, idle=1.0)
    await port.write(ADA, "ada", "long", chunks(*[b"x" * 2**20] * 32))
    running = asyncio.create_task(port.run())
    try:
        file = await port.open(ADA, "ada", "long")
        with file:
            assert await asyncio.to_thread(file.read, 1) == b"x"
            await asyncio.sleep(4)
            assert len(await asyncio.to_thread(file.read)) == 32 * 2**20 - 1
        name = await space("ada")
        await until("the server is ended", lambda: gone(stage.api(ADMINISTRATOR), name))
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await port.close()


@pytest.mark.cluster_slow
async def test_what_cannot_start_says_why(stage: Stage, journal: Journal) -> None:
    for key, chosen, said in (
        ("bad-image", {"images": {"hub": "registry.local:5000/nothing:1"}}, "image"),
        ("bad-class", {"storage_class": "none-such"}, "none-such|volume"),
    ):
        port = built(stage, journal, stage.spaces(key), patience=30, **chosen)
        with pytest.raises(Unavailable, match=said) as caught:
            await port.list(ADA, "ada")
        assert caught.value.hint
        await port.close()


async def test_only_the_platform_is_heard_and_nobody_else_has_the_secret(scene: Scene, stage: Stage) -> None:
    await scene.port.write(ADA, "ada", "mine", chunks(b"x"))
    for account in ("work", "default"):
        its = await stage.account(account, scene.space)
        with pytest.raises(RopewalkError):
            await its.get(SECRET, "file-server", scene.space)
    async with httpx.AsyncClient(transport=stage.transport()) as http:
        answer = await http.get(f"http://{host_of(scene.space)}:{PORT}/file?path=mine")
    assert answer.status_code == 401 and answer.json()["code"] == "RW-SIGN-IN"
    (pod,) = await scene.pods()
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert (await scene.api.get(CLAIM, "files", scene.space))["status"]["phase"] == "Bound"


async def test_the_platforms_pod_finds_the_server_by_name(scene: Scene, stage: Stage) -> None:
    await scene.port.write(ADA, "ada", "mine", chunks(b"x"))
    ask = ASKING.format(url=f"{await by_name(host_of(scene.space), PORT)}/ready")
    pod = other("asks", stage.cluster.namespace, stage.settings, "")
    pod["metadata"]["labels"] = {"app.kubernetes.io/name": "ropewalk", "app.kubernetes.io/component": "platform"}
    (container,) = pod["spec"]["containers"]
    container |= {"command": ["python", "-c", ask], "volumeMounts": []}
    container["terminationMessagePolicy"] = "FallbackToLogsOnError"
    container["resources"]["limits"] = container["resources"]["requests"] = {"cpu": "500m", "memory": "64Mi"}
    pod["spec"] |= {"volumes": [], "restartPolicy": "Never", "serviceAccountName": "platform"}
    await scene.api.create(POD, pod)

    async def succeeded() -> bool:
        status = (await scene.api.get(POD, "asks", stage.cluster.namespace))["status"]
        assert status.get("phase") != "Failed", status
        return bool(status.get("phase") == "Succeeded")

    try:
        await until("it was answered", succeeded)
    finally:
        await scene.api.delete(POD, "asks", stage.cluster.namespace, grace=0)


async def test_files_for_one_machine_keep_everything_of_an_account_on_it(stage: Stage, journal: Journal) -> None:
    one: dict[str, Any] = {"files_access": "ReadWriteOnce"}
    space, api = stage.spaces("one-machine"), stage.api(ADMINISTRATOR)
    port = built(stage, journal, space, **one)
    await port.write(ADA, "ada", "x", chunks(b"x"))
    name, settings = await space("ada"), replace(stage.settings, cluster=replace(stage.cluster, **one))
    assert (await api.get(CLAIM, "files", name))["spec"]["accessModes"] == ["ReadWriteOnce"]
    (pod,) = (await api.list(POD, name, labels=LABELS)).items
    here = pod["spec"]["nodeName"]
    elsewhere = next(one.name for one in nodes() if one.name != here)
    for where, at in (("beside", ""), ("away", elsewhere)):
        await api.create(POD, other(where, name, settings, at))

    async def placed() -> bool:
        return bool((await api.get(POD, "beside", name))["spec"].get("nodeName") == here)

    async def refused() -> bool:
        told = why.from_pod(await api.get(POD, "away", name))
        return told is not None and "only one machine at a time" in told.cause

    await until("it lands where the files are", placed)
    await until("it waits and says so", refused)
    await port.close()


def other(name: str, space: str, settings: Settings, node: str) -> Object:
    """Return a pod that mounts the account's files, on a machine of that name if one is given."""
    files = mount(settings)
    most = {"cpu": "10m", "memory": "16Mi", "ephemeral-storage": "16Mi"}
    container = {
        "name": "main",
        "image": HUB,
        "command": ["sleep", "600"],
        "resources": {"requests": most, "limits": most},
        "volumeMounts": [files.mount],
        "securityContext": restricted.container(),
    }
    return {
        "metadata": {"name": name, "namespace": space, "labels": dict(files.labels)},
        "spec": {
            "serviceAccountName": WORK,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": restricted.pod(),
            "nodeSelector": {"kubernetes.io/hostname": node} if node else {},
            "affinity": files.affinity,
            "containers": [container],
            "volumes": [files.volume],
        },
    }


async def gone(api: Api, space: str) -> bool:
    """Whether the server is not there any more."""
    try:
        await api.get(DEPLOYMENT, "files", space)
    except NotFound:
        return True
    return False


def kill(uid: str) -> int:
    """Kill the file server in a pod without a word, and return how many processes that were."""
    killed, marks = 0, (uid, uid.replace("-", "_"))
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = b"ropewalk_hub.file_server" in (one / "cmdline").read_bytes()
            if ours and any(mark in (one / "cgroup").read_text() for mark in marks):
                os.kill(int(one.name), signal.SIGKILL)
                killed += 1
    return killed
