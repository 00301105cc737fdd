"""Own namespaces for a child, by ctypes: siblings of one account cannot see, signal or read one another.

The child gets its own user, pid, ipc and mount namespace, a fresh /proc, /tmp and /dev/shm, no capability and no right
to make further namespaces. Works for an ordinary user whose sandbox did not forbid nested user namespaces. Linux only.
Not here: forking (``zygote``) and limits (``exec``). Rejected: one bubblewrap per worker (it execs, so nothing that
the zygote imported would survive).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import socket
import struct
from collections.abc import Sequence

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000
_READ_ONLY, _REMOUNT, _NOATIME, _NODIRATIME, _RELATIME = 1, 0x20, 0x400, 0x800, 0x200000
_SET_PDEATHSIG, _SET_NAME, _SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = 1, 15, 36, 38
_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


_OURSELVES = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()


def become_subreaper() -> None:
    """Let orphans among our descendants become our children, so that every exit is seen."""
    _check(_libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "subreaper")


def die_with_parent(signal_number: int) -> None:
    """Ask the kernel to send us this signal when the process that forked us ends."""
    _check(_libc.prctl(_SET_PDEATHSIG, signal_number, 0, 0, 0), "die with parent")


def call_ourselves(name: str) -> None:
    """Choose the name that process tables show, of which the kernel keeps 15 characters."""
    _check(_libc.prctl(_SET_NAME, name.encode(), 0, 0, 0), "name")


def forbid_new_privileges() -> None:
    """Make set-uid programs powerless for us and all that we start."""
    _check(_libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")


def give_back() -> None:
    """Give the kernel back what is free of our memory, where the C library can; children share the rest."""
    if (trim := getattr(_libc, "malloc_trim", None)) is not None:
        trim(0)


def leave(*, network: bool = True) -> None:
    """Leave the namespaces that we share with our siblings; the next fork's child is the first in its pid namespace.

    Parameters
    ----------
    network
        False leaves the network too, for one with nothing but loopback.
    """
    uid, gid = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEWUSER | _NEWPID | _NEWIPC | _NEWNS | (0 if network else _NEWNET)), "unshare")
    identify(uid, gid, network=network)


def identify(uid: int, gid: int, *, network: bool = True) -> None:
    """Keep our user and group in the namespaces that we have come into, and raise the loopback of a new network."""
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")
    if not network:
        _raise_loopback()


def settle(scratch: int, read_only: Sequence[str] = ()) -> None:
    """Finish in the child of `leave`: fresh /proc, /tmp and /dev/shm, then give up every capability.

    Parameters
    ----------
    scratch
        Bytes that /tmp may hold.
    read_only
        Folders in which nothing may be changed, and all that is mounted below them.
    """
    _mount(None, "/", None, _REC | _PRIVATE)
    _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    _fresh_tmp(scratch)
    if os.path.isdir("/dev/shm"):  # noqa: S108
        _mount("tmpfs", "/dev/shm", "tmpfs", _NOSUID | _NODEV, f"mode=1777,size={scratch}")  # noqa: S108
    for folder in read_only:
        _mount(folder, folder, None, _BIND | _REC)
        for path in [*_all_mounts_below(folder), folder]:
            _mount(None, path, None, _REMOUNT | _BIND | _READ_ONLY | _flags_of(path))
    _write("/proc/sys/user/max_user_namespaces", "0")
    forbid_new_privileges()
    drop_capabilities()


def drop_capabilities() -> None:
    """Give up every capability, inheritable and permitted ones too."""
    _check(_libc.capset(ctypes.byref(_OURSELVES), _NO_CAPABILITIES), "capset")


def _raise_loopback() -> None:
    """Bring up the loopback of a new network, where it is down at first."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        asked = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _fresh_tmp(scratch: int) -> None:
    """Cover /tmp, and show again what the sandbox had mounted below it (an account's own folder may lie there)."""
    kept = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in _mounts_below("/tmp")]  # noqa: S108
    _mount("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV, f"mode=1777,size={scratch}")  # noqa: S108
    for path, descriptor in kept:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        _mount(f"/proc/self/fd/{descriptor}", path, None, _BIND | _REC)
        os.close(descriptor)


def _mounts_below(folder: str) -> list[str]:
    """Return the outermost mount points below a folder; a recursive bind brings the inner ones along."""
    below = _all_mounts_below(folder)
    return [point for point in below if not any(point.startswith(other + "/") for other in below)]


def _all_mounts_below(folder: str) -> list[str]:
    points = (os.fsdecode(_unescape(line.split(b" ")[4])) for line in _read("/proc/self/mountinfo").splitlines())
    return sorted({point for point in points if point.startswith(folder + "/")})


def _flags_of(path: str) -> int:
    """Return the flags of a mount that must be repeated, because they were set where we may not lift them."""
    found = os.statvfs(path).f_flag
    return found & (_NOSUID | _NODEV | _NOEXEC | _NOATIME | _NODIRATIME) | (_RELATIME if found & 0x1000 else 0)


def _unescape(path: bytes) -> bytes:
    if b"\\" not in path:
        return path
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), path)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if one is None else os.fsencode(one) for one in (source, target, kind, data)]
    result = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _check(result, f"mount {target}")


def _read(path: str) -> bytes:
    """Return a file's bytes. Python's file objects, here and below, would touch pages that we share with the zygote."""
    file, parts = os.open(path, os.O_RDONLY | os.O_CLOEXEC), []
    try:
        while part := os.read(file, 65536):
            parts.append(part)
    finally:
        os.close(file)
    return b"".join(parts)


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
