"""Services on the real cluster: the contract, every template reached as the gateway does, kills, and others' hands.

The image is the runner's, which `make images` pushes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import aiohttp
import httpx
import pytest
from aiohttp import web

from ropewalk_core.catalog import Catalog, shipped
from ropewalk_core.errors import Conflict, Denied, NotFound
from ropewalk_core.journal import Journal, Put
from ropewalk_core.kube import restricted
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.helm import Helm
from ropewalk_core.kube.intents import KIND as INTENT
from ropewalk_core.kube.intents import Intents
from ropewalk_core.kube.kinds import CLAIM, DEPLOYMENT, POD, QUOTA, SECRET, SERVICE, Object
from ropewalk_core.kube.service_values import WISH, labels_of, release_of
from ropewalk_core.kube.services import CHANGED, GONE, KubeServices
from ropewalk_core.kube.view import Happened
from ropewalk_core.model import Service, ServiceSpec, State, Why
from ropewalk_core.testing import ADA, ServicesContract
from ropewalk_core.testing.people import gone, take
from ropewalk_hub.gateway.services import Services
from ropewalk_hub.gateway.sessions import Sessions
from ropewalk_hub.gateway.tokens import Caller
from ropewalk_hub.platform import SystemClock
from tests.cluster.layout import ROOT, nodes
from tests.kube.stage import ADMINISTRATOR, Stage, until
from tests.ports import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(600)]
RUNNER = "registry.local:5000/ropewalk/runner:0.1"
PULLED: set[str] = set()
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "one",
            "metadata": {},
            "outputs": [],
            "source": "print('hello from', 'a cell')",
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@dataclass
class Scene:
    """The port on the cluster, and what a test looks at besides."""

    stage: Stage
    settings: Any
    journal: Journal
    helm: Helm
    ask_space: Callable[[str], Awaitable[str]]
    space: str = ""

    @property
    def api(self) -> Api:
        return self.stage.api(ADMINISTRATOR)

    @contextlib.asynccontextmanager
    async def port(self, templates: Catalog | None = None) -> AsyncIterator[KubeServices]:
        """Run the port as a platform does; leaving it is as sudden as a kill for what goes on in the cluster."""
        clock = SystemClock()
        intents = Intents(self.journal, clock)
        ground = KubeGround(
            settings=self.settings,
            journal=self.journal,
            clock=clock,
            api=self.stage.api("platform"),
            space=self.ask_space,
            site=self.stage.site,
            intents=intents,
        )
        port = KubeServices(ground, templates=templates or Catalog(), helm=self.helm)
        tasks = [asyncio.create_task(port.run()), asyncio.create_task(intents.run())]
        try:
            yield port
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def reach(self, port: KubeServices, name: str, *states: State, seconds: float = 180) -> Service:
        async def is_so() -> Service | None:
            seen = await port.get(ADA, "ada", name)
            return seen if seen.status.state in states else None

        found = await until(f"{name} is {states}", is_so, seconds)
        assert found is not None
        return found

    async def waits(self, port: KubeServices, name: str, words: str, seconds: float = 180) -> None:
        """Wait until it waits for a reason with these words; there may be others before."""
        told: list[Why | None] = [None]

        async def is_so() -> bool:
            seen = await port.get(ADA, "ada", name)
            told[0] = seen.status.why
            return seen.status.state is State.WAITING and told[0] is not None and words in told[0].cause

        try:
            await until(f"{name} waits because of {words}", is_so, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the last reason: {told[0]}") from None

    async def deployment(self, name: str) -> Object:
        return await self.api.get(DEPLOYMENT, release_of(name), self.space)

    async def pods(self, name: str) -> list[Object]:
        found = (await self.api.list(POD, self.space, labels=labels_of("ada", name))).items
        return [one for one in found if not one["metadata"].get("deletionTimestamp")]

    async def ask(self, port: KubeServices, name: str, path: str) -> httpx.Response:
        """Ask a service where the gateway would."""
        [route] = [one for one in port.routes() if one.name == name]
        async with httpx.AsyncClient(transport=self.stage.transport(), timeout=120) as client:
            host = (await port.get(ADA, "ada", name)).address.split("/")[2]
            return await client.get(f"{route.url}{path}", headers={"Host": host})

    async def run(self, *argv: str) -> str:
        """Run helm or kubectl as somebody with every right."""
        at = self.stage.installation.at
        environment = {
            "PATH": f"{at.run / 'bin'}:{os.environ['PATH']}",
            "KUBECONFIG": str(at.kubeconfig),
            "HOME": str(self.settings.home),
        }
        done = await asyncio.to_thread(
            subprocess.run, argv, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    async def put(self, path: str, text: str) -> None:
        """Write one of the person's files, as a notebook would."""
        command = f'mkdir -p "$(dirname "$0")" && cat > "$0" <<"END"\n{text}\nEND'
        await self.once("put", ["/bin/sh", "-c", command, f"/home/work/{path}"])

    async def once(self, name: str, command: list[str], *, node: str = "") -> None:
        """Run a command with the person's files, or without them on a node that is named, to its end."""
        container: Object = {
            "name": "one",
            "image": RUNNER,
            "command": command,
            "resources": {"limits": {"memory": "64Mi"}},
            "securityContext": restricted.container(),
        }
        spec: Object = {
            "restartPolicy": "Never",
            "securityContext": restricted.pod(),
            "containers": [container],
        }
        if node:
            spec["nodeName"] = node
        else:
            container["volumeMounts"] = [{"name": "files", "mountPath": "/home/work"}]
            spec["volumes"] = [{"name": "files", "persistentVolumeClaim": {"claimName": "files"}}]
        await self.api.create(POD, {"metadata": {"name": name, "namespace": self.space}, "spec": spec})

        async def ended() -> bool:
            return (await self.api.get(POD, name, self.space))["status"].get("phase") in ("Succeeded", "Failed")

        await until(f"{name} has ended", ended, 180)
        await self.api.delete(POD, name, self.space, grace=0)


def built(stage: Stage, tmp_path: Path, space: Callable[[str], Awaitable[str]]) -> Scene:
    cluster = replace(stage.cluster, images={**stage.cluster.images, "runner": RUNNER})
    settings = replace(stage.settings, cluster=cluster, home=tmp_path)
    helm = Helm(settings.run, program=str(stage.installation.at.run / "bin" / "helm"))
    return Scene(stage, settings, Journal(tmp_path / "journal.db"), helm, space)


@pytest.fixture
async def scene(stage: Stage, tmp_path: Path) -> AsyncIterator[Scene]:
    space = stage.spaces("services")
    one = built(stage, tmp_path, space)
    one.space = await space("ada")
    await pulled(one)
    yield one
    await cleared(one)
    one.journal.close()


async def pulled(scene: Scene) -> None:
    """Have Helm, and the image on every node, so that no test waits for them."""
    if scene.stage.cluster.prefix not in PULLED:
        await asyncio.to_thread(scene.stage.needs, "helm")
        for node in nodes():
            await scene.once(f"pull-{node.name}", ["true"], node=node.name)
        PULLED.add(scene.stage.cluster.prefix)


async def cleared(scene: Scene) -> None:
    """Take away every release of the account, so that the next test finds its namespace as new."""
    for one in json.loads(await scene.run("helm", "list", "--output", "json", "--namespace", scene.space)):
        await scene.run("helm", "uninstall", one["name"], "--namespace", scene.space)


def site(name: str = "one", **changes: Any) -> ServiceSpec:
    return ServiceSpec(**({"name": name, "template": "site", "values": {"folder": "pages"}} | changes))


class TestKubeServices(ServicesContract):
    template = "site"

    @pytest.fixture
    async def port(self, stage: Stage, tmp_path: Path) -> AsyncIterator[KubeServices]:
        space = stage.spaces("contract of services")
        scene = built(stage, tmp_path, space)
        scene.space = await space("ada")
        await pulled(scene)
        async with scene.port() as port:
            yield port
        await cleared(scene)
        scene.journal.close()


@pytest.mark.parametrize(
    ("template", "values", "path", "says"),
    [
        ("site", {"folder": "."}, "/page.ipynb", "hello from"),
        ("voila", {"notebook": "page.ipynb"}, "/", "hello from a cell"),
        ("tensorboard", {"folder": "logs"}, "/data/plugins_listing", "scalars"),
        ("editor", {"folder": ""}, "/", "marimo"),
    ],
)
async def test_each_template_really_runs(
    scene: Scene, template: str, values: dict[str, Any], path: str, says: str
) -> None:
    async with scene.port() as port:
        asked = await port.apply(ADA, "ada", ServiceSpec(name="app", template=template, values=values))
        await until("the claim is there", lambda: is_there(scene, "files"))
        await scene.put("page.ipynb", json.dumps(NOTEBOOK))
        seen = await scene.reach(port, "app", State.RUNNING, State.FAILED)
        assert seen.status.state is State.RUNNING, seen.status.why
        assert seen.address == asked.address
        answer = await scene.ask(port, "app", path)
        assert answer.status_code == 200 and says in answer.text


class SignedIn:
    """The gateway's sessions, in which nobody signs out."""

    def alive(self, caller: Caller) -> bool:
        return True


@contextlib.asynccontextmanager
async def front(scene: Scene, port: KubeServices) -> AsyncIterator[str]:
    """Run the part of the gateway that forwards, for a person who has passed its door."""
    services = Services(scene.settings, cast(Sessions, SignedIn()), scene.stage.resolver)
    caller = Caller(account="ada", subject="s", session="ses", epoch=0, ends=float("inf"))

    async def handle(request: web.Request) -> web.StreamResponse:
        [route] = port.routes()
        return await services.forward(request, route, caller)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner, number = web.AppRunner(application, access_log=None, shutdown_timeout=0.1), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", number).start()
    try:
        yield f"http://127.0.0.1:{number}"
    finally:
        await runner.cleanup()


async def test_the_gateway_passes_pages_and_websockets(scene: Scene) -> None:
    async with scene.port() as port, front(scene, port) as address, aiohttp.ClientSession() as client:
        await port.apply(ADA, "ada", ServiceSpec(name="app", template="editor", values={}))
        seen = await scene.reach(port, "app", State.RUNNING, State.FAILED)
        host = seen.address.split("/")[2]
        async with client.get(f"{address}/", headers={"Host": host}) as page:
            assert page.status == 200 and "marimo" in await page.text()
        path = "/ws?session_id=s_abcdef&file=__new__s_abcdef"
        headers = {"Host": host, "Origin": seen.address.rstrip("/")}
        async with client.ws_connect(f"{address}{path}", headers=headers) as socket:
            assert "kernel-ready" in str((await socket.receive(30)).data)


async def is_there(scene: Scene, claim: str) -> bool:
    try:
        return bool(await scene.api.get(CLAIM, claim, scene.space))
    except NotFound:
        return False


async def test_helm_knows_it_as_the_tenants_own(scene: Scene) -> None:
    async with scene.port() as port:
        await port.apply(ADA, "ada", site())
        await scene.reach(port, "one", State.RUNNING)
        listed = json.loads(await scene.run("helm", "list", "--output", "json", "--namespace", scene.space))
        assert [(one["name"], one["status"], one["chart"]) for one in listed] == [
            (release_of("one"), "deployed", "site-0.1.0")
        ]
        values = json.loads(
            await scene.run("helm", "get", "values", release_of("one"), "-o", "json", "--namespace", scene.space)
        )
        assert values["folder"] == "pages"
        managers = {one["manager"] for one in (await scene.deployment("one"))["metadata"]["managedFields"]}
        assert "helm" in managers and "ropewalk" not in managers
        pod = (await scene.pods("one"))[0]
        assert pod["spec"]["serviceAccountName"] == "work"
        assert [one["name"] for one in pod["spec"]["volumes"]] == ["files"]  # and no token
        await port.apply(ADA, "ada", site())  # the same again
        assert (await scene.deployment("one"))["metadata"]["generation"] == 1
        assert not [one for one in scene.settings.run.iterdir() if one.name.startswith("helm-")]


async def test_other_values_restart_it_and_removing_keeps_the_files(scene: Scene) -> None:
    async with scene.port() as port:
        first = await port.apply(ADA, "ada", site())
        await scene.reach(port, "one", State.RUNNING)
        await scene.put("other/index.html", "another folder")
        changed = await port.apply(ADA, "ada", site(values={"folder": "other"}))
        assert changed.created == first.created and changed.status.state is State.ASKED
        await scene.reach(port, "one", State.RUNNING)
        assert "another folder" in (await scene.ask(port, "one", "/")).text
        with pytest.raises(Conflict):
            await port.apply(ADA, "ada", ServiceSpec(name="one", template="tensorboard"))
        await port.remove(ADA, "ada", "one")
        again = await port.apply(ADA, "ada", ServiceSpec(name="one", template="tensorboard"))
        assert again.spec.template == "tensorboard"
        await scene.reach(port, "one", State.RUNNING)
        await port.remove(ADA, "ada", "one")
        await gone(lambda: port.get(ADA, "ada", "one"))
        assert await is_there(scene, "files")
        with pytest.raises(NotFound):
            await scene.api.get(SERVICE, release_of("one"), scene.space)


async def test_an_accepted_wish_survives_and_is_carried_out_once(scene: Scene) -> None:
    clock = SystemClock()
    ground = KubeGround(
        settings=scene.settings,
        journal=scene.journal,
        clock=clock,
        api=scene.stage.api("platform"),
        space=scene.ask_space,
        site=scene.stage.site,
        intents=Intents(scene.journal, clock),
    )
    dead = KubeServices(ground, templates=Catalog(), helm=scene.helm)
    await dead.apply(ADA, "ada", site())  # nothing runs that would carry it out
    [intent] = scene.journal.page(INTENT, "ada")
    async with scene.port() as port:
        await scene.reach(port, "one", State.RUNNING)
        assert not scene.journal.page(INTENT, "ada")
    uid = (await scene.deployment("one"))["metadata"]["uid"]
    # What a kill after Helm and before the journal leaves:
    await scene.journal.write(Put(INTENT, "ada", intent.name, intent.body))
    async with scene.port() as port:
        await until("the intent is done", lambda: settled(scene))
        seen = await scene.reach(port, "one", State.RUNNING)
        assert seen.status.why is None
    there = await scene.deployment("one")
    assert (there["metadata"]["uid"], there["metadata"]["generation"]) == (uid, 1)
    assert there["spec"]["template"]["metadata"]["annotations"][WISH] == intent.body["id"]
    history = await scene.run("helm", "history", release_of("one"), "-o", "json", "--namespace", scene.space)
    assert len(json.loads(history)) == 1


async def settled(scene: Scene) -> bool:
    return not scene.journal.page(INTENT, "ada")


@pytest.mark.cluster_slow
@pytest.mark.parametrize("state", ["pending-install", "pending-upgrade", "uninstalling"])
async def test_a_release_that_a_kill_left_half_way_is_recovered(scene: Scene, state: str) -> None:
    async with scene.port() as port:
        await port.apply(ADA, "ada", site())
        await scene.reach(port, "one", State.RUNNING)
        if state == "pending-upgrade":
            await port.apply(ADA, "ada", site(values={"folder": "other"}))
            await scene.reach(port, "one", State.RUNNING)
    await left_in(scene, release_of("one"), state)
    async with scene.port() as port:
        await port.apply(ADA, "ada", site(values={"folder": "third"}))
        seen = await scene.reach(port, "one", State.RUNNING, State.FAILED)
        assert seen.status.state is State.RUNNING, seen.status.why
        assert await scene.helm.state(await port._releases.reach(scene.space), release_of("one")) == "deployed"
        command = (await scene.deployment("one"))["spec"]["template"]["spec"]["containers"][0]["args"]
        assert "/home/work/third" in command


async def left_in(scene: Scene, release: str, state: str) -> None:
    """Write into Helm's own record of the newest revision what a kill would have left there."""
    labels = {"owner": "helm", "name": release}
    found = (await scene.api.list(SECRET, scene.space, labels=labels)).items
    newest = max(found, key=lambda one: int(one["metadata"]["labels"]["version"]))
    packed = base64.b64decode(base64.b64decode(newest["data"]["release"]))
    told = json.loads(gzip.decompress(packed))
    told["info"]["status"] = state
    data = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(told).encode()))).decode()
    body = {"metadata": {"labels": {"status": state}}, "data": {"release": data}}
    await scene.api.patch(SECRET, newest["metadata"]["name"], body, namespace=scene.space)


async def test_helm_killed_in_the_middle_is_recovered(scene: Scene, tmp_path: Path) -> None:
    """A Helm that is killed after it wrote that it begins leaves a release that nobody else may touch."""
    chart, pid = tmp_path / "templates" / "site", tmp_path / "pid"
    shutil.copytree(shipped() / "site", chart)
    many = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: NAME}\ndata: {a: {{ toJson .Values.folder }}}\n"
    each = [many.replace("NAME", "{{ .Release.Name }}-" + str(number)) for number in range(40)]
    (chart / "templates" / "many.yaml").write_text("---\n".join(each))
    told = tmp_path / "helm"
    told.write_text(f'#!/bin/sh\necho $$ > {pid}\nexec {scene.helm._program} "$@"\n')
    told.chmod(0o755)
    scene.helm._program = str(told)
    async with scene.port(Catalog(chart.parent)) as port:
        await port.apply(ADA, "ada", site())
        await scene.reach(port, "one", State.RUNNING)
        begun = asyncio.create_task(pending(scene, release_of("one")))
        await asyncio.sleep(0.5)
        await port.apply(ADA, "ada", site(values={"folder": "other"}))
        await asyncio.wait_for(begun, 60)
        os.kill(int(pid.read_text()), signal.SIGKILL)
        await asyncio.sleep(0.2)
        labels = {"owner": "helm", "name": release_of("one"), "status": "pending-upgrade"}
        assert (await scene.api.list(SECRET, scene.space, labels=labels)).items
        await until("it serves the other folder", lambda: serves(scene, "/home/work/other"))
        seen = await scene.reach(port, "one", State.RUNNING, State.FAILED)
        assert seen.status.state is State.RUNNING, seen.status.why
        assert await scene.helm.state(await port._releases.reach(scene.space), release_of("one")) == "deployed"


@pytest.mark.cluster_slow
@pytest.mark.parametrize("moment", ["accepted", "begun", "taken", "a little later"])
async def test_a_platform_killed_at_any_moment_does_what_it_accepted_once(
    scene: Scene, tmp_path: Path, moment: str
) -> None:
    async with scene.port() as port:
        await port.apply(ADA, "ada", site())
        await scene.reach(port, "one", State.RUNNING)
    scene.journal.close()
    cluster = scene.settings.cluster
    order = {
        "cluster": {"prefix": cluster.prefix, "namespace": cluster.namespace, "images": cluster.images},
        "home": str(tmp_path),
        "kubeconfig": str(scene.stage.installation.kubeconfig("platform")),
        "space": scene.space,
        "templates": str(shipped()),
        "helm": scene.helm._program,
        "wish": site(values={"folder": "other"}).model_dump(mode="json"),
    }
    begun = asyncio.create_task(pending(scene, release_of("one")))
    platform = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.kube.service_platform", json.dumps(order), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        assert platform.stdout is not None and await platform.stdout.readline() == b"accepted\n"
        if moment == "begun":
            await asyncio.wait_for(begun, 60)
        if moment == "taken":
            await until("the cluster has it", lambda: serves(scene, "/home/work/other"))
        if moment == "a little later":
            await asyncio.sleep(0.7)
    finally:
        platform.kill()
        await platform.wait()
        begun.cancel()
    scene.journal = Journal(tmp_path / "journal.db")
    scene.helm = Helm(scene.settings.run, program=scene.helm._program)
    async with scene.port() as port:
        await until("the intent is done", lambda: settled(scene))
        seen = await scene.reach(port, "one", State.RUNNING, State.FAILED)
        assert seen.status.state is State.RUNNING and seen.spec.values["folder"] == "other", seen.status.why
        assert await serves(scene, "/home/work/other")
        assert await scene.helm.state(await port._releases.reach(scene.space), release_of("one")) == "deployed"
        pods = await scene.pods("one")
        assert len(pods) == 1 and "/home/work/other" in pods[0]["spec"]["containers"][0]["args"]
        assert not [one for one in scene.settings.run.iterdir() if one.name.startswith("helm-")]


async def test_what_the_cluster_takes_in_part_is_taken_back(scene: Scene, tmp_path: Path) -> None:
    chart = tmp_path / "templates" / "site"
    shutil.copytree(shipped() / "site", chart)
    body = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: {{ .Release.Name }}-a}\n"
    (chart / "templates" / "a.yaml").write_text(body + "data: {{ dict .Values.folder .Values.folder | toJson }}\n")
    async with scene.port(Catalog(chart.parent)) as port:
        await port.apply(ADA, "ada", site("two", values={"folder": "not/a/key"}))
        seen = await scene.reach(port, "two", State.FAILED)
        assert seen.status.why is not None and "not/a/key" in seen.status.why.cause
        assert await scene.helm.state(await port._releases.reach(scene.space), release_of("two")) == ""
        await port.apply(ADA, "ada", site())
        await scene.reach(port, "one", State.RUNNING)
        await port.apply(ADA, "ada", site(values={"folder": "not/a/key"}))
        await scene.reach(port, "one", State.FAILED)
        assert await serves(scene, "/home/work/pages")
        assert await scene.helm.state(await port._releases.reach(scene.space), release_of("one")) == "deployed"
        await port.apply(ADA, "ada", site(values={"folder": "good"}))
        await scene.reach(port, "one", State.RUNNING)
        assert await serves(scene, "/home/work/good")


async def pending(scene: Scene, release: str) -> None:
    """Return as soon as Helm has written that it begins to change a release."""
    labels = {"owner": "helm", "name": release, "status": "pending-upgrade"}
    async with contextlib.aclosing(scene.api.watch(SECRET, scene.space, labels=labels)) as changes:
        async for change in changes:
            if change.happened is Happened.ADDED:
                return


async def serves(scene: Scene, folder: str) -> bool:
    return folder in (await scene.deployment("one"))["spec"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize("how", ["helm uninstall", "kubectl delete", "while away"])
async def test_what_somebody_removed_is_respected(scene: Scene, how: str) -> None:
    act = {
        "helm uninstall": ["helm", "uninstall", release_of("one"), "--namespace", scene.space],
        "kubectl delete": ["kubectl", "delete", "deployment", release_of("one"), "--namespace", scene.space],
    }
    async with scene.port() as port:
        await port.apply(ADA, "ada", site())
        await scene.reach(port, "one", State.RUNNING)
        if how in act:
            await scene.run(*act[how])
            await scene.reach(port, "one", State.STOPPED)
    if how not in act:
        await scene.run(*act["helm uninstall"])
    async with scene.port() as port:
        seen = await scene.reach(port, "one", State.STOPPED)
        assert seen.status.why == GONE
        await asyncio.sleep(2.0)
        with pytest.raises(NotFound):
            await scene.deployment("one")
        types = [one.type for one in scene.journal.events(kind="service", owner="ada")]
        assert types[-1] == "stopped" and "running" in types
        await port.apply(ADA, "ada", site())  # and launched again when somebody asks
        await scene.reach(port, "one", State.RUNNING)


async def test_what_somebody_changed_is_said_and_respected(scene: Scene) -> None:
    async with scene.port() as port:
        await port.apply(ADA, "ada", site())
        await scene.reach(port, "one", State.RUNNING)
        scale = ["kubectl", "scale", "deployment", release_of("one"), "--namespace", scene.space]
        await scene.run(*scale, "--replicas=0")
        seen = await scene.reach(port, "one", State.STOPPED)
        assert seen.status.note == CHANGED and seen.status.why and "scaled to nothing" in seen.status.why.cause
        await scene.run(*scale, "--replicas=1")
        await scene.reach(port, "one", State.RUNNING)
        await scene.run(*scale, "--replicas=0")
        await scene.reach(port, "one", State.STOPPED)
        await port.apply(ADA, "ada", site())
        seen = await scene.reach(port, "one", State.RUNNING)
        assert not seen.status.note


async def test_why_it_does_not_run_is_said(scene: Scene) -> None:
    images = {**scene.settings.cluster.images, "runner": "registry.local:5000/ropewalk/no-such-image:1"}
    good, scene.settings = (
        scene.settings,
        replace(scene.settings, cluster=replace(scene.settings.cluster, images=images)),
    )
    async with scene.port() as port:
        await port.apply(ADA, "ada", site())
        await scene.waits(port, "one", "There is no image")
        await port.remove(ADA, "ada", "one")
        await gone(lambda: port.get(ADA, "ada", "one"))
    scene.settings = good
    async with scene.port() as port:
        await port.apply(ADA, "ada", site())
        await scene.reach(port, "one", State.RUNNING)
        await scene.put("a-file", "text")
        await port.apply(ADA, "ada", site(values={"folder": "a-file/in"}))
        await scene.waits(port, "one", "exit code 1")
        await until("its log says more", lambda: says(port, "one", "cannot create directory"))
        await port.remove(ADA, "ada", "one")
        await gone(lambda: port.get(ADA, "ada", "one"))
    hard = {"spec": {"hard": {"pods": "0"}}}
    await scene.api.create(QUOTA, {"metadata": {"name": "none", "namespace": scene.space}, **hard})
    try:
        await asyncio.sleep(1.0)
        async with scene.port() as port:
            await port.apply(ADA, "ada", site())
            await scene.waits(port, "one", "pods")
    finally:
        await scene.api.delete(QUOTA, "none", scene.space)


async def says(port: KubeServices, name: str, words: str) -> bool:
    return any([words in line.text async for line in port.logs(ADA, "ada", name)])


async def test_all_of_an_account_stops_and_can_be_launched_again(scene: Scene) -> None:
    async with scene.port() as port:
        await port.apply(ADA, "ada", site())
        await scene.reach(port, "one", State.RUNNING)
        await port.stop_all("ada", Why(cause="The account was deactivated."))
        seen = await port.get(ADA, "ada", "one")
        assert seen.status.state is State.STOPPED and seen.status.why and "deactivated" in seen.status.why.cause
        await until("it is gone", lambda: settled(scene))
        with pytest.raises(NotFound):
            await scene.deployment("one")
    async with scene.port() as port:
        await asyncio.sleep(1.0)
        assert (await port.get(ADA, "ada", "one")).status.state is State.STOPPED
        await port.apply(ADA, "ada", site())
        await scene.reach(port, "one", State.RUNNING)


async def test_logs_come_from_the_pod(scene: Scene) -> None:
    async with scene.port() as port:
        await port.apply(ADA, "ada", site())
        await scene.reach(port, "one", State.RUNNING)
        await scene.ask(port, "one", "/a-page-that-is-asked-for")
        lines = [line async for line in port.logs(ADA, "ada", "one")]
        assert any("a-page-that-is-asked-for" in line.text for line in lines)
        rest = asyncio.ensure_future(
            take(port.logs(ADA, "ada", "one", after=lines[-1].offset, follow=True), 200, seconds=90)
        )
        await scene.ask(port, "one", "/another-page")
        await port.apply(ADA, "ada", site(values={"folder": "other"}))
        await scene.reach(port, "one", State.RUNNING)
        await scene.ask(port, "one", "/a-page-of-the-next-pod")
        later = [line async for line in port.logs(ADA, "ada", "one", after=lines[-1].offset)]
        assert any("a-page-of-the-next-pod" in line.text for line in later)
        await asyncio.sleep(2.0)
        await port.remove(ADA, "ada", "one")
        told = await rest
        assert [line.offset for line in told] == sorted(line.offset for line in told)
        for words in ("another-page", "a-page-of-the-next-pod"):
            assert any(words in line.text for line in told)


async def test_a_hostile_chart_leaves_nothing(scene: Scene, tmp_path: Path) -> None:
    chart = tmp_path / "templates" / "site"
    shutil.copytree(shipped() / "site", chart)
    (chart / "templates" / "extra.yaml").write_text(
        '{{ if lookup "v1" "Namespace" "" "default" }}\napiVersion: v1\nkind: ConfigMap\n'
        "metadata: {name: hidden}\n{{ end }}\n"
    )
    async with scene.port(Catalog(chart.parent)) as port:
        await port.apply(ADA, "ada", site())  # what it hides from the look is not installed either
        await scene.reach(port, "one", State.RUNNING)
        manifest = await scene.run("helm", "get", "manifest", release_of("one"), "--namespace", scene.space)
        assert "hidden" not in manifest
    (chart / "templates" / "extra.yaml").write_text(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: x}\n"
    )
    async with scene.port(Catalog(chart.parent)) as port:
        with pytest.raises(Denied, match="RoleBinding 'x' gives rights"):
            await port.apply(ADA, "ada", site("two"))
        assert [one.spec.name for one in (await port.list(ADA, "ada")).items] == ["one"]
