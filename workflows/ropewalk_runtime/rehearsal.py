"""A whole life with a function that does nothing: a worker's or a step's. What a spare does while it waits.

A child has its zygote's memory, but the kernel gives it each page only when it is first used, which together takes as
long as all else that a cold call or a step does. So a spare uses most of them before it has an order. Nothing of an
order, and nothing that a person wrote, is known here. Not here: what is left to be done with the order (``zygote``).
"""

from __future__ import annotations

import os
import shutil
import socket
import sys

from ropewalk_runtime import step as steps
from ropewalk_runtime import worker
from ropewalk_runtime.frames import pack

_BUNDLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rehearsed")
_CALL = {"id": 1, "call": "rehearsal", "caller": "", "type": "application/json"}
_FOLDER = "/tmp/.ropewalk-rehearsal"  # noqa: S108 - in the child's own /tmp, which nobody else sees


def call() -> None:
    """Load the bundle and answer one call. Standard output and error are closed afterwards, or somebody else's."""
    path = list(sys.path)
    gateway, ours = socket.socketpair()
    with gateway, ours:
        gateway.sendall(pack(_CALL, b"1"))
        gateway.shutdown(socket.SHUT_WR)
        worker.main(ours, {"bundle": _BUNDLE})
    sys.path[:] = path


def step() -> None:
    """Run one attempt of a step, and leave nothing of it."""
    path = list(sys.path)
    os.mkdir(_FOLDER)
    inputs = {"bundle": _BUNDLE, "arguments": {"value": {"json": "1"}}, "store": f"{_FOLDER}/store"}
    steps.main(_FOLDER, inputs=inputs)
    shutil.rmtree(_FOLDER)
    sys.path[:] = path
