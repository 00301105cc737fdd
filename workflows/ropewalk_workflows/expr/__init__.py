"""Argo's expressions, ``{{=...}}``: read, checked, and given a value, in bounded time and memory.

The language is that of github.com/expr-lang/expr with Argo's and sprig's functions; what Argo itself answers is in
``tests/expr/cases.json``. Pure, and knows nothing of manifests. Lark is loaded when the first expression is met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ropewalk_workflows.expr.errors import BadExpression
from ropewalk_workflows.expr.tree import Part
from ropewalk_workflows.expr.values import Value, clean, kind, shown, written
from ropewalk_workflows.expr.work import Work

__all__ = ["BadExpression", "Expression", "read"]


@dataclass(frozen=True)
class Expression:
    """An expression that was read and checked.

    Parameters
    ----------
    root
        Its outermost part.
    names
        The names it cannot do without, and where each is: ``inputs.parameters.n``.
    guarded
        The names that may be missing, because ``?.`` or ``??`` says what then.
    """

    root: Part
    names: tuple[tuple[str, int], ...]
    guarded: tuple[tuple[str, int], ...]

    def holds(self, names: Mapping[str, Value]) -> bool:
        """Say whether it is true.

        Raises
        ------
        BadExpression
            If it is neither true nor false.
        """
        found = self._value(names, Work())
        if not isinstance(found, bool):
            raise BadExpression(f"its value is neither true nor false but {kind(found)}")
        return found

    def text(self, names: Mapping[str, Value]) -> str:
        """Return what stands in place of its tag: text as it is, everything else as JSON.

        Raises
        ------
        BadExpression
            If it has no value, or one that cannot be written.
        """
        return self._put(names, written)

    def shown(self, names: Mapping[str, Value]) -> str:
        """Return its value as Go's ``%v`` writes it.

        Raises
        ------
        BadExpression
            If it has none.
        """
        return self._put(names, shown)

    def _value(self, names: Mapping[str, Value], work: Work) -> Value:
        from ropewalk_workflows.expr.evaluating import evaluate

        return evaluate(self.root, names, work)

    def _put(self, names: Mapping[str, Value], write: Callable[[Value, Work], str]) -> str:
        work = Work()
        value = self._value(names, work)
        if value is None:
            raise BadExpression("its value is nil")
        try:
            return clean(write(value, work))
        except RecursionError as error:
            raise BadExpression("its value is nested too deeply") from error


@lru_cache(maxsize=512)
def read(text: str) -> Expression:
    """Return the expression that a text is.

    Raises
    ------
    BadExpression
        If it is none, or asks for what is not here.
    """
    from ropewalk_workflows.expr.building import build
    from ropewalk_workflows.expr.checking import check

    root = build(text)
    found = check(root)
    required = tuple((one.path, one.at) for one in found if not one.guarded)
    return Expression(root, required, tuple((one.path, one.at) for one in found if one.guarded))
