"""A composite that is tried again: its attempts, one after another, as Argo's Retry node holds them. Pure.

The attempts are nodes of their own, so what an earlier one did stays to be seen. How many there were, and for what the
next one waits, is a fact; an attempt that another followed is grown from its facts and nothing in it runs again. What a
strategy says is decided where it is for leaves (``leaves``). After `processNodeRetries` and `executeTemplate` in Argo's
`workflow/controller/operator.go`. Rejected: trying the same nodes again, which would forget what they did.
"""

from __future__ import annotations

from ropewalk_workflows.engine import scope
from ropewalk_workflows.engine.leaves import Leaves
from ropewalk_workflows.engine.state import STOPPED, Kind, Node, Phase, Wake

_FIRST = {"exitCode": "0", "status": "", "duration": "0", "message": ""}
"""What Argo says of the attempt before the first one."""


class Retries(Leaves):
    """The composites of a run that are tried again, while one event is taken in."""

    def open(self, node: Node) -> None:
        """Begin a composite that has its inputs."""
        raise NotImplementedError

    def retry(self, node: Node) -> None:
        """Take up a composite with a strategy: as its fact says, or anew."""
        self.known(node)
        self.attempt(node)

    def attempt(self, node: Node) -> None:
        """Begin the next attempt, or take up one that began earlier."""
        number, template, fact = len(node.children), node.template, node.fact
        assert template is not None
        made = self.make(f"{node.path}({number})", f"{node.name}({number})", template, node, node.upstream)
        made.kind = _kind(node)
        made.inputs, made.files = node.inputs, node.files
        self.known(made)
        made.local = made.fact.parameters = made.fact.parameters or self._known(node, number)
        made.past = node.past or number + 1 < fact.attempt
        node.children[str(number)] = made
        node.open = 1
        if number + 1 > fact.attempt:
            fact.attempt, fact.started = number + 1, self.now
            fact.first = fact.first or self.now
            self.state.changed.add(node.id)
        self.open(made)

    def attempt_ended(self, node: Node, child: Node) -> None:
        """Take in how an attempt ended: the composite ends so too, or another attempt follows."""
        fact = node.fact
        if len(node.children) < fact.attempt:
            self.attempt(node)
        elif child.phase not in ("Failed", "Error"):
            node.outputs, node.out_files = child.outputs, child.out_files
            self.finish(node, child.phase, note=child.note)
        elif fact.phase:
            self.finish(node, fact.phase)
        elif fact.again is not None:
            self.actions.append(Wake(fact.again))
        elif node.past or self.state.ends(node):
            fact.stopped = child.note == STOPPED
            self.finish(node, child.phase)
        else:
            self._decide(node, child, child.phase)

    def _decide(self, node: Node, child: Node, phase: Phase) -> None:
        fact = node.fact
        fact.ended, fact.error = self.now, child.fact.error or "A step in it failed."
        self.again(node, phase)
        if not node.ended:
            self._pass(child)

    def _pass(self, attempt: Node) -> None:
        """Note that an attempt is over for good, also where a person retries the whole run."""
        waiting = [attempt]
        while waiting:
            node = waiting.pop()
            waiting += node.children.values()
            node.past = True
            if node.id in self.state.facts and node.fact.phase != "Succeeded":
                node.fact.past = True
                self.state.changed.add(node.id)
            if self.state.failed_step == node.id:  # another attempt makes up for it
                self.state.failed_step = ""

    def _known(self, node: Node, number: int) -> dict[str, str]:
        """Return the tags of an attempt: Argo puts them into the template before it begins (`SubstituteParams`)."""
        if not number:
            known = _FIRST
        else:
            last = node.children[str(number - 1)]
            told = scope.last_retry(node.fact, last.phase)
            known = {name: told[f"lastRetry.{name}"] for name in _FIRST} | {"exitCode": "0"}
        return {"retries": str(number), **{f"lastRetry.{name}": value for name, value in known.items()}}


def _kind(node: Node) -> Kind:
    return "dag" if node.template is not None and node.template.dag is not None else "steps"
