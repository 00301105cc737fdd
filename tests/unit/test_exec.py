"""What a forked child is given before user code: signals as in every Python, and as in every program."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

from ropewalk_runtime import exec as execution


def ignored(status: str) -> set[int]:
    """Return the signals that a process ignores, by its own words."""
    found = re.search(r"SigIgn:\s+([0-9a-f]+)", status)
    assert found is not None
    return {number for number in range(1, 32) if int(found[1], 16) >> (number - 1) & 1}


def in_a_child(work: str) -> str:
    """Run some lines in a fresh Python whose parent left its signals in disorder, and return what they print."""
    disorder = "import os, signal, sys\nfrom ropewalk_runtime import exec as execution\n"
    disorder += "for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGCHLD):\n"
    disorder += (
        "    signal.signal(number, lambda *_: None)\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
    )
    argv = [sys.executable, "-c", disorder + "execution.default_signals()\n" + work]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_python_gets_an_error_where_a_program_would_be_ended() -> None:
    """A worker that writes to a process which has closed its input, or to a caller that left, must live on."""
    said = in_a_child("print(open('/proc/self/status').read())")
    assert signal.SIGPIPE in ignored(said) and signal.SIGTERM not in ignored(said)
    writing = "read, write = os.pipe()\nos.close(read)\ntry:\n    os.write(write, b'x')\nexcept BrokenPipeError:\n"
    assert in_a_child(writing + "    print('an error')") == "an error\n"


def test_a_program_gets_what_it_is_used_to() -> None:
    run = "sys.exit(execution.run_command(['cat', '/proc/self/status']))"
    assert not ignored(in_a_child(run)) & {signal.SIGPIPE, signal.SIGINT, signal.SIGTERM}
    by_itself = (
        "import subprocess\nprint(subprocess.run(['cat', '/proc/self/status'], capture_output=True).stdout.decode())"
    )
    assert signal.SIGPIPE not in ignored(in_a_child(by_itself))
    pipe = "sys.exit(execution.run_command(['sh', '-c', 'yes | head -n 1; echo ended']))"
    assert in_a_child(pipe) == "y\nended\n"


def test_descriptors_that_are_not_its_own_are_closed() -> None:
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        execution.close_others([write])
        left = sorted(int(name) for name in os.listdir("/proc/self/fd"))
        os.write(write, str([one for one in left if one > 2 and one != write]).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with open(read) as answer:
        assert len(answer.read().strip("[]").split(",")) == 1  # the listing's own
