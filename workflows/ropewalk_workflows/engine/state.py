"""What the engine knows of one run. `Fact` is all that must be durable; the tree of nodes grows from it again.

Pure data. A crash loses the tree and no fact: replaying the manifest with the facts gives the same tree, because every
name in it follows from the manifest and from earlier results.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from ropewalk_core.flows import RunSpec
from ropewalk_core.names import is_name
from ropewalk_workflows.manifest.model import Call, Manifest, Template

STOPPED = "stopped"
"""The note of what did not end by itself but because the run was to end."""
Phase: TypeAlias = Literal["", "Succeeded", "Failed", "Error", "Skipped", "Omitted"]
Kind: TypeAlias = Literal["pod", "suspend", "dag", "steps", "loop", "retry"]
Reference: TypeAlias = dict[str, Any]
"""An artifact: ``{"digest", "size", "media_type", ...}``, ``{"key"}``, ``{"raw"}`` or ``{"list": [Reference]}``."""


@dataclass
class Fact:
    """What is durable of a leaf, or of a composite that is tried again: its tries, how it ended, what it gave.

    ``attempt`` numbers the folders and only grows; ``tries`` counts against the retries; ``lost`` counts attempts that
    the platform itself lost; ``code`` is the exit code of the last attempt that ended, 0 where nobody knows it.
    ``hook`` says of what it is, or lies in, a hook, by identifier: it runs again where that does.
    ``past`` says that it lies in an attempt of a composite that another followed: nobody runs it again.
    ``said`` is what somebody said who ended a pause.
    ``stopped`` says that it had begun, and failed only because the run was to end after its exit handlers.
    ``memo`` says what its result depends on, by digests, and ``from`` which run that was taken from (``engine.memo``).
    """

    phase: Phase = ""
    attempt: int = 0
    tries: int = 0
    lost: int = 0
    running: bool = False
    again: float | None = None
    first: float | None = None
    started: float | None = None
    ended: float | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, Reference] = field(default_factory=dict)
    error: str = ""
    problem: str = ""
    traceback: str = ""
    hint: str = ""
    peak: int = 0
    code: int = 0
    memo: dict[str, Any] = field(default_factory=dict)
    past: bool = False
    said: str = ""
    stopped: bool = False
    hook: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON, without what is at its default."""
        # Not asdict: it copies all of it, and this is made for each step at each report.
        return {key: value for key, value in vars(self).items() if value not in ("", None, 0, False, {})}

    def again_from_failure(self) -> Fact:
        """Return the fact after a person asked to retry: what succeeded stays, of the rest only the number."""
        return self if self.phase == "Succeeded" or self.past else Fact(attempt=self.attempt)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    ok: bool
    parameters: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, Reference] = field(default_factory=dict)
    error: str = ""
    problem: str = ""
    traceback: str = ""
    hint: str = ""
    peak: int = 0
    code: int = 0
    is_error: bool = False
    touched: str = ""
    """What it touched besides its inputs."""


# Events


@dataclass(frozen=True)
class Begin:
    """The engine took the run up, for the first time or after a restart."""

    now: float


@dataclass(frozen=True)
class Grant:
    """The account has room for this leaf."""

    now: float
    id: str


@dataclass(frozen=True)
class Locked:
    """This leaf holds its mutexes from now on."""

    now: float
    id: str


@dataclass(frozen=True)
class Exited:
    """An attempt ended; a stale one is ignored."""

    now: float
    id: str
    attempt: int
    outcome: Outcome


@dataclass(frozen=True)
class Lost:
    """An attempt is gone through no fault of its own: the engine, the host or a keeper was killed."""

    now: float
    id: str
    attempt: int


@dataclass(frozen=True)
class Tick:
    """Time went on."""

    now: float


@dataclass(frozen=True)
class Cancel:
    """The person stops the run, whose exit handlers still run where that is wanted."""

    now: float
    on_exit: bool = False


@dataclass(frozen=True)
class Hold:
    """The person suspends the run, or resumes it: the latter ends pauses too that came before ``resumed``."""

    now: float
    suspended: bool
    resumed: float = 0.0


@dataclass(frozen=True)
class Answer:
    """The person ends one pause: what follows goes on, or the pause failed."""

    now: float
    id: str
    ok: bool
    message: str = ""


Event: TypeAlias = Begin | Grant | Locked | Exited | Lost | Tick | Cancel | Hold | Answer


# Actions


@dataclass(frozen=True)
class Ready:
    """This leaf may run as soon as the account has room."""

    id: str


@dataclass(frozen=True)
class Lock:
    """This leaf needs its mutexes before it may run, or held them when the engine died."""

    id: str


@dataclass(frozen=True)
class Launch:
    """Start this attempt, once that it is starting is durable."""

    id: str
    attempt: int


@dataclass(frozen=True)
class Recover:
    """This attempt was under way when the engine died: look for its outputs."""

    id: str
    attempt: int


@dataclass(frozen=True)
class End:
    """End this attempt."""

    id: str
    attempt: int


@dataclass(frozen=True)
class Wake:
    """Send a `Tick` at this time."""

    at: float


Action: TypeAlias = Ready | Lock | Launch | Recover | End | Wake


# The tree


@dataclass(eq=False)
class Node:
    """One node: a leaf that runs, or a composite of others."""

    id: str
    path: str
    name: str
    kind: Kind
    template: Template | None
    parent: Node | None
    call: Call | None = None
    upstream: tuple[str, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)
    files: dict[str, Reference] = field(default_factory=dict)
    item: dict[str, str] = field(default_factory=dict)
    local: dict[str, str] = field(default_factory=dict)
    """What is known in an attempt of a composite besides its inputs: its number, and how the one before ended."""
    past: bool = False
    """Whether it lies in an attempt that another followed."""
    hook: str = ""
    """Of what it is a hook, or lies in one, by identifier."""
    owner: Node | None = None
    """Of what call it is a hook itself."""
    exits: bool = False
    """Whether it is an exit handler, or lies in one."""
    hooks: dict[str, Node] = field(default_factory=dict)
    begun: bool = False
    """Whether it has run, as far as hooks are concerned."""
    closed: bool = False
    """Whether it is decided which hooks follow its end."""
    told: bool = False
    """Whether what is around it knows that it has ended."""
    phase: Phase = ""
    fact: Fact = field(default_factory=Fact)
    children: dict[str, Node] = field(default_factory=dict)
    open: int = 0
    """Children that have not ended."""
    blocked: dict[str, int] = field(default_factory=dict)
    """For a DAG: how many needs of each task have not ended."""
    after: dict[str, list[str]] = field(default_factory=dict)
    """For a DAG: which tasks need each task."""
    group: int = 0
    doomed: bool = False
    since: float = 0.0
    order: int = 0
    ready: bool = False
    mutexes: tuple[str, ...] = ()
    """The names of the mutexes that it asked for."""
    locked: bool = False
    """Whether it holds them, which it does until it has ended."""
    note: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    out_files: dict[str, Reference] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.phase != ""

    @property
    def failed(self) -> bool:
        """Whether it failed, and what follows may not go on as if it had not."""
        if self.phase not in ("Failed", "Error"):
            return False
        go_on = self.call.continue_on if self.call else None
        return not (go_on and (go_on.failed if self.phase == "Failed" else go_on.error))


@dataclass
class RunState:
    """Everything of one run. The shell owns it; only `core.step` changes it."""

    run: str
    owner: str
    spec: RunSpec
    manifest: Manifest
    facts: dict[str, Fact] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, dict[str, Reference]] = field(default_factory=dict)
    root: Node | None = None
    exit: Node | None = None
    hooks: dict[str, Node] = field(default_factory=dict)
    started: float = 0.0
    phase: Phase = ""
    stopping: Literal["", "cancel", "exit", "time"] = ""
    """Why it is to end; with ``exit`` its exit handlers still run."""
    finished: bool = False
    failed_step: str = ""
    failed_last: str = ""
    """What failed in the exit handler."""
    cause: str = ""
    running: int = 0
    changed: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    """What another engine began, by identifier: that is not left out here, however soon something else failed."""
    elsewhere: bool = False
    """Whether another engine carries it out: of the hooks those run that it began."""
    held: list[str] = field(default_factory=list)
    """Leaves that wait because the workflow's own parallelism is used up."""
    suspended: bool = False
    resumed: float = 0.0
    """When it was resumed last."""
    suspends: list[str] = field(default_factory=list)
    """Leaves that had room and wait until the run is resumed."""
    environment: str = ""
    """What names the packages that steps see."""
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What earlier runs have of steps, by key: parameters, artifacts, which run and step, and when."""
    turns: dict[str, int] = field(default_factory=dict)
    """How many leaves had the same key so far."""

    def ends(self, node: Node) -> bool:
        """Whether nothing more of a node is to begin, because the run is to end."""
        return bool(self.stopping) and not (self.stopping == "exit" and node.exits)

    @cached_property
    def wants_results(self) -> bool:
        """Whether the manifest asks what a program printed; looked up once, as manifests may be large."""
        return "outputs.result" in json.dumps(self.spec.manifest)


def node_id(path: str) -> str:
    """Return a name for the path that is safe as a folder and in an address; distinct paths give distinct names."""
    if is_name(path) and not re.search(r"-[0-9a-f]{16}$", path):
        return path
    stem = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-")[:40].strip("-") or "step"
    return f"{stem}-{hashlib.sha256(path.encode()).hexdigest()[:16]}"
