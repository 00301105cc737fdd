"""What runs beside a call or a whole run, and after it: hooks. Pure.

A call's hooks belong to it and not to what is around it: that one of them fails changes nothing, and what follows the
call waits for all of them. A condition is looked at when the call begins to run and when it has ended, since nothing
else that it may ask for changes in between; Argo looks each time it happens to look at the run. After `hooks.go`,
`exit_handler.go`, `executeDAGTask` and `CheckAllHooksFullfilled` of Argo's controller. A condition is evaluated anew
after a restart and gives the same. Rejected: hooks as tasks of the composite, whose end would then be theirs.
"""

from __future__ import annotations

from ropewalk_workflows.engine import scope
from ropewalk_workflows.engine.leaves import ROOT
from ropewalk_workflows.engine.retries import Retries
from ropewalk_workflows.engine.state import Node, node_id
from ropewalk_workflows.manifest import text
from ropewalk_workflows.manifest.hooks import EXIT, hooks_of, suffix
from ropewalk_workflows.manifest.model import Arguments, Hook

_COMPLETED = ("Succeeded", "Failed", "Error")


class Hooks(Retries):
    """The hooks of a run while one event is taken in."""

    def enter(self, node: Node, arguments: Arguments | None, outer: Node | None) -> None:
        """Give a node its inputs and start it."""
        raise NotImplementedError

    # Of calls

    def begins(self, node: Node) -> None:
        """Look at a call's conditions now that it runs."""
        if not node.begun and not node.ended:
            node.begun = True
            if not self.state.stopping:
                self._conditional(node)

    def follow(self, node: Node) -> None:
        """Begin what follows the end of a call."""
        node.closed = True
        if not self.state.stopping:
            self._conditional(node)
        if self.state.stopping in ("", "exit"):
            last = self._of(node).get(EXIT)
            if last is not None and node.phase in _COMPLETED:
                self._consider(node, EXIT, last)

    def _of(self, node: Node) -> dict[str, Hook]:
        call = node.call
        return hooks_of(call, self.state.manifest.spec.arguments) if call and (call.hooks or call.on_exit) else {}

    def _conditional(self, node: Node) -> None:
        for name, hook in self._of(node).items():
            if name != EXIT:
                self._consider(node, name, hook)

    def _consider(self, node: Node, name: str, hook: Hook) -> None:
        """Begin a hook of a call unless it has begun, or its condition does not hold."""
        path = node.path + suffix(name)
        if name in node.hooks or (self.state.elsewhere and not self._was_begun(path)):
            return
        holds, error = (True, "") if self.state.elsewhere else self._holds(hook, node.parent)
        if holds or error:
            template = self.state.manifest.template(hook.template)
            made = self.make(path, node.name + suffix(name), template, node.parent, (node.id,))
            made.owner, made.hook, made.exits = node, node.id, made.exits or name == EXIT
            node.hooks[name] = made
            self._start(made, hook, node.parent, error)

    # Of the run

    def of_the_run(self) -> None:
        """Look at the workflow's own conditions, now that it runs or has ended."""
        spec = self.state.manifest.spec
        for name, hook in hooks_of(spec, spec.arguments).items():
            path = suffix(name).removeprefix(".")
            if name == EXIT or name in self.state.hooks or (self.state.elsewhere and not self._was_begun(path)):
                continue
            holds, error = (True, "") if self.state.elsewhere else self._holds(hook, None)
            if holds or error:
                self.state.hooks[name] = self._of_the_run(path, hook, error)

    def last(self) -> None:
        """Begin the exit handler, if there is one."""
        spec = self.state.manifest.spec
        hook = hooks_of(spec, spec.arguments).get(EXIT)
        if hook is not None and self.state.exit is None:
            self.state.exit = self._of_the_run("onExit", hook, "")

    def _of_the_run(self, path: str, hook: Hook, error: str) -> Node:
        made = self.make(path, path, self.state.manifest.template(hook.template), None, ())
        made.hook, made.exits = ROOT, path == "onExit"
        self._start(made, hook, None, error)
        return made

    # Of both

    def _start(self, made: Node, hook: Hook, outer: Node | None, error: str) -> None:
        if error:
            self.fail(made, f"Whether '{made.name}' runs cannot be decided: {error}.")
        else:
            self.enter(made, hook.arguments, outer)

    def _holds(self, hook: Hook, around: Node | None) -> tuple[bool, str]:
        """Say whether a hook's condition holds, or what is wrong with it."""
        try:
            return hook.expression is None or text.holds(hook.expression, scope.Scope(self.state, around).names()), ""
        except text.BadText as error:
            return False, str(error)

    def _was_begun(self, path: str) -> bool:
        return node_id(path) in self.state.begun or node_id(path) in self.state.facts
