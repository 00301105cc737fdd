"""The pure core of the engine in a world that is pretended: which leaf is ready, runs, is lost, and in which order.

What an attempt gives comes from a script, so that each order of events can be compared with any other. Not here: the
shell, hosts and desks (``crash_rig``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from hypothesis import strategies as st

from ropewalk_core.flows import RunSpec
from ropewalk_core.model import Bundle
from ropewalk_workflows.engine import state as nouns
from ropewalk_workflows.engine.core import step
from ropewalk_workflows.engine.leaves import MOST_LOST
from ropewalk_workflows.engine.locks import Locks, Who
from ropewalk_workflows.engine.state import RunState
from ropewalk_workflows.manifest import read
from ropewalk_workflows.manifest.calls import needs

IMAGES = {"python": "python"}
CODE = "c" * 64
Script: TypeAlias = Callable[[str, int], nouns.Outcome]
"""How an attempt ends: that of the leaf with this path, after so many that failed."""


def fresh(manifest: dict[str, Any], facts: dict[str, dict[str, Any]] | None = None) -> RunState:
    """Return a run that has not begun, or that an earlier engine left with these facts."""
    spec = RunSpec(name="x", manifest=manifest, bundles={CODE: Bundle(files={}, entry="a:b", digest=CODE)})
    found = RunState(run="run-1", owner="alice", spec=spec, manifest=read(manifest, IMAGES))
    found.facts = {key: nouns.Fact(**value) for key, value in (facts or {}).items()}
    return found


class World:
    """Everything around the engine: what is ready, what runs, and how often each was tried.

    Parameters
    ----------
    manifest, script
        What runs, and how its attempts end.
    kept
        What earlier runs have.
    harsh
        Whether a person stops the run, and the platform loses attempts for good.
    """

    def __init__(
        self, manifest: dict[str, Any], script: Script, *, kept: dict[str, Any] | None = None, harsh: bool = False
    ) -> None:
        self.state, self.script, self.kept, self.harsh = fresh(manifest), script, kept or {}, harsh
        self.state.kept = self.kept
        self.now = 1.0
        self.ready: list[str] = []
        self.running: dict[str, int] = {}
        self.recovering: dict[str, int] = {}
        self.launched: dict[str, int] = {}
        self.succeeded: set[str] = set()
        self.stop: nouns.Cancel | None = None
        self.suspended, self.resumed = False, 0.0
        self.locks = Locks()
        self.take(nouns.Begin(self.now))

    def take(self, event: nouns.Event) -> None:
        _, actions = step(self.state, event)
        for one in actions:
            if isinstance(one, nouns.Ready):
                self.ready.append(one.id)
            elif isinstance(one, nouns.Lock):
                node = self.state.nodes[one.id]
                self.locks.ask(("run-1", one.id), node.mutexes, holds=node.locked)
            elif isinstance(one, nouns.Launch):
                assert not self.suspended, "nothing starts while the run is suspended"
                assert one.id not in self.running, "one attempt at a time"
                assert one.id not in self.succeeded, "what is done is not run again"
                self.running[one.id] = one.attempt
                self.launched[one.id] = self.launched.get(one.id, 0) + 1
                self.check_needs(one.id)
                self.check_locks(one.id)
                limit = self.state.manifest.spec.parallelism
                assert limit is None or len({*self.running, *self.recovering}) <= limit
            elif isinstance(one, nouns.Recover):
                self.recovering[one.id] = one.attempt

    def check_needs(self, leaf: str) -> None:
        node = self.state.nodes[leaf]
        call = node.call
        if node.hook:
            assert node.owner is None or node.owner.begun
            return
        assert call is not None
        composite = node.parent.parent if node.parent is not None and node.parent.kind == "loop" else node.parent
        assert composite is not None
        for name in needs(call):
            before = composite.children[name]
            assert all(one.ended for one in (before, *before.hooks.values())), f"{leaf} started before {name} ended"

    def check_locks(self, leaf: str) -> None:
        """One that began and has not ended holds its mutexes, also while it waits for another attempt."""
        mine = set(self.state.nodes[leaf].mutexes)
        assert self.state.nodes[leaf].locked or not mine
        for other in self.state.nodes.values():
            if other.id != leaf and not other.ended and not other.past and other.fact.first is not None:
                assert mine.isdisjoint(other.mutexes), f"{leaf} and {other.id} hold the same mutex"

    def lock(self) -> None:
        """Give mutexes to those whose turn it is."""

        def over(who: Who) -> bool:
            return who[1] not in self.state.nodes or self.state.nodes[who[1]].ended

        for _, leaf in self.locks.given(over, lambda _: self.state.suspended):
            self.take(nouns.Locked(self.now, leaf))

    def act(self, draw: st.DrawFn) -> None:
        """Let one thing happen that could happen next."""
        self.now += 1
        choices = ["tick", "suspend" if not self.suspended and draw(st.integers(0, 9)) == 0 else "resume"]
        choices += ["grant"] if self.ready else []
        choices += ["lock"]
        choices += ["exit"] * 3 if self.running else []
        losable = [leaf for leaf in sorted(self.running) if self._may_lose(leaf)]
        choices += ["lose"] if losable else []
        choices += ["stale"] if self.launched else []
        choices += ["recover"] * 4 if self.recovering else []
        choices += ["crash", "cancel" if self.harsh else "crash"] if draw(st.integers(0, 15)) == 0 else []
        what = draw(st.sampled_from(choices))
        if what == "grant":
            self.take(nouns.Grant(self.now, self.ready.pop(draw(st.integers(0, len(self.ready) - 1)))))
        elif what == "lock":
            self.lock()
        elif what == "exit":
            leaf = draw(st.sampled_from(sorted(self.running)))
            self.exit(leaf, self.running.pop(leaf))
        elif what == "lose":
            leaf = draw(st.sampled_from(losable))
            self.take(nouns.Lost(self.now, leaf, self.running.pop(leaf)))
        elif what == "stale":
            leaf = draw(st.sampled_from(sorted(self.launched)))
            self.take(nouns.Exited(self.now, leaf, 99, nouns.Outcome(True)))
        elif what == "recover":
            leaf, attempt = self.recovering.popitem()
            self.recover(leaf, attempt, lost=self._may_lose(leaf) and draw(st.booleans()))
        elif what == "suspend":
            self.hold(suspended=True)
        elif what == "resume":
            self.hold(suspended=False)
        elif what == "cancel":
            exits = draw(st.booleans()) and (self.stop is None or self.stop.on_exit)
            self.stop = nouns.Cancel(self.now, on_exit=exits)
            self.take(self.stop)
        elif what == "crash":
            facts = {key: fact.as_dict() for key, fact in self.state.facts.items() if fact.as_dict()}
            self.state = fresh(self.state.spec.manifest, facts)
            self.state.kept = self.kept
            self.state.suspended, self.state.resumed = self.suspended, self.resumed
            self.ready, self.running, self.recovering, self.locks = [], {}, {}, Locks()
            self.take(nouns.Begin(self.now))
            if self.stop is not None:
                self.take(self.stop)
        else:
            self.take(nouns.Tick(self.now + 1000))

    def exit(self, leaf: str, attempt: int) -> None:
        """Let an attempt end as the script says."""
        outcome = self.script(self.state.nodes[leaf].path, self.state.facts[leaf].tries)
        if outcome.ok:
            self.succeeded.add(leaf)
        self.take(nouns.Exited(self.now, leaf, attempt, outcome))

    def recover(self, leaf: str, attempt: int, *, lost: bool) -> None:
        """Say what became of an attempt of an engine that died: its outputs tell, or it is lost."""
        if lost:
            self.take(nouns.Lost(self.now, leaf, attempt))
        else:
            self.exit(leaf, attempt)

    def _may_lose(self, leaf: str) -> bool:
        return self.harsh or self.state.facts[leaf].lost < MOST_LOST

    def live(self, draw: st.DrawFn, surprises: int) -> None:
        """Let so many things happen in any order, then what is left of it without any more trouble."""
        for _ in range(surprises):
            if self.state.finished:
                return
            self.act(draw)
        for _ in range(1000):
            if self.state.finished:
                return
            self._calmly()
        raise AssertionError("it does not end")

    def _calmly(self) -> None:
        self.now += 1
        self.hold(suspended=False)
        self.take(nouns.Tick(self.now + 1000))
        while self.recovering:
            leaf, attempt = self.recovering.popitem()
            self.recover(leaf, attempt, lost=False)
        self.lock()
        while self.ready:
            self.take(nouns.Grant(self.now, self.ready.pop()))
        for leaf, attempt in list(self.running.items()):
            del self.running[leaf]
            self.exit(leaf, attempt)

    def hold(self, *, suspended: bool) -> None:
        self.suspended = suspended
        self.resumed = self.resumed if suspended else self.now
        self.take(nouns.Hold(self.now, suspended, self.resumed))
        paused = [one for one in self.state.nodes.values() if one.kind == "suspend" and not one.ended]
        assert suspended or not [one for one in paused if one.fact.started is not None and one.since < self.now]
