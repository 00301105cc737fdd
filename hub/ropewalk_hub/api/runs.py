"""REST of workflows: runs, their steps' logs and their artifacts. Not here: compiling, which the person's side does."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from ropewalk_core.comparison import MOST_RUNS, MOST_STEPS
from ropewalk_core.errors import NotFound
from ropewalk_core.flows import Comparison, Run, RunSpec, StepInputs
from ropewalk_core.model import Page
from ropewalk_hub.api.common import After, ApiRoute, Follow, Its, Key, Limit, download, ndjson, problems
from ropewalk_hub.security import Signed

router = APIRouter(route_class=ApiRoute, tags=["workflows"])


@router.get("/workflows/{owner}", operation_id="list_runs", responses=problems(404))
async def list_runs(actor: Signed, its: Its, owner: str, after: After = "", limit: Limit = 50) -> Page[Run]:
    """Return a page of a person's runs, newest first, without steps."""
    return await its.workflows.list(actor, owner, after=after, limit=limit)


@router.post(
    "/workflows/{owner}", status_code=202, operation_id="submit_run", responses=problems(404, 409, 413, 422, 507)
)
async def submit_run(actor: Signed, its: Its, owner: str, spec: RunSpec, key: Key = "") -> Run:
    """Start a run; the same key returns the same run."""
    return await its.workflows.submit(actor, owner, spec, key=key)


@router.get("/workflows/{owner}/compare", operation_id="compare_runs", responses=problems(404, 422))
async def compare_runs(
    actor: Signed,
    its: Its,
    owner: str,
    name: Annotated[str, Query(description="Of the workflow", max_length=200)] = "",
    step: Annotated[
        list[str] | None, Query(description="A step whose result is read too", max_length=MOST_STEPS)
    ] = None,
    limit: Annotated[int, Query(description="How many runs are read", ge=1, le=MOST_RUNS)] = MOST_RUNS,
) -> Comparison:
    """Return the latest runs of a workflow with what they were given and the numbers that they returned."""
    return await its.workflows.compare(actor, owner, name, steps=step or (), limit=limit)


@router.get("/workflows/{owner}/{run}", operation_id="get_run", responses=problems(404))
async def get_run(actor: Signed, its: Its, owner: str, run: str) -> Run:
    """Return one run with its steps."""
    return await its.workflows.get(actor, owner, run)


@router.post("/workflows/{owner}/{run}/cancel", status_code=202, operation_id="cancel_run", responses=problems(404))
async def cancel_run(actor: Signed, its: Its, owner: str, run: str, on_exit: bool = False) -> Run:
    """Stop a run; a finished one stays as it is."""
    return await its.workflows.cancel(actor, owner, run, on_exit=on_exit)


@router.post(
    "/workflows/{owner}/{run}/suspend", status_code=202, operation_id="suspend_run", responses=problems(404, 409, 422)
)
async def suspend_run(actor: Signed, its: Its, owner: str, run: str) -> Run:
    """Have no further step of a run start until it is resumed; those that run go on."""
    return await its.workflows.suspend(actor, owner, run)


@router.post(
    "/workflows/{owner}/{run}/resume", status_code=202, operation_id="resume_run", responses=problems(404, 409, 422)
)
async def resume_run(actor: Signed, its: Its, owner: str, run: str) -> Run:
    """Have a suspended run go on, and end the pauses at which it stands."""
    return await its.workflows.resume(actor, owner, run)


@router.post(
    "/workflows/{owner}/{run}/answer", status_code=202, operation_id="answer_run", responses=problems(404, 409, 422)
)
async def answer_run(
    actor: Signed,
    its: Its,
    owner: str,
    run: str,
    step: Annotated[list[str], Query(description="A pause at which it stands", min_length=1, max_length=100)],
    ok: Annotated[bool, Query(description="Whether what follows goes on")] = True,
    message: Annotated[str, Query(description="Why", max_length=1000)] = "",
) -> Run:
    """End chosen pauses at which a run stands: what follows goes on, or they failed."""
    return await its.workflows.answer(actor, owner, run, step, ok=ok, message=message)


@router.post("/workflows/{owner}/{run}/retry", status_code=202, operation_id="retry_run", responses=problems(404, 409))
async def retry_run(actor: Signed, its: Its, owner: str, run: str) -> Run:
    """Run failed steps again, and what follows them."""
    return await its.workflows.retry(actor, owner, run)


@router.delete("/workflows/{owner}/{run}", operation_id="remove_run", responses=problems(404, 409))
async def remove_run(actor: Signed, its: Its, owner: str, run: str) -> Run:
    """Forget a run that has ended, with its steps, logs and working files; files of the same content stay stored."""
    return await its.workflows.remove(actor, owner, run)


@router.get(
    "/workflows/{owner}/{run}/steps/{step}/logs",
    operation_id="get_step_logs",
    responses=problems(404),
    response_class=StreamingResponse,
)
async def get_step_logs(
    actor: Signed,
    its: Its,
    owner: str,
    run: str,
    step: str,
    after: Annotated[int, Query(description="Byte offset of the last line seen; negative counts from the end")] = 0,
    follow: Follow = False,
) -> StreamingResponse:
    """Return a step's log lines as JSON lines."""
    lines = its.workflows.logs(actor, owner, run, step, after=after, follow=follow)
    found = await its.workflows.get(actor, owner, run)
    if not any(one.id == step for one in found.steps):
        raise NotFound("There is no such step in this run.", field="step")
    return ndjson(lines, its, actor, after)


@router.get(
    "/workflows/{owner}/{run}/artifacts/{digest}",
    operation_id="get_artifact",
    responses=problems(404, 409, 422),
    response_class=StreamingResponse,
)
async def get_artifact(actor: Signed, its: Its, owner: str, run: str, digest: str) -> StreamingResponse:
    """Return the content of one of a run's artifacts, checked against its digest."""
    content = await its.workflows.artifact(actor, owner, run, digest)
    return download(content, _named(await its.workflows.get(actor, owner, run), digest))


@router.get("/workflows/{owner}/{run}/steps/{step}/inputs", operation_id="get_step_inputs", responses=problems(404))
async def get_step_inputs(actor: Signed, its: Its, owner: str, run: str, step: str) -> StepInputs:
    """Return what a step was called with: its code, and each argument by reference."""
    return await its.workflows.inputs(actor, owner, run, step)


@router.get("/workflows/{owner}/{run}/spec", operation_id="get_run_spec", responses=problems(404))
async def get_run_spec(actor: Signed, its: Its, owner: str, run: str) -> RunSpec:
    """Return what a run was submitted with: its manifest and code, without values."""
    return await its.workflows.spec(actor, owner, run)


def _named(run: Run, digest: str) -> str:
    """Return what a step calls the file; one that came with the run has no name."""
    files = (one for step in run.steps for one in step.artifacts)
    return next((one.name for one in files if one.digest == digest), f"value-{digest[:12]}")
