"""The calls of a template: which there are, what each waits for, and what has ended before it. Pure.

Not here: whether what a call hands over is right (``check``), and what comes of a call (``engine.calls``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ropewalk_core.errors import BadWorkflow
from ropewalk_workflows.manifest import text
from ropewalk_workflows.manifest.model import Call, Template

_EXACT = 1_000


def calls_of(template: Template) -> Iterator[Call]:
    """Yield every call of a composite template."""
    for group in template.steps or ():
        yield from group
    yield from template.dag.tasks if template.dag else ()


def needs(call: Call) -> list[str]:
    """Return the tasks that a task waits for, by name."""
    found = list(call.dependencies)
    if call.depends is not None:
        found += [task for task, _ in text.terms(call.depends)]
    return sorted(set(found))


def ancestors(calls: dict[str, Call], where: str) -> dict[str, set[str]]:
    """Return all tasks that run before each task, or refuse a cycle by its names."""
    done: dict[str, set[str]] = {}
    direct: dict[str, list[str]] = {}
    for name, call in calls.items():
        if call.dependencies and call.depends is not None:
            raise BadWorkflow("A task has either dependencies or depends.", field=f"{where}[{name}]")
        try:
            direct[name] = needs(call)
        except text.BadText as error:
            raise BadWorkflow(f"depends cannot be read: {error}.", field=f"{where}[{name}].depends") from error
        for one in direct[name]:
            if one not in calls:
                raise BadWorkflow(f"There is no task '{one}'.", field=f"{where}[{name}].dependencies")
    order = _order(direct, where)
    if len(calls) > _EXACT:  # sets of all ancestors would be quadratic; the engine refuses a tag without a value anyway
        everything = set(calls)
        return dict.fromkeys(calls, everything)
    for name in order:
        done[name] = set(direct[name]).union(*(done[one] for one in direct[name]))
    return done


def _order(direct: dict[str, list[str]], where: str) -> list[str]:
    """Return the tasks so that each comes after those it needs."""
    missing = {name: len(before) for name, before in direct.items()}
    after: dict[str, list[str]] = {name: [] for name in direct}
    for name, before in direct.items():
        for one in before:
            after[one].append(name)
    ready = [name for name, count in missing.items() if not count]
    for name in ready:  # grows while it is read
        for one in after[name]:
            missing[one] -= 1
            if not missing[one]:
                ready.append(one)
    if len(ready) < len(direct):
        waiting = {name: before for name, before in direct.items() if missing[name]}
        raise BadWorkflow(f"The tasks {_cycle(waiting)} wait for one another: a cycle.", field=where)
    return ready


def _cycle(waiting: dict[str, list[str]]) -> str:
    path = [min(waiting)]
    while path.count(path[-1]) < 2:
        path.append(next(one for one in waiting[path[-1]] if one in waiting))
    return " > ".join(path[path.index(path[-1]) :])


def earlier(groups: Iterable[Iterable[Call]]) -> dict[str, set[str]]:
    """Return all steps of the groups before its own, for each step."""
    found: dict[str, set[str]] = {}
    before: set[str] = set()
    for group in groups:
        members = [one.name for one in group]
        found.update({name: set(before) for name in members})
        before.update(members)
    return found
