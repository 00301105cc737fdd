"""A run's own wish once more: its manifest and code from the journal, its values from the run's folder.

Values lie where the person's own code can change them, so each is checked against the digest in its name. Not here:
submitting it (the port). Rejected: keeping values in the journal as well; they are as large as data is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re

from ropewalk_core import beneath
from ropewalk_core.errors import Conflict, NotFound, RopewalkError
from ropewalk_core.journal import Journal
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import RunSpec
from ropewalk_core.settings import Settings
from ropewalk_workflows import names
from ropewalk_workflows.records import SPEC

_VALUE = re.compile(rf"\b{names.VALUES}([0-9a-f]{{64}})\b")


def spec_again(settings: Settings, journal: Journal, owner: str, run: str) -> RunSpec:
    """Return what an earlier run was submitted with, to be run afresh. Blocks.

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
    digests = sorted(set(_VALUE.findall(json.dumps(spec.manifest))))
    paths = AccountPaths(settings.home, owner)
    values = {one: _value(paths, run, one, settings.limits.payload) for one in digests}
    return spec.model_copy(update={"values": values, "fresh": True})


def _value(paths: AccountPaths, run: str, digest: str, most: int) -> str:
    try:
        with beneath.read(paths.root, ("runs", run, "values", digest)) as file:
            content = file.read(most + 1)
    except RopewalkError:
        content = b""
    if hashlib.sha256(content).hexdigest() != digest:
        raise Conflict(
            "The values that this run started with are not there any more.",
            field="values",
            hint="Submit the workflow again from your notebook.",
        )
    return base64.b64encode(content).decode()
