"""What the caller reads when a worker ended: the limit, what was used, and what to ask for."""

from __future__ import annotations

from ropewalk_core.errors import OutOfMemory, RopewalkError, Unavailable, UserCodeFailed
from ropewalk_core.local.host_client import StepExit
from ropewalk_core.model import Bundle, FunctionSpec
from ropewalk_hub.gateway.endings import ending
from ropewalk_runtime.exec import PROCESSOR_EXIT

SPEC = FunctionSpec(name="f", bundle=Bundle(files={}, entry="c:h"), cpu_time=3)


def told(ended: StepExit, spec: FunctionSpec = SPEC, nonsense: str = "") -> RopewalkError:
    return ending(ended, spec, 256 * 2**20, 2**34, nonsense)


def test_out_of_memory_says_limit_peak_and_placement() -> None:
    error = told(StepExit(-9, 9, "memory", 300 * 2**20))
    assert isinstance(error, OutOfMemory) and error.field == "placement.memory"
    assert error.message == "The function needed more memory than its limit of 256Mi (it had used 300 MiB)."
    assert 'Placement(memory="512Mi")' in str(error.hint)
    assert told(StepExit(-9, 9, "memory")).message.endswith("256Mi.")


def test_processor_time_says_limit_and_option() -> None:
    error = told(StepExit(PROCESSOR_EXIT))
    assert type(error) is UserCodeFailed and error.field == "cpu_time"  # which nothing tries again by itself
    assert "its limit of 3 s." in error.message and "`cpu_time=6`" in str(error.hint)
    unlimited = told(StepExit(PROCESSOR_EXIT), SPEC.model_copy(update={"cpu_time": None}))
    assert "exit code 24" in unlimited.message


def test_other_ends_are_what_they_are() -> None:
    assert "SIGSEGV" in told(StepExit(-11, 11)).message
    assert "exit code 3" in told(StepExit(3)).message
    assert "connection" in told(StepExit(0), nonsense="no frame").message
    assert isinstance(told(StepExit(-9, 9, "ended")), Unavailable)
