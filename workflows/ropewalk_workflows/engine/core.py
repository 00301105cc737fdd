"""The engine's decisions: `step(state, event) -> (state, actions)`. No clock, no file, no process.

The state belongs to the caller and is changed in place; the same events give the same actions. What became different
is noted in ``state.changed`` and must be durable before any `Launch` is carried out. Rejected: deciding anew over the
whole graph at each event (a fan-out of ten thousand would be quadratic); an ended node tells only those that wait.
"""

from __future__ import annotations

from typing import Literal

from ropewalk_workflows.engine import calls, scope
from ropewalk_workflows.engine.hooks import Hooks
from ropewalk_workflows.engine.leaves import path_of
from ropewalk_workflows.engine.state import (
    STOPPED,
    Action,
    Answer,
    Begin,
    Cancel,
    End,
    Event,
    Exited,
    Grant,
    Hold,
    Locked,
    Node,
    Ready,
    RunState,
    Tick,
    Wake,
)
from ropewalk_workflows.manifest import text
from ropewalk_workflows.manifest.calls import calls_of, needs
from ropewalk_workflows.manifest.model import Arguments, Call

_MOST_NODES = 50_000


def step(state: RunState, event: Event) -> tuple[RunState, list[Action]]:
    """Take one event in and return what to do."""
    actions = _Step(state, event.now).take(event)
    return state, actions


class _Step(Hooks):
    def take(self, event: Event) -> list[Action]:
        if isinstance(event, Begin):
            self._begin()
        elif isinstance(event, Cancel):
            self._stop("exit" if event.on_exit else "cancel")
        elif isinstance(event, Tick):
            self._tick()
        elif isinstance(event, Hold):
            self._hold(event)
        elif (node := self.state.nodes.get(event.id)) is not None and not node.ended:
            if isinstance(event, Grant):
                self.grant(node)
            elif isinstance(event, Locked):
                self.locked(node)
            elif isinstance(event, Answer):
                self.answered(node, event)
            elif node.fact.running and node.fact.attempt == event.attempt:
                self.exited(node, event.outcome) if isinstance(event, Exited) else self.lost(node)
        self._tell()
        self._settle()
        return self.actions

    def _tell(self) -> None:
        """Tell parents which children have ended; a queue, because a long chain would overflow the stack."""
        while self.ended:
            node = self.ended.popleft()
            if node.owner is None:
                self.follow(node)
            node = node.owner or node
            if node.told or not node.closed or any(not one.ended for one in node.hooks.values()):
                continue
            node.told = True
            if node.parent is not None and not node.parent.ended:
                self._child_ended(node.parent, node)

    # The run

    def _begin(self) -> None:
        state = self.state
        state.started = state.started or self.now
        state.running = sum(one.running for one in state.facts.values())  # before others are offered their places
        if (limit := state.manifest.spec.active_deadline_seconds) is not None:
            self.actions.append(Wake(state.started + limit))
        template = state.manifest.template(state.manifest.spec.entrypoint)
        state.root = self.make(path_of(template), template.name, template, None, ())
        self.enter(state.root, state.manifest.spec.arguments, None)
        self.of_the_run()

    def _tick(self) -> None:
        limit = self.state.manifest.spec.active_deadline_seconds
        if limit is not None and self.now >= self.state.started + limit and not self.state.phase:
            self.state.cause = f"The workflow took longer than its {limit} seconds."
            self._stop("time")
        for node in list(self.state.nodes.values()):
            if node.ended or node.fact.again is None or self.now < node.fact.again:
                continue
            node.fact.again = None
            if node.kind == "suspend":
                self.finish(node, "Succeeded")
            elif node.kind == "retry":
                self.attempt(node)
            else:
                self.offer(node)

    def _hold(self, event: Hold) -> None:
        """Start no more leaves, or those that waited for that; to resume ends every pause too."""
        state = self.state
        state.suspended, again = event.suspended, event.resumed > state.resumed
        state.resumed = max(state.resumed, event.resumed)
        if not state.suspended:
            self.actions += [Ready(one) for one in state.suspends if not state.nodes[one].ended]
            state.suspends.clear()
        for node in list(state.nodes.values()) if again else ():
            if node.kind == "suspend" and not node.ended and node.fact.started is not None:
                self.finish(node, "Succeeded")

    def _stop(self, why: Literal["cancel", "exit", "time"]) -> None:
        """Have the run end; exit handlers that still ran then end too if the person does not want them any more."""
        state = self.state
        if state.finished or (state.stopping and (state.stopping, why) != ("exit", "cancel")):
            return
        state.stopping = why
        state.held = [one for one in state.held if not state.ends(state.nodes[one])]
        for node in list(state.nodes.values()):
            if (
                node.ended
                or not state.ends(node)
                or not (node.kind in ("pod", "suspend") or node.fact.again is not None)
            ):
                continue
            if node.fact.running:
                self.actions.append(End(node.id, node.fact.attempt))
            else:
                self.stopped(node)

    def _settle(self) -> None:
        """End the run once its tree has ended, after its hooks and then its exit handler."""
        state = self.state
        if state.finished or state.root is None or not state.root.ended:
            return
        if not state.phase:
            late = state.stopping == "time" or (state.stopping == "exit" and state.root.phase != "Succeeded")
            state.phase = "Failed" if late else state.root.phase
        if not state.stopping:
            self.of_the_run()
            self._tell()
        if any(not one.ended for one in state.hooks.values()):
            return
        if state.stopping in ("", "exit"):
            self.last()
            self._tell()
        if state.exit is not None and not state.exit.ended:
            return
        if state.exit is not None and state.exit.phase in ("Failed", "Error") and state.phase == "Succeeded":
            state.phase, state.failed_step = state.exit.phase, state.failed_last
        state.finished = True

    # Nodes

    def enter(self, node: Node, arguments: Arguments | None, outer: Node | None) -> None:
        """Give a node its inputs, as they are known in the composite around it, and start it."""
        try:
            calls.supply(self.state, node, arguments or Arguments(), scope.Scope(self.state, outer, node.item))
        except text.BadText as error:
            self.fail(node, f"The inputs of '{node.name}' cannot be made: {error}.")
            return
        assert node.template is not None
        if node.kind == "pod":
            self.leaf(node)
        elif node.kind == "suspend":
            self.pause(node)
        elif node.kind == "retry":
            self.begins(node)
            self.retry(node)
        else:
            self.begins(node)
            self.open(node)

    def open(self, node: Node) -> None:
        """Begin a composite that has its inputs."""
        assert node.template is not None
        if not self._room(node, sum(1 + len(one.hooks) for one in calls_of(node.template))):
            return
        if node.kind == "dag":
            self._open_dag(node)
        else:
            self._open_group(node)

    # Composites

    def _open_dag(self, node: Node) -> None:
        assert node.template is not None and node.template.dag is not None
        tasks = node.template.dag.tasks
        node.open = len(tasks)
        node.after = {one.name: [] for one in tasks}
        for one in tasks:
            needed = needs(one)
            node.blocked[one.name] = len(needed)
            for before in needed:
                node.after[before].append(one.name)
        for one in tasks:
            self._child(node, one)
        for one in [one for one in tasks if not node.blocked[one.name]]:
            self._try(node.children[one.name])

    def _open_group(self, node: Node) -> None:
        assert node.template is not None and node.template.steps is not None
        group = node.template.steps[node.group]
        node.open = len(group)
        for one in group:
            self._child(node, one)
        for one in group:
            self._try(node.children[one.name])

    def _child(self, parent: Node, call: Call) -> Node:
        template = self.state.manifest.template(call.template)
        before = [parent.children[one].id for one in needs(call) if one in parent.children]
        if parent.kind == "steps" and parent.group and parent.template and parent.template.steps:
            before = [parent.children[one.name].id for one in parent.template.steps[parent.group - 1]]
        path = f"{parent.path}/{call.name}" if parent.path else call.name
        name = calls.display(call, template, parent)
        child = self.make(path, name, template, parent, tuple(before) or parent.upstream)
        child.call = call
        if calls.loops(call):
            child.kind = "loop"
        parent.children[call.name] = child
        return child

    def _try(self, node: Node) -> None:
        """Start a call whose needs have ended, or leave it out."""
        parent, call = node.parent, node.call
        assert parent is not None and call is not None
        if node.ended:
            return
        ends = self.state.ends(node)
        over = (ends or parent.doomed) and node.id not in self.state.begun
        if over or not calls.wanted(parent, call):
            self.finish(node, "Omitted", note=STOPPED if ends else "")
            return
        node.since = self.now
        if node.kind == "loop":
            self._loop(node)
            return
        self._one(node, parent)

    def _one(self, node: Node, outer: Node) -> None:
        call = node.call
        assert call is not None
        try:
            if call.when is not None and not text.is_true(call.when, scope.Scope(self.state, outer, node.item)):
                self.finish(node, "Skipped", note="its condition did not hold")
                return
        except text.BadText as error:
            self.fail(node, f"The condition of '{node.name}' cannot be decided: {error}.")
            return
        self.enter(node, call.arguments, outer)

    def _loop(self, node: Node) -> None:
        parent, call = node.parent, node.call
        assert parent is not None and call is not None and node.template is not None
        try:
            items = calls.items(call, scope.Scope(self.state, parent))
        except text.BadText as error:
            self.fail(node, f"'{node.name}' cannot fan out: {error}.")
            return
        if not items:
            self.finish(node, "Skipped", note="there was nothing to fan out over")
            return
        if not self._room(node, len(items)):
            return
        node.open = len(items)
        made = []
        for index, item in enumerate(items):
            child = self.make(f"{node.path}({index})", f"{node.name}({index})", node.template, node, node.upstream)
            child.call, child.item = call, text.item_values(item)
            node.children[str(index)] = child
            made.append(child)
        for child in made:
            self._one(child, parent)

    def _room(self, node: Node, more: int) -> bool:
        """Say whether the run may have so many more nodes; else this one fails: loops in loops multiply."""
        if len(self.state.nodes) + more <= _MOST_NODES:
            return True
        self.fail(node, f"'{node.name}' would give the run more than {_MOST_NODES:,} steps.")
        return False

    # Ends

    def _child_ended(self, parent: Node, child: Node) -> None:
        parent.open -= 1
        if parent.kind == "retry":
            self.attempt_ended(parent, child)
            return
        if parent.kind == "dag":
            assert child.call is not None
            if child.failed and not parent.after[child.call.name] and _fails_fast(parent):
                parent.doomed = True
            if child.phase == "Omitted" and not parent.after[child.call.name] and calls.branch_failed(parent, child):
                parent.doomed = _fails_fast(parent)
            for name in parent.after[child.call.name]:
                parent.blocked[name] -= 1
                if not parent.blocked[name]:
                    self._try(parent.children[name])
        if parent.open > 0 or parent.ended:
            return
        if parent.kind == "steps" and parent.template and parent.template.steps:
            members = [parent.children[one.name] for one in parent.template.steps[parent.group]]
            if not any(one.failed for one in members) and parent.group + 1 < len(parent.template.steps):
                parent.group += 1
                self._open_group(parent)
                return
        self._close(parent)

    def _close(self, node: Node) -> None:
        if stopped := [one.phase for one in node.children.values() if one.note == STOPPED]:
            self.finish(node, "Failed" if "Failed" in stopped else "Omitted", note=STOPPED)
            return
        failed = calls.failure(node)
        if failed:
            self.finish(node, failed)
            return
        try:
            calls.collect(self.state, node)
        except text.BadText as error:
            self.fail(node, f"The outputs of '{node.name}' cannot be made: {error}.")
            return
        self.finish(node, "Succeeded")


def _fails_fast(node: Node) -> bool:
    return bool(node.template and node.template.dag and node.template.dag.fail_fast)
