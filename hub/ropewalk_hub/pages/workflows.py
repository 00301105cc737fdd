"""Pages of workflows: the table of runs, one run with its graph, the chosen step beside it.

Not here: running (the engine). Rejected: a page per step; the graph must stay in sight.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from ropewalk_core import lineage, timeline
from ropewalk_core.errors import BadWorkflow, NotFound, RopewalkError
from ropewalk_core.flows import Artifact, Run, Step
from ropewalk_core.model import Actor, State
from ropewalk_hub.pages import graph, words
from ropewalk_hub.pages.common import Its, Viewed, hit, or_none, search, see, some
from ropewalk_hub.pages.render import render
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed
from ropewalk_runtime.notebooks import PAGE
from ropewalk_workflows import copies, memo
from ropewalk_workflows.again import spec_again
from ropewalk_workflows.records import SPEC

router = APIRouter(include_in_schema=False)
_STATES = (State.RUNNING, State.WAITING, State.DONE, State.FAILED, State.STOPPED)
_STEPS = 100
"""Steps of the table on one page."""
_LARGEST_PAGE = 32 * 2**20
_FRAMED = {
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
        "frame-ancestors 'self'; form-action 'none'; base-uri 'none'"
    ),
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
}
"""The sandbox gives the page an origin of its own, also where it is opened without a frame."""
_ATTENTION = (State.FAILED, State.RUNNING, State.STARTING)


@router.get("/workflows")
async def workflows(request: Request, actor: Signed, its: Its, view: Viewed) -> Response:
    """Show my runs, newest first."""
    owner = actor.account
    listing = await search(
        lambda after, limit: its.workflows.list(actor, owner, after=after, limit=limit),
        lambda one: hit(view, one.status.state, one.id, one.name),
        view,
    )
    return render(request, "workflows.html", listing=listing, view=view, states=_STATES)


@router.get("/workflows/{run}")
async def run(request: Request, actor: Signed, its: Its, run: str, step: str = "", row: int = 0) -> Response:
    """Show one run: the graph, the chosen step or the one that needs attention, and a page of the table of steps."""
    one = await its.workflows.get(actor, actor.account, run)
    now = its.clock.wall()
    chosen = choose(one, step)
    lines, offset = await _log(its, actor, one, chosen)
    first = max(0, min(row, len(one.steps) - 1)) // _STEPS * _STEPS
    shown = one.steps[first : first + _STEPS]
    asked = {name: value for name, value in (("step", chosen.id if chosen else ""), ("row", first)) if value}
    return render(
        request,
        "run.html",
        here=f"/workflows/{one.id}?{urlencode(asked)}",
        run=one,
        graph=graph.draw(one.steps, {each.id: words.duration(_took(each, now)) for each in one.steps}),
        chosen=chosen,
        origin=_origin(its, actor, one, chosen),
        executed=chosen is not None and any(map(is_page, chosen.artifacts)),
        wide=graph.WIDE,
        high=graph.HIGH,
        lines=lines,
        offset=offset,
        tally=[(state, count) for state in State if (count := _tally(one)[state])],
        timeline=timeline.lay(one, now),
        short=timeline.short,
        left=timeline.LEFT,
        shown=shown,
        first=first,
        most=_STEPS,
        took={each.id: _took(each, now) for each in (*shown, *([chosen] if chosen else []))},
        seconds=(one.ended or now) - one.created,
        failed=any(each.status.state in (State.FAILED, State.STOPPED) for each in one.steps),
        python=f'import ropewalk\n\nrun = ropewalk.runs.get("{one.id}")',
        command=f"ropewalk workflows get {one.id}",
        repeatable=one.status.state.terminal and its.journal.get(SPEC, actor.account, one.id) is not None,
    )


@router.get("/workflows/{run}/lineage")
async def comes_from(request: Request, actor: Signed, its: Its, run: str, step: str = "") -> Response:
    """Show what a step's result comes from, and the step's code."""
    one = await its.workflows.get(actor, actor.account, run)
    chosen = choose(one, step)
    if chosen is None:
        raise NotFound("The run has no steps yet.", field="step")
    inputs, _ = await or_none(its.workflows.inputs(actor, actor.account, run, chosen.id))
    return render(
        request,
        "lineage.html",
        run=one,
        step=chosen,
        origins=lineage.origins(one, chosen),
        words=lineage.words,
        most=lineage.MOST,
        bundle=inputs.bundle if inputs else None,
    )


@router.get("/workflows/{run}/notebook")
async def executed(actor: Signed, its: Its, run: str, step: str = "") -> Response:
    """Return the page of a step's executed notebook: somebody's markup, of which nothing runs or is fetched."""
    one = await its.workflows.get(actor, actor.account, run)
    pages = [file for each in one.steps if each.id == step for file in each.artifacts if is_page(file)]
    if not pages:
        raise NotFound("This step has no executed notebook.", field="step")
    content = await its.workflows.artifact(actor, actor.account, run, pages[0].digest)
    return Response(b"".join([chunk async for chunk in content]), media_type="text/html", headers=_FRAMED)


def is_page(file: Artifact) -> bool:
    """Say whether a file is the page of an executed notebook, and short enough to be shown."""
    return file.name == PAGE and file.media_type == "text/html" and file.size <= _LARGEST_PAGE


@router.get("/workflows/{run}/copy")
async def copy(request: Request, actor: Signed, its: Its, run: str) -> Response:
    """Show a run as text to copy: an Argo manifest, a Hera program, the Python it was made of."""
    one = await its.workflows.get(actor, actor.account, run)
    spec = await its.workflows.spec(actor, actor.account, run)
    texts, problem = {}, None
    for name, text in (("Python", copies.as_python), ("Argo YAML", copies.as_yaml), ("Hera", copies.as_hera)):
        try:
            texts[name] = await asyncio.to_thread(text, spec)
        except BadWorkflow as error:
            problem = error
    return render(request, "copy.html", run=one, texts=texts, problem=problem.problem() if problem else None)


@router.post("/workflows/{run}/cancel")
async def cancel(actor: Signed, its: Its, run: str) -> Response:
    """Stop a run."""
    await its.workflows.cancel(actor, actor.account, run)
    return see(f"/workflows/{run}")


@router.post("/workflows/{run}/suspend")
async def suspend(actor: Signed, its: Its, run: str) -> Response:
    """Have no further step of a run start."""
    await its.workflows.suspend(actor, actor.account, run)
    return see(f"/workflows/{run}")


@router.post("/workflows/{run}/resume")
async def resume(actor: Signed, its: Its, run: str) -> Response:
    """Have a suspended run go on."""
    await its.workflows.resume(actor, actor.account, run)
    return see(f"/workflows/{run}")


@router.post("/workflows/{run}/retry")
async def retry(actor: Signed, its: Its, run: str) -> Response:
    """Run the failed steps of a run again, and what follows them."""
    await its.workflows.retry(actor, actor.account, run)
    return see(f"/workflows/{run}")


@router.post("/workflows/{run}/remove")
async def remove(actor: Signed, its: Its, run: str) -> Response:
    """Forget a run that has ended."""
    await its.workflows.remove(actor, actor.account, run)
    return see("/workflows")


@router.post("/workflows/{run}/again")
async def again(actor: Signed, its: Its, run: str) -> Response:
    """Run the whole workflow afresh, with the code and the values that this run had."""
    one = await its.workflows.get(actor, actor.account, run)
    spec = await spec_again(its.workflows, its.journal, actor, actor.account, one.id)
    return see(f"/workflows/{(await its.workflows.submit(actor, actor.account, spec)).id}")


def choose(one: Run, step: str) -> Step | None:
    """Return the step to show: the asked one, else one that failed or runs, else the last that ended."""
    for each in one.steps:
        if each.id == step:
            return each
    if step:
        raise NotFound("There is no such step in this run.", field="step")
    for state in _ATTENTION:
        for each in one.steps:
            if each.status.state is state:
                return each
    return max(one.steps, key=lambda each: each.ended or 0.0, default=None)


def _origin(its: Platform, actor: Actor, one: Run, chosen: Step | None) -> tuple[str, str] | None:
    """Return the run and the step that the chosen step's result was taken from, where they are there."""
    if chosen is None:
        return None
    found = memo.origin(its.journal, actor.account, one.id, chosen.id)
    return found if found != (one.id, chosen.id) else None


def _took(step: Step, now: float) -> float | None:
    return None if step.started is None else max(0.0, (step.ended or now) - step.started)


def _tally(one: Run) -> Counter[State]:
    return Counter(each.status.state for each in one.steps)


async def _log(its: Platform, actor: Actor, one: Run, step: Step | None) -> tuple[list[str], int]:
    if step is None:
        return [], 0
    try:
        return await some(its.workflows.logs(actor, actor.account, one.id, step.id))
    except RopewalkError:  # a step that has not started has no log
        return [], 0
