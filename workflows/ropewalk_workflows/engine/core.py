"""The engine's decisions: `step(state, event) -> (state, actions)`. No clock, no file, no process.

The state belongs to the caller and is changed in place; the same events give the same actions. What became different
is noted in ``state.changed`` and must be durable before any `Launch` is carried out. Rejected: deciding anew over the
whole graph at each event (a fan-out of ten thousand would be quadratic); an ended node tells only those that wait.
"""

from __future__ import annotations

from collections import deque

from ropewalk_workflows.engine import calls, scope
from ropewalk_workflows.engine.state import (
    Action,
    Begin,
    Cancel,
    End,
    Event,
    Exited,
    Fact,
    Grant,
    Launch,
    Node,
    Outcome,
    Phase,
    Ready,
    Recover,
    RunState,
    Tick,
    Wake,
    node_id,
)
from ropewalk_workflows.manifest import text
from ropewalk_workflows.manifest.calls import calls_of, needs
from ropewalk_workflows.manifest.model import Arguments, Call, Template

MOST_LOST = 3
ROOT = "-main"
"""Identifier of the entry; no path gives it."""
_FOREVER = 100
_LONGEST_WAIT = 30 * 86400.0
_MOST_NODES = 50_000


def step(state: RunState, event: Event) -> tuple[RunState, list[Action]]:
    """Take one event in and return what to do."""
    actions = _Step(state, event.now).take(event)
    return state, actions


class _Step:
    def __init__(self, state: RunState, now: float) -> None:
        self.state, self.now = state, now
        self.actions: list[Action] = []
        self.ended: deque[Node] = deque()

    def take(self, event: Event) -> list[Action]:
        if isinstance(event, Begin):
            self._begin()
        elif isinstance(event, Cancel):
            self._stop("cancel")
        elif isinstance(event, Tick):
            self._tick()
        elif (node := self.state.nodes.get(event.id)) is not None and not node.ended:
            if isinstance(event, Grant):
                self._grant(node)
            elif node.fact.running and node.fact.attempt == event.attempt:
                self._exited(node, event.outcome) if isinstance(event, Exited) else self._lost(node)
        self._tell()
        self._settle()
        return self.actions

    def _tell(self) -> None:
        """Tell parents which children have ended; a queue, because a long chain would overflow the stack."""
        while self.ended:
            node = self.ended.popleft()
            if node.parent is not None and not node.parent.ended:
                self._child_ended(node.parent, node)

    # The run

    def _begin(self) -> None:
        state = self.state
        state.started = state.started or self.now
        if (limit := state.manifest.spec.active_deadline_seconds) is not None:
            self.actions.append(Wake(state.started + limit))
        template = state.manifest.template(state.manifest.spec.entrypoint)
        path = template.name if template.program else ""
        state.root = self._make(path, template.name, template, None, ())
        self._enter(state.root, state.manifest.spec.arguments, None)

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
                self._finish(node, "Succeeded")
            else:
                self._offer(node)

    def _stop(self, why: str) -> None:
        state = self.state
        if state.finished or state.stopping:
            return
        state.stopping = "cancel" if why == "cancel" else "time"
        state.held.clear()
        for node in list(state.nodes.values()):
            if node.ended or node.kind not in ("pod", "suspend"):
                continue
            if node.fact.running:
                self.actions.append(End(node.id, node.fact.attempt))
            else:
                self._finish(node, "Omitted", note="stopped")

    def _settle(self) -> None:
        """End the run once its tree has ended, after its exit handler."""
        state = self.state
        if state.finished or state.root is None or not state.root.ended:
            return
        if not state.phase:
            state.phase = "Failed" if state.stopping == "time" else state.root.phase
        name = state.manifest.spec.on_exit
        if name and not state.stopping and state.exit is None:
            template = state.manifest.template(name)
            state.exit = self._make("onExit", "onExit", template, None, ())
            self._enter(state.exit, None, None)
            self._tell()
        if state.exit is not None and not state.exit.ended:
            return
        if state.exit is not None and state.exit.phase in ("Failed", "Error") and state.phase == "Succeeded":
            state.phase = state.exit.phase
        state.finished = True

    # Nodes

    def _make(self, path: str, name: str, template: Template, parent: Node | None, upstream: tuple[str, ...]) -> Node:
        node = Node(
            id=node_id(path) if path else ROOT,
            path=path,
            name=name,
            kind="pod" if template.program else template.kind,  # type: ignore[arg-type]
            template=template,
            parent=parent,
            upstream=upstream,
            since=self.now,
            order=len(self.state.nodes),
        )
        self.state.nodes[node.id] = node
        self.state.changed.add(node.id)
        return node

    def _enter(self, node: Node, arguments: Arguments | None, outer: Node | None) -> None:
        """Give a node its inputs, as they are known in the composite around it, and start it."""
        try:
            calls.supply(self.state, node, arguments or Arguments(), scope.Scope(self.state, outer, node.item))
        except text.BadText as error:
            self._fail(node, f"The inputs of '{node.name}' cannot be made: {error}.")
            return
        assert node.template is not None
        if node.kind == "pod":
            self._leaf(node)
        elif node.kind == "suspend":
            self._pause(node)
        elif not self._room(node, sum(1 for _ in calls_of(node.template))):
            return
        elif node.kind == "dag":
            self._open_dag(node)
        else:
            self._open_group(node)

    def _leaf(self, node: Node) -> None:
        node.fact = self.state.facts.setdefault(node.id, Fact())
        fact = node.fact
        if fact.phase:
            node.outputs, node.out_files = dict(fact.parameters), dict(fact.artifacts)
            self._finish(node, fact.phase)
        elif fact.running:
            self.state.running += 1
            self.actions.append(Recover(node.id, fact.attempt))
        elif fact.again is not None:
            self.actions.append(Wake(fact.again))
        elif self.state.stopping:
            self._finish(node, "Omitted", note="stopped")
        else:
            self._offer(node)

    def _pause(self, node: Node) -> None:
        node.fact = self.state.facts.setdefault(node.id, Fact())
        if node.fact.phase:
            self._finish(node, node.fact.phase)
            return
        assert node.template is not None and node.template.suspend is not None
        if node.fact.again is None:
            node.fact.again = self.now + text.duration(node.template.suspend.duration or "0")
            node.fact.started = self.now
        self.actions.append(Wake(node.fact.again))

    # Attempts

    def _offer(self, node: Node) -> None:
        limit = self.state.manifest.spec.parallelism
        if limit is not None and self.state.running >= limit:
            self.state.held.append(node.id)
            return
        if not node.ready:
            node.ready = True
            self.state.running += 1
            self.state.changed.add(node.id)
            self.actions.append(Ready(node.id))

    def _release(self, node: Node) -> None:
        node.ready = False
        self.state.running -= 1
        while self.state.held and (self.state.manifest.spec.parallelism or 0) > self.state.running:
            held = self.state.nodes[self.state.held.pop(0)]
            if not held.ended:
                self._offer(held)

    def _grant(self, node: Node) -> None:
        fact = node.fact
        if fact.running or not node.ready:
            return
        fact.attempt += 1
        fact.running, fact.started, fact.ended = True, self.now, None
        fact.first = fact.first or self.now
        node.since = self.now
        self.state.changed.add(node.id)
        self.actions.append(Launch(node.id, fact.attempt))

    def _exited(self, node: Node, outcome: Outcome) -> None:
        fact = node.fact
        fact.running, fact.ended, fact.lost = False, self.now, 0
        fact.error, fact.problem, fact.traceback = outcome.error, outcome.problem, outcome.traceback
        fact.hint, fact.peak = outcome.hint, outcome.peak
        self._release(node)
        if outcome.ok:
            fact.parameters, fact.artifacts = dict(outcome.parameters), dict(outcome.artifacts)
            node.outputs, node.out_files = dict(outcome.parameters), dict(outcome.artifacts)
            self._finish(node, "Succeeded")
            return
        phase: Phase = "Error" if outcome.is_error else "Failed"
        if self.state.stopping:
            self._finish(node, "Omitted", note="stopped")
        elif (wait := self._another(node, phase)) is not None:
            fact.tries += 1
            fact.again = self.now + wait
            node.since = self.now
            self.state.changed.add(node.id)
            self.actions.append(Wake(fact.again))
        else:
            self._finish(node, phase)

    def _another(self, node: Node, phase: Phase) -> float | None:
        """Return how long to wait before another attempt, or None when there is none."""
        retry = node.template.retry_strategy if node.template else None
        if retry is None or (retry.retry_policy == "OnFailure" and phase == "Error"):
            return None
        if retry.retry_policy in ("OnError", "OnTransientError") and phase != "Error":
            return None
        if node.fact.tries >= (int(retry.limit) if retry.limit is not None else _FOREVER):
            return None
        backoff = retry.backoff
        if backoff is None or backoff.duration is None:
            return 0.0
        wait = min(text.duration(backoff.duration) * float(backoff.factor or 1) ** node.fact.tries, _LONGEST_WAIT)
        if backoff.cap is not None:
            wait = min(wait, text.duration(backoff.cap))
        first = node.fact.first if node.fact.first is not None else self.now
        if backoff.max_duration is not None and self.now + wait - first > text.duration(backoff.max_duration):
            return None
        return wait

    def _lost(self, node: Node) -> None:
        fact = node.fact
        fact.running, fact.ended = False, self.now
        fact.lost += 1
        self._release(node)
        if self.state.stopping:
            self._finish(node, "Omitted", note="stopped")
        elif fact.lost > MOST_LOST:
            fact.problem = "RW-UNAVAILABLE"
            self._fail(node, f"The platform lost this step {fact.lost} times in a row.")
        else:
            node.since = self.now
            self.state.changed.add(node.id)
            self._offer(node)

    def _fail(self, node: Node, error: str) -> None:
        node.fact.error = node.fact.error or error
        self._finish(node, "Error")

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
        child = self._make(path, name, template, parent, tuple(before) or parent.upstream)
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
        over = (self.state.stopping or parent.doomed) and node.id not in self.state.begun
        if over or not calls.wanted(parent, call):
            self._finish(node, "Omitted", note="stopped" if self.state.stopping else "")
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
                self._finish(node, "Skipped", note="its condition did not hold")
                return
        except text.BadText as error:
            self._fail(node, f"The condition of '{node.name}' cannot be decided: {error}.")
            return
        self._enter(node, call.arguments, outer)

    def _loop(self, node: Node) -> None:
        parent, call = node.parent, node.call
        assert parent is not None and call is not None and node.template is not None
        try:
            items = calls.items(call, scope.Scope(self.state, parent))
        except text.BadText as error:
            self._fail(node, f"'{node.name}' cannot fan out: {error}.")
            return
        if not items:
            self._finish(node, "Skipped", note="there was nothing to fan out over")
            return
        if not self._room(node, len(items)):
            return
        node.open = len(items)
        made = []
        for index, item in enumerate(items):
            child = self._make(f"{node.path}({index})", f"{node.name}({index})", node.template, node, node.upstream)
            child.call, child.item = call, text.item_values(item)
            node.children[str(index)] = child
            made.append(child)
        for child in made:
            self._one(child, parent)

    def _room(self, node: Node, more: int) -> bool:
        """Say whether the run may have so many more nodes; else this one fails: loops in loops multiply."""
        if len(self.state.nodes) + more <= _MOST_NODES:
            return True
        self._fail(node, f"'{node.name}' would give the run more than {_MOST_NODES:,} steps.")
        return False

    # Ends

    def _finish(self, node: Node, phase: Phase, *, note: str = "") -> None:
        if node.ended:
            return
        node.phase, node.note, node.since = phase, note or node.note, self.now
        if node.ready and not node.fact.running:
            self._release(node)
        if node.kind in ("pod", "suspend") or phase in ("Error", "Skipped", "Omitted"):
            if phase != "Omitted":  # what was left out is decided anew after a retry
                self.state.facts[node.id] = node.fact
                node.fact.phase = phase
                node.fact.again = None
                node.fact.ended = node.fact.ended or self.now
            for child in node.children.values():
                self._finish(child, "Omitted", note=note)
        if (
            phase in ("Failed", "Error")
            and not self.state.failed_step
            and node.kind in ("pod", "none", "suspend", "loop")
        ):
            self.state.failed_step = node.id
        self.state.changed.add(node.id)
        if node.kind == "pod" and phase == "Succeeded":
            self._keep(node)
        self.ended.append(node)

    def _keep(self, node: Node) -> None:
        """Note under which keys a step's artifacts lie, for those who read them by key."""
        assert node.template is not None
        own = scope.Scope(self.state, node)
        for one in node.template.outputs.artifacts:
            if one.s3 is not None and one.name in node.out_files:
                folder, _, last = own.fill(one.s3.key).rpartition("/")
                self.state.keys.setdefault(folder, {})[last] = node.out_files[one.name]

    def _child_ended(self, parent: Node, child: Node) -> None:
        parent.open -= 1
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
        if self.state.stopping and any(one.note == "stopped" for one in node.children.values()):
            self._finish(node, "Omitted", note="stopped")
            return
        failed = calls.failure(node)
        if failed:
            self._finish(node, failed)
            return
        try:
            calls.collect(self.state, node)
        except text.BadText as error:
            self._fail(node, f"The outputs of '{node.name}' cannot be made: {error}.")
            return
        self._finish(node, "Succeeded")


def _fails_fast(node: Node) -> bool:
    return bool(node.template and node.template.dag and node.template.dag.fail_fast)
