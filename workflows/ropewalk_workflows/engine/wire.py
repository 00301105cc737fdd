"""How the engine and the platform speak over ``run/platform.sock``: the shapes, and the engine's side of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, Field

from ropewalk_core.errors import Conflict, Internal, RopewalkError, Unavailable, from_problem
from ropewalk_core.flows import RunSpec, Step
from ropewalk_core.model import Status
from ropewalk_workflows.engine.line import Line


class StepReport(BaseModel):
    """One step as people see it, and the fact that the engine needs to go on from it."""

    step: Step
    fact: dict[str, Any] = Field(default_factory=dict)
    order: int = 0


class RunReport(BaseModel):
    """What became different in one run."""

    owner: str
    run: str
    generation: int = 1
    steps: list[StepReport] = Field(default_factory=list)
    status: Status | None = None
    outputs: dict[str, Any] = Field(default_factory=dict)


class Batch(BaseModel):
    """What an engine reports at once. Only the engine that asked last is listened to."""

    engine: str
    runs: list[RunReport]


class Recorded(BaseModel):
    """The answer to a batch: the journal's cursor after it, and the runs that the engine is to leave."""

    cursor: int = 0
    over: list[str] = Field(default_factory=list)


class Answered(BaseModel):
    """How a person ended a pause."""

    ok: bool
    message: str = ""


class Wanted(BaseModel):
    """A run that the engine is to carry out, or to stop."""

    owner: str
    run: str
    generation: int
    cancel: bool = False
    on_exit: bool = False
    suspended: bool = False
    resumed: float = 0.0
    answers: dict[str, Answered] = Field(default_factory=dict)
    spec: RunSpec
    started: float = 0.0
    environment: str = ""
    kept: dict[str, dict[str, Any]] = Field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = Field(default_factory=dict)


class WantedPage(BaseModel):
    """The answer to a poll; ``cursor`` is what the next one sends."""

    cursor: str
    runs: list[Wanted] = Field(default_factory=list)


class Feed(Protocol):
    """Where runs come from and reports go to."""

    async def runs(self, after: str) -> WantedPage:
        """Return runs that are new or changed after the cursor; waits some seconds for one."""

    async def report(self, batch: Batch) -> Recorded:
        """Return when the batch is durable, but for runs that are over: those had ended, or begun again, before."""


class PlatformFeed:
    """The feed over the platform's socket."""

    def __init__(self, socket: Path) -> None:
        self._polls, self._reports = Line(socket), Line(socket)  # a poll waits for seconds

    async def runs(self, after: str) -> WantedPage:
        """See `Feed.runs`."""
        return WantedPage.model_validate(await _asked(self._polls, "GET", f"/internal/runs?after={after}"))

    async def report(self, batch: Batch) -> Recorded:
        """See `Feed.report`."""
        answer = await _asked(self._reports, "POST", "/internal/runs/events", batch.model_dump_json().encode())
        return Recorded.model_validate(answer)

    async def close(self) -> None:
        """Close the connections."""
        for one in (self._polls, self._reports):
            one.close()


async def _asked(line: Line, method: str, path: str, content: bytes | None = None) -> Any:
    try:
        status, answer = await line.ask(method, path, content)
    except OSError as error:
        raise Unavailable("The platform is away.") from error
    except ValueError as error:
        raise Unavailable(f"The platform's answer cannot be read: {error}.") from error
    try:
        body = json.loads(answer)
    except ValueError as error:
        raise Unavailable(f"The platform answered {status} without JSON.") from error
    if status >= 400:
        raise from_problem(body) if isinstance(body, dict) and "code" in body else Internal(f"{path}: {body}")
    return body


async def until_durable(feed: Feed, batch: Batch, *, patience: float = 0.2) -> Recorded:
    """Report a batch, again and again while the platform is away or its disk is full; return the answer.

    Raises
    ------
    Conflict
        If another engine has taken over.
    """
    wait = patience
    while True:
        try:
            return await feed.report(batch)
        except Conflict:
            raise
        except RopewalkError as error:
            if error.status < 500:
                raise
            await asyncio.sleep(wait)
            wait = min(2 * wait, 5.0)
