"""What is known at a place of a manifest: which tags mean something there, and which names an expression may read.

Pure; before anything has a value. Not here: where the places are (``check``), and the values (``engine.scope``).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Set
from dataclasses import dataclass
from typing import Any

from ropewalk_core.errors import BadWorkflow
from ropewalk_workflows.expr import Expression
from ropewalk_workflows.manifest import text


@dataclass(frozen=True)
class Tags(Container[str]):
    """The tags that mean something at a place: fixed ones, results of earlier calls, a loop's item."""

    plain: Set[str]
    results: Callable[[str], bool]
    looping: bool = False

    def __contains__(self, tag: object) -> bool:
        if not isinstance(tag, str):
            return False
        return tag in self.plain or (self.looping and (tag == "item" or tag.startswith("item."))) or self.results(tag)


OF_A_RETRY = frozenset({"retries", *(f"lastRetry.{one}" for one in ("exitCode", "status", "duration", "message"))})
"""The names that a ``retryStrategy.expression`` may read; in a composite that is tried again they are tags too."""


def check(expression: str, known: Container[str], where: str, *, alone: bool = False) -> None:
    """Refuse an expression that cannot be read, or reads what is not there.

    Parameters
    ----------
    expression
        Its text, without braces.
    known
        The tags that mean something at its place.
    where
        The place, for the refusal.
    alone
        Whether it stands in a field by itself. Argo fills tags in such a field before it reads it, so that a value
        would become a part of the expression; there are none here.

    Raises
    ------
    BadWorkflow
        With the place, and the character in the expression.
    """
    if alone and "{{" in expression:
        raise BadWorkflow("This expression takes names, as inputs.parameters.x, and no {{tags}}.", field=where)
    found = _readable(expression, where)
    for path, at in found.names:
        if not _is_known(path, known):
            raise BadWorkflow(
                f"Nothing is known as '{path}' in the expression {expression[:60]!r}, at character {at}.", field=where
            )
    for path, at in found.guarded:  # may be missing, but of calls only what has ended by then may be asked for
        first = ".".join(path.split(".")[:2])
        if not _is_known(first if first.startswith(("tasks.", "steps.")) else path.partition(".")[0], known):
            raise BadWorkflow(
                f"Nothing is known as '{first}' in the expression {expression[:60]!r}, at character {at}.", field=where
            )


def check_hidden(manifest: Mapping[str, Any]) -> None:
    """Refuse an expression that asks for what is not here, wherever it stands.

    On a cluster Argo's controller evaluates all that it finds, also in a field that means nothing to us, such as a
    description; it must find nothing there that would be refused elsewhere.

    Raises
    ------
    BadWorkflow
        With the place of the first.
    """
    waiting: list[tuple[str, Any]] = [("", manifest)]
    while waiting:
        where, one = waiting.pop()
        if isinstance(one, str):
            for expression in text.expressions(one):
                _readable(expression, where)
        elif isinstance(one, Mapping):
            waiting += [(f"{where}.{key}" if where else str(key), inner) for key, inner in one.items()]
            waiting += [(f"{where} (a key)", key) for key in one if isinstance(key, str) and "{{" in key]
        elif isinstance(one, list):
            waiting += [(f"{where}[{place}]", inner) for place, inner in enumerate(one)]


def _readable(expression: str, where: str) -> Expression:
    try:
        return text.expression(expression)
    except text.BadText as error:
        raise BadWorkflow(f"The expression {expression[:60]!r} cannot be used: {error}.", field=where) from error


def _is_known(path: str, known: Container[str]) -> bool:
    """Say whether a name is a tag or what tags begin with; never all results, whose number depends on the moment."""
    if path in known:
        return True
    plain = known.plain if isinstance(known, Tags) else known
    if isinstance(plain, Set) and any(one.startswith(f"{path}.") for one in plain):
        return True
    if not isinstance(known, Tags):
        return False
    return known.results(f"{path}.status") or known.results(f"{path.removesuffix('.outputs')}.status")
