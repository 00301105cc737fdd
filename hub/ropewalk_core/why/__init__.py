"""Why: errors, exits and waits become a cause and a next step. One translator for every surface.

Pure. Pages, magics and the command line print what it returns and add no words of their own. Not here: the words of an
error itself, which stand where it is raised.
"""

from __future__ import annotations

import signal as signals

from ropewalk_core.errors import Internal, OutOfMemory, RopewalkError, TimedOut, UserCodeFailed
from ropewalk_core.model import Why
from ropewalk_core.placement import format_size

_MI = 2**20


def from_error(error: RopewalkError) -> Why:
    """Return the cause and next step of one of our errors; an internal one keeps its message to the log."""
    problem = error.problem()
    return Why(cause=problem["message"], next=problem["hint"], code=problem["code"])


def from_exception(error: BaseException) -> Why:
    """Return the cause and next step of any exception; what is not ours is our own fault."""
    return from_error(error if isinstance(error, RopewalkError) else Internal(repr(error)))


def exited(
    what: str,
    *,
    code: int = 0,
    signal: int = 0,
    reason: str = "",
    memory: int = 0,
    most: int = 0,
    seconds: float = 0.0,
) -> RopewalkError:
    """Return the error for a process of the person's that ended on its own.

    Parameters
    ----------
    what
        The thing in the person's words, such as ``The step 'train'``.
    code, signal
        How it ended, as the operating system says.
    reason
        ``memory`` or ``time`` when a limit ended it, ``ended`` when somebody asked for it.
    memory, seconds
        The limits it ran under, for the message; 0 leaves them out.
    most
        The memory of its machine, as in `more_memory`.
    """
    if reason == "memory" or (signal == signals.SIGKILL and reason == ""):
        limit = f" It may use {format_size(memory)}." if memory else ""
        hint = more_memory(memory, most) if memory else None
        return OutOfMemory(f"{what} ran out of memory and was ended.{limit}", field="placement.memory", hint=hint)
    if reason == "time":
        limit = f" after {seconds:g} s" if seconds else ""
        return TimedOut(f"{what} ran over its time and was ended{limit}.", field="timeout")
    if reason == "ended":
        return UserCodeFailed(f"{what} was ended.", hint="Start it again when you need it.")
    if signal:
        return UserCodeFailed(
            f"{what} was ended by {_signal_name(signal)}.", hint="Look at its log for the last lines."
        )
    return UserCodeFailed(f"{what} ended with exit code {code}.", hint="Look at its log for the last lines.")


def more_memory(limit: int, most: int, *, function: bool = False) -> str:
    """Return the next step of who ran out of memory.

    Parameters
    ----------
    limit
        What it might use, in bytes.
    most
        What the machine has; 0 when nobody knows.
    function
        Whether it is a function's cell that asks, which has an option for it.
    """

    def asked(size: int) -> str:
        said = f'`Placement(memory="{format_size(size)}")`'
        return f"`%%function --memory {format_size(size)}`, which is {said}" if function else said

    wanted, all_of_it = 2 * -(-limit // _MI) * _MI, most // _MI * _MI
    if most and all_of_it <= limit:
        return f"This machine has no more memory ({most / 2**30:.1f} GiB). Use less at a time, or a larger machine."
    if most and all_of_it < wanted:
        return f"Ask for all that this machine has: {asked(all_of_it)}, or use less."
    return f"Ask for more: {asked(wanted)}, or use less."


def waiting(what: str, for_what: str, *, next_step: str = "") -> Why:
    """Return the cause of a wait: ``what`` waits for ``for_what``."""
    return Why(cause=f"{what} waits for {for_what}.", next=next_step or "Nothing to do; it starts by itself.")


def restarting(what: str, *, attempt: int, seconds: float) -> Why:
    """Return the cause of a restart with back-off."""
    return Why(
        cause=f"{what} ended and starts again in {seconds:.0f} s (attempt {attempt}).",
        next="Look at its log if this goes on.",
    )


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
