"""What the folded parts of a function's page say of themselves while they are closed: a few words each. Pure.

A part stays closed until somebody opens it, a form of it was refused, or the address names it; so its line has to say
what opening it would show. Not here: the parts themselves (``templates/function.html``). Rejected: folding by script,
which leaves everything open, or everything shut, where no script runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from ropewalk_core import traffic
from ropewalk_core.model import Access, Bundle, CallKey, Function, FunctionSpec, Revision, Trigger
from ropewalk_hub.pages.words import duration, plural

UNKNOWN = "cannot be shown now"


def lines(
    function: Function,
    keys: Sequence[CallKey] | None,
    kept: Sequence[Revision] | None,
    have: Sequence[Trigger] | None,
) -> dict[str, str]:
    """Return the line of each part; of keys, revisions and triggers that are not known now it says so."""
    spec = function.revision.spec
    return {
        "access": sharing(function.access, keys),
        "revisions": revisions(function, kept),
        "triggers": triggers(have),
        "settings": settings(spec),
        "code": code(spec.bundle),
    }


def sharing(access: Access, keys: Sequence[CallKey] | None) -> str:
    """Return who may call, such as ``Shared with 2 people, 1 key``; ``keys`` is None where they are not known."""
    count = len(access.accounts)
    shared = f"Shared with {count} {'person' if count == 1 else 'people'}"
    who = {"private": "Only you", "public": "Anybody, without signing in"}.get(access.who, shared)
    held = "keys not known now" if keys is None else plural(len(keys), "key") if keys else "no keys"
    pages = [plural(len(access.origins), "web page")] if access.origins else []
    return ", ".join([who, held, *pages])


def revisions(function: Function, kept: Sequence[Revision] | None) -> str:
    """Return which revisions take the calls, and how many are kept."""
    split = traffic.said(function).rstrip(".")
    who = split or f"Revision {function.revision.number} takes all calls"
    return f"{who}, {UNKNOWN}" if kept is None else f"{who}, {len(kept)} kept" if kept else who


def triggers(have: Sequence[Trigger] | None) -> str:
    """Return how many triggers there are, and how many of them are paused or could not fire."""
    if have is None:
        return UNKNOWN
    paused, wrong = sum(one.paused for one in have), sum(one.why is not None for one in have)
    parts = [plural(len(have), "trigger") if have else "None"]
    parts += [f"{paused} paused"] if paused else []
    parts += [f"{wrong} with a problem"] if wrong else []
    return ", ".join(parts)


def settings(spec: FunctionSpec) -> str:
    """Return the settings that people ask about first."""
    placed = spec.placement.describe()
    parts = [] if placed == "anything" else [placed]
    parts += [f"{duration(spec.timeout)} a call", f"up to {plural(spec.max_workers, 'worker')}"]
    parts += [plural(len(spec.requirements), "requirement")] if spec.requirements else []
    parts += [plural(len(spec.environment), "variable")] if spec.environment else []
    parts += [plural(len(spec.secrets), "secret")] if spec.secrets else []
    return ", ".join(parts)


def code(bundle: Bundle) -> str:
    """Return which files were captured, and from where."""
    if len(bundle.files) != 1:
        return plural(len(bundle.files), "file") if bundle.files else "not shown"
    [path] = bundle.files
    return f"{path}, from {bundle.origin[path]}" if bundle.origin.get(path) else path
