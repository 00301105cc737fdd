"""Under which name Argo's clients know a run: its manifest's own name, or one that begins as the manifest says.

A record of the journal leads from the name to the run. Not here: what Argo's clients may do (``argo_server``).
Rejected: a field of the model for the name; an older notebook's client refuses models with fields that it does not
know.
"""

from __future__ import annotations

import re

from ropewalk_core.errors import NotFound
from ropewalk_core.flows import RunSpec
from ropewalk_core.journal import Journal
from ropewalk_workflows.records import NAME, RUN

LATEST = "@latest"
_NO_NAME = re.compile(r"[^a-z0-9.-]+")
_STEM = 50


def allotted(journal: Journal, owner: str, spec: RunSpec, run: str) -> str:
    """Return the name that a new run gets among Argo's clients: its manifest's own, if no other run has that.

    Else, and where the manifest says only how it begins, letters of the identifier follow. Ask it under the owner's
    lock, in which the run is then kept.
    """
    metadata = spec.manifest.get("metadata") or {}
    own = str(metadata.get("name") or "")
    if own and _plain(own) == own and run_of(journal, owner, own) is None:
        return own
    stem = _plain(own or str(metadata.get("generateName") or spec.name))[:_STEM].rstrip("-.") or "run"
    identifier = run.rpartition("-")[2]
    short = f"{stem}-{identifier[-5:]}"
    return short if run_of(journal, owner, short) is None else f"{stem}-{identifier}"


def run_of(journal: Journal, owner: str, name: str) -> str | None:
    """Return the identifier of the run that has this name; an identifier is a name too, and ``@latest`` is one."""
    if name == LATEST:
        latest = journal.page(RUN, owner, limit=1, newest=True)
        return latest[0].name if latest else None
    found = journal.get(NAME, owner, name)
    if found is not None:
        return str(found.body["run"])
    return name if journal.get(RUN, owner, name) is not None else None


def named(journal: Journal, owner: str, name: str) -> str:
    """Return the identifier of the run that has this name.

    Raises
    ------
    NotFound
        If none has.
    """
    found = run_of(journal, owner, name)
    if found is None:
        raise NotFound.named("workflows", f"There is no workflow '{name[:100]}'.", field="name")
    return found


def _plain(text: str) -> str:
    return _NO_NAME.sub("-", text.lower()).strip("-.")[:63].strip("-.")
