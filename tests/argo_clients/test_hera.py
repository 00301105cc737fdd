"""Hera's own service class against a platform: what a plain Hera program does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hera.exceptions import AlreadyExists, BadRequest, Forbidden, NotFound, NotImplemented, Unauthorized
from hera.workflows import DAG, Container, Parameter, Script, Step, Steps, Task, Workflow, WorkflowsService
from hera.workflows.models import WorkflowStopRequest, WorkflowTerminateRequest

from tests.argo_clients.stage import Door

pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")  # Hera's own


@pytest.fixture
async def service(door: Door) -> AsyncIterator[WorkflowsService]:
    with WorkflowsService(host=f"{door.origin}/argo/", token=door.token(), namespace="ada") as found:
        yield found


def diamond(service: WorkflowsService, **more: Any) -> Workflow:
    with Workflow(entrypoint="main", workflows_service=service, namespace="ada", **more) as made:
        echo = Container(
            name="echo",
            image="alpine",
            command=["sh", "-c"],
            args=["echo {{inputs.parameters.text}}"],
            inputs=[Parameter(name="text")],
        )
        with DAG(name="main"):
            first, left, right, last = (
                Task(name=one, template=echo, arguments={"text": one}) for one in ("first", "left", "right", "last")
            )
            first >> [left, right] >> last
    return made


async def test_create_and_wait(service: WorkflowsService) -> None:
    done = await asyncio.to_thread(
        lambda: diamond(service, generate_name="diamond-").create(wait=True, poll_interval=1)
    )
    assert done.status.phase == "Succeeded" and done.metadata.name.startswith("diamond-")
    nodes = {one.display_name: one for one in done.status.nodes.values()}
    assert {"first", "left", "right", "last"} < set(nodes)
    assert sorted(nodes["first"].children) == sorted([nodes["left"].id, nodes["right"].id])
    assert nodes["last"].phase == "Succeeded" and nodes["last"].type == "Pod"


async def test_a_script_in_steps(service: WorkflowsService) -> None:
    def act() -> Any:
        with Workflow(name="greet", entrypoint="main", workflows_service=service, namespace="ada") as made:
            hello = Script(name="hello", image="python:3.12", command=["python"], source="print('hello')")
            with Steps(name="main"):
                Step(name="say", template=hello)
        return made.create(wait=True, poll_interval=1)

    done = await asyncio.to_thread(act)
    assert done.status.phase == "Succeeded", done.status.message


async def test_the_verbs_of_the_service(service: WorkflowsService, door: Door) -> None:
    def act() -> None:
        made = diamond(service, name="verbs")
        assert made.lint().metadata.name == "verbs"
        made.create()
        with pytest.raises(AlreadyExists):
            diamond(service, name="verbs").create()
        with pytest.raises(NotImplemented, match="not answered by Ropewalk"):
            service.list_cluster_workflow_templates()
        assert [one.metadata.name for one in service.list_workflows().items] == ["verbs"]
        done = made.wait(poll_interval=1)
        assert done.status.phase == "Succeeded"
        with pytest.raises(BadRequest):
            service.terminate_workflow("verbs", WorkflowTerminateRequest(name="verbs"))
        with pytest.raises(BadRequest, match="has ended already"):
            service.stop_workflow("verbs", WorkflowStopRequest(name="verbs"))
        service.delete_workflow("verbs")
        with pytest.raises(NotFound):
            service.get_workflow("verbs")
        assert service.get_version().version and service.get_info().managed_namespace == "ada"
        assert service.get_user_info().name == "ada"

    await asyncio.to_thread(act)


async def test_the_archive(service: WorkflowsService) -> None:
    def act() -> None:
        done = diamond(service, name="kept").create(wait=True, poll_interval=1)
        [found] = service.list_archived_workflows(namespace="ada").items
        uid = found.metadata.uid
        assert uid == done.metadata.uid and service.get_archived_workflow(uid).metadata.name == "kept"
        assert "workflows.argoproj.io/phase" in service.list_archived_workflow_label_keys().items
        service.delete_archived_workflow(uid)
        with pytest.raises(NotFound):
            service.get_archived_workflow(uid)

    await asyncio.to_thread(act)


async def test_refusals_are_heras_own_exceptions(service: WorkflowsService, door: Door) -> None:
    def act() -> None:
        with pytest.raises(Forbidden):
            service.list_workflows(namespace="bob")
        with pytest.raises(Unauthorized):
            WorkflowsService(host=f"{door.origin}/argo/", token="nonsense", namespace="ada").get_info()
        with pytest.raises(BadRequest, match="There is no template 'nowhere'"):
            diamond(service, name="wrong", on_exit="nowhere").create()

    await asyncio.to_thread(act)
