"""Opening a failed step: the same code with the same inputs, in this kernel, stopped where it raised.

`open_step` runs the step's own bundle again with the inputs that were written for the failed attempt. A person gets
the debugger at the failing line; where nobody can answer (`nbconvert --execute`, a test) only the `Opened` object
comes back. Not here: where the folder of an attempt lies (``runs``). Rejected: attaching to the dead process; its
memory is gone, and its inputs are not.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from ropewalk_kernel import values
from ropewalk_runtime.bundle import user_traceback


@dataclass(frozen=True)
class Opened:
    """A step opened with its own inputs.

    Parameters
    ----------
    function
        The step's function, as captured.
    inputs
        The keyword arguments of the failed attempt.
    result
        What it returned, when it does not fail here.
    exception
        What it raised here, or None.
    locals
        The variables of the frame that raised.
    traceback
        The traceback as text, from the person's first frame on.
    """

    function: Callable[..., Any]
    inputs: Mapping[str, Any]
    result: Any = None
    exception: BaseException | None = None
    locals: Mapping[str, Any] = field(default_factory=dict)
    traceback: str = ""

    def again(self, **changed: Any) -> Any:
        """Run the function here once more, with some inputs changed."""
        return self.function(**{**self.inputs, **changed})

    def __repr__(self) -> str:
        lines = [f"{getattr(self.function, '__name__', 'step')} opened with its own inputs:"]
        lines += [f"  {name} = {values.shown(value)}" for name, value in self.inputs.items()]
        if self.exception is None:
            return "\n".join([*lines, f"It does not fail here; it returned {values.shown(self.result)}"])
        lines += [f"It raises {type(self.exception).__name__}: {self.exception}", "Variables where it raised:"]
        lines += [f"  {name} = {values.shown(value)}" for name, value in self.locals.items()]
        return "\n".join(lines)


class _Caught:
    """Takes whatever the person's code raises; the only honest answer to code that may raise anything."""

    error: Exception | None = None

    def __enter__(self) -> _Caught:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self.error = error
            return True
        return False


def open_step(function: Callable[..., Any], inputs: Mapping[str, Any], *, shell: Any = None) -> Opened:
    """Run a step's function with its inputs; on a failure open the debugger if somebody can answer it.

    Parameters
    ----------
    shell
        The IPython shell; None, or one whose front end takes no input, means no debugger.
    """
    caught = _Caught()
    with caught:
        result = function(**inputs)
    if caught.error is None:
        return Opened(function, inputs, result=result)
    trace = _below_ours(caught.error.__traceback__)
    text = user_traceback(caught.error.with_traceback(trace))
    if can_answer(shell) and trace is not None:
        _debugger(trace)
    return Opened(function, inputs, None, caught.error, _variables(trace), text)


def can_answer(shell: Any) -> bool:
    """Say whether a person sits at this shell."""
    kernel = getattr(shell, "kernel", None)
    return bool(kernel is not None and getattr(kernel, "_allow_stdin", False))


def _below_ours(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the frame of this module."""
    return trace.tb_next if trace is not None and trace.tb_frame.f_code.co_filename == __file__ else trace


def _variables(trace: TracebackType | None) -> dict[str, Any]:
    """Return the local variables of the frame that raised; the person's last frame, not a library's."""
    chosen: dict[str, Any] = {}
    first = trace.tb_frame.f_code.co_filename if trace else ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == first:
            chosen = dict(trace.tb_frame.f_locals)
        trace = trace.tb_next
    return chosen


def _debugger(trace: TracebackType) -> None:
    from IPython.core import debugger

    prompt: Any = debugger.Pdb()
    prompt.reset()
    for frame, _ in traceback.walk_tb(trace):  # "cell [13]" is no path, so the debugger must not make it one
        prompt.fncache[frame.f_code.co_filename] = frame.f_code.co_filename
    prompt.interaction(None, trace)
