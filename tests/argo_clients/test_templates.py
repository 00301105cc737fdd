"""Workflow templates and cron workflows over Argo Server's interface: saved workflows, and their schedules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ropewalk_core.model import Actor
from ropewalk_workflows.compile import to_save
from tests.argo_clients import manifests
from tests.argo_clients.stage import Door
from tests.unit.test_saved import once

TEMPLATES, CRONS, OURS = "api/v1/workflow-templates/ada", "api/v1/cron-workflows/ada", "api/v1/workflows/ada"
ADA = Actor(account="ada")


@pytest.fixture
async def argo(door: Door) -> AsyncIterator[httpx.AsyncClient]:
    async with door.client() as client:
        yield client


def template(text: str = "hello", name: str = "greet") -> dict[str, Any]:
    spec = manifests.say(text, name=name)["spec"]
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "metadata": {"name": name}, "spec": spec}


def cron(name: str = "nightly", **more: Any) -> dict[str, Any]:
    spec = {"schedules": ["0 2 * * *"], "timezone": "Europe/Athens", "workflowSpec": template()["spec"], **more}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow", "metadata": {"name": name}, "spec": spec}


async def submit(client: httpx.AsyncClient, kind: str, name: str, **options: Any) -> httpx.Response:
    body = {"namespace": "ada", "resourceKind": kind, "resourceName": name, "submitOptions": options}
    return await client.post(f"{OURS}/submit", json=body)


async def test_a_template_from_its_creation_to_its_removal(door: Door, argo: httpx.AsyncClient) -> None:
    made = await argo.post(TEMPLATES, json={"namespace": "ada", "template": template()})
    assert made.status_code == 200, made.text
    assert made.json()["metadata"]["name"] == "greet" and made.json()["spec"]["entrypoint"]
    again = await argo.post(TEMPLATES, json={"template": template()})
    assert (again.status_code, again.json()["code"]) == (409, 6)
    [listed] = (await argo.get(TEMPLATES)).json()["items"]
    assert listed == (await argo.get(f"{TEMPLATES}/greet")).json() == made.json()
    run = await submit(argo, "workflowtemplate", "greet", parameters=["text=good evening"], generateName="said-")
    assert run.status_code == 200, run.text
    name = run.json()["metadata"]["name"]
    assert name.startswith("said-")
    found = await door.ended(argo, name)
    assert found["status"]["phase"] == "Succeeded"
    assert found["spec"]["arguments"]["parameters"] == [{"name": "text", "value": "good evening"}]
    changed = await argo.put(f"{TEMPLATES}/greet", json={"template": template("other")})
    assert changed.json()["metadata"]["resourceVersion"] == "2"
    assert (await argo.delete(f"{TEMPLATES}/greet")).json() == {}
    assert (await argo.get(f"{TEMPLATES}/greet")).status_code == 404
    assert (await argo.get(f"{OURS}/{name}")).status_code == 200


async def test_a_saved_workflow_is_a_template_whose_arguments_are_read_as_what_they_take(
    door: Door, argo: httpx.AsyncClient
) -> None:
    await door.platform.saved.save(ADA, "ada", to_save(once))
    [listed] = (await argo.get(TEMPLATES)).json()["items"]
    assert listed["metadata"]["name"] == "once"
    run = await submit(argo, "WorkflowTemplate", "once", parameters=["rate=2", "mode=slow"])
    parameters = {one["name"]: one["value"] for one in run.json()["spec"]["arguments"]["parameters"]}
    assert (parameters["rate"], parameters["mode"]) == ("2", '"slow"')
    wrong = await submit(argo, "WorkflowTemplate", "once", parameters=["rate=fast"])
    assert wrong.status_code == 400 and "must be a number" in wrong.json()["message"]


async def test_a_cron_workflow_has_schedules_and_rests(door: Door, argo: httpx.AsyncClient) -> None:
    made = await argo.post(CRONS, json={"cronWorkflow": cron()})
    assert made.status_code == 200, made.text
    assert (made.json()["spec"]["schedules"], made.json()["spec"]["suspend"]) == (["0 2 * * *"], False)
    [listed] = (await argo.get(CRONS)).json()["items"]
    assert listed["spec"]["timezone"] == "Europe/Athens"
    assert (await argo.put(f"{CRONS}/nightly/suspend", json={})).json()["spec"]["suspend"] is True
    assert (await argo.get(f"{CRONS}/nightly")).json()["spec"]["suspend"] is True
    assert (await argo.put(f"{CRONS}/nightly/resume", json={})).json()["spec"]["suspend"] is False
    changed = await argo.put(f"{CRONS}/nightly", json={"cronWorkflow": cron(schedules=["@daily"], suspend=True)})
    assert (changed.json()["spec"]["schedules"], changed.json()["spec"]["suspend"]) == (["@daily"], True)
    run = await submit(argo, "cronwf", "nightly")
    assert run.json()["metadata"]["name"].startswith("nightly-")
    assert (await argo.delete(f"{CRONS}/nightly")).json() == {}
    assert (await argo.get(TEMPLATES)).json()["items"] == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"schedules": ["61 * * * *"]}, "minute"),
        ({"schedules": []}, "needs a schedule"),
        ({"timezone": "Nowhere"}, "time zone"),
        ({"concurrencyPolicy": "Forbid"}, "concurrencyPolicy"),
        ({"startingDeadlineSeconds": 5}, "startingDeadlineSeconds"),
        ({"when": "{{= true }}"}, "'when' is not supported"),
        ({"workflowSpec": {"templates": []}}, "spec.entrypoint"),
    ],
)
async def test_what_argo_would_do_otherwise_is_refused_and_nothing_is_kept(
    door: Door, argo: httpx.AsyncClient, wrong: dict[str, Any], words: str
) -> None:
    for path in (CRONS, f"{CRONS}/lint"):
        answer = await argo.post(path, json={"cronWorkflow": cron(**wrong)})
        assert answer.status_code == 400 and words in answer.json()["message"], answer.text
    assert (await argo.get(TEMPLATES)).json()["items"] == []


async def test_lint_keeps_nothing(door: Door, argo: httpx.AsyncClient) -> None:
    fine = await argo.post(f"{TEMPLATES}/lint", json={"template": template()})
    assert fine.status_code == 200 and fine.json()["metadata"]["name"] == "greet"
    assert (await argo.post(f"{CRONS}/lint", json={"cronWorkflow": cron()})).status_code == 200
    bad = template()
    bad["spec"]["templates"][0]["resource"] = {}
    refused = await argo.post(f"{TEMPLATES}/lint", json={"template": bad})
    assert refused.status_code == 400 and "resource" in refused.json()["message"]
    assert (await argo.get(TEMPLATES)).json()["items"] == []


async def test_what_is_not_there_or_not_ones_own(door: Door, argo: httpx.AsyncClient) -> None:
    await argo.post(TEMPLATES, json={"template": template()})
    assert (await argo.get(f"{CRONS}/greet")).status_code == 404, "it has no schedule"
    assert (await submit(argo, "workflowtemplate", "nothing")).status_code == 404
    assert (await submit(argo, "clusterworkflowtemplate", "greet")).status_code == 400
    assert (await submit(argo, "workflowtemplate", "greet", entryPoint="x")).status_code == 400
    for body in ({}, {"template": 5}, {"template": {"metadata": {}, "spec": {}}}, {"template": cron()}):
        assert (await argo.post(TEMPLATES, json=body)).status_code == 400, body
    async with door.client("bob") as bob:
        assert (await bob.get(TEMPLATES)).status_code == 403
        assert (await bob.get(TEMPLATES.replace("ada", "bob"))).json()["items"] == []
