"""Guards: each wraps one port and asks ``policy`` once per act, so that no surface can forget to.

A guard has its port's own methods and adds nothing else. Where policy allows an outline only, what the owner put into
the thing is left out of the answer. Not here: the rules. Rejected: one generic proxy over ``__getattr__``, which hides
from mypy and from readers which verb a method is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import BinaryIO, Literal, TypeVar

from ropewalk_core import policy
from ropewalk_core.errors import NotFound
from ropewalk_core.flows import Run
from ropewalk_core.model import (
    Access,
    Account,
    Actor,
    Bundle,
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
    Noun,
    Page,
    Requirements,
    Revision,
    Service,
    ServiceSpec,
    Status,
    StoredSecret,
    Trigger,
    TriggerSpec,
    Usage,
    Why,
    Window,
)
from ropewalk_core.placement import Placement
from ropewalk_core.policy import Allow, Kind, Verb
from ropewalk_core.ports import Durable, Functions, Identity, Notebooks, Secrets, Services, Storage, Triggers
from ropewalk_runtime.trace import Trace

N = TypeVar("N", bound=Noun)


def check(actor: Actor, verb: Verb, kind: Kind, owner: str = "") -> Allow:
    """Return policy's yes, or raise its refusal."""
    decision = policy.decide(actor, verb, kind, owner)
    if isinstance(decision, Allow):
        return decision
    raise decision.error()


def outline(noun: N) -> N:
    """Return the thing without what its owner put into it: code, values, arguments, results, what their code said."""
    if isinstance(noun, Function):
        access = Access(who=noun.access.who)
        return noun.model_copy(
            update={"revision": outline(noun.revision), "access": access, "status": _bare(noun.status)}
        )
    if isinstance(noun, Revision):
        bare = {"bundle": Bundle(files={}, entry=""), "requirements": (), "environment": {}, "secrets": ()}
        spec = noun.spec.model_copy(update=bare)
        return noun.model_copy(update={"spec": spec, "packages": ()})
    if isinstance(noun, Service):
        left_out = {"spec": noun.spec.model_copy(update={"values": {}}), "status": _bare(noun.status)}
        return noun.model_copy(update=left_out)
    if isinstance(noun, Run):
        given = {"arguments": {}, "outputs": {}, "steps": (), "folder": ""}
        return noun.model_copy(update={**given, "status": _bare(noun.status)})
    return noun


def _bare(status: Status) -> Status:
    """Return the state without its cause, which quotes errors and log lines of the person's own code."""
    if status.why is None:
        return status
    return status.model_copy(update={"why": Why(cause="Its owner can see why.", code=status.why.code)})


def seen(allowed: Allow, noun: N) -> N:
    """Return the thing as policy allows it to be seen."""
    return outline(noun) if allowed.outline else noun


def seen_page(allowed: Allow, page: Page[N]) -> Page[N]:
    """Return the page with each thing as policy allows it to be seen."""
    return page.model_copy(update={"items": tuple(outline(one) for one in page.items)}) if allowed.outline else page


async def watched(allowed: Allow, changes: AsyncIterator[tuple[N, int]]) -> AsyncIterator[tuple[N, int]]:
    """Yield the changes with each thing as policy allows it to be seen."""
    async for noun, cursor in changes:
        yield seen(allowed, noun), cursor


class GuardedNotebooks:
    """`Notebooks` behind policy."""

    def __init__(self, inner: Notebooks) -> None:
        self._inner = inner

    async def start(self, actor: Actor, owner: str, name: str = "", *, placement: Placement | None = None) -> Notebook:
        """See `Notebooks.start`."""
        check(actor, "write", "notebook", owner)
        return await self._inner.start(actor, owner, name, placement=placement)

    async def stop(self, actor: Actor, owner: str, name: str = "") -> Notebook:
        """See `Notebooks.stop`."""
        check(actor, "stop", "notebook", owner)
        return await self._inner.stop(actor, owner, name)

    async def get(self, actor: Actor, owner: str, name: str = "") -> Notebook:
        """See `Notebooks.get`."""
        return seen(check(actor, "get", "notebook", owner), await self._inner.get(actor, owner, name))

    async def list(self, actor: Actor, owner: str) -> Page[Notebook]:
        """See `Notebooks.list`."""
        return seen_page(check(actor, "list", "notebook", owner), await self._inner.list(actor, owner))

    def logs(
        self, actor: Actor, owner: str, name: str = "", *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """See `Notebooks.logs`."""
        check(actor, "logs", "notebook", owner)
        return self._inner.logs(actor, owner, name, after=after, follow=follow)

    def watch(self, actor: Actor, owner: str, *, after: int = 0) -> AsyncIterator[tuple[Notebook, int]]:
        """See `Notebooks.watch`."""
        return watched(check(actor, "watch", "notebook", owner), self._inner.watch(actor, owner, after=after))


class GuardedServices:
    """`Services` behind policy."""

    def __init__(self, inner: Services) -> None:
        self._inner = inner

    async def apply(self, actor: Actor, owner: str, spec: ServiceSpec, *, key: str = "") -> Service:
        """See `Services.apply`."""
        check(actor, "write", "service", owner)
        return await self._inner.apply(actor, owner, spec, key=key)

    async def remove(self, actor: Actor, owner: str, name: str) -> Service:
        """See `Services.remove`."""
        check(actor, "remove", "service", owner)
        return await self._inner.remove(actor, owner, name)

    async def get(self, actor: Actor, owner: str, name: str) -> Service:
        """See `Services.get`."""
        return seen(check(actor, "get", "service", owner), await self._inner.get(actor, owner, name))

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Service]:
        """See `Services.list`."""
        allowed = check(actor, "list", "service", owner)
        return seen_page(allowed, await self._inner.list(actor, owner, after=after, limit=limit))

    def logs(
        self, actor: Actor, owner: str, name: str, *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """See `Services.logs`."""
        check(actor, "logs", "service", owner)
        return self._inner.logs(actor, owner, name, after=after, follow=follow)

    def watch(self, actor: Actor, owner: str, *, after: int = 0) -> AsyncIterator[tuple[Service, int]]:
        """See `Services.watch`."""
        return watched(check(actor, "watch", "service", owner), self._inner.watch(actor, owner, after=after))


class GuardedFunctions:
    """`Functions` behind policy."""

    def __init__(self, inner: Functions) -> None:
        self._inner = inner

    async def deploy(
        self, actor: Actor, owner: str, spec: FunctionSpec, *, key: str = "", existing: bool = False
    ) -> Function:
        """See `Functions.deploy`."""
        check(actor, "write", "function", owner)
        return await self._inner.deploy(actor, owner, spec, key=key, existing=existing)

    def prepare(self, actor: Actor, owner: str, needs: Requirements) -> AsyncIterator[LogLine]:
        """See `Functions.prepare`."""
        check(actor, "write", "function", owner)
        return self._inner.prepare(actor, owner, needs)

    async def remove(self, actor: Actor, owner: str, name: str) -> Function:
        """See `Functions.remove`."""
        check(actor, "remove", "function", owner)
        return await self._inner.remove(actor, owner, name)

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
        """See `Functions.call`."""
        await self._callable(actor, "call", owner, name)
        return await self._inner.call(actor, owner, name, payload, content_type=content_type, trace=trace)

    async def get(self, actor: Actor, owner: str, name: str) -> Function:
        """See `Functions.get`."""
        return seen(
            await self._callable(actor, "get", owner, name),
            await self._inner.get(actor, owner, name),
        )

    async def _callable(self, actor: Actor, verb: Verb, owner: str, name: str) -> Allow:
        """Return policy's yes, also for somebody who may only call it; a refusal is the same if it does not exist."""
        decision = policy.decide(actor, verb, "function", owner)
        if isinstance(decision, Allow):
            return decision
        try:
            access = (await self._inner.get(actor, owner, name)).access
        except NotFound:
            raise decision.error() from None
        if actor.account and isinstance(policy.decide_call(access, owner, actor.account), Allow):
            return Allow(outline=True)
        raise decision.error()

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Function]:
        """See `Functions.list`."""
        allowed = check(actor, "list", "function", owner)
        return seen_page(allowed, await self._inner.list(actor, owner, after=after, limit=limit))

    async def revisions(
        self, actor: Actor, owner: str, name: str, *, after: str = "", limit: int = 50
    ) -> Page[Revision]:
        """See `Functions.revisions`."""
        allowed = check(actor, "get", "function", owner)
        return seen_page(allowed, await self._inner.revisions(actor, owner, name, after=after, limit=limit))

    async def revision(self, actor: Actor, owner: str, name: str, number: int) -> Revision:
        """See `Functions.revision`."""
        allowed = check(actor, "get", "function", owner)
        return seen(allowed, await self._inner.revision(actor, owner, name, number))

    async def traffic(self, actor: Actor, owner: str, name: str, weights: Mapping[int, int]) -> Function:
        """See `Functions.traffic`."""
        check(actor, "write", "function", owner)
        return await self._inner.traffic(actor, owner, name, weights)

    async def access(self, actor: Actor, owner: str, name: str, access: Access) -> Function:
        """See `Functions.access`."""
        check(actor, "write", "function", owner)
        return await self._inner.access(actor, owner, name, access)

    async def keys(self, actor: Actor, owner: str, name: str) -> Page[CallKey]:
        """See `Functions.keys`."""
        check(actor, "write", "function", owner)
        return await self._inner.keys(actor, owner, name)

    async def add_key(
        self, actor: Actor, owner: str, name: str, *, label: str = "", calls: int, seconds: int, key: str = ""
    ) -> NewKey:
        """See `Functions.add_key`."""
        check(actor, "write", "function", owner)
        return await self._inner.add_key(actor, owner, name, label=label, calls=calls, seconds=seconds, key=key)

    async def revoke_key(self, actor: Actor, owner: str, name: str, identifier: str) -> CallKey:
        """See `Functions.revoke_key`."""
        check(actor, "write", "function", owner)
        return await self._inner.revoke_key(actor, owner, name, identifier)

    async def calls(self, actor: Actor, owner: str, name: str, *, limit: int = 50) -> Page[Call]:
        """See `Functions.calls`."""
        check(actor, "logs", "function", owner)
        return await self._inner.calls(actor, owner, name, limit=limit)

    def logs(
        self, actor: Actor, owner: str, name: str, *, call: str = "", after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """See `Functions.logs`."""
        check(actor, "logs", "function", owner)
        return self._inner.logs(actor, owner, name, call=call, after=after, follow=follow)

    async def figures(self, actor: Actor, owner: str, name: str, *, window: Window = "hour") -> Figures:
        """See `Functions.figures`."""
        check(actor, "logs", "function", owner)
        return await self._inner.figures(actor, owner, name, window=window)

    async def costs(self, actor: Actor, owner: str, name: str = "") -> Costs:
        """See `Functions.costs`."""
        check(actor, "logs", "function", owner)
        return await self._inner.costs(actor, owner, name)

    def watch(self, actor: Actor, owner: str, *, after: int = 0) -> AsyncIterator[tuple[Function, int]]:
        """See `Functions.watch`."""
        return watched(check(actor, "watch", "function", owner), self._inner.watch(actor, owner, after=after))


class GuardedDurable:
    """`Durable` behind policy: what a call was given and gave is its owner's alone, so there are no outlines."""

    def __init__(self, inner: Durable) -> None:
        self._inner = inner

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
        """See `Durable.spawn`."""
        check(actor, "call", "function", owner)
        return await self._inner.spawn(
            actor, owner, function, payload, content_type=content_type, query=query, key=key, trace=trace
        )

    async def get(self, actor: Actor, owner: str, call: str) -> DurableCall:
        """See `Durable.get`."""
        check(actor, "logs", "function", owner)
        return await self._inner.get(actor, owner, call)

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
        """See `Durable.list`."""
        check(actor, "logs", "function", owner)
        return await self._inner.list(actor, owner, function, shelf=shelf, after=after, limit=limit)

    async def result(self, actor: Actor, owner: str, call: str, *, wait: float = 0.0) -> DurableResult:
        """See `Durable.result`."""
        check(actor, "logs", "function", owner)
        return await self._inner.result(actor, owner, call, wait=wait)

    async def cancel(self, actor: Actor, owner: str, call: str) -> DurableCall:
        """See `Durable.cancel`."""
        check(actor, "call", "function", owner)
        return await self._inner.cancel(actor, owner, call)

    async def replay(self, actor: Actor, owner: str, call: str) -> DurableCall:
        """See `Durable.replay`."""
        check(actor, "call", "function", owner)
        return await self._inner.replay(actor, owner, call)

    async def forget(self, actor: Actor, owner: str, call: str) -> DurableCall:
        """See `Durable.forget`."""
        check(actor, "remove", "function", owner)
        return await self._inner.forget(actor, owner, call)


class GuardedTriggers:
    """`Triggers` behind policy: what a trigger follows is its owner's alone, so there are no outlines.

    Parameters
    ----------
    inner
        The port.
    kind
        What policy calls what they call: ``function``, or ``run``.
    """

    def __init__(self, inner: Triggers, kind: Kind = "function") -> None:
        self._inner, self._kind = inner, kind

    async def list(self, actor: Actor, owner: str, function: str) -> Page[Trigger]:
        """See `Triggers.list`."""
        check(actor, "logs", self._kind, owner)
        return await self._inner.list(actor, owner, function)

    async def add(self, actor: Actor, owner: str, function: str, spec: TriggerSpec) -> Trigger:
        """See `Triggers.add`."""
        check(actor, "write", self._kind, owner)
        return await self._inner.add(actor, owner, function, spec)

    async def choose(self, actor: Actor, owner: str, function: str, specs: Sequence[TriggerSpec]) -> Page[Trigger]:
        """See `Triggers.choose`."""
        check(actor, "write", self._kind, owner)
        return await self._inner.choose(actor, owner, function, specs)

    async def remove(self, actor: Actor, owner: str, function: str, trigger: str) -> Trigger:
        """See `Triggers.remove`."""
        check(actor, "write", self._kind, owner)
        return await self._inner.remove(actor, owner, function, trigger)

    async def pause(self, actor: Actor, owner: str, function: str, trigger: str, paused: bool) -> Trigger:
        """See `Triggers.pause`."""
        check(actor, "write", self._kind, owner)
        return await self._inner.pause(actor, owner, function, trigger, paused)

    async def fire(self, actor: Actor, owner: str, function: str, trigger: str, *, key: str = "") -> DurableCall | Run:
        """See `Triggers.fire`."""
        check(actor, "call" if self._kind == "function" else "write", self._kind, owner)
        return await self._inner.fire(actor, owner, function, trigger, key=key)


class GuardedSecrets:
    """`Secrets` behind policy: they are their owner's alone, names too."""

    def __init__(self, inner: Secrets) -> None:
        self._inner = inner

    async def list(self, actor: Actor, owner: str) -> Page[StoredSecret]:
        """See `Secrets.list`."""
        check(actor, "write", "function", owner)
        return await self._inner.list(actor, owner)

    async def set(self, actor: Actor, owner: str, name: str, value: str) -> StoredSecret:
        """See `Secrets.set`."""
        check(actor, "write", "function", owner)
        return await self._inner.set(actor, owner, name, value)

    async def remove(self, actor: Actor, owner: str, name: str) -> StoredSecret:
        """See `Secrets.remove`."""
        check(actor, "write", "function", owner)
        return await self._inner.remove(actor, owner, name)


class GuardedIdentity:
    """`Identity` behind policy."""

    def __init__(self, inner: Identity) -> None:
        self._inner = inner

    async def accounts(self, actor: Actor, *, after: str = "", limit: int = 50) -> Page[Account]:
        """See `Identity.accounts`."""
        check(actor, "list", "account")
        return await self._inner.accounts(actor, after=after, limit=limit)

    async def account(self, actor: Actor, name: str) -> Account:
        """See `Identity.account`."""
        check(actor, "get", "account", name)
        return await self._inner.account(actor, name)

    async def approve(self, actor: Actor, name: str) -> Account:
        """See `Identity.approve`."""
        check(actor, "approve", "account", name)
        return await self._inner.approve(actor, name)

    async def deactivate(self, actor: Actor, name: str) -> Account:
        """See `Identity.deactivate`."""
        check(actor, "deactivate", "account", name)
        return await self._inner.deactivate(actor, name)

    async def token(self, actor: Actor, *, audience: str) -> tuple[str, float]:
        """See `Identity.token`."""
        check(actor, "get", "account", actor.account)
        return await self._inner.token(actor, audience=audience)


class GuardedStorage:
    """`Storage` behind policy."""

    def __init__(self, inner: Storage) -> None:
        self._inner = inner

    async def list(
        self, actor: Actor, owner: str, path: str = "", *, after: str = "", limit: int = 200
    ) -> Page[FileEntry]:
        """See `Storage.list`."""
        check(actor, "list", "file", owner)
        return await self._inner.list(actor, owner, path, after=after, limit=limit)

    async def open(self, actor: Actor, owner: str, path: str) -> BinaryIO:
        """See `Storage.open`."""
        check(actor, "get", "file", owner)
        return await self._inner.open(actor, owner, path)

    async def write(self, actor: Actor, owner: str, path: str, content: AsyncIterator[bytes]) -> FileEntry:
        """See `Storage.write`."""
        check(actor, "write", "file", owner)
        return await self._inner.write(actor, owner, path, content)

    async def remove(self, actor: Actor, owner: str, path: str) -> None:
        """See `Storage.remove`."""
        check(actor, "remove", "file", owner)
        await self._inner.remove(actor, owner, path)

    async def usage(self, actor: Actor, owner: str) -> Usage:
        """See `Storage.usage`."""
        check(actor, "list", "file", owner)
        return await self._inner.usage(actor, owner)

    async def sign(self, actor: Actor, owner: str, path: str, *, seconds: float = 300) -> str:
        """See `Storage.sign`."""
        check(actor, "get", "file", owner)
        return await self._inner.sign(actor, owner, path, seconds=seconds)
