"""How long a template's results are good for later runs, as our annotation says. Pure."""

from __future__ import annotations

import json

from ropewalk_core.errors import BadWorkflow
from ropewalk_workflows import names
from ropewalk_workflows.manifest.model import Template


def keeps(template: Template, where: str) -> bool | float | None:
    """Return whether results are kept, or for how many seconds; None where nothing is said.

    Raises
    ------
    BadWorkflow
        If the annotation says something else.
    """
    text = template.metadata.annotations.get(names.CACHE)
    if text is None:
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, bool):
        return said
    if isinstance(said, int | float) and 0 < said < float("inf"):
        return float(said)
    raise BadWorkflow(
        f"The annotation {names.CACHE} is true, false or a number of seconds.", field=f"{where}.metadata.annotations"
    )
