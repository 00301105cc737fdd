"""A run's own wish once more: its manifest and code from the journal, its values from where the backend keeps them.

Values lie where the person's own code can change them, so each is checked against its digest. Not here: submitting it
(the port). Rejected: keeping values in the journal as well; they are as large as data is.
"""

from __future__ import annotations

import base64

from ropewalk_core.errors import Conflict, NotFound
from ropewalk_core.flows import RunSpec
from ropewalk_core.journal import Journal
from ropewalk_core.model import Actor
from ropewalk_core.ports import Workflows
from ropewalk_workflows.inputs import values_of
from ropewalk_workflows.records import SPEC


async def spec_again(workflows: Workflows, journal: Journal, actor: Actor, owner: str, run: str) -> RunSpec:
    """Return what an earlier run was submitted with, to be run afresh.

    Raises
    ------
    NotFound
        If there is no such run.
    Conflict
        If its values are gone or were changed.
    """
    record = journal.get(SPEC, owner, run)
    if record is None:
        raise NotFound.named("workflows", f"There is no run '{run}'.", field="run")
    spec = RunSpec.model_validate(record.body)
    values = {}
    for digest in sorted(values_of(spec)):
        try:
            content = await workflows.artifact(actor, owner, run, digest)
            values[digest] = base64.b64encode(b"".join([one async for one in content])).decode()
        except (Conflict, NotFound) as error:
            raise Conflict(
                "The values that this run started with are not there any more.",
                field="values",
                hint="Submit the workflow again from your notebook.",
            ) from error
    return spec.model_copy(update={"values": values, "fresh": True})
