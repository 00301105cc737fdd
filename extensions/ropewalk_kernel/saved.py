"""Saved workflows in a notebook: ``train.save()``, ``ropewalk.workflows.get("train").launch(rate=0.1)``, triggers.

Not here: what is sent (``ropewalk_workflows.compile.saving``), and what a launch makes of arguments (the platform).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from ropewalk_core import sync
from ropewalk_core.flows import Argument, Run, Saved
from ropewalk_kernel import cards, live, triggers
from ropewalk_kernel.runs import Listed, RunHandle
from ropewalk_kernel.submit import prepare
from ropewalk_kernel.workflows import working_folder
from ropewalk_workflows import compile as compiler

_MOST_LOOKED_AT = 500
_LONGEST_SHOWN = 60


def save(workflow: Any, name: str = "", **options: Any) -> SavedWorkflow:
    """Keep a workflow on the platform, to be launched with other arguments, by anyone of your surfaces, or by itself.

    Parameters
    ----------
    workflow
        A ``@workflow`` function, any ``hera.workflows.Workflow``, or an Argo manifest as YAML text or dictionary.
    name
        What it will be called; its own name if empty. One of that name is replaced, and keeps its triggers.
    options
        Fixed values of arguments by name, and what launches it by itself: ``every``, ``zone``, ``after``, ``when``,
        ``on_file``, ``existing`` or ``triggers``, as of functions. An argument of such a name cannot be fixed.

    Raises
    ------
    BadWorkflow
        If an argument must be known to put the steps together; it is named, and fixing it is the way out.

    Examples
    --------
    >>> import ropewalk
    >>> @ropewalk.step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> @ropewalk.workflow
    ... def work(x: int = 21):
    ...     return double(x)
    >>> work.save()
    """
    folder = working_folder()
    wished = triggers.wished(options)
    fixed = {key: value for key, value in options.items() if key not in triggers.OPTIONS}
    spec = compiler.to_save(workflow, name, fixed)
    spec = spec.model_copy(update={"run": spec.run.model_copy(update={"folder": folder})})
    prepare(spec.run)
    saved = sync.wait(sync.client().saved.save(spec))
    handle = SavedWorkflow(saved)
    said = triggers.choose(saved.name, wished, "workflow") if wished is not None else ""
    launched = f"; launched {said}" if said else ""
    live.show(cards.notice(f"workflow {saved.name} is saved, version {saved.version}{launched}"))
    return handle


class SavedWorkflow(triggers.Triggered, cards.Pictured):
    """A saved workflow.

    Parameters
    ----------
    saved
        As it was last seen.
    """

    _kind = "workflow"

    def __init__(self, saved: Saved) -> None:
        self._saved = saved
        self.name = saved.name

    def info(self) -> Saved:
        """Return it as it is now, with its manifest and code."""
        self._saved = sync.wait(sync.client().saved.get(self.name))
        return self._saved

    def launch(self, *, fresh: bool = False, **arguments: Any) -> RunHandle:
        """Start a run with these arguments, and the defaults of all others; show its card.

        Parameters
        ----------
        fresh
            Run every step; without it steps take results of earlier runs where code, inputs and packages are the same.
        arguments
            By name: numbers, text, True, False, None, lists and dicts.

        Raises
        ------
        BadInput
            If a value is missing or does not fit; the argument is named.

        Examples
        --------
        >>> import ropewalk
        >>> for one in ropewalk.workflows.list():
        ...     if not any(argument.required for argument in one.arguments):
        ...         one.launch()
        """
        run = sync.wait(sync.client().saved.launch(self.name, arguments, fresh=fresh))
        return RunHandle(run).show(f"run {run.id} of {run.name}: launched")

    @property
    def arguments(self) -> Sequence[Argument]:
        """What a launch may give."""
        return self._saved.spec.arguments

    def manifest(self) -> str:
        """Return the Argo manifest as YAML; arguments are parameters of it."""
        return compiler.to_yaml(self.info().spec.run.manifest)

    def runs(self, limit: int = 20) -> Listed:
        """Return the latest runs of this name, newest first."""
        return Listed(tuple(_runs(self.name, limit)))

    def remove(self) -> None:
        """Forget it with its triggers; runs of it stay."""
        sync.wait(sync.client().saved.remove(self.name))
        live.show(cards.notice(f"workflow {self.name} is not saved any more; its runs stay"))

    def _fired(self, made: Any) -> RunHandle:
        return RunHandle(made).show(f"run {made.id} of {made.name}: launched")

    def _picture(self) -> cards.Picture:
        rows = [(one.name, _kind(one), "required" if one.required else _shown(one)) for one in self.arguments]
        empty = f"workflow {self.name}: it takes no arguments. .launch() starts a run."
        title = f"workflow {self.name}, version {self._saved.version}"
        return cards.listing(title, ("argument", "takes", "default"), rows, empty=empty)


class SavedWorkflows:
    """Your saved workflows: ``workflows.get(name)``, ``workflows.list()``.

    Examples
    --------
    >>> import ropewalk
    >>> ropewalk.workflows.list()
    """

    def get(self, name: str) -> SavedWorkflow:
        """Return one by name, or raise `NotFound`.

        Examples
        --------
        >>> import ropewalk
        >>> [ropewalk.workflows.get(one.name) for one in ropewalk.workflows.list(limit=2)]
        """
        return SavedWorkflow(sync.wait(sync.client().saved.get(name)))

    def list(self, limit: int = 50) -> ListedSaved:
        """Return saved workflows by name.

        Examples
        --------
        >>> import ropewalk
        >>> ropewalk.workflows.list()
        """
        return ListedSaved(sync.wait(sync.client().saved.list(limit=limit)).items)

    def __getitem__(self, name: str) -> SavedWorkflow:
        return self.get(name)

    def _ipython_key_completions_(self) -> Sequence[str]:
        return [one.name for one in self.list().items]

    def __repr__(self) -> str:
        return repr(self.list())


class ListedSaved(cards.Pictured):
    """A list of saved workflows that reads well in a notebook; iterate over it for handles."""

    def __init__(self, items: tuple[Saved, ...]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[SavedWorkflow]:
        return iter([SavedWorkflow(one) for one in self.items])

    def __len__(self) -> int:
        return len(self.items)

    def _picture(self) -> cards.Picture:
        rows = [
            (
                one.name,
                ", ".join(each.name for each in one.spec.arguments),
                str(one.version),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(one.changed)),
            )
            for one in self.items
        ]
        empty = "No saved workflows yet. Call .save() on a workflow."
        return cards.listing("saved workflows", ("workflow", "arguments", "version", "saved"), rows, empty=empty)


workflows = SavedWorkflows()


def _runs(name: str, limit: int) -> Iterator[Run]:
    looked_at = islice(sync.iterate(sync.client().workflows.all()), _MOST_LOOKED_AT)
    return islice((run for run in looked_at if run.name == name), limit)


def _kind(one: Argument) -> str:
    if isinstance(offered := one.takes.get("enum"), list):
        return f"one of {', '.join(map(json.dumps, offered))}"[:80]
    return str(one.takes.get("type") or "any value")


def _shown(one: Argument) -> str:
    text = json.dumps(one.takes.get("default"), ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
