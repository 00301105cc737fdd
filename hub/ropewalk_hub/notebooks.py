"""The Notebooks port over JupyterHub's REST: the hub's database is the truth, the journal tells what changed.

`NotebookWatch` compares what the hub says with what was seen last and writes each change as an event, so that pages
and watchers learn of servers that were started or died behind our back. It never acts. What the hub cannot know, a
log or what a start waits for, the backend's `Berth` tells. Not here: how a server is spawned (``spawner.py``,
``kube_spawner.py``). Rejected: asking the hub once per watcher.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ropewalk_core.errors import BadName, RopewalkError
from ropewalk_core.journal import Append, Journal, Put
from ropewalk_core.model import Actor, LogLine, Notebook, Page, State, Status, Why
from ropewalk_core.names import check_name, notebook_host
from ropewalk_core.placement import Inventory, Placement, fit
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_hub.hub_client import HubClient

KIND = "notebook"
_EVERY = 2.0
_OWNER = re.compile(r"[a-z0-9-]{1,64}")
_ON_ITS_WAY = (State.WAITING, State.STARTING)
_EMPTY = ("", "Spawn failed")
log = logging.getLogger("ropewalk.notebooks")


@dataclass(frozen=True)
class Seen:
    """What is known of a server that is on its way: whether it waits, and why."""

    state: State = State.STARTING
    why: Why | None = None


class Berth(Protocol):
    """Where notebook servers lie: what a backend knows of them beside the hub."""

    async def prepare(self, owner: str) -> dict[str, Any]:
        """Make what a server needs beforehand, and return what its spawner must be told."""

    async def look(self, owner: str, *, gone: bool = False) -> Seen | None:
        """Return what a server on its way does, or why one ended that is ``gone``, if the hub cannot know."""

    async def forget(self, owner: str) -> None:
        """Remove what a start left behind that failed, or that a killed hub knows nothing of."""

    async def ended_with_us(self, owner: str) -> bool:
        """Whether a server that ran before this platform started is gone because the platform was stopped."""

    def logs(self, owner: str, *, after: int, follow: bool, ended: Callable[[], bool]) -> AsyncIterator[LogLine]:
        """Yield the lines of its log; ``ended`` says whether the server has ended."""


def log_path(settings: Settings, owner: str) -> Path:
    """Return the log of a person's notebook server."""
    return settings.logs / "notebooks" / f"{owner}.log"


def address(settings: Settings, owner: str) -> str:
    """Return the stable address of a person's notebook; the hub starts it when it does not run."""
    door = settings.door
    return f"{door.scheme}://{notebook_host(owner, door.people)}:{door.port}/user/{owner}/lab"


class HubNotebooks:
    """`ropewalk_core.ports.Notebooks`."""

    def __init__(
        self,
        hub: HubClient,
        journal: Journal,
        settings: Settings,
        clock: Clock,
        *,
        inventory: Callable[[], Inventory],
        berth: Berth,
    ) -> None:
        self._hub = hub
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._inventory = inventory
        self._berth = berth

    async def start(self, actor: Actor, owner: str, name: str = "", *, placement: Placement | None = None) -> Notebook:
        """See `Notebooks.start`."""
        _check(owner, name)
        fit(placement or Placement(), self._inventory())
        have = await self.get(actor, owner)
        if have.status.state in (State.RUNNING, *_ON_ITS_WAY):
            return have
        options = {"placement": placement.model_dump(mode="json", exclude_none=True)} if placement else {}
        options |= await self._berth.prepare(owner)
        await self._hub.ensure_user(owner)
        await self._hub.start(owner, options)
        wanted = self._notebook(owner, State.STARTING, placement=placement or Placement())
        return await self._say(wanted)

    async def stop(self, actor: Actor, owner: str, name: str = "") -> Notebook:
        """See `Notebooks.stop`."""
        _check(owner, name)
        have = await self.get(actor, owner)
        if have.status.state in (State.STOPPED, State.FAILED):
            return have
        # Said before it is done: what the watch sees next is a stop that was asked for, not a server that died.
        stopping = await self._say(self._notebook(owner, State.STOPPING, placement=have.placement))
        await self._hub.stop(owner)
        return stopping

    async def get(self, actor: Actor, owner: str, name: str = "") -> Notebook:
        """See `Notebooks.get`."""
        _check(owner, name)
        last = self._last(owner)
        model = await self._hub.user(owner)
        return observed(self._settings, owner, model, last, await _seen(self._hub, self._berth, owner, model, last))

    async def list(self, actor: Actor, owner: str) -> Page[Notebook]:
        """See `Notebooks.list`."""
        return Page[Notebook](items=(await self.get(actor, owner),))

    async def logs(
        self, actor: Actor, owner: str, name: str = "", *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """See `Notebooks.logs`."""
        _check(owner, name)
        running = (*_ON_ITS_WAY, State.RUNNING, State.STOPPING)

        def ended() -> bool:
            last = self._last(owner)
            return last is None or last.status.state not in running

        async for line in self._berth.logs(owner, after=after, follow=follow, ended=ended):
            yield line

    async def watch(self, actor: Actor, owner: str, *, after: int = 0) -> AsyncIterator[tuple[Notebook, int]]:
        """See `Notebooks.watch`."""
        async for event in self._journal.follow(KIND, after=after, owner=owner):
            yield Notebook(**event.body), event.cursor

    def _last(self, owner: str) -> Notebook | None:
        record = self._journal.get(KIND, owner, "")
        return Notebook(**record.body) if record else None

    async def _say(self, notebook: Notebook) -> Notebook:
        await self._journal.write(*said(notebook))
        return notebook

    def _notebook(self, owner: str, state: State, *, placement: Placement) -> Notebook:
        status = Status(state=state, since=self._clock.wall())
        return Notebook(owner=owner, status=status, address=address(self._settings, owner), placement=placement)


class NotebookWatch:
    """Writes what the hub says about notebook servers into the journal, when it changes."""

    def __init__(self, hub: HubClient, journal: Journal, settings: Settings, clock: Clock, *, berth: Berth) -> None:
        self._hub = hub
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._berth = berth

    async def run(self) -> None:
        """Look again and again; a hub that is away changes nothing."""
        await self.forget_ended()
        while True:
            try:
                await self.look()
            except RopewalkError as error:
                log.debug("Notebooks were not looked at: %s", error.message)
            await self._clock.sleep(_EVERY)

    async def forget_ended(self) -> None:
        """Record what ended with the platform, before anybody takes it for a server that died by itself."""
        for record in self._journal.page(KIND, limit=10_000):
            last = Notebook(**record.body)
            if not last.status.state.terminal and await self._berth.ended_with_us(last.owner):
                status = Status(state=State.STOPPED, note="It was stopped together with the platform.")
                await self._journal.write(*said(last.model_copy(update={"status": status})))

    async def look(self) -> None:
        """Compare once."""
        for model in await self._hub.users():
            owner = str(model.get("name", ""))
            if not _OWNER.fullmatch(owner):
                continue
            record = self._journal.get(KIND, owner, "")
            last = Notebook(**record.body) if record else None
            now = observed(self._settings, owner, model, last, await _seen(self._hub, self._berth, owner, model, last))
            if last is None and now.status.state is State.STOPPED:
                continue
            if last is None or _news(last.status, now.status):
                await self._journal.write(*said(now))


async def _seen(
    hub: HubClient, berth: Berth, owner: str, model: dict[str, Any] | None, last: Notebook | None
) -> Seen | None:
    """Return what is known of a server that is on its way, or that went without having been stopped."""
    server = (model or {}).get("servers", {}).get("")
    before = last.status.state if last else State.STOPPED
    if server:
        return await berth.look(owner) if server.get("pending") == "spawn" else None
    if before not in (*_ON_ITS_WAY, State.RUNNING):
        return None
    why = await _failure(hub, owner) if before in _ON_ITS_WAY else None
    found = None if why else await berth.look(owner, gone=True)
    why = why or (found.why if found else None)
    if before in _ON_ITS_WAY:
        await berth.forget(owner)
    return Seen(State.FAILED, why) if why else None


async def _failure(hub: HubClient, owner: str) -> Why | None:
    """Return why the hub's last try to start the server failed, in the spawner's words."""
    try:
        async with contextlib.aclosing(hub.progress(owner)) as events:
            async for event in events:
                if event.get("failed"):
                    words = str(event.get("message") or "").removeprefix("Spawn failed:").strip()
                    return Why(cause=words[:1000], code="RW-UNAVAILABLE") if words not in _EMPTY else None
                return None
    except RopewalkError:
        pass
    return None


def _news(last: Status, now: Status) -> bool:
    return last.state is not now.state or last.why != now.why


def said(notebook: Notebook) -> tuple[Put, Append]:
    """Return the operations that record a notebook's new state and tell the watchers."""
    body = notebook.model_dump(mode="json")
    return Put(KIND, notebook.owner, "", body), Append(KIND, notebook.owner, "", notebook.status.state.value, body)


def observed(
    settings: Settings,
    owner: str,
    model: dict[str, Any] | None,
    last: Notebook | None,
    seen: Seen | None = None,
) -> Notebook:
    """Return the notebook as the hub's model of its user says, beside what was known last. Pure but for the time.

    A server that vanishes while it starts has failed, for the reason that it waited for; one that vanishes while it
    runs has ended by itself. ``seen`` is what the backend knows of a server on its way.
    """
    server = (model or {}).get("servers", {}).get("")
    before = last.status.state if last else State.STOPPED
    state, note, why = _state(server, before)
    if seen is not None and (state is State.STARTING or not server):
        state, why = seen.state, seen.why
    elif state is State.FAILED and why and last and last.status.why:
        why = last.status.why
    placement = last.placement if last else Placement()
    if server and isinstance(asked := (server.get("user_options") or {}).get("placement"), dict):
        placement = Placement(**asked)
    if last and last.status.state is state:
        status = last.status if seen is None else last.status.model_copy(update={"why": why})
    elif why:
        status = Status(state=state, why=why)
    else:
        status = Status(state=state, note=note)
    return Notebook(owner=owner, status=status, address=address(settings, owner), placement=placement)


def _state(server: dict[str, Any] | None, before: State) -> tuple[State, str, Why | None]:
    if server:
        if server.get("pending") == "stop":
            return State.STOPPING, "", None
        if server.get("ready"):
            return State.RUNNING, "", None
        return State.STARTING, "", None
    if before is State.FAILED:
        return State.FAILED, "", None
    if before in _ON_ITS_WAY:
        return State.FAILED, "", _DID_NOT_START
    return State.STOPPED, "It ended by itself." if before is State.RUNNING else "", None


_DID_NOT_START = Why(
    cause="The notebook server did not start.",
    next="Look at its log, then start it again.",
    code="RW-UNAVAILABLE",
)


def _check(owner: str, name: str) -> None:
    check_name(owner, what="account")
    if name:
        raise BadName("Each person has one notebook server; it has no name.", field="name", hint="Leave the name out.")
