"""The superuser's step before a sandbox: show an account its paths, then become the account, then run the command.

Run as a program, never imported by the platform: ``python -I -S stage.py OPTIONS -- COMMAND``. In a mount namespace
of its own it makes paths under folders that ordinary users cannot enter (a superuser's home) reachable at their own
place, shows a folder of somebody else as the account's own (an idmapped mount; nothing on disk changes owner), joins a
control group, gives up every privilege and executes the command. Standard library only, and imported before the
change of user. Rejected: changing owners or modes of the person's files; setpriv (knows no mounts).

Plain paths here (no pathlib): it starts with every sandbox and should start fast.

    --uid N                 become this user and group
    --reveal PATH           keep this path reachable
    --own PATH              show this folder as if the user owned what its owner owns
    --group FOLDER          join this control group
    --member N              keep the rights of this group, for nodes of accelerators
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
from collections.abc import Sequence

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_REC, _SLAVE = 0x4000, 0x80000
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on every architecture
_CLONE, _RECURSIVE, _EMPTY_PATH, _CLOEXEC = 1, 0x8000, 0x1000, os.O_CLOEXEC
_MOVE_FROM_EMPTY = 0x4
_IDMAP = 0x00100000
_NO_NEW_PRIVILEGES, _BOUNDING_DROP = 38, 24
_HERE = -100

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _tree(path: str, recursive: bool = True) -> int:
    """Return a detached copy of the mounts at a path."""
    flags = _CLONE | _CLOEXEC | (_RECURSIVE if recursive else 0)
    return _checked(int(_libc.syscall(_OPEN_TREE, _HERE, path.encode(), flags)), f"open_tree {path}")


def _place(tree: int, path: str) -> None:
    flags = (tree, b"", _HERE, path.encode(), _MOVE_FROM_EMPTY)
    _checked(int(_libc.syscall(_MOVE_MOUNT, *flags)), f"move_mount {path}")


def _user_namespace(disk: int, group: int, user: int) -> int:
    """Return a user namespace that translates the disk's owner into the account; its process is gone at once."""
    ready, asked = os.pipe()
    child = os.fork()
    if not child:
        os.close(ready)
        if _libc.unshare(_NEWUSER) == 0:
            os.write(asked, b"x")
            signal.pause()
        os._exit(1)
    os.close(asked)
    try:
        if not os.read(ready, 1):
            raise OSError("no user namespace")
        for name, inside in (("uid_map", disk), ("gid_map", group)):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(f"{inside} {user} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | _CLOEXEC)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)


def _owned(path: str, user: int) -> int:
    """Return the folder as a mount on which its owner's files belong to the account."""
    tree = _tree(path, recursive=False)
    found = os.stat(path)
    if found.st_uid != user:
        attributes = _MountAttributes(_IDMAP, 0, 0, _user_namespace(found.st_uid, found.st_gid, user))
        size = ctypes.c_size_t(ctypes.sizeof(attributes))
        call = (_MOUNT_SETATTR, tree, b"", _EMPTY_PATH, ctypes.byref(attributes), size)
        _checked(int(_libc.syscall(*call)), f"mount_setattr {path}")
    return tree


def closed_ancestor(path: str, user: int) -> str | None:
    """Return the outermost folder on the way to ``path`` that the user cannot enter."""
    parts = path.strip("/").split("/")
    for number in range(1, len(parts)):
        folder = "/" + "/".join(parts[:number])
        found = os.stat(folder)
        bit = stat.S_IXUSR if found.st_uid == user else stat.S_IXGRP if found.st_gid == user else stat.S_IXOTH
        if not found.st_mode & bit:
            return folder
    return None


def _arrange(user: int, revealed: Sequence[str], owned: Sequence[str]) -> None:
    """Make every path reachable where it is."""
    _checked(_libc.unshare(_NEWNS), "unshare")
    _checked(_libc.mount(None, b"/", None, _REC | _SLAVE, None), "mount /")
    closed = {path: folder for path in (*revealed, *owned) if (folder := closed_ancestor(path, user))}
    trees = {path: _tree(path) for path in revealed if path in closed}
    trees |= {path: _owned(path, user) for path in owned}
    files = {path for path in trees if not os.path.isdir(path)}
    for folder in sorted(set(closed.values())):
        _checked(_libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, b"mode=0755"), f"mount {folder}")
    for path in sorted(trees):
        if path in files:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if not os.path.exists(path):
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        elif path in closed:
            os.makedirs(path, exist_ok=True)
        _place(trees[path], path)


def _join(group: str) -> None:
    with open(os.path.join(group, "cgroup.procs"), "w") as file:
        file.write("0")


def _become(user: int, members: Sequence[int]) -> None:
    for capability in range(64):
        if _libc.prctl(_BOUNDING_DROP, capability, 0, 0, 0) < 0:
            break
    os.setgroups(members)
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _checked(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no_new_privs")


def main(arguments: Sequence[str]) -> None:
    """Do as the options say and execute the command."""
    split = arguments.index("--")
    options = list(zip(arguments[:split:2], arguments[1:split:2], strict=True))
    names = ("uid", "reveal", "own", "group", "member")
    chosen = {name: [value for key, value in options if key == f"--{name}"] for name in names}
    user, command = int(chosen["uid"][0]), arguments[split + 1 :]
    for group in chosen["group"]:
        _join(group)
    _arrange(user, chosen["reveal"], chosen["own"])
    _become(user, [int(one) for one in chosen["member"]])
    os.execv(command[0], list(command))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as problem:
        sys.stderr.write(f"the sandbox cannot be prepared: {problem}\n")
        sys.exit(125)
