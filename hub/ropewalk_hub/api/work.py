"""REST of notebooks, services and functions: the verbs of their ports, nothing between.

A change answers 202 when it is durable; what follows is seen by `watch`. Not here: traffic to functions and services,
which the gateway carries.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from ropewalk_core import openapi
from ropewalk_core import traffic as traffics
from ropewalk_core.errors import BadInput
from ropewalk_core.functions import roll_back
from ropewalk_core.model import (
    Access,
    Call,
    CallKey,
    Costs,
    Figures,
    Function,
    FunctionSpec,
    NewKey,
    Notebook,
    Page,
    Requirements,
    Revision,
    Service,
    ServiceSpec,
    Window,
)
from ropewalk_core.placement import Placement, parse_placement
from ropewalk_hub.api.common import (
    After,
    ApiRoute,
    Follow,
    From,
    Its,
    Key,
    Limit,
    ndjson,
    ndjson_or_problem,
    problems,
    trace_of,
)
from ropewalk_hub.security import Signed
from ropewalk_hub.sharing import share

router = APIRouter(route_class=ApiRoute)
_LINES: dict[str, Any] = {"response_class": StreamingResponse}


class NotebookWish(BaseModel):
    """Which server, and what it needs."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    placement: dict[str, Any] | None = None

    def placed(self) -> Placement | None:
        """Return the placement, if one was given."""
        return parse_placement(self.placement) if self.placement is not None else None


class RollbackWish(BaseModel):
    """Which revision to go back to."""

    model_config = ConfigDict(extra="forbid")

    number: int = Field(ge=1, description="Number of a revision that is kept")


class KeyWish(BaseModel):
    """A key and its quota."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(default="", description="What it is for", max_length=60)
    calls: int = Field(default=1000, ge=1, description="Calls that it is good for in each window")
    seconds: int = Field(default=3600, ge=1, description="How long a window is")


class TrafficWish(BaseModel):
    """Who is to take a function's calls."""

    model_config = ConfigDict(extra="forbid")

    shares: dict[str, Any] = Field(
        description="By the number of a revision, or `latest`: how many of 100 calls it takes. 0 pins a revision: it "
        "answers at its own address alone.",
        examples=[{"latest": 90, "3": 10}],
        max_length=100,
    )


CallId = Annotated[str, Query(max_length=100, description="Identifier of a call; left out, all calls")]
Number = Annotated[int, Path(ge=1, description="Number of a revision")]


def _same_name(path: str, body: str) -> None:
    if path != body:
        raise BadInput(f"The address says '{path}' and the body says '{body}'.", field="name")


@router.get("/notebooks/{owner}", tags=["notebooks"], operation_id="list_notebooks", responses=problems(404))
async def list_notebooks(actor: Signed, its: Its, owner: str) -> Page[Notebook]:
    """Return a person's notebook servers."""
    return await its.notebooks.list(actor, owner)


@router.post(
    "/notebooks/{owner}/start",
    status_code=202,
    tags=["notebooks"],
    operation_id="start_notebook",
    responses=problems(404, 422, 503),
)
async def start_notebook(actor: Signed, its: Its, owner: str, wish: NotebookWish) -> Notebook:
    """Start a server, or return the one that runs."""
    return await its.notebooks.start(actor, owner, wish.name, placement=wish.placed())


@router.post(
    "/notebooks/{owner}/stop",
    status_code=202,
    tags=["notebooks"],
    operation_id="stop_notebook",
    responses=problems(404, 503),
)
async def stop_notebook(actor: Signed, its: Its, owner: str, wish: NotebookWish) -> Notebook:
    """Stop a server."""
    return await its.notebooks.stop(actor, owner, wish.name)


@router.get(
    "/notebooks/{owner}/logs", tags=["notebooks"], operation_id="get_notebook_logs", responses=problems(404), **_LINES
)
async def get_notebook_logs(
    actor: Signed, its: Its, owner: str, name: str = "", after: From = 0, follow: Follow = False
) -> StreamingResponse:
    """Return log lines as JSON lines."""
    await its.notebooks.get(actor, owner, name)
    return ndjson(its.notebooks.logs(actor, owner, name, after=after, follow=follow), its, actor, after)


@router.get("/services/{owner}", tags=["services"], operation_id="list_services", responses=problems(404))
async def list_services(actor: Signed, its: Its, owner: str, after: After = "", limit: Limit = 50) -> Page[Service]:
    """Return a page of a person's services by name."""
    return await its.services.list(actor, owner, after=after, limit=limit)


@router.get("/services/{owner}/{name}", tags=["services"], operation_id="get_service", responses=problems(404))
async def get_service(actor: Signed, its: Its, owner: str, name: str) -> Service:
    """Return one service."""
    return await its.services.get(actor, owner, name)


@router.put(
    "/services/{owner}/{name}",
    status_code=202,
    tags=["services"],
    operation_id="apply_service",
    responses=problems(404, 409, 413, 422, 507),
)
async def apply_service(actor: Signed, its: Its, owner: str, name: str, spec: ServiceSpec, key: Key = "") -> Service:
    """Ask for a service; the same wish again changes nothing, and its template stays what it is."""
    _same_name(name, spec.name)
    return await its.services.apply(actor, owner, spec, key=key)


@router.delete(
    "/services/{owner}/{name}",
    status_code=202,
    tags=["services"],
    operation_id="remove_service",
    responses=problems(404),
)
async def remove_service(actor: Signed, its: Its, owner: str, name: str) -> Service:
    """Stop and remove a service; its files stay."""
    return await its.services.remove(actor, owner, name)


@router.get(
    "/services/{owner}/{name}/logs",
    tags=["services"],
    operation_id="get_service_logs",
    responses=problems(404),
    **_LINES,
)
async def get_service_logs(
    actor: Signed, its: Its, owner: str, name: str, after: From = 0, follow: Follow = False
) -> StreamingResponse:
    """Return log lines as JSON lines."""
    lines = its.services.logs(actor, owner, name, after=after, follow=follow)
    await its.services.get(actor, owner, name)
    return ndjson(lines, its, actor, after)


@router.get("/functions/{owner}", tags=["functions"], operation_id="list_functions", responses=problems(404))
async def list_functions(actor: Signed, its: Its, owner: str, after: After = "", limit: Limit = 50) -> Page[Function]:
    """Return a page of a person's functions by name, as summaries: `files` of their bundles are empty."""
    return await its.functions.list(actor, owner, after=after, limit=limit)


@router.get("/functions/{owner}/{name}", tags=["functions"], operation_id="get_function", responses=problems(404))
async def get_function(actor: Signed, its: Its, owner: str, name: str) -> Function:
    """Return one function."""
    return await its.functions.get(actor, owner, name)


@router.get(
    "/functions/{owner}/{name}/openapi.json",
    tags=["functions"],
    operation_id="describe_function",
    responses=problems(404),
)
async def describe_function(actor: Signed, its: Its, owner: str, name: str) -> dict[str, Any]:
    """Return a function as an OpenAPI document of its own, made from its type hints."""
    return openapi.describe(await its.functions.get(actor, owner, name))


@router.put(
    "/functions/{owner}/{name}",
    tags=["functions"],
    operation_id="deploy_function",
    responses=problems(404, 409, 413, 422, 507),
)
async def deploy_function(
    actor: Signed, its: Its, owner: str, name: str, spec: FunctionSpec, key: Key = ""
) -> Function:
    """Deploy a revision; the same content again comes back as `unchanged`."""
    _same_name(name, spec.name)
    return await its.functions.deploy(actor, owner, spec, key=key)


@router.post(
    "/requirements/{owner}",
    tags=["functions"],
    operation_id="prepare_requirements",
    responses=problems(404, 422),
    **_LINES,
)
async def prepare_requirements(actor: Signed, its: Its, owner: str, needs: Requirements) -> StreamingResponse:
    """Make the environment that a function with these requirements needs, and return the log of it as JSON lines.

    A deploy does the same without the log. The answer is empty if it is there already; empty lines come between while
    nothing is said; if it fails, the last line is `{"problem": ...}`. Who closes it ends what is made.
    """
    return ndjson_or_problem(its.functions.prepare(actor, owner, needs), its, actor)


@router.get(
    "/functions/{owner}/{name}/revisions", tags=["functions"], operation_id="list_revisions", responses=problems(404)
)
async def list_revisions(
    actor: Signed, its: Its, owner: str, name: str, after: After = "", limit: Limit = 50
) -> Page[Revision]:
    """Return the kept revisions of a function, newest first, as summaries: `files` of their bundles are empty."""
    return await its.functions.revisions(actor, owner, name, after=after, limit=limit)


@router.get(
    "/functions/{owner}/{name}/revisions/{number}",
    tags=["functions"],
    operation_id="get_revision",
    responses=problems(404),
)
async def get_revision(actor: Signed, its: Its, owner: str, name: str, number: Number) -> Revision:
    """Return one revision with its code."""
    return await its.functions.revision(actor, owner, name, number)


@router.post(
    "/functions/{owner}/{name}/rollback",
    tags=["functions"],
    operation_id="roll_back_function",
    responses=problems(404, 409, 413, 422, 507),
)
async def roll_back_function(
    actor: Signed, its: Its, owner: str, name: str, wish: RollbackWish, key: Key = ""
) -> Function:
    """Deploy a kept revision again, as `deploy_function` does: it is tried first, and gets a number of its own.

    Where calls were split between revisions, all of them go to it then.
    """
    return await roll_back(its.functions, actor, owner, name, wish.number, key=key)


@router.put(
    "/functions/{owner}/{name}/traffic",
    tags=["functions"],
    operation_id="split_function",
    responses=problems(404, 409, 422, 503),
)
async def split_function(actor: Signed, its: Its, owner: str, name: str, wish: TrafficWish) -> Function:
    """Split calls between kept revisions; the shares add up to 100, and a deploy leaves them as they are."""
    return await its.functions.traffic(actor, owner, name, traffics.weights(wish.shares))


@router.delete("/functions/{owner}/{name}", tags=["functions"], operation_id="remove_function", responses=problems(404))
async def remove_function(actor: Signed, its: Its, owner: str, name: str) -> Function:
    """Remove a function and end its workers."""
    return await its.functions.remove(actor, owner, name)


@router.post(
    "/functions/{owner}/{name}/call",
    tags=["functions"],
    operation_id="call_function",
    responses=problems(404, 413, 429, 500, 503, 504),
    response_class=Response,
)
async def call_function(actor: Signed, its: Its, owner: str, name: str, request: Request) -> Response:
    """Call a function with the request's body; programs use the function's own address, which is faster."""
    content_type = request.headers.get("content-type", "application/json")
    body, trace = await request.body(), trace_of(request)
    content = await its.functions.call(actor, owner, name, body, content_type=content_type, trace=trace)
    return Response(content, media_type="application/octet-stream")


@router.put(
    "/functions/{owner}/{name}/access", tags=["functions"], operation_id="share_function", responses=problems(404, 422)
)
async def share_function(actor: Signed, its: Its, owner: str, name: str, access: Access) -> Function:
    """Say who may call a function: only its owner, named accounts, or anybody; and which web pages may."""
    return await share(its, actor, owner, name, access)


@router.get("/functions/{owner}/{name}/keys", tags=["functions"], operation_id="list_keys", responses=problems(404))
async def list_keys(actor: Signed, its: Its, owner: str, name: str) -> Page[CallKey]:
    """Return the keys of a function, without their secrets."""
    return await its.functions.keys(actor, owner, name)


@router.post(
    "/functions/{owner}/{name}/keys",
    status_code=201,
    tags=["functions"],
    operation_id="add_key",
    responses=problems(404, 422),
)
async def add_key(
    actor: Signed, its: Its, owner: str, name: str, wish: KeyWish, response: Response, key: Key = ""
) -> NewKey:
    """Make a key. Its secret is in this answer alone; a request that is sent again replaces what it made."""
    response.headers["Cache-Control"] = "no-store"
    facts = wish.model_dump()
    return await its.functions.add_key(actor, owner, name, **facts, key=key)


@router.delete(
    "/functions/{owner}/{name}/keys/{identifier}",
    tags=["functions"],
    operation_id="revoke_key",
    responses=problems(404),
)
async def revoke_key(actor: Signed, its: Its, owner: str, name: str, identifier: str) -> CallKey:
    """End a key."""
    return await its.functions.revoke_key(actor, owner, name, identifier)


@router.get("/functions/{owner}/{name}/calls", tags=["functions"], operation_id="list_calls", responses=problems(404))
async def list_calls(actor: Signed, its: Its, owner: str, name: str, limit: Limit = 50) -> Page[Call]:
    """Return the latest calls, newest first."""
    await its.functions.get(actor, owner, name)
    return await its.functions.calls(actor, owner, name, limit=limit)


@router.get(
    "/functions/{owner}/{name}/logs",
    tags=["functions"],
    operation_id="get_function_logs",
    responses=problems(404),
    **_LINES,
)
async def get_function_logs(
    actor: Signed, its: Its, owner: str, name: str, call: CallId = "", after: From = 0, follow: Follow = False
) -> StreamingResponse:
    """Return what a call prints as JSON lines, while it goes on too; without one what all calls print."""
    lines = its.functions.logs(actor, owner, name, call=call, after=after, follow=follow)
    await its.functions.get(actor, owner, name)
    return ndjson(lines, its, actor, after)


@router.get(
    "/functions/{owner}/{name}/figures", tags=["functions"], operation_id="get_figures", responses=problems(404)
)
async def get_figures(actor: Signed, its: Its, owner: str, name: str, window: Window = "hour") -> Figures:
    """Return how many calls there were, how long they took and how many failed.

    The last hour is by minute, the last day by quarter of an hour. Quantiles are right within 4.5 %.
    """
    return await its.functions.figures(actor, owner, name, window=window)


@router.get("/functions/{owner}/{name}/costs", tags=["functions"], operation_id="get_costs", responses=problems(404))
async def get_costs(actor: Signed, its: Its, owner: str, name: str) -> Costs:
    """Return what the calls of a function cost on each of the last days: CPU seconds and GB-seconds."""
    return await its.functions.costs(actor, owner, name)


@router.get("/costs/{owner}", tags=["functions"], operation_id="get_account_costs", responses=problems(404))
async def get_account_costs(actor: Signed, its: Its, owner: str) -> Costs:
    """Return what the calls of all functions of an account cost on each of the last days, of removed ones too."""
    return await its.functions.costs(actor, owner)
