"""Lists that an annotation of ours gives one of our own steps, as names of secrets and lines of requirements. Pure.

Not here: what may be in such a list (``secret_names``, ``required``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ropewalk_core.errors import BadWorkflow
from ropewalk_workflows import names

if TYPE_CHECKING:
    from ropewalk_workflows.manifest.model import Template


def texts(template: Template, annotation: str, where: str, option: str) -> tuple[list[str], str]:
    """Return the texts in a template's annotation, none without it, and the field by which they are told of.

    Parameters
    ----------
    option
        What `step` calls it.

    Raises
    ------
    BadWorkflow
        If the annotation is no list of texts, or stands on something else than one of our steps.
    """
    text, field = template.metadata.annotations.get(annotation), f"{where}.metadata.annotations"
    if text is None:
        return [], field
    program = template.program
    if program is None or (program.image, program.command) != (names.RUNNER_IMAGE, names.RUNNER_COMMAND):
        hint = f"Make it a @step or a ropewalk.program(...), which takes {option}=[...]."
        raise BadWorkflow(f"Only steps of Ropewalk's own have {option}.", field=field, hint=hint)
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, list) or not all(isinstance(one, str) for one in said):
        raise BadWorkflow(f"The annotation {annotation} is a list of texts.", field=field)
    return said, field
