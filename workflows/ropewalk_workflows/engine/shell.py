"""The thin shell around ``core``: asks for runs, makes decisions durable, starts attempts, feeds their ends back.

One task decides; each attempt is a task that only waits. Whatever was decided while a report was on its way goes into
the next one, so many steps share one durable write. Nothing is launched before the report that says so is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from ropewalk_core.errors import Conflict, Internal, RopewalkError, StorageFull, Unavailable
from ropewalk_core.local.host_client import StepExit
from ropewalk_core.model import State, Status, Why
from ropewalk_core.settings import Settings
from ropewalk_core.tasks import Tasks
from ropewalk_workflows.engine import attempts, view
from ropewalk_workflows.engine.core import step
from ropewalk_workflows.engine.locks import Locks, Who
from ropewalk_workflows.engine.points import Crash, nowhere
from ropewalk_workflows.engine.state import (
    Action,
    Answer,
    Begin,
    Cancel,
    End,
    Event,
    Exited,
    Fact,
    Grant,
    Hold,
    Launch,
    Lock,
    Locked,
    Lost,
    Outcome,
    Ready,
    Recover,
    RunState,
    Tick,
    Wake,
)
from ropewalk_workflows.engine.wire import Batch, Feed, RunReport, StepReport, Wanted, until_durable
from ropewalk_workflows.manifest import read
from ropewalk_workflows.manifest.text import BadText

log = logging.getLogger(__name__)
_HOST_AWAY = 1.0
"""Seconds before an attempt that the host lost is looked at."""
_AGAIN = 0.2


@dataclass
class _Run:
    state: RunState
    generation: int
    told: bool = False
    broken: bool = False


@dataclass
class _Places:
    """Who of an account runs, and who waits for a place."""

    limit: int
    active: set[tuple[str, str]] = field(default_factory=set)
    waiting: deque[tuple[str, str]] = field(default_factory=deque)
    locks: Locks = field(default_factory=Locks)


class Engine:
    """The engine of one home.

    Parameters
    ----------
    settings
        Of the home.
    feed
        The platform.
    host
        What runs steps.
    wall
        Unix time in seconds.
    crash
        Called at each point at which a kill is interesting (``points``).
    """

    def __init__(
        self,
        settings: Settings,
        feed: Feed,
        host: attempts.Host,
        *,
        wall: Callable[[], float] = time.time,
        crash: Crash = nowhere,
    ) -> None:
        self._settings, self._feed, self._host, self._wall, self._crash = settings, feed, host, wall, crash
        self.id = secrets.token_hex(6)
        self._runs: dict[str, _Run] = {}
        self._places: dict[str, _Places] = {}
        self._inbox: asyncio.Queue[tuple[str, Event | Wanted]] = asyncio.Queue()
        self._timers: list[tuple[float, str]] = []
        self._timed = asyncio.Event()
        self._tasks = Tasks()
        self._attempts: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve until cancelled, or until another engine takes over."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._poll())
                group.create_task(self._decide())
                group.create_task(self._wake())
        except* Conflict as errors:
            log.error("another engine took over: %s", errors.exceptions[0])
        finally:
            await self._tasks.end()

    async def _poll(self) -> None:
        cursor, wait = f"{self.id}.", 0.1
        while True:
            try:
                page = await self._feed.runs(cursor)
            except Conflict:
                raise
            except RopewalkError as error:
                log.warning("cannot ask the platform for runs: %s", error.message)
                await asyncio.sleep(wait)
                wait = min(wait * 2, 2.0)
                continue
            cursor, wait = page.cursor, 0.1
            for wanted in page.runs:
                self._inbox.put_nowait((wanted.run, wanted))

    async def _wake(self) -> None:
        while True:
            now = self._wall()
            due = set()
            while self._timers and self._timers[0][0] <= now:
                due.add(heapq.heappop(self._timers)[1])
            if due:
                self._crash("timer-due")
            for run in due:
                self._inbox.put_nowait((run, Tick(now)))
            pause = min(max(self._timers[0][0] - now, 0.005), 5.0) if self._timers else None
            self._timed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._timed.wait()

    # Deciding

    async def _decide(self) -> None:
        while True:
            arrived = [await self._inbox.get()]
            while not self._inbox.empty():
                arrived.append(self._inbox.get_nowait())
            actions: list[tuple[RunState, Action]] = []
            reports: list[RunReport] = []
            for run, event in arrived:
                if isinstance(event, Wanted):
                    self._wanted(event, actions, reports)
                elif (known := self._runs.get(run)) is not None:
                    self._apply(known, event, actions)
            self._grant(actions)
            reports += self._reports()
            if reports:
                self._crash("before-report")
                self._leave(await self._report(reports))
                self._crash("after-report")
            self._act(actions)
            self._forget()

    async def _report(self, reports: list[RunReport]) -> list[str]:
        """Make reports durable, and return which runs are over; one that cannot be kept fails its own run alone."""
        try:
            return (await until_durable(self._feed, Batch(engine=self.id, runs=reports))).over
        except Conflict:
            raise
        except (RopewalkError, ValueError, RecursionError) as error:
            if len(reports) > 1:
                return [over for one in reports for over in await self._report([one])]
            if (run := self._runs.get(reports[0].run)) is not None and not run.broken:
                self._break(run, error)
                return await self._report([_broken(run)])
            raise

    def _leave(self, over: list[str]) -> None:
        """Begin nothing of runs that ended, or began again, between the desk's word of them and its arrival here."""
        for name in over:
            if (run := self._runs.get(name)) is not None and not run.state.finished:
                log.info("the run %s was over before it was taken up", name)
                self._give_up(run)

    def _wanted(self, wanted: Wanted, actions: list[tuple[RunState, Action]], reports: list[RunReport]) -> None:
        now = self._wall()
        known = self._runs.get(wanted.run)
        if known is None or known.generation < wanted.generation:
            self._crash("run-heard")
            try:
                state = self._begun(wanted)
            except Exception as error:  # one person's run must not end everybody's engine
                log.error("the run %s cannot be taken up", wanted.run, exc_info=error)
                why = _unreadable(error)
                again = wanted.generation
                reports.append(RunReport(owner=wanted.owner, run=wanted.run, generation=again, status=why))
                return
            if wanted.kept:
                self._crash("kept-heard")
            known = self._runs[wanted.run] = _Run(state, wanted.generation)
            self._apply(known, Begin(now), actions)
        if (wanted.suspended, wanted.resumed) != (known.state.suspended, known.state.resumed):
            self._crash("hold-heard")
            self._apply(known, Hold(now, wanted.suspended, wanted.resumed), actions)
        for leaf, answer in wanted.answers.items():
            self._apply(known, Answer(now, leaf, answer.ok, answer.message), actions)
        if wanted.cancel:
            self._crash("cancel-heard")
            self._apply(known, Cancel(now, wanted.on_exit), actions)

    def _begun(self, wanted: Wanted) -> RunState:
        manifest = read(wanted.spec.manifest, self._settings.environments.images)
        state = RunState(run=wanted.run, owner=wanted.owner, spec=wanted.spec, manifest=manifest)
        state.facts = {key: Fact(**value) for key, value in wanted.facts.items()}
        state.started = wanted.started
        state.suspended, state.resumed = wanted.suspended, wanted.resumed
        state.environment, state.kept = wanted.environment, wanted.kept
        return state

    def _apply(self, run: _Run, event: Event, actions: list[tuple[RunState, Action]]) -> None:
        if run.broken:
            return
        try:
            state, more = step(run.state, event)
        except Exception as error:  # noqa: BLE001 - one person's run must not end everybody's engine
            self._break(run, error)
            return
        if isinstance(event, Exited | Lost):
            self._places_of(state.owner).active.discard((state.run, event.id))
        for one in more:
            if isinstance(one, Ready):
                self._places_of(state.owner).waiting.append((state.run, one.id))
            elif isinstance(one, Lock):
                node = state.nodes[one.id]
                self._places_of(state.owner).locks.ask((state.run, one.id), node.mutexes, holds=node.locked)
            elif isinstance(one, Wake):
                self._crash("timer-set")
                heapq.heappush(self._timers, (one.at, state.run))
                self._timed.set()
            else:
                if isinstance(one, Recover):
                    self._places_of(state.owner).active.add((state.run, one.id))
                actions.append((state, one))

    def _grant(self, actions: list[tuple[RunState, Action]]) -> None:
        """Give free mutexes and places to those that wait longest."""
        for places in self._places.values():
            for name, leaf in places.locks.given(self._is_over, self._is_suspended):
                self._crash("lock-given")
                self._apply(self._runs[name], Locked(self._wall(), leaf), actions)
            while places.waiting and len(places.active) < places.limit:
                name, leaf = places.waiting.popleft()
                run = self._runs.get(name)
                if run is None:
                    continue
                before = len(actions)
                self._apply(run, Grant(self._wall(), leaf), actions)
                if any(isinstance(one, Launch) and one.id == leaf for _, one in actions[before:]):
                    places.active.add((name, leaf))

    def _is_over(self, who: Who) -> bool:
        """Say whether a leaf needs its mutexes no more; one of a run that was given up may still be on its way out."""
        run = self._runs.get(who[0])
        if run is None or run.state.finished:
            return not any(key.startswith(f"{who[0]}.{who[1]}.") for key in self._attempts)
        return who[1] not in run.state.nodes or run.state.nodes[who[1]].ended

    def _is_suspended(self, who: Who) -> bool:
        return who[0] not in self._runs or self._runs[who[0]].state.suspended

    def _places_of(self, owner: str) -> _Places:
        if owner not in self._places:
            self._places[owner] = _Places(self._settings.limits.steps or cores())
        return self._places[owner]

    def _break(self, run: _Run, error: Exception) -> None:
        """Give a run up that cannot be carried on with, and end what runs of it."""
        log.error("the run %s is given up", run.state.run, exc_info=error)
        self._give_up(run)

    def _give_up(self, run: _Run) -> None:
        state = run.state
        run.broken = state.finished = True
        places = self._places_of(state.owner)
        places.active = {one for one in places.active if one[0] != state.run}
        for key in [key for key in self._attempts if key.startswith(f"{state.run}.")]:
            self._end_soon(key)
        self._tell(state, Tick(self._wall()))  # others may wait for its mutexes

    def _reports(self) -> list[RunReport]:
        reports = []
        for run in self._runs.values():
            state = run.state
            if not state.changed and run.told and not state.finished:
                continue
            try:
                reports.append(_broken(run) if run.broken else _seen(run))
            except Exception as error:  # noqa: BLE001 - as above: what a step said may be past all showing
                self._break(run, error)
                reports.append(_broken(run))
            state.changed.clear()
            run.told = True
        return reports

    def _forget(self) -> None:
        for name in [name for name, run in self._runs.items() if run.state.finished]:
            self._crash("run-ended")
            del self._runs[name]

    # Acting

    def _act(self, actions: list[tuple[RunState, Action]]) -> None:
        for state, one in actions:
            if (run := self._runs.get(state.run)) is None or run.broken:
                continue
            if isinstance(one, Launch):
                self._crash("before-launch")
                self._spawn(state, one.id, one.attempt, self._attempt(state, one.id, one.attempt))
            elif isinstance(one, Recover):
                self._spawn(state, one.id, one.attempt, self._recover(state, one.id, one.attempt))
            elif isinstance(one, End):
                self._end_soon(f"{state.run}.{one.id}.{one.attempt}")

    def _end_soon(self, key: str) -> None:
        self._tasks.start(self._end(key))

    def _spawn(self, state: RunState, leaf: str, attempt: int, work: Coroutine[Any, Any, None]) -> None:
        key = f"{state.run}.{leaf}.{attempt}"

        def failed(error: BaseException) -> None:
            self._tell(state, Exited(self._wall(), leaf, attempt, _unexpected(error)))

        def gone(_: object) -> None:
            self._attempts.pop(key, None)
            if state.finished:  # the run was given up, and others may wait for its mutexes
                self._tell(state, Tick(self._wall()))

        task = self._attempts[key] = self._tasks.start(work, failed=failed)
        task.add_done_callback(gone)

    async def _end(self, key: str) -> None:
        """End an attempt; again and again, because the order may still be on its way to the host."""
        while key in self._attempts:
            self._crash("before-end")
            with contextlib.suppress(RopewalkError):  # the host is away; its return is waited for
                await self._host.end(key)
            self._crash("after-end")
            await asyncio.sleep(_AGAIN)

    async def _attempt(self, state: RunState, leaf: str, attempt: int) -> None:
        node = state.nodes[leaf]
        ended: StepExit | None = None
        try:
            order = attempts.prepare(self._settings, state, node, attempt)
            if attempts.is_long(order):
                order = await asyncio.to_thread(attempts.written_down, self._settings, order)
            self._crash("before-run")
            if state.ends(node):
                self._tell(state, Lost(self._wall(), leaf, attempt))
                return
            ended = await self._host.run_step(order, lambda: self._crash("order-taken"))
            self._crash("after-run")
        except Unavailable as error:
            log.warning("attempt %s of %s in %s was lost: %s", attempt, leaf, state.run, error.message)
            await asyncio.sleep(_HOST_AWAY)
        except (RopewalkError, BadText) as error:
            self._tell(state, Exited(self._wall(), leaf, attempt, _refused(error)))
            return
        if ended is not None and ended.said:
            found = attempts.outcome(self._settings, state, node, attempt, ended)
        else:
            found = await asyncio.to_thread(attempts.outcome, self._settings, state, node, attempt, ended)
        self._crash("outputs-read")
        if found is None:
            self._tell(state, Lost(self._wall(), leaf, attempt))
        else:
            self._tell(state, Exited(self._wall(), leaf, attempt, found))

    async def _recover(self, state: RunState, leaf: str, attempt: int) -> None:
        """Take the outputs of an attempt that an earlier engine started, if it wrote any; else it is lost."""
        self._crash("recovering")
        found = await asyncio.to_thread(attempts.outcome, self._settings, state, state.nodes[leaf], attempt, None)
        self._crash("recovered")
        now = self._wall()
        self._tell(state, Lost(now, leaf, attempt) if found is None else Exited(now, leaf, attempt, found))

    def _tell(self, state: RunState, event: Event) -> None:
        self._inbox.put_nowait((state.run, event))


def _refused(error: RopewalkError | BadText) -> Outcome:
    if isinstance(error, RopewalkError):
        full = isinstance(error, StorageFull)
        return Outcome(False, error=error.message, problem=error.code, hint=error.hint, is_error=not full)
    return Outcome(False, error=f"Its inputs cannot be made: {error}.", problem="RW-BAD-WORKFLOW", is_error=True)


def _unexpected(error: BaseException) -> Outcome:
    """Return the end of an attempt that the platform itself could not carry out."""
    said = f"The platform could not carry out this step: {type(error).__name__}: {error}"
    hint = "Run it again; if it happens again, tell your administrator the time: the engine's log says more."
    return Outcome(False, error=said[:1000], problem="RW-INTERNAL", hint=hint, is_error=True)


def _unreadable(error: Exception) -> Status:
    """Return the status of a run that cannot even begin; the platform checked it, so only what changed leads here."""
    ours = error if isinstance(error, RopewalkError) else Internal("The platform cannot read this run any more.")
    return Status(state=State.FAILED, why=Why(cause=ours.message, next=ours.hint, code=ours.code))


def _seen(run: _Run) -> RunReport:
    """Return what became different in a run since the last report."""
    state = run.state
    steps = [
        StepReport(step=view.step(state, node), fact=_fact(state, one), order=node.order)
        for one in sorted(state.changed)
        if view.visible(node := state.nodes[one])
    ]
    outputs = view.outputs(state) if state.finished else {}
    return RunReport(
        owner=state.owner,
        run=state.run,
        generation=run.generation,
        steps=steps,
        status=view.run_status(state),
        outputs=outputs,
    )


def _broken(run: _Run) -> RunReport:
    why = Why(
        cause="The platform cannot carry on with this run: what a step gave back cannot be kept.",
        next="Return values nested less deeply, and text without broken characters; then run the workflow again.",
        code="RW-INTERNAL",
    )
    status = Status(state=State.FAILED, why=why)
    return RunReport(owner=run.state.owner, run=run.state.run, generation=run.generation, status=status)


def _fact(state: RunState, leaf: str) -> dict[str, Any]:
    return state.facts[leaf].as_dict() if leaf in state.facts else {}


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
