"""The nouns of workflows: what is submitted, the run that comes of it, its steps, and what they leave.

They are nouns as those of ``model``, which knows none of them. Not here: what a manifest may say
(``ropewalk_workflows.manifest``) and what the engine knows of a step (``engine.state``).
"""

from __future__ import annotations

import time
from typing import Any, Literal

from pydantic import Field

from ropewalk_core.model import Bundle, Noun, State, Status
from ropewalk_core.placement import Placement


class RunSpec(Noun):
    """A workflow to run: a compiled Argo manifest, the bundles it names, and its arguments."""

    name: str
    manifest: dict[str, Any]
    bundles: dict[str, Bundle] = Field(default_factory=dict, description="By digest")
    values: dict[str, str] = Field(default_factory=dict, description="Values too rich for JSON: digest -> base64")
    arguments: dict[str, Any] = Field(default_factory=dict, description="For people; the manifest holds what runs")
    fresh: bool = Field(default=False, description="Run again, also when an equal run is there, and all of it")
    folder: str = Field(default="", description="Working directory, relative to the account's files")
    source: str = Field(default="workflow", description="workflow, hera or argo")
    saved: str = Field(default="", description="The saved workflow that it was launched from; such a run is its own")
    chain: int = Field(default=0, ge=0, description="How many ends had fired one another up to it")


class Preview(Noun):
    """What a file looks like, in a few KiB. A step said so: its words are a person's, and are shown as text only."""

    text: str = Field(default="", description="The value in a few words")
    facts: dict[str, str] = Field(default_factory=dict, description="Such as shape, type and rows")
    columns: tuple[str, ...] = Field(default=(), description="The head of the table; nothing for one without")
    rows: tuple[tuple[str, ...], ...] = Field(default=(), description="The corner of a table, or a text's first lines")
    image: str = Field(default="", description="A small PNG, as base64")


class Artifact(Noun):
    """A file by reference in the content-addressed store."""

    name: str
    digest: str
    size: int
    media_type: str = "application/octet-stream"
    type: str = Field(default="", description="The Python type of the value in it")
    preview: Preview | None = None


class Step(Noun):
    """One node of a run."""

    id: str
    name: str = Field(description="The person's name for it, such as train(2)")
    kind: Literal["step", "group"] = Field(default="step", description="A group is a fan-out or a workflow inside")
    template: str = ""
    status: Status
    needs: tuple[str, ...] = Field(default=(), description="Identifiers of the steps it waits for")
    attempt: int = 0
    started: float | None = None
    ended: float | None = None
    inputs: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Any] = Field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    error: str = ""
    traceback: str = ""
    placement: Placement = Placement()


SUSPENDED = "suspended"
"""The note of a run of which no further step starts."""
ON_EXIT = "with its last step"
"""The note of a run that is stopped, or was, and whose `on_exit` step runs all the same."""
PAUSE = "It is a pause."
"""Why a step waits that ends when the run is resumed."""
KEPT = "kept"
"""The note of a step whose result is that of an earlier run."""


class Run(Noun):
    """One execution of a workflow."""

    id: str
    owner: str
    name: str
    status: Status
    steps: tuple[Step, ...] = ()
    outputs: dict[str, Any] = Field(default_factory=dict, description="`result`: where the workflow's result lies")
    arguments: dict[str, Any] = Field(default_factory=dict)
    digest: str = Field(default="", description="SHA-256 of manifest, bundles and arguments")
    source: str = "workflow"
    folder: str = ""
    created: float = Field(default_factory=time.time)
    ended: float | None = None
    unchanged: bool = False

    @property
    def suspended(self) -> bool:
        """Whether no further step starts until it is resumed. A note, because an older client knows no new fields."""
        return self.status.note == SUSPENDED and not self.status.state.terminal

    @property
    def resumable(self) -> bool:
        """Whether it is suspended, or stands at a pause that ends when it is resumed."""
        if self.status.state.terminal or self.status.state is State.STOPPING:
            return False
        return self.suspended or any(one.status.why and one.status.why.cause == PAUSE for one in self.steps)


class Compared(Noun):
    """One run in a table of runs: what it was given, and the numbers that came of it."""

    run: str
    status: Status
    created: float
    ended: float | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)


class Comparison(Noun):
    """Runs of one workflow side by side, the newest first."""

    owner: str
    name: str
    rows: tuple[Compared, ...] = ()
    steps: tuple[str, ...] = Field(default=(), description="Steps of its newest finished run that returned numbers")
    more: bool = Field(default=False, description="Whether there are older runs, which were not read")


class StepInputs(Noun):
    """What a step of a run was called with: its code, and each argument by reference.

    A reference is ``{"json": text}``, ``{"digest": SHA-256}`` of one of the run's artifacts or of a value that came
    with the run, or ``{"list": [reference, ...]}``.
    """

    bundle: Bundle
    arguments: dict[str, Any] = Field(default_factory=dict)


class Argument(Noun):
    """An argument of a saved workflow, which a launch may give."""

    name: str = Field(max_length=100)
    takes: dict[str, Any] = Field(default_factory=dict, description="JSON Schema, with the default")
    required: bool = True


class SavedSpec(Noun):
    """A workflow to keep: a run of it whose arguments are parameters of its manifest."""

    name: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,58}[A-Za-z0-9])?$", description="What people call it")
    run: RunSpec
    arguments: tuple[Argument, ...] = Field(default=(), max_length=100)
    types: dict[str, Any] = Field(default_factory=dict, description="The named types that arguments refer to")
    doc: str = Field(default="", max_length=10_000, description="Its docstring")


class Saved(Noun):
    """A saved workflow. Lists leave the run's manifest, code and values out."""

    owner: str
    spec: SavedSpec
    version: int = Field(default=1, description="Grows by one with each change")
    digest: str = Field(default="", description="SHA-256 of all that it says")
    created: float = 0.0
    changed: float = 0.0

    @property
    def name(self) -> str:
        """What people call it."""
        return self.spec.name
