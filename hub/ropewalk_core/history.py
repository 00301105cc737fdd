"""History: the accepted revisions of each function, as records beside the function's own.

Each has two records under one key: what it is, with the size of its code, and its code, so that a list reads no code.
They are written in the batch that accepts the revision, by the backend, which knows when that is. Keys sort by number,
so that a page lists the newest first. Not here: comparing revisions (``revisions.py``). Rejected: reading old revisions
from the function's events, which are forgotten after a while and hold no code.
"""

from __future__ import annotations

from ropewalk_core.errors import BadInput, NotFound
from ropewalk_core.journal import Journal, Operation, Put, Record, Remove
from ropewalk_core.model import Bundle, Function, Page, Revision, State

REVISION, CODE = "revision", "revision-code"
KEPT = 50
"""Revisions of one function that are kept; the oldest go first, but none that was chosen to take calls."""
KEPT_BYTES = 32 * 2**20
"""Bytes of code that are kept of one function, but for the latest revision and the few that were chosen, which stay
whatever they hold: the journal's disk is everybody's."""
_SIZE = "size"
_DIGITS = 8
_ACCEPTED = (State.RUNNING, State.IDLE, State.STOPPED)


def keeping(journal: Journal, function: Function, before: Function | None) -> list[Operation]:
    """Return what writes down a revision that is being accepted, and lets go of the oldest beyond what is kept.

    Those that its traffic names stay as long as it does.

    Parameters
    ----------
    before
        The function as it was. If it is older than its history, its revision is written down too.
    """
    owner, name = function.owner, function.name
    known = {one.name: int(one.body.get(_SIZE, 0)) for one in _records(journal, owner, name)}
    fresh = {_key(name, function.revision.number): function.revision}
    if before is not None and not known and _accepted(before):
        fresh.setdefault(_key(name, before.revision.number), before.revision)
    sizes = known | {key: len(one.spec.bundle.model_dump_json().encode()) for key, one in fresh.items()}
    kept = _latest(sizes) | (sizes.keys() & {_key(name, one.number) for one in function.traffic.shares})
    operations = [one for key in known.keys() - kept for one in _removing(owner, key)]
    for key in kept & fresh.keys():
        body = fresh[key].summary().model_dump(mode="json") | {_SIZE: sizes[key]}
        operations.append(Put(REVISION, owner, key, body))
        operations.append(Put(CODE, owner, key, fresh[key].spec.bundle.model_dump(mode="json")))
    return operations


def forgetting(journal: Journal, owner: str, name: str) -> list[Operation]:
    """Return what removes the history of a function."""
    return [one for record in _records(journal, owner, name) for one in _removing(owner, record.name)]


def page(journal: Journal, function: Function, after: str, limit: int) -> Page[Revision]:
    """Return the kept revisions before the number ``after``, newest first and without code.

    Of a function that is older than its history, the revision that it has now is all of it.
    """
    limit = max(1, min(limit, KEPT))
    records = _records(journal, function.owner, function.name, after, limit + 1)
    items = [_revision(one) for one in records[:limit]]
    if not items and not after and _accepted(function):
        items = [function.revision.summary()]
    return Page(items=tuple(items), next=str(items[-1].number) if len(records) > limit else "")


def find(journal: Journal, function: Function, number: int) -> Revision:
    """Return one kept revision with its code, or raise `NotFound`."""
    key = _key(function.name, number)
    record, code = (journal.get(kind, function.owner, key) for kind in (REVISION, CODE))
    if record is not None and code is not None:
        revision = _revision(record)
        spec = revision.spec.model_copy(update={"bundle": Bundle.model_validate(code.body)})
        return revision.model_copy(update={"spec": spec})
    if number == function.revision.number and _accepted(function):
        return function.revision
    raise NotFound(
        f"There is no revision {number} of '{function.name}'.",
        field="number",
        hint=f"The latest {KEPT} are kept, or fewer. `ropewalk functions versions {function.name}` lists them.",
    )


def summary(journal: Journal, owner: str, name: str, number: int) -> Revision | None:
    """Return one kept revision without its code, if it is there."""
    record = journal.get(REVISION, owner, _key(name, number))
    return _revision(record) if record is not None else None


def environments(journal: Journal, owner: str) -> set[str]:
    """Return the keys of the environments of requirements that an account's kept revisions name."""
    bodies = [one.body for one in journal.page(REVISION, owner, limit=1_000_000)]
    return {str(one.get("environment")) for one in bodies if one.get("spec", {}).get("requirements")}


def _latest(sizes: dict[str, int]) -> set[str]:
    """Return the keys that are kept: the newest, as many and as large as may be, and one in any case."""
    kept: set[str] = set()
    left = KEPT_BYTES
    for key in sorted(sizes, reverse=True)[:KEPT]:
        left -= sizes[key]
        if kept and left < 0:
            break
        kept.add(key)
    return kept


def _revision(record: Record) -> Revision:
    return Revision.model_validate({key: value for key, value in record.body.items() if key != _SIZE})


def _records(journal: Journal, owner: str, name: str, before: str = "", limit: int = 2 * KEPT) -> list[Record]:
    if before and not (before.isascii() and before.isdigit()):
        raise BadInput("There is no such page of revisions.", field="after")
    # A colon comes right after the digits; what else the page holds are other functions' revisions.
    end = _key(name, min(int(before), 10**_DIGITS - 1)) if before else f"{name}/:"
    found = journal.page(REVISION, owner, after=end, limit=limit, newest=True)
    return [one for one in found if one.name.startswith(f"{name}/")]


def _key(name: str, number: int) -> str:
    return f"{name}/{number:0{_DIGITS}}"


def _removing(owner: str, key: str) -> list[Operation]:
    return [Remove(kind, owner, key) for kind in (REVISION, CODE)]


def _accepted(function: Function) -> bool:
    """Whether the revision in a function's record ever served; one that is only tried says so by its state."""
    return function.status.state in _ACCEPTED
