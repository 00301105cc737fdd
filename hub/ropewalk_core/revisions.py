"""What changed between revisions of a function: in a word for lists, in full for reading. Pure.

One way to say it for the command line, the notebook and the dashboard. Not here: where revisions are kept
(``history.py``). Rejected: comparing on the platform; it knows nothing that the two revisions do not say.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ropewalk_core.errors import NotFound
from ropewalk_core.model import FunctionSpec, Revision


def changed(older: Revision, newer: Revision) -> tuple[str, ...]:
    """Return what differs, in words: ``code``, names of options, ``environment``. Summaries are enough."""
    code = ("code",) if older.spec.bundle.digest != newer.spec.bundle.digest else ()
    before, after = _options(older.spec), _options(newer.spec)
    options = tuple(name for name in after if before[name] != after[name])
    return code + options + (("environment",) if older.environment != newer.environment else ())


def stories(kept: Sequence[Revision]) -> list[str]:
    """Return for each revision, newest first, what it changed of the one before; empty where that is not known."""
    said = []
    for at, one in enumerate(kept):
        same = next((older.number for older in kept[at + 1 :] if older.id == one.id), None)
        if same is not None:
            said.append(f"same as {same}")
        elif at + 1 < len(kept):
            said.append(", ".join(changed(kept[at + 1], one)))
        else:
            said.append("first" if one.number == 1 else "")
    return said


def previous(current: Revision, kept: Sequence[Revision]) -> int:
    """Return the number of the latest earlier revision that is another one, or raise `NotFound`."""
    for one in kept:
        if one.number < current.number and one.id != current.id:
            return one.number
    raise NotFound(
        f"There is no revision before {current.number}.",
        field="number",
        hint="Deploy a change first; what the function is now is kept as a revision.",
    )


def pair(older: int, newer: int, current: Revision, kept: Sequence[Revision]) -> tuple[int, int]:
    """Return the two revisions to compare: 0 stands for the one before, and for the current one."""
    return older or previous(current, kept), newer or current.number


def difference(older: Revision, newer: Revision) -> str:
    """Return a unified diff of options, environment and code; empty if nothing differs."""
    names = (f"revision {older.number}", f"revision {newer.number}")
    before, after = _options(older.spec), _options(newer.spec)
    lines = _facts("options", before, after)
    lines += _facts("environment", {"": older.environment}, {"": newer.environment})
    lines += _packages(older.packages, newer.packages)
    for path in sorted({*older.spec.bundle.files, *newer.spec.bundle.files}):
        was, now = (one.spec.bundle.files.get(path) for one in (older, newer))
        if was != now:
            diff = difflib.unified_diff((was or "").splitlines(), (now or "").splitlines(), lineterm="")
            lines += [f"@@ {path} @@", *(list(diff)[2:] or ["(an empty file, or only ends of lines)"])]
    return "\n".join([f"--- {names[0]}", f"+++ {names[1]}", *lines]) if lines else ""


def _options(spec: FunctionSpec) -> dict[str, Any]:
    """Return what a function was deployed with beside its code."""
    rest = spec.model_dump(mode="json", exclude={"name", "bundle", "placement", "environment"})
    rest["variables"] = spec.environment  # the other environment is that of Python
    return {**spec.placement.model_dump(mode="json"), **rest, "entry": spec.bundle.entry, "form": spec.bundle.form}


def environment(revision: Revision) -> str:
    """Return a few words on the environment that a revision was deployed with, for a list."""
    short = revision.environment[:12] if revision.environment.isalnum() else revision.environment  # or an image
    if revision.spec.requirements:
        return f"{short}, {len(revision.packages)} required"
    return f"{short}, {len(revision.packages)} installed" if revision.packages else short


def _packages(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Return which packages went and came, by name."""
    changes = [*(("-", one) for one in set(before) - set(after)), *(("+", one) for one in set(after) - set(before))]
    changes.sort(key=lambda one: (one[1].partition("==")[0], one[0] == "+"))
    return ["@@ packages @@", *(f"{sign}{one}" for sign, one in changes)] if changes else []


def _facts(title: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    lines = []
    for name in after:
        if before[name] != after[name]:
            was, now = (f"{name}: {_word(one)}" if name else _word(one) for one in (before[name], after[name]))
            lines += [f"-{was}", f"+{now}"]
    return [f"@@ {title} @@", *lines] if lines else []


def _word(value: Any) -> str:
    if value in (None, "", [], {}):
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
