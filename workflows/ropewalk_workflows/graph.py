"""What a workflow's function noted: the tasks, what they take from one another, and their names.

It knows steps by name and signature only. Not here: the decorators, and when a call is noted (``dag``); what a graph
means to Argo (``compile``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from ropewalk_core.errors import BadWorkflow

if TYPE_CHECKING:
    from ropewalk_workflows.dag import Step


@dataclass(frozen=True, eq=False)
class Condition:
    """A comparison of a step's result with a plain value, which the run decides: ``step.when(score > 0.9)(...)``."""

    task: Task
    operator: str
    value: Any

    def __bool__(self) -> NoReturn:
        raise BadWorkflow(
            f"Whether the result of '{self.task.step.name}' is {self.operator} {self.value!r} is known only when the "
            "run runs; the workflow cannot test it.",
            field=self.task.step.name,
            hint="Write step.when(condition)(...) in place of `if condition:`; a step that is left out gives None.",
        )


class Unknown:
    """A value that is known only when the run runs. It can go into steps; the workflow's function cannot look at it."""

    def _unknown(self, what: str) -> NoReturn:
        raise NotImplementedError

    def __bool__(self) -> bool:
        self._unknown("test")

    def __iter__(self) -> NoReturn:
        self._unknown("loop over")

    def __len__(self) -> int:
        self._unknown("count")

    def __getitem__(self, key: Any) -> NoReturn:
        self._unknown("look into")

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        self._unknown("change")

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: what is not known yet can be called in a step only."""
        self._unknown("call")

    def __next__(self) -> NoReturn:
        self._unknown("loop over")

    def __fspath__(self) -> str:
        self._unknown("open")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._unknown(f"read .{name} of")

    def _operate(self, *_: Any) -> NoReturn:
        self._unknown("compute with")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _operate
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __abs__ = _operate
    __matmul__ = __rmatmul__ = __divmod__ = __rdivmod__ = __pos__ = __invert__ = __round__ = __complex__ = _operate
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _operate
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _operate
    __int__ = __float__ = __index__ = _operate

    def _compare(self, operator: str, other: object) -> Any:
        self._unknown("compare")

    def __lt__(self, other: object) -> Any:
        return self._compare("<", other)

    def __le__(self, other: object) -> Any:
        return self._compare("<=", other)

    def __gt__(self, other: object) -> Any:
        return self._compare(">", other)

    def __ge__(self, other: object) -> Any:
        return self._compare(">=", other)

    def __eq__(self, other: object) -> Any:
        return self is other or self._compare("==", other)

    def __ne__(self, other: object) -> Any:
        return self is not other and self._compare("!=", other)

    __hash__ = object.__hash__

    def __format__(self, how: str) -> str:
        self._unknown("write out")


class Output(Unknown):
    """What a step will return. It can go into other steps; its value is known only when the run runs."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def after(self, *others: Output) -> Output:
        """Make this step wait for others whose results it does not take."""
        self._task.after.extend(one._task for one in others)
        return self

    def _unknown(self, what: str) -> NoReturn:
        raise BadWorkflow(
            f"The result of '{self._task.step.name}' is known only when the run runs; the workflow cannot {what} it.",
            field=self._task.step.name,
            hint="Pass it to a step and do this there; use step.map(result) to fan out over a result.",
        )

    def _compare(self, operator: str, other: object) -> Condition:
        if not isinstance(other, bool | int | float | str | None):
            self._unknown("compare")
        return Condition(self._task, operator, other)

    def __repr__(self) -> str:
        return f"<output of {self._task.step.name}>"


class Given(Unknown):
    """An argument of a saved workflow, whose value comes when it is launched. It can go into steps."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _unknown(self, what: str) -> NoReturn:
        raise BadWorkflow(
            f"The argument '{self._name}' is known only when the saved workflow is launched; the workflow cannot "
            f"{what} it.",
            field=self._name,
            hint=f"Pass it to a step and do this there, fan out with step.map({self._name}), or save the workflow with "
            f"a fixed value: .save({self._name}=...).",
        )

    def __repr__(self) -> str:
        return f"<argument {self._name}>"


@dataclass(eq=False)
class Task:
    """One call of a step inside a workflow.

    ``over`` is the argument that is mapped, and its items; ``when`` is the condition without which it is left out.
    """

    step: Step
    arguments: dict[str, Any]
    over: tuple[str, Any] | None = None
    after: list[Task] = field(default_factory=list)
    when: Condition | None = None


@dataclass
class Graph:
    """What a workflow's function noted, and what it returned."""

    tasks: list[Task] = field(default_factory=list)
    returns: Any = None
    _known: set[Task] = field(default_factory=set)

    def add(
        self,
        step: Step,
        arguments: dict[str, Any],
        over: tuple[str, Any] | None = None,
        when: Condition | None = None,
    ) -> Output:
        """Note a task."""
        if when is not None:
            self._check(step, when)
        for name, value in [*arguments.items(), *([over] if over else [])]:
            for one in outputs_in(value, f"{step.name}.{name}"):
                if one._task not in self._known:  # a task is equal to itself only
                    raise BadWorkflow(
                        f"The argument '{name}' of '{step.name}' comes from another workflow.",
                        field=f"{step.name}.{name}",
                    )
        task = Task(step, arguments, over, when=when)
        self.tasks.append(task)
        self._known.add(task)
        return Output(task)

    def _check(self, step: Step, when: Condition) -> None:
        """Refuse a condition that nobody could decide."""
        of = when.task
        wrong = (
            f"of '{of.step.name}', which is of another workflow"
            if of not in self._known
            else f"of '{of.step.name}.map', which has many"
            if of.over is not None
            else f"of '{of.step.name}', which may be left out itself"
            if of.when is not None
            else ""
        )
        if wrong:
            raise BadWorkflow(
                f"'{step.name}' is to depend on the result {wrong}.",
                field=f"{step.name}.when",
                hint="Test the result of a step that always runs and returns one value; it may take None and say so.",
            )


def outputs_in(value: Any, where: str) -> list[Output]:
    """Return the outputs in an argument: the argument itself, or the members of a list or tuple."""
    return [one for one in unknowns_in(value, where) if isinstance(one, Output)]


def unknowns_in(value: Any, where: str) -> list[Unknown]:
    """Return what is not known yet in an argument: the argument itself, or the members of a list or tuple.

    Raises
    ------
    BadWorkflow
        If one hides deeper, where nobody could hand it over.
    """
    if isinstance(value, Unknown):
        return [value]
    if not isinstance(value, list | tuple | dict | set | frozenset):
        return []
    members = list(value.values()) if isinstance(value, dict) else list(value)
    direct = [one for one in members if isinstance(one, Unknown)]
    deeper = any(unknowns_in(one, where) for one in members if not isinstance(one, Unknown))
    if deeper or (direct and not isinstance(value, list | tuple)):
        raise BadWorkflow(
            "What is not known yet may be an argument, or a member of a list that is one, but not deeper inside.",
            field=where,
            hint="Give it an argument of its own.",
        )
    return direct


def names_of(items: Iterable[Task]) -> dict[int, str]:
    """Return the name of each task: the step's, with a number when the step is called several times."""
    tasks = list(items)
    counts: dict[str, int] = {}
    for one in tasks:
        counts[task_name(one.step.name)] = counts.get(task_name(one.step.name), 0) + 1
    taken = {base for base, count in counts.items() if count == 1}  # a step may be called train-1 itself
    seen: dict[str, int] = {}
    names: dict[int, str] = {}
    for one in tasks:
        name = base = task_name(one.step.name)
        if counts[base] > 1:
            while (name := f"{base}-{seen.get(base, 0)}") in taken:
                seen[base] = seen.get(base, 0) + 1
            seen[base] = seen.get(base, 0) + 1
        taken.add(name)
        names[id(one)] = name
    return names


def task_name(name: str) -> str:
    """Return a step's name as Argo writes names of tasks and templates."""
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower()).strip("-")
    return kept[:60] or "step"
