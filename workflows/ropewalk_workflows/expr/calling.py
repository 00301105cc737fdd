"""Which functions there are, by the names that expressions call them by, and why some are not. Pure."""

from __future__ import annotations

from ropewalk_workflows.expr.builtins import ARGO, BUILTINS
from ropewalk_workflows.expr.errors import BadExpression
from ropewalk_workflows.expr.functions import Functions
from ropewalk_workflows.expr.sprig_data import DATA
from ropewalk_workflows.expr.sprig_text import TEXT
from ropewalk_workflows.expr.values import Value
from ropewalk_workflows.expr.work import Work

FUNCTIONS: Functions = {**BUILTINS, **ARGO, **{f"sprig.{name}": one for name, one in {**TEXT, **DATA}.items()}}
_CLOCK = ("now", "date", "duration", "timezone", "sprig.now", "sprig.ago", "sprig.unixEpoch", "sprig.toDate")
_CHANCE = ("sprig.rand", "sprig.uuid", "sprig.shuffle", "sprig.gen", "sprig.bcrypt", "sprig.htpasswd")


def known(name: str, count: int) -> None:
    """Refuse a function that is not here, or cannot be called with so many arguments.

    Raises
    ------
    BadExpression
        Naming it.
    """
    found = FUNCTIONS.get(name)
    if found is None:
        raise BadExpression(_missing(name))
    if not found.takes_so_many(count):
        raise BadExpression(f"'{name}' cannot take {count} argument{'' if count == 1 else 's'}")


def call(name: str, arguments: list[Value], work: Work) -> Value:
    """Return what a function gives.

    Raises
    ------
    BadExpression
        If it gives nothing for these.
    """
    known(name, len(arguments))
    try:
        return FUNCTIONS[name](work, arguments)
    except BadExpression as error:
        raise BadExpression(f"{name}(): {error.message}", error.at) from error


def _missing(name: str) -> str:
    if name in _CLOCK or "date" in name.lower():
        return f"'{name}' is not supported here: its result depends on the time, or is one"
    if name.startswith(_CHANCE):
        return f"'{name}' is not supported here: its result would differ each time the run is looked at"
    return f"there is no function '{name}' here"
