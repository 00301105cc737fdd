"""Runs in a notebook: wait, look, results as Python values, logs, a failed step in the debugger; found again by id.

A run handle holds an identifier and the last state it saw, so ``runs.last()`` after a kernel restart is as good as
the one that submitted. Not here: submitting (``submit``) and drawing (``cards``).
"""

from __future__ import annotations

import asyncio
import builtins
import json
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from ropewalk_core import sync
from ropewalk_core.comparison import MOST_RUNS
from ropewalk_core.errors import NotFound, OutOfMemory, RopewalkError, StorageFull, TimedOut, UserCodeFailed
from ropewalk_core.flows import Run, RunSpec
from ropewalk_core.model import State
from ropewalk_kernel import actions, bar, cards, live, look, run_cards
from ropewalk_kernel.compared import Comparison, compare
from ropewalk_kernel.graph import stem
from ropewalk_kernel.steps import Artifact, StepGroup, StepHandle, Tail, opening, outputs_of
from ropewalk_workflows import copies

_FAILURES = {one.code: one for one in (OutOfMemory, StorageFull, TimedOut)}
_DONE = {
    "stop": "It is being stopped.",
    "suspend": "No further step starts.",
    "resume": "It goes on.",
    "retry": "It runs again from the failed steps.",
}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_LARGEST_COPIED = 50_000
"""Characters of a manifest whose copies stand in the card."""


class RunHandle:
    """One run of a workflow. ``run.wait()``, ``run.result()``, ``run["train"].logs()``.

    Parameters
    ----------
    run
        The run as it was last seen.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._tail = Tail(run.id)
        self._card: live.Card[Run] | None = None
        self._wish: RunSpec | None = None
        self._cards: builtins.list[live.Card[Run]] = []

    @property
    def id(self) -> str:
        """The run's identifier."""
        return self._run.id

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self._run.name

    @property
    def unchanged(self) -> bool:
        """Whether submitting found the same run in place."""
        return self._run.unchanged

    @property
    def state(self) -> State:
        """The state now."""
        return self.info().status.state

    def info(self) -> Run:
        """Return the run as it is now."""
        self._run = sync.wait(sync.client().workflows.get(self.id))
        return self._run

    def show(self, line: str = "") -> RunHandle:
        """Put the run's live card under the cell."""
        buttons: builtins.list[actions.Buttons] = []
        picture = self._drawer(line)

        def draw(run: Run) -> cards.Picture:
            for one in buttons:
                one.follow(run)
            return picture(run)

        def beside(run: Run) -> None:
            if actions.possible():
                buttons.append(actions.Buttons(run, self._act))
                buttons[0].show()

        self._card = live.Card(self.info, draw, lambda run: run.status.state.terminal, beside)
        self._cards.append(self._card)
        self._card.open(self._run)
        return self

    def _act(self, name: str) -> actions.Answer:
        """Carry out an act of the card's buttons, by its name there."""
        if name in actions.COPIES:
            text = {"yaml": self.as_yaml, "hera": self.as_hera, "python": self.as_python}[name]()
            title = actions.COPIES[name]
            return actions.Answer(f"Copied as {title}." if text else f"It was not made of {title}.", text)
        if name in ("stop", "suspend", "resume"):
            {"stop": self.cancel, "suspend": self.suspend, "resume": self.resume}[name]()
        elif name == "retry":
            self._run = sync.wait(sync.client().workflows.retry(self.id))
        else:
            raise NotFound("There is no such action.", field="action")
        for card in self._cards:
            card.again(self._run)
        return actions.Answer(_DONE[name])

    def wait(self, timeout: float | None = None) -> RunHandle:
        """Wait until the run ends, and return it; the stop button leaves the run going.

        Raises
        ------
        TimedOut
            If it did not end within ``timeout`` seconds; it goes on.
        """
        end = None if timeout is None else time.monotonic() + timeout
        pause, line = _FIRST_PAUSE, bar.Line()
        try:
            while not self._ask(end).status.state.terminal:
                if end is not None and time.monotonic() > end:
                    raise TimedOut(f"Run {self.id} did not end within {timeout:g} s.", hint="Wait again: it goes on.")
                line.show(run_cards.said(self._run))
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
            line.show(run_cards.said(self._run))
        finally:
            line.end()
        self._settle()
        return self

    def result(self) -> Any:
        """Wait, and return what the workflow returned.

        Raises
        ------
        UserCodeFailed
            If a step failed; the traceback is the step's own.
        """
        self.wait()
        self.check()
        return outputs_of(self._run)

    def check(self) -> None:
        """Raise the failure of the first failed step, or say that the run was stopped."""
        state = self._run.status.state
        if state is State.FAILED:
            failed = next((step for step in self._run.steps if step.status.state is State.FAILED and step.error), None)
            if failed is None:
                raise UserCodeFailed(f"Run {self.id} failed. {look.why_text(self._run.status)}".strip())
            why = failed.status.why
            kind = _FAILURES.get(why.code if why else "", UserCodeFailed)
            raise kind(
                f"Step {failed.name} of run {self.id} failed: {failed.error}",
                field=f"step {failed.name}",
                hint=opening(self.id, failed.name) if kind is UserCodeFailed else None,
                details={"traceback": failed.traceback},
            )
        if state is State.STOPPED:
            raise UserCodeFailed(
                f"Run {self.id} was stopped.",
                hint=f'Go on with it: import ropewalk; ropewalk.runs.get("{self.id}").retry()',
            )

    @property
    def steps(self) -> builtins.list[StepHandle]:
        """The steps, in the order of the graph."""
        return [StepHandle(self.id, one, self.info) for one in self.info().steps if one.kind == "step"]

    def __getitem__(self, name: str) -> StepHandle | StepGroup:
        """Return a step by name; the name of a fan-out without its index gives all of its steps."""
        steps = [one for one in self.info().steps if one.kind == "step"]
        found = [one for one in steps if name in (one.name, one.id)] or [one for one in steps if stem(one.name) == name]
        if not found:
            known = ", ".join(one.name for one in steps) or "none yet"
            raise NotFound(f"Run {self.id} has no step '{name}'.", field="step", hint=f"Its steps are: {known}.")
        handles = [StepHandle(self.id, one, self.info) for one in found]
        return handles[0] if len(handles) == 1 else StepGroup(name, handles)

    def _ipython_key_completions_(self) -> builtins.list[str]:
        return [one.name for one in self.info().steps if one.kind == "step"]

    def artifact(self, name: str) -> Artifact:
        """Return an artifact by name, or by the name of the step that wrote it."""
        for step in self.info().steps:
            for one in step.artifacts:
                if name in (one.name, step.name, f"{step.name}.{one.name}"):
                    return Artifact(self.id, one)
        known = ", ".join(f"{step.name}.{one.name}" for step in self._run.steps for one in step.artifacts)
        raise NotFound(f"Run {self.id} has no artifact '{name}'.", field="artifact", hint=f"It has: {known or 'none'}.")

    def cancel(self, *, on_exit: bool = False) -> RunHandle:
        """Stop the run; finished steps keep their results.

        Parameters
        ----------
        on_exit
            Run the workflow's `on_exit` step all the same.
        """
        self._run = sync.wait(sync.client().workflows.cancel(self.id, on_exit=on_exit))
        return self

    def suspend(self) -> RunHandle:
        """Have no further step start until the run is resumed; those that run go on."""
        self._run = sync.wait(sync.client().workflows.suspend(self.id))
        return self

    def resume(self) -> RunHandle:
        """Have the run go on after `suspend`, and end the pauses at which it stands."""
        self._run = sync.wait(sync.client().workflows.resume(self.id))
        return self

    def retry(self) -> RunHandle:
        """Run the failed steps and what follows them again; finished steps are kept."""
        self._run = sync.wait(sync.client().workflows.retry(self.id))
        return self.show(f"run {self.id}: again from the failed steps")

    def remove(self) -> None:
        """Forget the run, once it has ended, with its logs and working files."""
        sync.wait(sync.client().workflows.remove(self.id))

    def logs(self) -> str:
        """Return the logs of all steps, each line with its step."""
        return "\n".join(f"{step.name} | {line}" for step in self.steps for line in step.logs().splitlines())

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.to_thread(self.result).__await__()

    def _ask(self, end: float | None) -> Run:
        self._run = sync.before(end, sync.client().workflows.get(self.id), self._run)
        return self._run

    def _settle(self) -> None:
        if self._card is not None:
            self._card.settle(self._run)

    def _drawer(self, line: str) -> Callable[[Run], cards.Picture]:
        from ropewalk_core.client import platform_origin  # half a second, which no kernel's start should cost

        origin = platform_origin()
        address = f"{origin}/workflows/{self.id}" if origin else ""

        def draw(run: Run) -> cards.Picture:
            logs, texts = self._tail.lines(run), self._copies() if run.status.state.terminal else {}
            return run_cards.draw(run, line=line, logs=logs, printed=self._tail.of_steps, copies=texts, address=address)

        return draw

    def _copies(self) -> dict[str, str]:
        """Return the run as text in several languages; nothing while the platform is away, or of what is long.

        Hera is among them where somebody loaded it, as a submit does: it takes half a second.
        """
        try:
            if len(json.dumps(self._wished().manifest)) > _LARGEST_COPIED:
                return {}
            texts = {"Argo YAML": self.as_yaml(), "Python": self.as_python()}
            return texts | {"Hera": self.as_hera()} if "hera.workflows" in sys.modules else texts
        except RopewalkError:
            return {}

    def _wished(self) -> RunSpec:
        if self._wish is None:
            self._wish = sync.wait(sync.client().workflows.spec(self.id))
        return self._wish

    def as_yaml(self) -> str:
        """Return the Argo manifest that the run was submitted with, as YAML."""
        return copies.as_yaml(self._wished())

    def as_hera(self) -> str:
        """Return a Hera program that makes an equal manifest."""
        return copies.as_hera(self._wished())

    def as_python(self) -> str:
        """Return the code of the run's steps and of its workflow, as it was taken from the notebook."""
        return copies.as_python(self._wished())

    def _ipython_display_(self) -> None:
        if self._card is None or not self._card.here():
            self.info()
            self.show()

    def __repr__(self) -> str:
        return f"<run {self.id} of {self.name}, {self._run.status.state.value}>"


class Runs:
    """Your runs: ``runs.last()``, ``runs.get(id)``, ``runs.list()``.

    Examples
    --------
    >>> import ropewalk
    >>> ropewalk.runs.list()
    """

    def last(self, name: str = "") -> RunHandle:
        """Return the newest run, of one workflow if its name is given.

        Examples
        --------
        >>> import ropewalk
        >>> for run in ropewalk.runs.list(limit=1):
        ...     print(ropewalk.runs.last().state)
        """
        for run in sync.iterate(sync.client().workflows.all()):
            if not name or run.name == name:
                return self.get(run.id)
        raise NotFound(
            f"There is no run of {name}." if name else "There is no run yet.",
            hint="Submit a workflow: best.submit(...).",
        )

    def get(self, run: str) -> RunHandle:
        """Return a run by its identifier, or raise `NotFound`.

        Examples
        --------
        >>> import ropewalk
        >>> [ropewalk.runs.get(run.id) for run in ropewalk.runs.list(limit=2)]
        """
        return RunHandle(sync.wait(sync.client().workflows.get(run)))

    def list(self, limit: int = 20) -> Listed:
        """Return the latest runs, newest first.

        Examples
        --------
        >>> import ropewalk
        >>> ropewalk.runs.list(limit=5)
        """
        return Listed(sync.wait(sync.client().workflows.list(limit=limit)).items)

    def compare(self, name: str, *, steps: Sequence[str] = (), limit: int = MOST_RUNS) -> Comparison:
        """Return the latest runs of a workflow side by side: what they were given against the numbers they returned.

        Parameters
        ----------
        name
            Of the workflow.
        steps
            Names of steps whose numbers are in the table too, as ``train.accuracy``.
        limit
            How many runs are read, at most 1,000.

        Raises
        ------
        NotFound
            If there is no run of this name.

        Examples
        --------
        >>> import ropewalk
        >>> for run in ropewalk.runs.list(limit=1):
        ...     print(ropewalk.runs.compare(run.name))
        """
        return compare(name, steps, limit)

    def __getitem__(self, run: str) -> RunHandle:
        return self.get(run)

    def _ipython_key_completions_(self) -> Sequence[str]:
        return [one.id for one in self.list().items]

    def __repr__(self) -> str:
        return repr(self.list())


class Listed(cards.Pictured):
    """A list of runs that reads well in a notebook; iterate over it for handles."""

    def __init__(self, items: tuple[Run, ...]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[RunHandle]:
        return iter([RunHandle(one) for one in self.items])

    def __len__(self) -> int:
        return len(self.items)

    def _picture(self) -> cards.Picture:
        rows = [(one.id, one.name, look.word(one.status), look.duration(one.created, one.ended)) for one in self.items]
        empty = "No runs yet. Write @step and @workflow functions, then call .submit() on the workflow."
        return cards.listing("runs", ("run", "workflow", "state", "took"), rows, empty=empty)


runs = Runs()
