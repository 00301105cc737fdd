"""The six ports and the clock: what a backend must do. Protocols only.

Rules that the contract suites in ``ropewalk_core.testing`` check: every method takes the acting person, is idempotent
by its key, raises only ``errors`` and returns ``model``; ``watch`` yields ``(state, cursor)`` and resumes after a
cursor. Policy is asked once, by ``guard.Guarded`` around a port, never inside a backend. Rejected: one fat backend
interface; a backend for one port alone (a Slurm engine, say) must be possible.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, BinaryIO, Literal, Protocol

from ropewalk_core.flows import Comparison, Run, RunSpec, Saved, SavedSpec, StepInputs
from ropewalk_core.model import (
    Access,
    Account,
    Actor,
    Call,
    CallKey,
    Costs,
    DurableCall,
    DurableResult,
    Figures,
    FileEntry,
    Function,
    FunctionSpec,
    LogLine,
    NewKey,
    Notebook,
    Page,
    Requirements,
    Revision,
    Service,
    ServiceSpec,
    StoredSecret,
    Trigger,
    TriggerSpec,
    Usage,
    Window,
)
from ropewalk_core.placement import Placement
from ropewalk_runtime.trace import Trace


class Clock(Protocol):
    """Time, injectable: ``wall`` in Unix seconds for people, ``steady`` in seconds for leases and time-outs."""

    def wall(self) -> float:
        """Return Unix time in seconds."""

    def steady(self) -> float:
        """Return seconds of a clock that never steps."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class Notebooks(Protocol):
    """A person's notebook servers. JupyterHub's database is the truth for them on every backend."""

    async def start(self, actor: Actor, owner: str, name: str = "", *, placement: Placement | None = None) -> Notebook:
        """Start the server, or return the one that runs."""

    async def stop(self, actor: Actor, owner: str, name: str = "") -> Notebook:
        """Stop the server; stopping a stopped one is done already."""

    async def get(self, actor: Actor, owner: str, name: str = "") -> Notebook:
        """Return the server; one that never ran is ``stopped``."""

    async def list(self, actor: Actor, owner: str) -> Page[Notebook]:
        """Return the person's servers."""

    def logs(
        self, actor: Actor, owner: str, name: str = "", *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """Yield log lines after the byte offset ``after``."""

    def watch(self, actor: Actor, owner: str, *, after: int = 0) -> AsyncIterator[tuple[Notebook, int]]:
        """Yield each change after the cursor."""


class Services(Protocol):
    """Services launched from templates."""

    async def apply(self, actor: Actor, owner: str, spec: ServiceSpec, *, key: str = "") -> Service:
        """Accept the wanted state; the same spec again changes nothing, another template is a `Conflict`."""

    async def remove(self, actor: Actor, owner: str, name: str) -> Service:
        """Stop and remove the service; its files stay."""

    async def get(self, actor: Actor, owner: str, name: str) -> Service:
        """Return one service, or raise `NotFound`."""

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Service]:
        """Return a page of the person's services by name."""

    def logs(
        self, actor: Actor, owner: str, name: str, *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """Yield log lines after the byte offset ``after``."""

    def watch(self, actor: Actor, owner: str, *, after: int = 0) -> AsyncIterator[tuple[Service, int]]:
        """Yield each change after the cursor."""


class Functions(Protocol):
    """Functions deployed from cells."""

    async def deploy(
        self, actor: Actor, owner: str, spec: FunctionSpec, *, key: str = "", existing: bool = False
    ) -> Function:
        """Accept a revision; the same content again returns ``unchanged``.

        With ``existing``, a function that is not there, or was removed meanwhile, raises `NotFound`.
        """

    def prepare(self, actor: Actor, owner: str, needs: Requirements) -> AsyncIterator[LogLine]:
        """Make the environment that a deploy with these requirements needs, and yield the log of it.

        It yields nothing if it is there already, and raises what went wrong. A deploy does the same without the log;
        who stops to iterate, and nobody else waits, ends it.
        """

    async def remove(self, actor: Actor, owner: str, name: str) -> Function:
        """Remove the function and end its workers."""

    async def call(
        self,
        actor: Actor,
        owner: str,
        name: str,
        payload: bytes,
        *,
        content_type: str = "application/json",
        trace: Trace | None = None,
    ) -> bytes:
        """Call it with a payload and return the answer's body; used by the try-it form, not by the fast path."""

    async def get(self, actor: Actor, owner: str, name: str) -> Function:
        """Return one function, or raise `NotFound`."""

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Function]:
        """Return a page of the person's functions by name, as summaries without code."""

    async def revisions(
        self, actor: Actor, owner: str, name: str, *, after: str = "", limit: int = 50
    ) -> Page[Revision]:
        """Return the revisions that were accepted and are kept, newest first, as summaries without code."""

    async def revision(self, actor: Actor, owner: str, name: str, number: int) -> Revision:
        """Return one of them with its code, or raise `NotFound`.

        To roll back is to deploy its spec again, with ``existing``.
        """

    async def traffic(self, actor: Actor, owner: str, name: str, weights: Mapping[int, int]) -> Function:
        """Split calls between revisions by number, 0 for the latest, which add up to 100; those named stay reachable.

        A deploy leaves the split as it is. A revision that is not kept is `NotFound`, and then nothing changes.
        """

    async def access(self, actor: Actor, owner: str, name: str, access: Access) -> Function:
        """Say who may call it; that belongs to the function, not to a revision, and is gone with it."""

    async def keys(self, actor: Actor, owner: str, name: str) -> Page[CallKey]:
        """Return its keys, without their secrets."""

    async def add_key(
        self, actor: Actor, owner: str, name: str, *, label: str = "", calls: int, seconds: int, key: str = ""
    ) -> NewKey:
        """Make a key; its secret is in this answer alone. The same ``key`` again replaces what it made."""

    async def revoke_key(self, actor: Actor, owner: str, name: str, identifier: str) -> CallKey:
        """End a key; once this is answered it opens nothing, or within 5 s where the gateway is late or away."""

    async def calls(self, actor: Actor, owner: str, name: str, *, limit: int = 50) -> Page[Call]:
        """Return the latest calls, newest first."""

    def logs(
        self, actor: Actor, owner: str, name: str, *, call: str = "", after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """Yield what a call prints, also while it goes on; without one what all calls print, after their identifiers.

        Of one call an offset counts characters. With ``follow`` one call is followed to its end, all of them from now
        on. What goes on is told of once it has taken a second, and on a cluster only when it is over.
        """

    async def figures(self, actor: Actor, owner: str, name: str, *, window: Window = "hour") -> Figures:
        """Return how many calls there were, how long they took and how many failed, by minute or quarter of an hour."""

    async def costs(self, actor: Actor, owner: str, name: str = "") -> Costs:
        """Return what the calls of a function cost by day; without a name, those of all functions of the account."""

    def watch(self, actor: Actor, owner: str, *, after: int = 0) -> AsyncIterator[tuple[Function, int]]:
        """Yield each change after the cursor."""


class Durable(Protocol):
    """Calls of functions that are carried out whatever is killed. One implementation: `DurableDesk`, on any backend."""

    async def spawn(
        self,
        actor: Actor,
        owner: str,
        function: str,
        payload: bytes,
        *,
        content_type: str = "application/json",
        query: str = "",
        key: str = "",
        trace: Trace | None = None,
    ) -> DurableCall:
        """Accept a call: it is on disk when this returns. The same key again returns the call that it made."""

    async def get(self, actor: Actor, owner: str, call: str) -> DurableCall:
        """Return a call, or raise `NotFound`."""

    async def list(
        self,
        actor: Actor,
        owner: str,
        function: str,
        *,
        shelf: Literal["", "open", "failed", "ended"] = "",
        after: str = "",
        limit: int = 50,
    ) -> Page[DurableCall]:
        """Return a page of a function's calls, newest first: all, or those that are open, failed, or done."""

    async def result(self, actor: Actor, owner: str, call: str, *, wait: float = 0.0) -> DurableResult:
        """Return what it gave, or where it stands; raise what it failed with, or `Conflict` if it was canceled."""

    async def cancel(self, actor: Actor, owner: str, call: str) -> DurableCall:
        """Stop it; one that has ended stays as it is."""

    async def replay(self, actor: Actor, owner: str, call: str) -> DurableCall:
        """Try a failed call again with the arguments that it kept; an open one stays as it is."""

    async def forget(self, actor: Actor, owner: str, call: str) -> DurableCall:
        """Remove a call that has ended, and its result."""


class Triggers(Protocol):
    """What calls functions, or launches saved workflows, by itself. One implementation: `TriggerDesk`, on any backend.

    A trigger belongs to a function or saved workflow and goes with it, not with a revision. Each occasion makes one
    durable call, or one run.
    """

    async def list(self, actor: Actor, owner: str, function: str) -> Page[Trigger]:
        """Return the triggers of a function, oldest first."""

    async def add(self, actor: Actor, owner: str, function: str, spec: TriggerSpec) -> Trigger:
        """Make a trigger; one that is there already stays as it is and is returned."""

    async def choose(self, actor: Actor, owner: str, function: str, specs: Sequence[TriggerSpec]) -> Page[Trigger]:
        """Have these triggers and no others; those that are there already stay as they are."""

    async def remove(self, actor: Actor, owner: str, function: str, trigger: str) -> Trigger:
        """Remove a trigger; calls that it made go on."""

    async def pause(self, actor: Actor, owner: str, function: str, trigger: str, paused: bool) -> Trigger:
        """Pause or resume a trigger; what happened while it was paused fires nothing afterwards."""

    async def fire(self, actor: Actor, owner: str, function: str, trigger: str, *, key: str = "") -> DurableCall | Run:
        """Make the call or the run that it would make, now; the same key again returns what it made."""


class Secrets(Protocol):
    """What an account's functions get as variables without anybody seeing it. One implementation: `SecretBook`."""

    async def list(self, actor: Actor, owner: str) -> Page[StoredSecret]:
        """Return the names of all secrets, and when each was stored."""

    async def set(self, actor: Actor, owner: str, name: str, value: str) -> StoredSecret:
        """Store a secret, or another value in its place; workers that start from then on have it."""

    async def remove(self, actor: Actor, owner: str, name: str) -> StoredSecret:
        """Remove a secret; functions that name it cannot start workers any more."""


class SavedWorkflows(Protocol):
    """Workflows that are kept with open arguments. One implementation: `SavedDesk`, on any backend."""

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Saved]:
        """Return a page of saved workflows by name, without their runs' manifests, code and values."""

    async def get(self, actor: Actor, owner: str, name: str) -> Saved:
        """Return one, or raise `NotFound`."""

    async def save(self, actor: Actor, owner: str, spec: SavedSpec) -> Saved:
        """Keep a workflow, in place of another of its name; one that says the same stays as it is.

        Raises
        ------
        BadWorkflow
            If no launch of it could run.
        """

    async def remove(self, actor: Actor, owner: str, name: str) -> Saved:
        """Forget one with its triggers; runs of it stay."""

    async def launch(
        self, actor: Actor, owner: str, name: str, given: Mapping[str, Any], *, fresh: bool = False, key: str = ""
    ) -> Run:
        """Start a run of one with values for its arguments; the same key returns the same run.

        Raises
        ------
        BadInput
            If a value is missing or does not fit; the field is the argument.
        """


class Workflows(Protocol):
    """Runs of workflows."""

    async def check(self, actor: Actor, owner: str, spec: RunSpec) -> None:
        """Say nothing if `submit` would accept this, else raise what it would; nothing is kept."""

    async def submit(self, actor: Actor, owner: str, spec: RunSpec, *, key: str = "") -> Run:
        """Accept a run; the same key returns the same run."""

    async def get(self, actor: Actor, owner: str, run: str) -> Run:
        """Return one run with its steps, or raise `NotFound`."""

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Run]:
        """Return a page of runs, newest first, without steps."""

    async def compare(
        self, actor: Actor, owner: str, name: str, *, steps: Sequence[str] = (), limit: int = 1000
    ) -> Comparison:
        """Return the latest runs of a workflow with their numbers (see ``comparison``), or raise `NotFound`.

        Parameters
        ----------
        name
            Of the workflow.
        steps
            Names of steps whose results are read too; without any no step of a run is read but those of one run.
        limit
            How many runs are read.
        """

    async def cancel(self, actor: Actor, owner: str, run: str, *, on_exit: bool = False) -> Run:
        """Stop the run; a finished run stays as it is. With ``on_exit`` what follows its end runs all the same."""

    async def suspend(self, actor: Actor, owner: str, run: str) -> Run:
        """Have no further step start until the run is resumed; those that run go on.

        Raises
        ------
        Conflict
            If it has ended.
        """

    async def resume(self, actor: Actor, owner: str, run: str) -> Run:
        """Have a suspended run go on, and end the pauses at which it stands. Raises as `suspend`."""

    async def answer(
        self, actor: Actor, owner: str, run: str, steps: Sequence[str], *, ok: bool, message: str = ""
    ) -> Run:
        """End chosen pauses at which a run stands: what follows them goes on, or they failed, with a message.

        Raises
        ------
        Conflict
            If the run has ended, stands at no such pause, or is on a cluster, where all are resumed together.
        """

    async def retry(self, actor: Actor, owner: str, run: str) -> Run:
        """Run the failed steps again, and what follows them; finished steps stay."""

    async def remove(self, actor: Actor, owner: str, run: str) -> Run:
        """Forget a run that has ended, with its steps, their logs and working files, and return what it was.

        Raises
        ------
        Conflict
            If it has not ended.
        """

    def logs(
        self, actor: Actor, owner: str, run: str, step: str, *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """Yield a step's log lines after the byte offset ``after``."""

    def watch(self, actor: Actor, owner: str, *, run: str = "", after: int = 0) -> AsyncIterator[tuple[Run, int]]:
        """Yield each change after the cursor, of one run or of all."""

    async def artifact(self, actor: Actor, owner: str, run: str, digest: str) -> AsyncIterator[bytes]:
        """Return the content of a file that a step of the run wrote, or that came with it, checked by its digest."""

    async def inputs(self, actor: Actor, owner: str, run: str, step: str) -> StepInputs:
        """Return what a step that may start was called with, for a debugger elsewhere."""

    async def spec(self, actor: Actor, owner: str, run: str) -> RunSpec:
        """Return what a run was submitted with, its values left out, or raise `NotFound`."""


class Identity(Protocol):
    """Accounts, and tokens for them. One implementation, our issuer, on every backend."""

    async def accounts(self, actor: Actor, *, after: str = "", limit: int = 50) -> Page[Account]:
        """Return a page of accounts by name; for administrators."""

    async def account(self, actor: Actor, name: str) -> Account:
        """Return one account."""

    async def approve(self, actor: Actor, name: str) -> Account:
        """Let a waiting or deactivated account in."""

    async def deactivate(self, actor: Actor, name: str) -> Account:
        """End every token and server of the account; its files stay."""

    async def token(self, actor: Actor, *, audience: str) -> tuple[str, float]:
        """Return a signed ten-minute token for the audience, and its end in Unix seconds."""


class Storage(Protocol):
    """A person's files: a volume and a normalised relative path."""

    async def list(
        self, actor: Actor, owner: str, path: str = "", *, after: str = "", limit: int = 200
    ) -> Page[FileEntry]:
        """Return the entries of a folder by name."""

    async def open(self, actor: Actor, owner: str, path: str) -> BinaryIO:
        """Return a regular file opened for reading."""

    async def write(self, actor: Actor, owner: str, path: str, content: AsyncIterator[bytes]) -> FileEntry:
        """Write a file whole or not at all."""

    async def remove(self, actor: Actor, owner: str, path: str) -> None:
        """Remove a file, or a folder with all in it."""

    async def usage(self, actor: Actor, owner: str) -> Usage:
        """Return what the volume uses and may use."""

    async def sign(self, actor: Actor, owner: str, path: str, *, seconds: float = 300) -> str:
        """Return an address that opens the file for a while without sign-in."""


Json = dict[str, Any]
