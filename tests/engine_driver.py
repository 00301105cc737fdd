"""A run of the pure engine, driven by hand: which step ends how, and when. No process, no file, no clock."""

from __future__ import annotations

from typing import Any

from ropewalk_core.flows import RunSpec
from ropewalk_workflows.engine import state as nouns
from ropewalk_workflows.engine.core import step
from ropewalk_workflows.engine.state import RunState
from ropewalk_workflows.manifest import read

IMAGES = {"python": "python"}
PROGRAM = {"image": "python", "command": ["x"]}


def fresh(given: dict[str, Any], facts: dict[str, nouns.Fact] | None = None) -> RunState:
    found = RunState(run="run-1", owner="alice", spec=RunSpec(name="x", manifest=given), manifest=read(given, IMAGES))
    found.facts = {key: nouns.Fact(**one.as_dict()) for key, one in (facts or {}).items()}
    return found


class Driver:
    """Carries out what the engine wants, as told; each step by its path."""

    def __init__(self, given: dict[str, Any], facts: dict[str, nouns.Fact] | None = None) -> None:
        self.state, self.now, self.began, self.wakes = fresh(given, facts), 10.0, list[str](), list[float]()
        self.take(nouns.Begin(self.now))

    def take(self, event: nouns.Event) -> None:
        for one in step(self.state, event)[1]:
            if isinstance(one, nouns.Ready):
                self.began.append(self.state.nodes[one.id].path)
            elif isinstance(one, nouns.Wake):
                self.wakes.append(one.at)

    def end(self, path: str, *, ok: bool = True, code: int = 0, parameters: dict[str, str] | None = None) -> None:
        node = self.node(path)
        self.now += 1
        self.take(nouns.Grant(self.now, node.id))
        self.now += 1
        outcome = nouns.Outcome(ok, parameters=parameters or {}, error="" if ok else "no", code=code)
        self.take(nouns.Exited(self.now, node.id, node.fact.attempt, outcome))

    def wait(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.take(nouns.Tick(self.now))

    def phase(self, path: str) -> str:
        return self.node(path).phase

    def node(self, path: str) -> nouns.Node:
        return next(one for one in self.state.nodes.values() if one.path == path)

    def again(self) -> Driver:
        """Return another engine's view of the same run."""
        return Driver(self.state.spec.manifest, self.state.facts)
