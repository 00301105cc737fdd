"""What a forked child does before user code: limits, environment, threads, standard streams; and running a command.

The only module of the runtime that touches the process's environment. Not here: namespaces (``isolate``), and what the
child then runs (``worker``, ``step``). Rejected: subprocess' preexec_fn (runs Python between fork and exec in a process
with threads); our children come from a zygote that has one thread.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence

MEMORY_EXIT = 86
"""Exit code of a Python child that ran out of memory; the keeper reports it as reason ``memory``."""
PROCESSOR_EXIT = int(signal.SIGXCPU)
"""Exit code of a worker whose call used more processor time than it may."""
SIGNALED_EXIT = 137
"""Exit code of a step that a signal ended, whichever it was, because Argo tells it so."""
NOT_FOUND_EXIT, NOT_EXECUTABLE_EXIT = 127, 126
SINGLE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
"""Variables that keep a zygote's libraries from starting threads, which do not survive a fork."""
_SETTERS = (
    "openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "scipy_openblas_set_num_threads64_",
    "omp_set_num_threads",
    "MKL_Set_Num_Threads",
)


def limit(memory: int | None, processes: int | None = None) -> None:
    """Set the kernel's limits on this process and its children.

    Parameters
    ----------
    memory
        Bytes of private writable memory (RLIMIT_DATA: a library that only reserves addresses is not punished).
    processes
        How many processes and threads there may be; only useful in an own user namespace, which counts for itself.
    """
    _set(resource.RLIMIT_CORE, 0)
    if memory:
        _set(resource.RLIMIT_DATA, memory)
    if processes:
        _set(resource.RLIMIT_NPROC, processes)


def join(groups: Sequence[int]) -> bool:
    """Move this process into control groups, by the files that list their members, and say whether it is in all.

    Where the kernel refuses that, the limits of `limit` are all there is.
    """
    joined = True
    for one in groups:
        try:
            os.write(one, b"0")
        except OSError:
            joined = False
    return joined


def allow_processor_time(seconds: int) -> None:
    """Let the kernel end this process with `PROCESSOR_EXIT` when it has used so many more seconds of processor time.

    The kernel counts whole seconds, so it may use up to one more. A program that it starts has as many for itself, and
    is ended by SIGXCPU. The handler is the C library's own ``_exit``: Python's would wait for compiled code to return,
    and the kernel's usual end of a process does not hold for the first one in a pid namespace, which a worker is.
    """
    libc = _libc()
    libc.signal(signal.SIGXCPU, libc._exit)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    until = math.ceil(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (until if hard == resource.RLIM_INFINITY else min(until, hard), hard))


def replace_environment(environment: Mapping[str, str]) -> None:
    """Make the process's variables exactly these, but for those of `set_threads`; most are so in the zygote already."""
    for name in set(os.environ) - set(environment) - set(SINGLE_THREAD):
        del os.environ[name]
    for name, value in environment.items():
        _set_variable(name, value)


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the process's variables with more of them, for a program that it starts."""
    return {**os.environ, **more}


def set_threads(cpu: float | None) -> None:
    """Raise the thread pools of the numeric libraries, which a zygote keeps at one, to what the child may use."""
    count = max(1, round(cpu)) if cpu else len(os.sched_getaffinity(0))
    for name in SINGLE_THREAD:
        _set_variable(name, str(count))
    for path in numeric_libraries():
        library = ctypes.CDLL(path)
        for setter in _SETTERS:
            function: Callable[[int], object] | None = getattr(library, setter, None)
            if function is not None:
                function(count)


def reseed() -> None:
    """Give the child random numbers of its own where the standard library's hook does not: numpy's global state."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def fresh_loop() -> None:
    """Forget the event loop that a module made in the zygote: its descriptors are closed, or would be shared."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        asyncio.set_event_loop_policy(type(asyncio.get_event_loop_policy())())


def redirect(log: int | None) -> None:
    """Make standard input empty, and standard output and error the log."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    target = null if log is None else log
    os.dup2(target, 1)
    os.dup2(target, 2)
    for descriptor in {null, target} - {0, 1, 2}:
        os.close(descriptor)


def close_others(kept: Collection[int]) -> None:
    """Close every descriptor but the standard ones and these: what a zygote has open is not the child's."""
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor not in kept:
            try:
                os.close(descriptor)
            except OSError:  # the one that listed the folder
                continue


def default_signals() -> None:
    """Make signals what they are in every Python; one that writes to who is gone gets an error and does not end."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def enter(folder: str) -> str:
    """Make the folder the working directory and the first place where modules are looked for.

    Return what is wrong when it cannot be opened: then the log has it, and the working directory is ``/``.
    """
    trouble = ""
    try:
        os.chdir(folder)
    except OSError as error:
        trouble = f"The working directory {folder} cannot be opened: {error.strerror}."
        say(trouble)
        os.chdir("/")
    sys.path[:] = [os.getcwd(), *[path for path in sys.path if path]]
    return trouble


def run_command(argv: Sequence[str]) -> int:
    """Run a program as our child, collect every orphan, and return its exit code (128 + n for signal n).

    As the first process of a pid namespace we are its init, which a program does not expect to be.
    """
    child = os.fork()
    if not child:
        _exec(argv)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def say(text: str) -> None:
    """Write a line to the log that the person reads."""
    os.write(2, (text.rstrip("\n") + "\n").encode(errors="replace"))


def _exec(argv: Sequence[str]) -> None:
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(argv[0], list(argv))  # noqa: S606 - no shell is wanted here
    except OSError as error:
        say(f"The program {argv[0]!r} cannot be started: {error.strerror}.")
        os._exit(NOT_FOUND_EXIT if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE_EXIT)


def _set_variable(name: str, value: str) -> None:
    if os.environ.get(name) != value:  # to compare is cheaper, and touches no page that we share with the zygote
        os.environ[name] = value


def _set(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (allowed, allowed))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@functools.cache
def numeric_libraries() -> frozenset[str]:
    """Return the libraries with thread pools that are loaded, as this process or the one it was forked from found them.

    A zygote asks once, so that a child need not read its whole map of memory.
    """
    with open("/proc/self/maps") as lines:
        paths = {line.rstrip("\n").split(" ", 5)[-1].strip() for line in lines}
    words = ("openblas", "libgomp", "libomp", "libiomp", "libmkl_rt")
    found = {path for path in paths if any(word in os.path.basename(path) for word in words)}
    return frozenset(path for path in found if path.startswith("/"))
