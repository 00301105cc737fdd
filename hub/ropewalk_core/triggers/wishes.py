"""What a trigger may be: a person's wish becomes one that is kept, or is refused with a way out. Pure.

Not here: when schedules come due (``cron``), whether what is named exists (``desk``), and words for people (``words``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ropewalk_core import beneath
from ropewalk_core.errors import BadInput, BadPath
from ropewalk_core.model import Trigger, TriggerSpec
from ropewalk_core.names import is_name
from ropewalk_core.triggers import cron

FUNCTION, WORKFLOW = "function", "workflow"
LONGEST_PATTERN = 100
_WORKFLOW = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_ONE = "Say one of every, after and on_file."


def checked(spec: TriggerSpec, now: float) -> TriggerSpec:
    """Return a wish as it is kept: one word, and names in their full form.

    Raises
    ------
    BadInput
        If it says something that cannot be meant, or a schedule that never comes due.
    """
    said = [word for word in ("every", "after", "on_file") if getattr(spec, word).strip()]
    if len(said) != 1:
        what = "says nothing" if not said else f"says {' and '.join(said)}"
        raise BadInput(f"The trigger {what}.", field=said[-1] if said else "every", hint=_ONE)
    _refuse_idle(spec, said[0])
    if said[0] == "every":
        return spec.model_copy(update={"every": _schedule(spec, now)})
    if said[0] == "after":
        return spec.model_copy(update={"after": source(spec.after)})
    folder, pattern = place(spec.on_file)
    return spec.model_copy(update={"on_file": f"{folder}/{pattern}" if folder else pattern})


def source(text: str) -> str:
    """Return whose ends a trigger follows as ``function:NAME`` or ``workflow:NAME``."""
    kind, colon, name = text.strip().rpartition(":")
    kind = kind if colon else FUNCTION
    if (kind == FUNCTION and is_name(name)) or (kind == WORKFLOW and _WORKFLOW.fullmatch(name)):
        return f"{kind}:{name}"
    hint = f"Name a function of yours, or a workflow as {WORKFLOW}:NAME."
    raise BadInput(f"{text[:60]!r} names nothing that ends.", field="after", hint=hint)


def place(text: str) -> tuple[str, str]:
    """Return the folder and the pattern that a trigger's ``on_file`` means; a folder alone means every file in it."""
    try:
        parts = beneath.split(text.strip())
    except BadPath as error:
        raise BadPath(error.message, field="on_file") from error
    folder, pattern = (parts, "*") if text.strip().endswith("/") else (parts[:-1], parts[-1] if parts else "*")
    if any(set(one) & set("*?[") for one in folder):
        hint = "Stars stand in the last part alone, as in inbox/*.csv; name each folder by a trigger of its own."
        raise BadInput(f"The folder of {text[:60]!r} is a pattern.", field="on_file", hint=hint)
    if len(pattern) > LONGEST_PATTERN or "**" in pattern or pattern.startswith(beneath.PARTIAL):
        hint = f"Write at most {LONGEST_PATTERN} characters with *, ? and [a-z], as in inbox/*.csv."
        raise BadInput("No file's name is looked for by this pattern.", field="on_file", hint=hint)
    return "/".join(folder), pattern


def same(one: TriggerSpec, other: TriggerSpec) -> bool:
    """Say whether two are the same trigger; ``existing`` counts only when it is made."""
    return one.model_copy(update={"existing": False}) == other.model_copy(update={"existing": False})


def changes(have: Sequence[Trigger], wanted: Sequence[TriggerSpec]) -> tuple[list[Trigger], list[TriggerSpec]]:
    """Return which triggers go and which are to be made, so that those that are wanted are there, each once."""
    kept: list[Trigger] = []
    new: list[TriggerSpec] = []
    for spec in wanted:
        found = next((one for one in have if same(one.spec, spec)), None)
        if found is not None:
            kept.append(found)
        elif not any(same(one, spec) for one in new):
            new.append(spec)
    return [one for one in have if one not in kept], new


def _refuse_idle(spec: TriggerSpec, word: str) -> None:
    """Refuse what says nothing beside this word, so that nobody believes that it does."""
    beside = {
        "zone": ("every", spec.zone != "UTC"),
        "when": ("after", spec.when != "success"),
        "existing": ("on_file", spec.existing),
    }
    for field, (needs, given) in beside.items():
        if given and word != needs:
            raise BadInput(f"'{field}' says nothing without {needs}.", field=field, hint=f"Leave out {field}.")


def _schedule(spec: TriggerSpec, now: float) -> str:
    schedule, zone = cron.parse(spec.every), cron.zone_of(spec.zone)
    if cron.after(schedule, zone, now) is None:
        hint = "Look at its day and month: there is no such day for years."
        raise BadInput(f"The schedule {spec.every[:60]!r} never comes due.", field="every", hint=hint)
    return " ".join(spec.every.split())
