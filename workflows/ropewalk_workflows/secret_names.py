"""Which secrets a template's program gets as variables, as our annotation says: by name, never by value. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ropewalk_core.errors import BadInput, BadWorkflow
from ropewalk_core.variables import check_name
from ropewalk_workflows import names
from ropewalk_workflows.annotated import texts

if TYPE_CHECKING:
    from ropewalk_workflows.manifest.model import Template

MOST = 32


def secrets_of(template: Template, where: str) -> tuple[str, ...]:
    """Return the names, in order.

    Raises
    ------
    BadWorkflow
        If the annotation is no list of names of variables, or stands on something else than one of our steps.
    """
    return checked(*texts(template, names.SECRETS, where, "secrets"))


def checked(given: list[str], field: str) -> tuple[str, ...]:
    """Return names of secrets in order, each once. Raises `BadWorkflow` if one can be no variable of a step."""
    if len(given) > MOST:
        raise BadWorkflow(f"A step has {MOST} secrets at most.", field=field)
    try:
        return tuple(sorted({check_name(one, field=field) for one in given}))
    except BadInput as error:
        raise BadWorkflow(error.message, field=field, hint=error.hint) from error
