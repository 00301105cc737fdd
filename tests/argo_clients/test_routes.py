"""Argo Server's interface as its documentation has it, over HTTP: objects, errors, streams, whose namespace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ropewalk_core.local.layout import AccountPaths
from tests.argo_clients import manifests
from tests.argo_clients.stage import Door

OURS = "api/v1/workflows/ada"


@pytest.fixture
async def argo(door: Door) -> AsyncIterator[httpx.AsyncClient]:
    async with door.client() as client:
        yield client


async def create(client: httpx.AsyncClient, workflow: dict[str, Any], **more: Any) -> httpx.Response:
    return await client.post(OURS, json={"workflow": workflow, "namespace": "ada", **more})


async def test_a_workflow_from_its_creation_to_its_removal(door: Door, argo: httpx.AsyncClient) -> None:
    made = await create(argo, manifests.say("hello", generateName="say-"))
    assert made.status_code == 200, made.text
    name = made.json()["metadata"]["name"]
    assert name.startswith("say-") and made.json()["status"]["phase"] == "Running"
    found = await door.ended(argo, name)
    assert (found["status"]["phase"], found["status"]["progress"]) == ("Succeeded", "2/2")
    nodes = {one["displayName"]: one for one in found["status"]["nodes"].values()}
    assert set(nodes) == {name, "a", "b"}
    assert nodes["a"]["children"] == [nodes["b"]["id"]] and nodes["b"]["boundaryID"] == name
    assert nodes["b"]["inputs"]["parameters"] == [{"name": "text", "value": "hello"}]
    note = await argo.get(f"artifacts/ada/{name}/{nodes['b']['id']}/note")
    assert note.content == b"hello\n" and note.headers["content-disposition"].startswith("attachment")
    file = await argo.get(f"artifact-files/ada/workflows/{name}/{nodes['b']['id']}/outputs/note")
    by_uid = await argo.get(f"artifacts-by-uid/{found['metadata']['uid']}/{nodes['b']['id']}/note")
    assert file.content == by_uid.content == note.content
    run = found["metadata"]["uid"]
    folder = AccountPaths(door.platform.settings.home, "ada").root / "runs" / run
    assert folder.is_dir()
    assert (await argo.delete(f"{OURS}/{name}")).json() == {}
    assert not folder.exists() and (await argo.get(OURS)).json()["items"] == []
    for gone in (name, run):
        answer = await argo.get(f"{OURS}/{gone}")
        assert (answer.status_code, answer.json()["code"]) == (404, 5)


async def test_names_are_taken_once(door: Door, argo: httpx.AsyncClient) -> None:
    both = await asyncio.gather(*(create(argo, manifests.say("x", name="mine")) for _ in range(2)))
    assert sorted(one.status_code for one in both) == [200, 409]
    refused = next(one.json() for one in both if one.status_code == 409)
    assert refused["code"] == 6 and "There is a workflow 'mine' already." in refused["message"]
    await door.ended(argo, "mine")
    await argo.delete(f"{OURS}/mine")
    assert (await create(argo, manifests.say("x", name="mine"))).json()["metadata"]["name"] == "mine"
    await door.ended(argo, "mine")


async def test_what_failed_is_retried_and_resubmitted(door: Door, argo: httpx.AsyncClient) -> None:
    await create(argo, manifests.fails(name="picky"))
    found = await door.ended(argo, "picky")
    assert found["status"]["phase"] == "Failed" and "exit code 3" in found["status"]["message"]
    assert found["status"]["nodes"]["picky"]["type"] == "Pod"
    (AccountPaths(door.platform.settings.home, "ada").files / "there").touch()
    again = await argo.put(f"{OURS}/picky/retry", json={"name": "picky", "namespace": "ada"})
    assert again.status_code == 200 and again.json()["status"]["phase"] == "Running", again.text
    assert (await door.ended(argo, "picky"))["status"]["phase"] == "Succeeded"
    done = await argo.put(f"{OURS}/picky/retry", json={})
    assert (done.status_code, done.json()["code"]) == (400, 9)
    other = await argo.put(f"{OURS}/picky/resubmit", json={"name": "picky"})
    name = other.json()["metadata"]["name"]
    assert name.startswith("picky-")
    assert other.json()["metadata"]["labels"]["workflows.argoproj.io/resubmitted-from-workflow"] == "picky"
    await door.ended(argo, name)
    for body in ({"memoized": True}, {"parameters": ["no=1"]}, {"parameters": "no"}):
        assert (await argo.put(f"{OURS}/picky/resubmit", json=body)).json()["code"] == 3


async def test_what_runs_is_terminated_and_not_deleted(door: Door, argo: httpx.AsyncClient) -> None:
    await create(argo, manifests.sleeps(name="long"))
    refused = await argo.delete(f"{OURS}/long")
    assert (refused.status_code, refused.json()["code"]) == (400, 9) and "argo terminate long" in refused.json()[
        "message"
    ]
    stopped = await argo.put(f"{OURS}/long/terminate", json={})
    assert stopped.json()["spec"]["shutdown"] == "Terminate"
    found = await door.ended(argo, "long")
    assert (found["status"]["phase"], found["status"]["message"]) == ("Failed", "Stopped with strategy 'Terminate'")
    assert (await argo.put(f"{OURS}/long/terminate", json={})).json()["code"] == 9
    assert (await argo.delete(f"{OURS}/long")).status_code == 200


async def test_lists_are_chosen_from(door: Door, argo: httpx.AsyncClient) -> None:
    for name in ("one", "two"):
        await create(argo, manifests.say(name, name=name, labels={"mine": name}))
        await door.ended(argo, name)
    await create(argo, manifests.fails(generateName="three-"))
    [last] = (await argo.get(OURS, params={"listOptions.limit": "1"})).json()["items"]
    for wrong in ({"listOptions.limit": "²"}, {"createdAfter": "0001-01-01"}):
        assert (await argo.get(OURS, params=wrong)).status_code == 400, wrong
    await door.ended(argo, last["metadata"]["name"])

    async def names(**params: str) -> list[str]:
        answer = await argo.get(OURS, params={f"listOptions.{key}": one for key, one in params.items()})
        assert answer.status_code == 200, answer.text
        return [one["metadata"]["name"] for one in answer.json()["items"]]

    assert await names() == [last["metadata"]["name"], "two", "one"]
    assert await names(labelSelector="mine in (two,three)") == ["two"]
    assert await names(labelSelector="workflows.argoproj.io/phase=Failed") == [last["metadata"]["name"]]
    assert await names(fieldSelector="metadata.name=one") == ["one"]
    assert await names(fieldSelector="metadata.name=nobody") == []
    found, after = [], ""
    for _ in range(5):
        page = (await argo.get(OURS, params={"listOptions.limit": "2", "listOptions.continue": after})).json()
        found += [one["metadata"]["name"] for one in page["items"]]
        if not (after := page["metadata"].get("continue", "")):
            break
    assert found == await names()
    prefixed = await argo.get(OURS, params={"listOptions.fieldSelector": "metadata.name=t", "nameFilter": "Prefix"})
    assert len(prefixed.json()["items"]) == 2
    assert (await argo.get(OURS, params={"listOptions.labelSelector": "=="})).json()["code"] == 3
    latest = (await argo.get(f"{OURS}/@latest")).json()["metadata"]["name"]
    assert latest == last["metadata"]["name"]
    assert (await argo.get("api/v1/workflows/")).json()["items"][0]["metadata"]["namespace"] == "ada"


async def test_a_watch_says_what_is_there_and_then_each_change(door: Door, argo: httpx.AsyncClient) -> None:
    await create(argo, manifests.say("x", name="seen"))
    params = {"listOptions.fieldSelector": "metadata.name=seen", "listOptions.resourceVersion": "0"}
    events = []
    async with argo.stream(
        "GET", "api/v1/workflow-events/ada", params=params, headers={"Accept": "text/event-stream"}
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if len(line) > 5:  # what `argo` takes for data
                assert line.startswith("data: ")
                events.append(json.loads(line.removeprefix("data: "))["result"])
                if events[-1]["object"]["status"]["finishedAt"]:
                    break
    assert events[0]["type"] == "ADDED" and all(one["type"] == "MODIFIED" for one in events[1:])
    assert events[-1]["object"]["status"]["phase"] == "Succeeded"
    missing = await argo.get("api/v1/workflow-events/ada", params={"listOptions.fieldSelector": "metadata.name=no"})
    assert missing.status_code == 404


@pytest.mark.parametrize("follow", ["", "true"])
async def test_logs_of_all_pods_and_of_one(door: Door, argo: httpx.AsyncClient, follow: str) -> None:
    await create(argo, manifests.say("hello", name="told"))
    if not follow:
        await door.ended(argo, "told")

    async def lines(**params: str) -> list[tuple[str, str]]:
        params = {"logOptions.container": "main", **({"logOptions.follow": follow} if follow else {}), **params}
        answer = await argo.get(f"{OURS}/told/log", params=params)
        assert answer.status_code == 200, answer.text
        found = [json.loads(line)["result"] for line in answer.text.splitlines()]
        return [(one["podName"].rpartition("-")[0], one["content"]) for one in found]

    told = [("told-first", "one"), ("told-first", "two"), ("told-second", "hello")]
    assert await lines() == told
    nodes = (await argo.get(f"{OURS}/told")).json()["status"]["nodes"].values()
    second = next(one["id"] for one in nodes if one["displayName"] == "b")
    assert await lines(podName=second) == told[2:]
    assert await lines(grep="o") == [told[0], told[1], told[2]] and await lines(grep="tw") == [told[1]]
    if not follow:
        assert await lines(**{"logOptions.tailLines": "1"}) == told[1:]
        for wrong in ("²", "-1", "9" * 5000):
            answer = await argo.get(f"{OURS}/told/log", params={"logOptions.tailLines": wrong})
            assert (answer.status_code, answer.json()["code"]) == (400, 3), wrong
        assert (await argo.get(f"{OURS}/told/log", params={"logOptions.sinceSeconds": "5"})).json()["code"] == 3
        assert (await argo.get(f"{OURS}/told/log", params={"logOptions.container": "wait"})).text == ""


async def test_a_dry_run_and_lint_keep_nothing(argo: httpx.AsyncClient) -> None:
    good = manifests.say("x", name="dry")
    for answer in (
        await create(argo, good, serverDryRun=True),
        await create(argo, good, createOptions={"dryRun": ["All"]}),
        await argo.post(f"{OURS}/lint", json={"workflow": good, "namespace": "ada"}),
    ):
        assert answer.status_code == 200 and answer.json()["metadata"]["name"] == "dry", answer.text
    bad = {**good, "spec": {**good["spec"], "entrypoint": "nowhere"}}
    for answer in (await create(argo, bad), await argo.post(f"{OURS}/lint", json={"workflow": bad})):
        assert (answer.status_code, answer.json()["code"]) == (400, 3)
        assert "There is no template 'nowhere'." in answer.json()["message"]
    for content in (b"{", b"[]", b'{"workflow": 3}'):
        assert (await argo.post(OURS, content=content)).json()["code"] == 3
    assert (await argo.get(OURS)).json()["items"] == []


async def test_what_has_ended_is_in_the_archive(door: Door, argo: httpx.AsyncClient) -> None:
    archive = "api/v1/archived-workflows"
    for name in ("one", "two"):
        await create(argo, manifests.say(name, name=name, labels={"mine": name}))
        await door.ended(argo, name)
    await create(argo, manifests.sleeps(name="long"))

    async def names(**params: str) -> list[str]:
        answer = await argo.get(archive, params=params)
        assert answer.status_code == 200, answer.text
        return [one["metadata"]["name"] for one in answer.json()["items"]]

    assert await names() == await names(namespace="ada") == ["two", "one"]
    assert await names(**{"listOptions.labelSelector": "mine=one"}) == await names(namePrefix="o") == ["one"]
    first = (await argo.get(archive, params={"listOptions.limit": "1"})).json()
    assert await names(**{"listOptions.limit": "1", "listOptions.continue": first["metadata"]["continue"]}) == ["one"]
    uid = first["items"][0]["metadata"]["uid"]
    assert (await argo.get(f"{archive}/{uid}")).json() == (await argo.get(f"{OURS}/two")).json()
    keys = (await argo.get(f"{archive}-label-keys")).json()["items"]
    assert "mine" in keys and keys == sorted(set(keys))
    values = await argo.get(f"{archive}-label-values", params={"listOptions.labelSelector": "mine"})
    assert values.json() == {"items": ["one", "two"]}
    for wrong in ("", "mine=one", "!mine", "mine,other"):
        answer = await argo.get(f"{archive}-label-values", params={"listOptions.labelSelector": wrong})
        assert (answer.status_code, answer.json()["code"]) == (400, 3), wrong
    going = (await argo.get(f"{OURS}/long")).json()["metadata"]["uid"]
    for path in ("two", going, "nobody"):
        assert (await argo.get(f"{archive}/{path}")).status_code == 404, path
        assert (await argo.delete(f"{archive}/{path}")).status_code == 404, path
    other = await argo.put(f"{archive}/{uid}/resubmit", json={"uid": uid, "namespace": "ada", "name": ""})
    assert other.json()["metadata"]["name"].startswith("two-"), other.text
    await door.ended(argo, other.json()["metadata"]["name"])
    assert (await argo.put(f"{archive}/{uid}/retry", json={"uid": uid})).json()["code"] == 9  # it is done
    await argo.put(f"{OURS}/long/terminate", json={})
    await door.ended(argo, "long")
    again = await argo.put(f"{archive}/{going}/retry", json={"uid": going, "namespace": "ada"})
    assert again.json()["status"]["phase"] == "Running", again.text
    await argo.put(f"{OURS}/long/terminate", json={})
    await door.ended(argo, "long")
    assert (await argo.delete(f"{archive}/{uid}")).json() == {}
    assert (await argo.get(f"{OURS}/two")).status_code == 404 and "two" not in await names()


async def test_an_archive_is_its_owners_alone(door: Door, argo: httpx.AsyncClient) -> None:
    archive = "api/v1/archived-workflows"
    await create(argo, manifests.say("x", name="mine", labels={"mine": "yes"}))
    uid = (await door.ended(argo, "mine"))["metadata"]["uid"]
    async with door.client("bob") as bob:
        assert (await bob.get(archive)).json()["items"] == []
        assert "mine" not in (await bob.get(f"{archive}-label-keys")).json()["items"]
        for path in (archive, f"{archive}/{uid}", f"{archive}-label-keys"):
            assert (await bob.get(path, params={"namespace": "ada"})).status_code == 403, path
        assert (await bob.get(f"{archive}/{uid}")).status_code == 404
        assert (await bob.delete(f"{archive}/{uid}")).status_code == 404
        for verb in ("retry", "resubmit"):
            assert (await bob.put(f"{archive}/{uid}/{verb}", json={})).status_code == 404, verb
            assert (await bob.put(f"{archive}/{uid}/{verb}", json={"namespace": "ada"})).status_code == 403, verb


async def test_a_stop_runs_the_exit_handler(door: Door, argo: httpx.AsyncClient) -> None:
    manifest = manifests.sleeps(name="stops")
    manifest["spec"] |= {"onExit": "last"}
    last = {
        "name": "last",
        "script": {"image": "python", "command": ["python"], "source": "print('{{workflow.status}}')"},
    }
    manifest["spec"]["templates"].append(last)
    await create(argo, manifest)
    answer = await argo.put(f"{OURS}/stops/stop", json={"nodeFieldSelector": "displayName=x"})
    assert answer.status_code == 400 and "No pause" in answer.json()["message"]
    assert (await argo.put(f"{OURS}/stops/stop", json={})).json()["spec"]["shutdown"] == "Stop"
    status = (await door.ended(argo, "stops"))["status"]
    assert (status["phase"], status["message"]) == ("Failed", "Stopped with strategy 'Stop'")
    found = {one["displayName"]: one for one in status["nodes"].values()}
    assert found["stops.onExit"]["phase"] == "Succeeded"
    assert "has ended already" in (await argo.put(f"{OURS}/stops/stop", json={})).json()["message"]


async def test_what_is_not_answered_says_so(door: Door, argo: httpx.AsyncClient) -> None:
    await create(argo, manifests.say("x", name="there"))
    answer = await argo.put(f"{OURS}/there/more", json={})
    assert (answer.status_code, answer.json()["code"]) == (501, 12)
    for verb in ("set", "more"):
        assert (await argo.put(f"{OURS}/nobody/{verb}", json={})).status_code == 404
    for path in ("cluster-workflow-templates", "sensors/ada"):
        answer = await argo.get(f"api/v1/{path}")
        assert (answer.status_code, answer.json()["code"]) == (501, 12), path
        assert "is not answered by Ropewalk" in answer.json()["message"]
    assert (await argo.post(f"{OURS}/submit", json={})).json()["code"] == 3
    assert (await argo.get("api/v1/nothing")).json()["code"] == 5
    await door.ended(argo, "there")


async def test_a_workflow_is_suspended_and_resumed(door: Door, argo: httpx.AsyncClient) -> None:
    await create(argo, manifests.sleeps(name="long"))
    assert (await argo.put(f"{OURS}/long/suspend", json={})).json()["spec"]["suspend"] is True
    assert (await argo.get(f"{OURS}/long")).json()["spec"]["suspend"] is True
    assert "suspend" not in (await argo.put(f"{OURS}/long/resume", json={"name": "long"})).json()["spec"]
    chosen = await argo.put(f"{OURS}/long/resume", json={"nodeFieldSelector": "displayName=a"})
    assert chosen.status_code == 400 and "No pause" in chosen.json()["message"]
    assert (await argo.put(f"{OURS}/nobody/suspend", json={})).status_code == 404
    await argo.put(f"{OURS}/long/terminate", json={})
    await door.ended(argo, "long")
    assert (await argo.put(f"{OURS}/long/suspend", json={})).json()["code"] == 9


async def test_a_pause_at_which_a_workflow_stands_is_a_node_of_it(door: Door, argo: httpx.AsyncClient) -> None:
    await create(argo, manifests.asks(name="asks"))
    async with asyncio.timeout(20):
        while not (paused := await _of_kind(argo, "asks", "Suspend")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert [(one["displayName"], one["phase"]) for one in paused] == [("approve", "Running")]
    await argo.put(f"{OURS}/asks/resume", json={})
    await door.ended(argo, "asks")
    assert [one["phase"] for one in await _of_kind(argo, "asks", "Suspend")] == ["Succeeded"]


async def test_chosen_pauses_end_as_somebody_says(door: Door, argo: httpx.AsyncClient) -> None:
    await create(argo, manifests.asks(name="asks"))
    await create(argo, manifests.asks(name="refused"))
    async with asyncio.timeout(20):
        while not (await _of_kind(argo, "asks", "Suspend") and await _of_kind(argo, "refused", "Suspend")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    approve = {"nodeFieldSelector": "displayName=approve"}
    for body in (
        {**approve, "phase": "Running"},
        {**approve, "phase": ""},
        {**approve, "phase": "Succeeded", "outputParameters": '{"x": "1"}'},
        {"nodeFieldSelector": "displayName!=approve", "phase": "Succeeded"},
        {"nodeFieldSelector": "color=red", "phase": "Succeeded"},
        {"phase": "Succeeded"},
    ):
        assert (await argo.put(f"{OURS}/asks/set", json=body)).json()["code"] == 3, body
    assert [one["phase"] for one in await _of_kind(argo, "asks", "Suspend")] == ["Running"]
    done = await argo.put(f"{OURS}/asks/set", json={**approve, "phase": "Succeeded", "message": "fine by me"})
    assert done.status_code == 200, done.text
    assert (await argo.put(f"{OURS}/refused/stop", json={**approve, "message": "not today"})).status_code == 200
    assert (await door.ended(argo, "asks"))["status"]["phase"] == "Succeeded"
    assert [one["message"] for one in await _of_kind(argo, "asks", "Suspend")] == ["fine by me"]
    ended = (await door.ended(argo, "refused"))["status"]
    assert ended["phase"] == "Failed" and "not today" in ended["message"]
    assert not await _of_kind(argo, "refused", "Pod")
    await argo.put(f"{OURS}/refused/retry", json={})  # asks anew
    async with asyncio.timeout(20):
        while [one["phase"] for one in await _of_kind(argo, "refused", "Suspend")] != ["Running"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    chosen = {"nodeFieldSelector": "templateName=pause,phase=Running"}
    assert (await argo.put(f"{OURS}/refused/resume", json=chosen)).status_code == 200
    assert (await door.ended(argo, "refused"))["status"]["phase"] == "Succeeded"


async def _of_kind(argo: httpx.AsyncClient, name: str, kind: str) -> list[dict[str, Any]]:
    nodes = ((await argo.get(f"{OURS}/{name}")).json()["status"].get("nodes") or {}).values()
    return [one for one in nodes if one["type"] == kind]


async def test_each_has_one_namespace(door: Door, argo: httpx.AsyncClient) -> None:
    await create(argo, manifests.say("x", name="mine"))
    async with door.client("bob") as bob:
        for path in ("workflows/ada", "workflows/ada/mine", "workflows/ada/mine/log", "workflow-events/ada"):
            answer = await bob.get(f"api/v1/{path}")
            assert (answer.status_code, answer.json()["code"]) == (403, 7), path
            assert "Permission denied" in answer.json()["message"]
        assert (await bob.get("artifacts/ada/mine/x/y")).status_code == 403
        assert (await bob.delete(f"{OURS}/mine")).status_code == 403
        assert (await bob.get("api/v1/workflows/bob/mine")).status_code == 404
        assert (await bob.get("api/v1/workflows/bob")).json()["items"] == []
    assert (await argo.get("api/v1/userinfo")).json()["name"] == "ada"
    assert (await argo.get("api/v1/info")).json()["managedNamespace"] == "ada"
    await door.ended(argo, "mine")


async def test_only_a_token_of_the_right_kind_counts(door: Door) -> None:
    ada = door.platform.issuer.accounts.get("ada")
    wrong = door.platform.issuer.tokens.make(ada, "server:ada", "functions")[0]
    async with httpx.AsyncClient(base_url=f"{door.origin}/argo/", trust_env=False) as nobody:
        for header in ({}, {"Authorization": f"Bearer {wrong}"}, {"Authorization": f"Basic {door.token()}"}):
            answer = await nobody.get("api/v1/userinfo", headers=header)
            assert (answer.status_code, answer.json()["code"]) == (401, 16), header
