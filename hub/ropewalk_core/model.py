"""The nouns of the platform and their legal states: one model for REST, dashboard, command line and magics.

Frozen pydantic models; the same class is the REST schema, the table row and the magic's result. Not here: how anything
is stored (``journal``) or decided (``policy``, ``reconcile``); the nouns of workflows (``flows``).
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ropewalk_core.placement import Placement

T = TypeVar("T")


class Noun(BaseModel):
    """The base of every model: immutable, and closed against unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class State(StrEnum):
    """The nine states that everything shares (cancelled is stopped; skipped and memoised are done, with a note)."""

    ASKED = "asked"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    IDLE = "idle"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    DONE = "done"

    @property
    def terminal(self) -> bool:
        """Whether nothing more happens without a new request."""
        return self in (State.STOPPED, State.FAILED, State.DONE)


class Why(Noun):
    """A cause and a next step, in plain words; ``raw`` is the event behind it, shown under "Details"."""

    cause: str
    next: str = ""
    code: str = ""
    raw: str = ""


class Status(Noun):
    """Where a thing stands, since when, and why."""

    state: State
    since: float = Field(default_factory=time.time, description="Unix time in seconds")
    why: Why | None = None
    note: str = ""


class Actor(Noun):
    """The acting person of a port's method. Only the issuer and the composition root make one.

    ``subject`` is the issuer's opaque identifier; ``session`` is the sign-in that this act belongs to; ``audience`` is
    what a token was made for ("platform" for the dashboard's cookie).
    """

    account: str
    subject: str = ""
    administrator: bool = False
    session: str = ""
    audience: str = "platform"


class Account(Noun):
    """A person's account. Names are never renamed and never used again."""

    name: str
    subject: str
    full_name: str = ""
    state: Literal["waiting", "active", "deactivated"] = "waiting"
    administrator: bool = False
    created: float = Field(default_factory=time.time)
    uid: int | None = Field(default=None, description="Numeric user on the machine; None when all share one")


class Notebook(Noun):
    """A person's notebook server."""

    owner: str
    name: str = ""
    status: Status
    address: str = ""
    placement: Placement = Placement()


class Template(Noun):
    """A service template of the catalogue: a Helm chart with a values schema and, perhaps, a `local.yaml`."""

    name: str
    title: str
    description: str
    version: str
    local: bool = Field(description="Whether it runs without a cluster")
    icon: str = ""
    tags: tuple[str, ...] = ()
    values_schema: dict[str, Any] = Field(default_factory=dict)
    defaults: dict[str, Any] = Field(default_factory=dict)


class ServiceSpec(Noun):
    """What a person asked for when launching a service."""

    name: str
    template: str
    values: dict[str, Any] = Field(default_factory=dict)
    placement: Placement = Placement()


class Service(Noun):
    """A service: what was asked for and what is."""

    owner: str
    spec: ServiceSpec
    status: Status
    address: str = ""
    created: float = Field(default_factory=time.time)


class Bundle(Noun):
    """Captured code: files by content, an entry point, and where each came from. Never executed by the platform.

    ``files`` maps a relative path to UTF-8 source. ``entry`` is ``module:name``. ``origin`` maps a file to the cell and
    the line at which it starts, so that tracebacks name the person's own lines.
    """

    files: dict[str, str] = Field(description="By path; empty in lists and events, where nobody reads code")
    entry: str
    origin: dict[str, str] = Field(default_factory=dict)
    imports: tuple[str, ...] = Field(default=(), description="Modules the code imports, with their packages")
    digest: str = Field(default="", description="SHA-256 over files, entry and form")
    form: Literal["python", "asgi", "program", "server"] = Field(
        default="python",
        description="A function, generator or class; an ASGI app; a program for each call; a program that listens",
    )


class FunctionSpec(Noun):
    """A function as deployed from a cell."""

    name: str
    bundle: Bundle
    placement: Placement = Placement()
    timeout: float = Field(default=60.0, gt=0, le=3600, description="Seconds a call may take")
    concurrency: int = Field(default=1, ge=1, le=64, description="Calls one worker takes at a time")
    min_workers: int = Field(default=0, ge=0, le=64, description="Workers kept also while nobody calls")
    max_workers: int = Field(default=4, ge=1, le=64)
    idle: float = Field(default=60.0, ge=0, description="Seconds after which an unused worker ends")
    cpu_time: int | None = Field(default=None, ge=1, le=3600, description="Seconds of processor time a call may use")
    retries: int = Field(default=3, ge=0, le=20, description="Times a durable call that was lost is tried again")
    retry_errors: bool = Field(default=False, description="Whether also after the function's own exception")
    retry_wait: float = Field(
        default=1.0, gt=0, le=3600, description="Seconds before the first retry; each pause is twice the one before"
    )
    folder: str = Field(default="", description="Working directory, relative to the account's files")
    files: Literal["write", "read"] = Field(default="write", description="What it may do with the account's files")
    environment: dict[str, str] = Field(
        default_factory=dict, description="Variables, which are shown with the function; see `secrets` for others"
    )
    secrets: tuple[str, ...] = Field(
        default=(), description="Names of secrets of its owner's that are variables of the same name in its workers"
    )
    requirements: tuple[str, ...] = Field(
        default=(), description="Packages as pip takes them, pandas==2.2; none: the account's own environment"
    )
    requires_python: str = Field(default="", description="Versions of Python that it works with, such as >=3.11")


class StoredSecret(Noun):
    """A secret of an account's, without its value, which is never given back."""

    owner: str
    name: str
    stored: float = Field(description="When its value was stored, in seconds since 1970")


class Requirements(Noun):
    """What a function needs beside its code, as its `FunctionSpec` has it."""

    requirements: tuple[str, ...]
    requires_python: str = ""


class Revision(Noun):
    """An immutable, content-addressed version of a function."""

    id: str
    number: int
    spec: FunctionSpec
    environment: str = Field(
        default="",
        description="Fingerprint of the Python environment it was deployed with; with requirements, the key of theirs",
    )
    packages: tuple[str, ...] = Field(
        default=(), description="What that environment held beside the installation's own packages: name==version"
    )
    created: float = Field(default_factory=time.time)

    def summary(self) -> Revision:
        """Return it as lists and events show it: without its code, which may be long."""
        bundle = self.spec.bundle.model_copy(update={"files": {}, "origin": {}})
        return self.model_copy(update={"spec": self.spec.model_copy(update={"bundle": bundle})})


class Share(Noun):
    """A revision that was chosen by its number: it has an address of its own, and takes so many of 100 calls."""

    number: int = Field(ge=1)
    revision: str = Field(description="Its identifier")
    weight: int = Field(default=0, ge=0, le=100, description="Of 100 calls of the function; 0: only its own address")
    address: str = Field(default="", description="Where it alone answers; empty if that name would be too long")


class Traffic(Noun):
    """Which revisions take a function's calls: the latest, whichever that is, and chosen ones by number."""

    latest: int = Field(default=100, ge=0, le=100, description="Of 100 calls")
    shares: tuple[Share, ...] = ()


class Access(Noun):
    """Who may call a function besides its owner and the holders of its keys, and which web pages may."""

    who: Literal["private", "shared", "public"] = "private"
    accounts: tuple[str, ...] = Field(default=(), description="With whom it is shared")
    origins: tuple[str, ...] = Field(default=(), description="Web pages that may call it, such as https://example.org")


class CallKey(Noun):
    """A key that lets whoever holds it call one function. The secret itself is told once and not kept."""

    id: str
    label: str = ""
    calls: int = Field(ge=1, description="Calls that it is good for in each window")
    seconds: int = Field(ge=1, description="How long a window is")
    created: float = Field(default_factory=time.time)


class StoredKey(CallKey):
    """A key as the journal and the gateway know it."""

    digest: str = Field(description="SHA-256 of the secret")

    def listed(self) -> CallKey:
        """Return it as its owner sees it in a list."""
        return CallKey.model_validate(self.model_dump(exclude={"digest"}))


class NewKey(Noun):
    """A key that was made just now."""

    key: CallKey
    secret: str = Field(description="What goes into the header X-Ropewalk-Key; it is not shown again")


class Function(Noun):
    """A deployed function."""

    owner: str
    name: str
    revision: Revision
    status: Status
    address: str = ""
    traffic: Traffic = Traffic()
    access: Access = Access()
    created: float = Field(default_factory=time.time)
    unchanged: bool = Field(default=False, description="True when a deploy found the same content in place")

    def summary(self) -> Function:
        """Return it as lists and events show it: without its code, which may be long."""
        return self.model_copy(update={"revision": self.revision.summary()})


class Call(Noun):
    """The record of one call of a function; kept in a ring, lossy by contract."""

    id: str
    function: str
    owner: str
    revision: str
    caller: str = Field(default="", description="An account, or `key:` and a key's identifier; empty for anybody")
    agent: str = Field(default="", description="What its caller calls itself (User-Agent)")
    queued: float | None = Field(default=None, description="When it came; from then on it may have waited for a worker")
    started: float = Field(description="When a worker had it; if none had it, when it failed, or came while it waits")
    ended: float | None = None
    state: State
    cold: bool = Field(default=False, description="Whether a worker was started for it")
    worker: str = Field(default="", description="Which worker had it; empty if none did, or nobody says")
    accelerator: str = Field(
        default="", description="Which one that worker has; `cpu`: none, though its function would like one; or unknown"
    )
    status: int = 0
    error: str = ""
    code: str = Field(default="", description="Why it failed, such as RW-USER-CODE")
    received: int = Field(default=0, description="Bytes of what it was called with")
    sent: int = Field(default=0, description="Bytes of what it answered")
    durable: str = Field(default="", description="The durable call of which it is an attempt")
    traceparent: str = Field(default="", description="The trace that its caller named (W3C Trace Context)")
    cpu: float = Field(default=0.0, description="CPU seconds that it cost")
    gb_seconds: float = Field(
        default=0.0, description="Seconds times gigabytes (2^30 bytes) of memory set aside for it"
    )
    traceback: str = Field(default="", description="The person's own frames; for the owner only")
    logs: str = ""

    @property
    def took(self) -> float | None:
        """Seconds from coming in to its end; None while it runs."""
        return None if self.ended is None else max(0.0, self.ended - (self.queued or self.started))

    @property
    def waited(self) -> float:
        """Seconds that it waited for a worker."""
        return max(0.0, self.started - (self.queued or self.started))


Window: TypeAlias = Literal["hour", "day"]


class Figure(Noun):
    """What became of a function's calls in one stretch of time. Times are of calls that a worker had, in seconds."""

    at: float = Field(description="When the stretch begins")
    calls: int = 0
    errors: int = Field(default=0, description="Of them, those that failed")
    left: int = Field(default=0, description="Of them, those whose caller left")
    cold: int = Field(default=0, description="Of them, those for which a worker was started")
    unkept: int = Field(default=0, description="Of them, those without a record, because more came than are kept")
    p50: float | None = Field(
        default=None, description="Half of the calls took at most this, from coming in to the end"
    )
    p95: float | None = None
    p99: float | None = None
    cpu: float = Field(default=0.0, description="CPU seconds")
    gb_seconds: float = Field(default=0.0, description="Seconds times gigabytes (2^30 bytes) of memory set aside")


class Figures(Noun):
    """The last hour of a function by minute, or its last day by quarter of an hour; times are right within 4.5 %."""

    owner: str
    function: str
    window: Window
    step: int = Field(description="Seconds of a bar")
    total: Figure
    bars: tuple[Figure, ...] = Field(description="Oldest first; the last one goes on")


class Spent(Noun):
    """What calls cost on one day, which begins at midnight UTC."""

    day: str = Field(description="Such as 2026-11-22")
    calls: int
    cpu: float = Field(description="CPU seconds")
    gb_seconds: float = Field(description="Seconds times gigabytes (2^30 bytes) of memory set aside")


class Costs(Noun):
    """What the calls of a function, or of all functions of an account, cost by day, the latest first."""

    owner: str
    function: str = Field(default="", description="Empty for the whole account, removed functions included")
    days: tuple[Spent, ...] = ()


class CallReport(Noun):
    """What the gateway tells of calls: records, counts by function and minute, and how it is."""

    life: str = Field(default="", description="Names one life of the gateway")
    number: int = Field(default=0, description="Grows by one; a report that is sent again has the same")
    calls: tuple[Call, ...] = ()
    cells: tuple[tuple[str, str, int, list[Any]], ...] = Field(
        default=(), description="Owner, function, minute since 1970, and the packed counts"
    )
    running: tuple[str, ...] = Field(default=(), description="Long calls that go on; others are not running any more")
    state: dict[str, int] = Field(default_factory=dict, description="Workers, calls that run, calls that wait ...")


class DurableCall(Noun):
    """A call that was accepted and is on disk: it is carried out, and its result is recorded once.

    It is ``waiting`` (for its turn, or for a retry), ``running``, ``done``, ``stopped`` (canceled), or ``failed``: a
    dead letter, which keeps its arguments and can be replayed.
    """

    id: str = Field(description="The function's name, a dot, and what sorts by time")
    owner: str
    function: str
    caller: str = Field(default="", description="The account that asked for it")
    status: Status
    created: float
    due: float = Field(default=0.0, description="When it is tried next, while it waits")
    attempt: int = Field(default=0, description="Attempts that were begun")
    spent: int = Field(default=0, description="Those of them since it was accepted or replayed")
    holder: str = Field(default="", description="The life of the gateway that carries it, while it runs")
    call: str = Field(default="", description="The record of its latest attempt, which holds the log")
    revision: str = Field(default="", description="The revision that its latest attempt ran")
    size: int = Field(default=0, description="Bytes of its arguments")
    result: int | None = Field(default=None, description="Bytes of its result, once it is done")
    digest: str = Field(default="", description="SHA-256 of what it was called with")
    key: str = Field(default="", description="SHA-256 of its idempotency key; empty without one")
    trigger: str = Field(default="", description="The trigger that asked for it; empty if somebody did")
    chain: int = Field(default=0, description="How many ends fired one another up to this call")
    problem: dict[str, Any] = Field(default_factory=dict, description="How its latest attempt failed")
    ended: float | None = None
    expires: float | None = Field(default=None, description="Until when it is kept, once it has ended")

    def summary(self) -> DurableCall:
        """Return it as lists show it: without traceback and other details of its failure."""
        return self.model_copy(update={"problem": self.problem | {"details": {}}}) if self.problem else self


class DurableResult(Noun):
    """A durable call and, once it is done, what it gave; bytes are base64 in JSON."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    call: DurableCall
    content_type: str = ""
    body: bytes | None = None


class TriggerSpec(Noun):
    """When something is called by itself: exactly one of ``every``, ``after`` and ``on_file``."""

    every: str = Field(
        default="", max_length=200, description="A schedule in cron's five fields, or @hourly, @daily, @weekly ..."
    )
    zone: str = Field(default="UTC", max_length=64, description="The schedule's time zone, such as Europe/Athens")
    after: str = Field(
        default="",
        max_length=100,
        description="A function whose calls, or `workflow:NAME` whose runs, fire it as they end",
    )
    when: Literal["success", "failure", "always"] = Field(
        default="success", description="After which ends; one that was canceled counts for `always` alone"
    )
    on_file: str = Field(
        default="", max_length=1024, description="A folder of one's files and a pattern: `inbox/*.csv`"
    )
    existing: bool = Field(default=False, description="Whether files that are there already count as new")

    @property
    def word(self) -> Literal["every", "after", "on_file"]:
        """Which of the three it is."""
        return "every" if self.every else "after" if self.after else "on_file"


class Trigger(Noun):
    """A trigger of a function or of a saved workflow: when it fires, and what came of it."""

    id: str
    owner: str
    kind: Literal["function", "workflow"] = Field(default="function", description="What it calls")
    name: str = Field(description="The name of what it calls")
    spec: TriggerSpec
    created: float
    paused: bool = False
    settled: float = Field(default=0.0, description="Moments of its schedule up to this one are over")
    fires: int = Field(default=0, description="How many times it has fired")
    fired: float | None = Field(default=None, description="When it last fired")
    call: str = Field(default="", description="The durable call or the run that it made last")
    why: Why | None = Field(default=None, description="Why it does not fire, or did not the last time")
    next: float | None = Field(default=None, description="When its schedule comes due next")
    outcome: State | None = Field(default=None, description="Where its latest call stands, while that is kept")


class FileEntry(Noun):
    """A file or a folder in an account's files."""

    path: str
    kind: Literal["file", "folder"]
    size: int = 0
    modified: float = 0.0


class Usage(Noun):
    """How much of a volume is used, in bytes."""

    used: int
    limit: int


class Event(Noun):
    """One line of history; ``cursor`` orders all events of a home and resumes a watch."""

    cursor: int
    at: float
    kind: str
    owner: str
    name: str
    type: str
    body: dict[str, Any] = Field(default_factory=dict)


class Page(Noun, Generic[T]):
    """One page of a list; ``next`` is the cursor of the following page, empty at the end."""

    items: tuple[T, ...]
    next: str = ""


class LogLine(Noun):
    """One line of a log. ``offset`` is the byte after it and resumes the stream."""

    offset: int
    text: str
    stream: Literal["stdout", "stderr", "platform"] = "stdout"
    at: float = 0.0
    cut: bool = Field(
        default=False, description="The answer ended here before the log did; `text` says why, and `offset` goes on"
    )


class AccountRule(Noun):
    """What the gateway must know of an account to judge a token offline."""

    subject: str
    active: bool
    epoch: int = Field(default=0, description="Grows at a password change and at deactivation; older tokens are dead")


class FunctionRoute(Noun):
    """Where the gateway finds a revision of a function: at `AccountPaths.bundle(name, revision)`, or at a URL.

    The snapshot holds one for each function, of its latest revision; ``others`` are those chosen by number.
    """

    owner: str
    name: str
    revision: str
    spec: FunctionSpec
    environment: str = Field(default="", description="Key of the environment of its requirements, if it has any")
    url: str = Field(default="", description="Where it answers in the cluster; empty means workers of this machine")
    away: str = Field(default="", description="Why no call can reach it now; empty when calls can")
    number: int = Field(default=0, description="Of a revision among `others`, by which its own address names it")
    weight: int = Field(default=100, description="How many of 100 calls of the function it takes")
    others: tuple[FunctionRoute, ...] = ()
    access: Access = Access()
    keys: tuple[StoredKey, ...] = ()


class ServiceRoute(Noun):
    """Where the gateway finds a service."""

    owner: str
    name: str
    socket: str
    state: State
    url: str = Field(default="", description="Where it is on a cluster; empty for a socket of this machine")


class Snapshot(Noun):
    """What the platform pushes to the gateway: at most 5 s stale."""

    cursor: int
    keys: dict[str, Any] = Field(default_factory=dict, description="The issuer's public keys as a JWKS")
    accounts: dict[str, AccountRule] = Field(default_factory=dict)
    ended_sessions: tuple[str, ...] = ()
    functions: tuple[FunctionRoute, ...] = ()
    services: tuple[ServiceRoute, ...] = ()
