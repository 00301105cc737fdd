"""Which hooks a call or a whole workflow has, and what each is given. Pure.

`onExit` is an older word for the hook `exit`, and wins over it; an exit hook that says no arguments is given those of
the workflow (`GetExitHook` and `WithArgs` in Argo's `pkg/apis/workflow/v1alpha1/workflow_types.go`). Not here: whether
what they name is there (``check``), and when they run (``engine.hooks``).
"""

from __future__ import annotations

import re

from ropewalk_core.errors import BadWorkflow
from ropewalk_workflows.manifest.model import Arguments, Call, Hook, Spec

EXIT = "exit"
_NAME = re.compile(r"[a-zA-Z0-9][-_a-zA-Z0-9]{0,62}")


def hooks_of(of: Call | Spec, arguments: Arguments) -> dict[str, Hook]:
    """Return the hooks by name.

    Parameters
    ----------
    of
        A call, or the workflow itself.
    arguments
        Those of the workflow.
    """
    found = dict(of.hooks)
    if of.on_exit is not None:
        found[EXIT] = Hook(template=of.on_exit, arguments=arguments)
    elif EXIT in found and found[EXIT].arguments == Arguments():
        found[EXIT] = found[EXIT].model_copy(update={"arguments": arguments})
    return found


def check_shape(name: str, hook: Hook, where: str) -> None:
    """Refuse a hook that nobody could call by its name, or of which nobody knows when it runs.

    Raises
    ------
    BadWorkflow
        With the place.
    """
    if not _NAME.fullmatch(name):
        raise BadWorkflow("A hook's name is made of letters, digits, '-' and '_'.", field=where)
    if name != EXIT and not hook.expression:
        raise BadWorkflow("A hook other than 'exit' needs an expression that says when it runs.", field=where)


def templates_of(call: Call) -> set[str]:
    """Return the templates that a call leads to: its own, and those of its hooks."""
    return {call.template, *(one.template for one in hooks_of(call, Arguments()).values())}


def suffix(name: str) -> str:
    """Return what Argo adds to a node's name for its hook."""
    return ".onExit" if name == EXIT else f".hooks.{name}"
