"""A fork whose child begins in namespaces of its own, as a child of our own parent: one call of the kernel.

The usual way takes two forks (the first child leaves the namespaces, the second is the first process in the new ones),
and each copies the tables of all memory that a zygote has loaded. What `os.fork` does around the kernel's call is done
here too, by the functions that Python has for that; the C library's own handlers are for threads, of which a zygote has
none. Not here: what the child does then (``isolate``). Linux 5.3 or later on whose kernel nothing forbids ``clone3``;
else the usual way stays.
"""

from __future__ import annotations

import ctypes
import os

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_PARENT, _CHILD_CLEAR, _CHILD_SET = 0x8000, 0x200000, 0x1000000
_CLONE3, _GET_TID_ADDRESS = 435, 40
_libc = ctypes.PyDLL(None, use_errno=True)
"""Keeps Python's lock during a call, as `os.fork` does."""


class _Arguments(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls")
    ]


def fork_apart(*, network: bool = True) -> int:
    """Fork as `os.fork` does; the child is alone in its user, pid, ipc and mount namespaces.

    It has all capabilities there and nobody's identity until it is given one, and its parent is ours, who is told of
    its end.

    Parameters
    ----------
    network
        False gives it a network of its own too.

    Raises
    ------
    OSError
        If the kernel does not do that.
    """
    address = ctypes.c_void_p()
    if _libc.prctl(_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) or not address.value:
        raise OSError(ctypes.get_errno(), "the C library's note of the process id")
    space = _NEWUSER | _NEWPID | _NEWIPC | _NEWNS | (0 if network else _NEWNET)
    asked = _Arguments(flags=space | _PARENT | _CHILD_CLEAR | _CHILD_SET, child_tid=address.value)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(_libc.syscall(ctypes.c_long(_CLONE3), ctypes.byref(asked), ctypes.c_size_t(ctypes.sizeof(asked))))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    number = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, f"clone3: {os.strerror(number)}")
    return pid
