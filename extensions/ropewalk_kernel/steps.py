"""The steps of a run in a notebook: results as Python values, logs, artifacts, and the debugger for a failed one.

Values come back through the run's artifacts; a pickle is only ever loaded here, in the kernel of the person whose run
wrote it. Not here: the run as a whole (``runs``) and how a step is opened (``debug``).
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from IPython import get_ipython

from ropewalk_core import flows, settings, sync
from ropewalk_core.errors import NotFound, Unavailable, UserCodeFailed
from ropewalk_core.flows import Run, Step
from ropewalk_core.lineage import maker
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import State
from ropewalk_kernel import cards, debug, lineages, look, pictures, spooled
from ropewalk_kernel.executed import Executed
from ropewalk_runtime import bundle
from ropewalk_runtime.notebooks import NOTEBOOK
from ropewalk_runtime.step import load_attempt
from ropewalk_runtime.values import decode, load

RESULT = "result"
_opened: list[tempfile.TemporaryDirectory[str]] = []
_KEPT, _OF_A_STEP = 200, 20
_SMALL = 2**20
"""Bytes of a file that is read into memory."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ASKED_AT_ONCE, _ASKED_LAST = 4, 12
_LAST = 16 * 1024
"""Bytes at the end of a log that are looked at: a step may print faster than anybody can fetch."""


class Artifact:
    """A file that a run wrote. ``value()`` for Python objects, ``read()`` for bytes, ``save(path)`` for a file."""

    def __init__(self, run: str, artifact: flows.Artifact) -> None:
        self.run, self.info = run, artifact

    def read(self) -> bytes:
        """Return the content."""
        return b"".join(sync.iterate(sync.client().workflows.artifact(self.run, self.info.digest)))

    def value(self) -> Any:
        """Return the Python value that the step returned or wrote.

        Arrays use the file as it lies, which takes no memory: the account's own where it is on this machine, else a
        copy without a name.
        """
        here = _sound_file(self.info.digest)
        if here is not None:
            return load(here)
        if self.info.size <= _SMALL:
            return decode(self.read())
        with tempfile.NamedTemporaryFile(dir=spooled.folder()) as file:
            for chunk in sync.iterate(sync.client().workflows.artifact(self.run, self.info.digest)):
                file.write(chunk)
            file.flush()
            return load(file.name)

    def lineage(self) -> cards.Picture:
        """Return what it comes from: the step that made it and the steps before that one."""
        run = sync.wait(sync.client().workflows.get(self.run))
        return lineages.picture(run, maker(run, self.info.digest))

    def save(self, path: str | Path) -> Path:
        """Write the content to a file beside the notebook and return its path."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        try:
            with partial.open("wb") as file:
                for chunk in sync.iterate(sync.client().workflows.artifact(self.run, self.info.digest)):
                    file.write(chunk)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target

    def _repr_html_(self) -> str:
        facts = f"{self.info.name}: {pictures.words(self.info)}"
        return cards.framed(facts, pictures.inside(self.info), repr(self)).html

    def __repr__(self) -> str:
        return f"<artifact {self.info.name}, {self.info.size:,} bytes, {self.info.media_type}>"


class StepHandle:
    """One step of a run: ``.result``, ``.inputs``, ``.logs()``, ``.debug()``."""

    def __init__(self, run: str, step: Step, fetch: Callable[[], Run]) -> None:
        self._run, self._step, self._fetch = run, step, fetch

    @property
    def name(self) -> str:
        """The step's name."""
        return self._step.name

    @property
    def state(self) -> State:
        """The state now."""
        return self.info().status.state

    def info(self) -> Step:
        """Return the step as it is now."""
        self._step = next(one for one in self._fetch().steps if one.id == self._step.id)
        return self._step

    def answer(self, *, ok: bool = True, message: str = "") -> StepHandle:
        """End this pause, at which the run stands: what follows goes on, or it failed."""
        sync.wait(sync.client().workflows.answer(self._run, [self._step.id], ok=ok, message=message))
        return self

    @property
    def why(self) -> str:
        """Why it ran although there are earlier runs, whose result it has instead, or what it waits for."""
        return look.why_text(self.info().status)

    @property
    def inputs(self) -> dict[str, Any]:
        """What the step was called with, as the run shows it."""
        return dict(self.info().inputs)

    @property
    def result(self) -> Any:
        """What the step returned.

        Raises
        ------
        UserCodeFailed
            If the step failed; the traceback is its own.
        """
        step = self.info()
        if step.status.state is State.FAILED:
            raise UserCodeFailed(
                f"Step {step.name} failed: {step.error}",
                field=f"step {step.name}",
                hint=opening(self._run, step.name),
                details={"traceback": step.traceback},
            )
        return value_of(self._run, step)

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """The files the step wrote, by name."""
        return {one.name: Artifact(self._run, one) for one in self.info().artifacts}

    @property
    def notebook(self) -> Executed:
        """The executed notebook, of a step that is one; of a failed one as far as it came.

        Raises
        ------
        NotFound
            If there is none.
        """
        files = self.artifacts
        if NOTEBOOK not in files:
            hint = "A step of ropewalk.notebook(...) has one when it has ended, unless it was ended from outside."
            raise NotFound(f"Step {self.name} has no executed notebook.", field=f"step {self.name}", hint=hint)
        return Executed(files)

    @property
    def error(self) -> str:
        """What it failed with; empty when it did not."""
        return self.info().error

    @property
    def traceback(self) -> str:
        """The traceback of its failure, from the person's own first frame on."""
        return self.info().traceback

    def lines(self, *, after: int = 0, follow: bool = False) -> Iterator[str]:
        """Yield log lines; with ``follow`` until the step ends."""
        logs = sync.client().workflows.logs(self._run, self._step.id, after=after, follow=follow)
        return (line.text for line in sync.iterate(logs))

    def logs(self) -> str:
        """Return what the step printed."""
        lines = sync.every(sync.client().workflows.logs(self._run, self._step.id))
        return "\n".join(line.text for line in lines)

    def lineage(self) -> cards.Picture:
        """Return what its result comes from: the steps before it, with what each was given."""
        run = self._fetch()
        return lineages.picture(run, next(one for one in run.steps if one.id == self._step.id))

    @property
    def code(self) -> str:
        """The code that ran, as it travelled."""
        return lineages.code(sync.wait(sync.client().workflows.inputs(self._run, self._step.id)).bundle)

    def debug(self) -> debug.Opened:
        """Run the step here with its own inputs and open the debugger where it fails.

        Where nobody can answer a debugger, only the returned object says what was found: ``.inputs``, ``.exception``,
        ``.locals``.
        """
        step = self.info()
        folder = attempt_folder(self._run, step)
        attempt = load_attempt(folder if (folder / "inputs.json").is_file() else _fetched(self._run, step))
        return debug.open_step(attempt.function, attempt.arguments, shell=get_ipython())

    def __repr__(self) -> str:
        took = look.duration(self._step.started, self._step.ended)
        return f"<step {self.name}, {self._step.status.state.value}{f', {took}' if took else ''}>"


class StepGroup:
    """The steps of a fan-out under one name; iterate over it, or ask for all results at once."""

    def __init__(self, name: str, steps: list[StepHandle]) -> None:
        self.name, self._steps = name, steps

    def __iter__(self) -> Iterator[StepHandle]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> StepHandle:
        return self._steps[index]

    @property
    def result(self) -> list[Any]:
        """What each step returned, in order."""
        return [one.result for one in self._steps]

    def logs(self) -> str:
        """Return what all of them printed, each line with its step."""
        return "\n".join(f"{one.name} | {line}" for one in self._steps for line in one.logs().splitlines())

    def debug(self) -> debug.Opened:
        """Open the first of them that failed."""
        failed = [one for one in self._steps if one.state is State.FAILED]
        if not failed:
            one = self._steps[0]
            raise NotFound(f"No step of {self.name} failed.", field="step", hint=opening(one._run, one.name))
        return failed[0].debug()

    def __repr__(self) -> str:
        return f"<{len(self)} steps of {self.name}>"


def _fetched(run: str, step: Step) -> Path:
    """Return a folder that holds what a step was called with, asked of the platform.

    Raises
    ------
    NotFound
        If the platform has no such inputs.
    """
    try:
        given = sync.wait(sync.client().workflows.inputs(run, step.id))
    except NotFound as error:
        raise NotFound(
            f"The inputs of step {step.name} are not on this machine.",
            field=f"step {step.name}",
            hint="Only a step that started has inputs; those of old runs may have been removed.",
        ) from error
    folder = tempfile.TemporaryDirectory(prefix="ropewalk-step-")
    _opened.append(folder)  # its code is read again for as long as somebody looks at it
    root = Path(folder.name)

    def placed(reference: dict[str, Any]) -> dict[str, Any]:
        if "list" in reference:
            return {"list": [placed(one) for one in reference["list"]]}
        if "digest" not in reference:
            return reference
        path = root / str(reference["digest"])
        path.write_bytes(b"".join(sync.iterate(sync.client().workflows.artifact(run, path.name))))
        return {"file": str(path)}

    code = bundle.write(root / "code", given.bundle.model_dump(mode="json"))
    arguments = {name: placed(one) for name, one in given.arguments.items()}
    (root / "inputs.json").write_text(json.dumps({"bundle": str(code), "arguments": arguments}), encoding="utf-8")
    return root


def opening(run: str, step: str) -> str:
    """Return the hint that opens a step; its code runs as copied, whatever the run is called in the notebook."""
    place = f"ropewalk.runs.get({json.dumps(run)})[{json.dumps(step)}]"
    return f"Open it with its own inputs: import ropewalk; {place}.debug()"


class Tail:
    """The last lines that the steps of a run printed, read a little further each time it is asked."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._offsets: dict[tuple[str, int], int] = {}
        self._asked: dict[str, int] = {}
        self._read: set[tuple[str, int]] = set()
        self._lines: list[str] = []
        self.of_steps: dict[str, list[str]] = {}
        """The last lines of each step's last attempt, by the step's identifier."""

    def lines(self, run: Run) -> list[str]:
        """Return the newest lines; only steps that run, or ended since, are asked for more, each in its turn."""
        waiting = [one for one in run.steps if one.started is not None and (one.id, one.attempt) not in self._read]
        waiting.sort(key=lambda one: (self._asked.get(one.id, 0), one.started))
        if run.status.state.terminal:  # nobody asks again: the newest count
            waiting.sort(key=lambda one: one.ended or 0.0)
            self._read.update((one.id, one.attempt) for one in waiting[:-_ASKED_LAST])
            waiting = waiting[-_ASKED_LAST:]
        else:
            waiting = waiting[:_ASKED_AT_ONCE]
        for step in waiting:
            self._asked[step.id] = self._asked.get(step.id, 0) + 1
            try:
                self._lines += self._more(step)
            except (Unavailable, TimeoutError):  # the card shows what it has, and asks again when it is drawn again
                break
            if step.status.state.terminal:
                self._read.add((step.id, step.attempt))
        self._lines = self._lines[-_KEPT:]
        return list(self._lines)

    def _more(self, step: Step) -> list[str]:
        logs = sync.client().workflows.logs(self._run, step.id, after=-_LAST)
        key = (step.id, step.attempt)
        new = [line for line in sync.every(logs, sync.ANSWER) if line.offset > self._offsets.get(key, 0)]
        before = self.of_steps.get(step.id, []) if key in self._offsets else []
        self.of_steps[step.id] = [*before, *(line.text for line in new)][-_OF_A_STEP:]
        self._offsets[key] = max([self._offsets.get(key, 0), *(line.offset for line in new)])
        return [f"{step.name} | {line.text}" for line in new]


def value_of(run: str, step: Step) -> Any:
    """Return what a step returned: from its result artifact, or from its output parameter."""
    for one in step.artifacts:
        if one.name == RESULT:
            return Artifact(run, one).value()
    return step.outputs.get(RESULT)


def outputs_of(run: Run) -> Any:
    """Return what a workflow returned, in the shape in which it returned it.

    A manifest that is not ours may name no outputs; then it is the value of its last step, or of each of its last
    steps by name.
    """
    if run.source == "workflow":
        return _given_back(run.id, run.outputs.get(RESULT))
    if run.outputs:
        found = {name: _given_back(run.id, one) for name, one in run.outputs.items()}
        return found[RESULT] if set(found) == {RESULT} else found
    needed = {need for step in run.steps for need in step.needs}
    last = [step for step in run.steps if step.id not in needed]
    values = {step.name: value_of(run.id, step) for step in last}
    return next(iter(values.values())) if len(values) == 1 else values


def _given_back(run: str, output: Any) -> Any:
    """Return an output's value: that of an artifact, of each artifact in a list or dict, or the text itself."""
    if isinstance(output, list):
        return [_given_back(run, one) for one in output]
    if not isinstance(output, dict):
        return output
    if {"digest", "media_type"} <= output.keys():
        facts = {key: output.get(key) for key in ("digest", "media_type")}
        found = Artifact(run, flows.Artifact(name=RESULT, size=int(output.get("size") or 0), **facts))
        return found.read() if output["media_type"] == "application/octet-stream" else found.value()
    return {name: _given_back(run, one) for name, one in output.items()}


def attempt_folder(run: str, step: Step) -> Path:
    """Return the folder of a step's last attempt, inside this account's part of the machine."""
    return _paths().attempt(run, step.id, step.attempt)


def _paths() -> AccountPaths:
    files = Path(settings.read_environment("HOME") or "/")
    account = settings.read_environment("ROPEWALK_ACCOUNT") or files.parent.name
    return AccountPaths(files.parent.parent.parent, account)


def _sound_file(digest: str) -> Path | None:
    """Return where a file of the account lies on this machine, if it is there and nobody changed it."""
    if not _DIGEST.fullmatch(digest):
        return None
    path = _paths().artifacts / digest[:2] / digest
    try:
        with path.open("rb") as file:
            return path if hashlib.file_digest(file, "sha256").hexdigest() == digest else None
    except OSError:
        return None
