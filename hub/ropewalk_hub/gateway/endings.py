"""Why a worker ended before it answered: the limit that it met and how to ask for more, its crash, or its own doing.

Pure. Not here: noticing it (``link``, ``pool``), and failures that a worker tells of itself (``link.worker_error``).
"""

from __future__ import annotations

from ropewalk_core.errors import OutOfMemory, RopewalkError, Unavailable, UserCodeFailed
from ropewalk_core.local.host_client import StepExit
from ropewalk_core.model import FunctionSpec
from ropewalk_core.placement import format_size
from ropewalk_core.why import more_memory
from ropewalk_runtime.exec import MEMORY_EXIT, PROCESSOR_EXIT

_CRASHES = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV"}
_MI = 2**20


def ending(ended: StepExit, spec: FunctionSpec, memory: int, most: int, nonsense: str = "") -> RopewalkError:
    """Return the error of a call whose worker ended.

    Parameters
    ----------
    ended
        How it ended, as the zygote host says.
    spec
        The function's limits.
    memory, most
        Bytes that it might use, and that its machine has.
    nonsense
        What it wrote that was no frame, if it did.
    """
    if ended.reason == "memory" or ended.code == MEMORY_EXIT:
        return _out_of_memory(ended.peak_memory, memory, most)
    if spec.cpu_time and ended.code == PROCESSOR_EXIT:
        message = f"The call used more processor time than its limit of {spec.cpu_time} s."
        hint = f"Ask for more: `cpu_time={2 * spec.cpu_time}`, or compute less in one call."
        return UserCodeFailed(message, field="cpu_time", hint=hint)
    if ended.signal in _CRASHES:
        hint = "A library with compiled code failed. Run the same call in your notebook with .local(...)."
        return UserCodeFailed(f"The function crashed Python ({_CRASHES[ended.signal]}).", hint=hint)
    if nonsense:
        hint = "The code must leave the worker's own socket alone; return the answer instead."
        return UserCodeFailed("The function wrote into the connection to its worker.", hint=hint)
    if ended.code > 0 or (ended.code == 0 and not ended.signal):
        hint = "Something in it calls os._exit() or replaces the process; return or raise instead."
        return UserCodeFailed(f"The function ended its process with exit code {ended.code}.", hint=hint)
    return Unavailable("The worker that ran this call was ended.", hint="Call again; a new worker takes it.")


def _out_of_memory(peak: int, memory: int, most: int) -> OutOfMemory:
    used = f" (it had used {peak // _MI} MiB)" if peak else ""
    message = f"The function needed more memory than its limit of {format_size(memory)}{used}."
    return OutOfMemory(message, field="placement.memory", hint=more_memory(memory, most, function=True))
