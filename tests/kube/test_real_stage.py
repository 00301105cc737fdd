"""What other tests stand on: an installation of its own, real rights, and the cluster's names followed from here."""

from __future__ import annotations

from functools import partial

import aiohttp
import httpx
import pytest

from ropewalk_core.errors import Denied
from ropewalk_core.kube import restricted
from ropewalk_core.kube.kinds import NAMESPACE, POD, SERVICE, Object
from ropewalk_core.kube.tenancy import WORK
from tests.cluster.layout import nodes
from tests.cluster.scene import PROBE
from tests.kube.stage import ADMINISTRATOR, Stage, until

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(240)]


async def test_accounts_have_their_rights_and_no_more(stage: Stage) -> None:
    space, same = stage.spaces("rights"), stage.spaces("rights")
    name = await space("ada")
    assert name == await same("ada") != await stage.spaces()("ada")
    assert name.startswith(f"{stage.cluster.prefix}--ada-")
    assert (await stage.api("platform").list(POD, name)).items == ()
    for account in ("hub", "platform"):
        with pytest.raises(Denied):
            await stage.api(account).list(NAMESPACE)
    releases = await stage.account("releases", name)
    assert (await releases.list(POD, name)).items == ()
    with pytest.raises(Denied):
        await (await stage.account(WORK, name)).list(POD, name)
    assert [one.name for one in (await stage.site()).inventory.nodes] == [one.name for one in nodes()]


async def test_names_lead_into_the_cluster(stage: Stage) -> None:
    space, api = await stage.spaces()("ada"), stage.api(ADMINISTRATOR)
    await api.create(POD, _answering(space))
    for name, address in (("web", ""), ("headless", "None")):
        spec = {"selector": {"app": "web"}, "ports": [{"port": 8079}]} | ({"clusterIP": address} if address else {})
        await api.create(SERVICE, {"metadata": {"name": name, "namespace": space}, "spec": spec})

    async def is_ready() -> bool:
        conditions = (await api.get(POD, "web", space))["status"].get("conditions", ())
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    await until("the pod is ready", is_ready)
    connector = aiohttp.TCPConnector(resolver=stage.resolver)
    async with (
        httpx.AsyncClient(transport=stage.transport()) as one,
        aiohttp.ClientSession(connector=connector) as other,
    ):
        for host in (f"web.{space}", f"web.{space}.svc.cluster.local", f"headless.{space}.svc"):
            url = f"http://{host}:8079/reach?to=tcp/127.0.0.1:8079"
            answer = await until(url, partial(_asked, one, url))
            assert answer and set(answer) == {"tcp/127.0.0.1:8079"}
            async with other.get(url) as response:
                assert await response.json(content_type=None) == answer
        with pytest.raises(httpx.ConnectError, match="nothing"):
            await one.get(f"http://nothing.{space}:80")
        with pytest.raises(aiohttp.ClientConnectorError):
            await other.get(f"http://nothing.{space}:80")


async def _asked(client: httpx.AsyncClient, url: str) -> Object | None:
    """Return what is answered, or nothing while the service knows no pod yet."""
    try:
        return dict((await client.get(url)).json())
    except httpx.TransportError:
        return None


def _answering(space: str) -> Object:
    resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "200m", "memory": "32Mi"}}
    args = ["-ask", "8079"]
    container = {
        "name": "main",
        "image": PROBE,
        "args": args,
        "securityContext": restricted.alone(),
        "resources": resources,
    }
    spec = {"containers": [container], "serviceAccountName": WORK, "terminationGracePeriodSeconds": 0}
    return {"metadata": {"name": "web", "namespace": space, "labels": {"app": "web"}}, "spec": spec}
