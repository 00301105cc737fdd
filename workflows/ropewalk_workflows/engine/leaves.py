"""What happens to a leaf: it is offered, an attempt begins, ends or is lost; and how any node is made and ends.

Pure, and the lower half of ``core``: an ended node goes into a queue, so nothing here looks at what waits for it.
"""

from __future__ import annotations

from collections import deque

from ropewalk_workflows.engine import memo, scope
from ropewalk_workflows.engine.state import (
    STOPPED,
    Action,
    Answer,
    Fact,
    Kind,
    Launch,
    Lock,
    Node,
    Outcome,
    Phase,
    Ready,
    Recover,
    RunState,
    Wake,
    node_id,
)
from ropewalk_workflows.manifest import text
from ropewalk_workflows.manifest.model import Template

MOST_LOST = 3
_FOREVER = 100
_LONGEST_WAIT = 30 * 86400.0
ROOT = "-main"
"""Identifier of the entry; no path gives it."""


class Leaves:
    """The leaves of a run while one event is taken in."""

    def __init__(self, state: RunState, now: float) -> None:
        self.state, self.now = state, now
        self.actions: list[Action] = []
        self.ended: deque[Node] = deque()

    def make(self, path: str, name: str, template: Template, parent: Node | None, upstream: tuple[str, ...]) -> Node:
        """Add a node to the tree."""
        node = Node(
            id=node_id(path) if path else ROOT,
            path=path,
            name=name,
            kind=kind_of(template),
            template=template,
            parent=parent,
            upstream=upstream,
            since=self.now,
            order=len(self.state.nodes),
            past=parent is not None and parent.past,
            hook=parent.hook if parent is not None else "",
            exits=parent is not None and parent.exits,
        )
        self.state.nodes[node.id] = node
        self.state.changed.add(node.id)
        return node

    def begins(self, node: Node) -> None:
        """Tell those above that a node runs from now on."""
        raise NotImplementedError

    def known(self, node: Node) -> Fact:
        """Give a node that has one its fact."""
        node.fact = self.state.facts.setdefault(node.id, Fact())
        node.fact.hook = node.hook
        return node.fact

    def leaf(self, node: Node) -> None:
        """Take up a leaf that has its inputs: as its fact says, or anew."""
        fact = self.known(node)
        memo.begin(self.state, node)
        if fact.attempt or (node.template is not None and node.template.retry_strategy is not None):
            self.begins(node)
        if fact.phase:
            self._end_as(node, fact.phase)
        elif fact.first is not None and not node.past and not self._has_locks(node):
            return
        elif fact.running:
            self.actions.append(Recover(node.id, fact.attempt))
        elif fact.again is not None:
            self.actions.append(Wake(fact.again))
        elif self.state.ends(node):
            self.finish(node, "Omitted", note=STOPPED)
        elif node.past:
            self.finish(node, "Omitted")
        elif (earlier := memo.found(self.state, node, self.now)) is not None:
            memo.take(fact, earlier)
            fact.started = self.now
            self._end_as(node, "Succeeded")
        else:
            self.offer(node)

    def pause(self, node: Node) -> None:
        """Take up a pause, which goes on where it was."""
        self.known(node)
        if node.fact.started is not None or not node.past:
            self.begins(node)
        if node.fact.phase:
            self.finish(node, node.fact.phase)
            return
        if node.past:
            self.finish(node, "Omitted")
            return
        assert node.template is not None and node.template.suspend is not None
        if node.fact.started is None and self.state.elsewhere:
            return
        if node.fact.started is None:
            node.fact.started = self.now
            if node.template.suspend.duration is not None:
                node.fact.again = self.now + text.duration(node.template.suspend.duration)
        if node.fact.started <= self.state.resumed:  # the engine was killed before it could say so
            self.finish(node, "Succeeded")
        elif node.fact.again is not None:
            self.actions.append(Wake(node.fact.again))

    def answered(self, node: Node, event: Answer) -> None:
        """End a pause that stands, as somebody said."""
        if node.kind == "suspend" and node.fact.started is not None:
            node.fact.said = event.message
            node.fact.error = "" if event.ok else event.message or "Somebody ended this pause as failed."
            self.finish(node, "Succeeded" if event.ok else "Failed")

    def offer(self, node: Node) -> None:
        """Say that a leaf may run, or hold it while it has no lock or the workflow's own parallelism is used up.

        Locks come first: a leaf that waits for one takes nobody's place, so those that hold one always get theirs.
        """
        if not self._has_locks(node):
            return
        limit = self.state.manifest.spec.parallelism
        if limit is not None and self.state.running >= limit:
            self.state.held.append(node.id)
            return
        if not node.ready:
            node.ready = True
            self.state.running += 1
            self.state.changed.add(node.id)
            self.actions.append(Ready(node.id))

    def _has_locks(self, node: Node) -> bool:
        """Say whether a leaf holds the mutexes that its template names; if it never asked, it does so now.

        One that began and has not ended holds them still: that is durable, so it is also known after a restart.
        """
        if node.locked or node.template is None or not node.template.mutexes or self.state.elsewhere:
            return True
        if node.mutexes:
            return False
        try:
            own = scope.Scope(self.state, node)
            node.mutexes = tuple(sorted({own.fill(one) for one in node.template.mutexes}))
        except text.BadText as error:
            self.fail(node, f"The mutexes of '{node.name}' cannot be named: {error}.")
            return False
        node.locked = node.fact.first is not None
        self.state.changed.add(node.id)
        self.actions.append(Lock(node.id))
        return node.locked

    def locked(self, node: Node) -> None:
        """Go on with a leaf that has its mutexes."""
        if node.mutexes and not node.locked:
            node.locked, node.since = True, self.now
            self.state.changed.add(node.id)
            self.offer(node)

    def _release(self, node: Node) -> None:
        node.ready = False
        self.state.running -= 1
        while self.state.held and (self.state.manifest.spec.parallelism or 0) > self.state.running:
            held = self.state.nodes[self.state.held.pop(0)]
            if not held.ended:
                self.offer(held)

    def grant(self, node: Node) -> None:
        """Begin an attempt."""
        fact = node.fact
        if fact.running or not node.ready:
            return
        if self.state.suspended:
            self.state.suspends.append(node.id)
            return
        fact.attempt += 1
        fact.running, fact.started, fact.ended = True, self.now, None
        fact.first = fact.first or self.now
        node.since = self.now
        self.state.changed.add(node.id)
        self.actions.append(Launch(node.id, fact.attempt))
        self.begins(node)

    def exited(self, node: Node, outcome: Outcome) -> None:
        """Take in how an attempt ended."""
        fact = node.fact
        fact.running, fact.ended, fact.lost = False, self.now, 0
        fact.error, fact.problem, fact.traceback = outcome.error, outcome.problem, outcome.traceback
        fact.hint, fact.peak, fact.code = outcome.hint, outcome.peak, outcome.code
        fact.artifacts = dict(outcome.artifacts)
        self._release(node)
        if outcome.ok:
            fact.parameters = dict(outcome.parameters)
            memo.succeeded(node, self.now, outcome.touched)
            self._end_as(node, "Succeeded")
            return
        phase: Phase = "Error" if outcome.is_error else "Failed"
        if self.state.ends(node):
            self.stopped(node)
        else:
            self.again(node, phase)

    def _end_as(self, node: Node, phase: Phase) -> None:
        """End a leaf with what its fact says it gave."""
        node.outputs, node.out_files = dict(node.fact.parameters), dict(node.fact.artifacts)
        self.finish(node, phase)

    def again(self, node: Node, phase: Phase) -> None:
        """Plan another attempt, or end the node."""
        fact = node.fact
        try:
            wait = self._another(node, phase)
        except text.BadText as error:
            fact.error = f"Whether to try again cannot be decided: {error}."
            self.finish(node, "Error")
            return
        if wait is None:
            self._end_as(node, phase)
            return
        fact.tries += 1
        fact.again = self.now + wait
        node.since = self.now
        self.state.changed.add(node.id)
        self.actions.append(Wake(fact.again))

    def _another(self, node: Node, phase: Phase) -> float | None:
        """Return how long to wait before another attempt, or None when there is none."""
        retry = node.template.retry_strategy if node.template else None
        if retry is None or (retry.policy == "OnFailure" and phase == "Error"):
            return None
        if retry.policy in ("OnError", "OnTransientError") and phase != "Error":
            return None
        if node.fact.tries >= (int(retry.limit) if retry.limit is not None else _FOREVER):
            return None
        if retry.expression is not None and not text.holds(
            retry.expression, text.nested(scope.last_retry(node.fact, phase))
        ):
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

    def lost(self, node: Node) -> None:
        """Begin again, without counting it as a try, unless the platform lost it too often."""
        fact = node.fact
        fact.running, fact.ended = False, self.now
        fact.lost += 1
        self._release(node)
        if self.state.ends(node):
            self.stopped(node)
        elif fact.lost > MOST_LOST:
            fact.problem = "RW-UNAVAILABLE"
            self.fail(node, f"The platform lost this step {fact.lost} times in a row.")
        else:
            node.since = self.now
            self.state.changed.add(node.id)
            self.offer(node)

    def stopped(self, node: Node) -> None:
        """End a node because the run is to end; what had begun failed, so that its exit handler follows."""
        node.fact.stopped = self.state.stopping == "exit" and node.fact.started is not None
        self.finish(node, "Failed" if node.fact.stopped else "Omitted", note=STOPPED)

    def fail(self, node: Node, error: str) -> None:
        """End a node, of any kind, with an error of its own."""
        node.fact.error = node.fact.error or error
        self.finish(node, "Error")

    def finish(self, node: Node, phase: Phase, *, note: str = "") -> None:
        """End a node of any kind; its parent is told later."""
        if node.ended:
            return
        node.phase, node.note, node.since = phase, STOPPED if node.fact.stopped else note or node.note, self.now
        if node.ready and not node.fact.running:
            self._release(node)
        if node.kind in ("pod", "suspend", "retry") or phase in ("Error", "Skipped", "Omitted"):
            if phase != "Omitted":  # what was left out is decided anew after a retry
                self.state.facts[node.id] = node.fact
                node.fact.phase = phase
                node.fact.again = None
                node.fact.ended = node.fact.ended or self.now
            for child in node.children.values():
                self.finish(child, "Omitted", note=note)
        if phase in ("Failed", "Error") and node.kind in ("pod", "suspend", "loop"):
            self._note_failure(node)
        self.state.changed.add(node.id)
        if node.kind == "pod" and phase == "Succeeded":
            self._keep(node)
        self.ended.append(node)

    def _note_failure(self, node: Node) -> None:
        """Remember what failed first; that a hook fails changes the end of nothing, but for the run's last one."""
        if not node.hook:
            self.state.failed_step = self.state.failed_step or node.id
        elif node.hook == ROOT and node.path.startswith("onExit"):
            self.state.failed_last = self.state.failed_last or node.id

    def _keep(self, node: Node) -> None:
        """Note under which keys a step's artifacts lie, for those who read them by key."""
        assert node.template is not None
        own = scope.Scope(self.state, node)
        for one in node.template.outputs.artifacts:
            if one.s3 is not None and one.name in node.out_files:
                folder, _, last = own.fill(one.s3.key).rpartition("/")
                self.state.keys.setdefault(folder, {})[last] = node.out_files[one.name]


def kind_of(template: Template) -> Kind:
    """Return what a call of a template becomes; a composite that is tried again holds its attempts."""
    if template.program is not None:
        return "pod"
    if template.suspend is None and template.retry_strategy is not None:
        return "retry"
    return template.kind  # type: ignore[return-value]


def path_of(template: Template) -> str:
    """Return the path of the entry: none where it only holds the others, and has no fact of its own."""
    return template.name if kind_of(template) in ("pod", "retry") else ""
