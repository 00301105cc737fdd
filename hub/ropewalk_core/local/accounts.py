"""Accounts on this machine: their folders, numeric users and modes.

As the superuser each account gets a numeric user of its own, which is the owner of its root folder and recorded
nowhere else. As an ordinary user everybody shares that user and only the sandbox keeps them apart. Not here: passwords
and approval (the issuer), what a sandbox shows (``sandbox.py``). Rejected: entries in /etc/passwd; they would outlive
the home, whose removal is a clean uninstall.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ropewalk_core import environments
from ropewalk_core.errors import BadPath, StorageFull
from ropewalk_core.local.layout import BUILT, AccountPaths
from ropewalk_core.settings import Settings

FOLDERS = ("files", "artifacts", "runs", "functions", "services", ".run", ".cache")


def prepare(settings: Settings, account: str, uid: int | None = None) -> AccountPaths:
    """Make the account's folders with their owner and modes; what exists is left alone.

    Parameters
    ----------
    settings
        The home's settings.
    account
        A legal account name.
    uid
        Numeric user of the account, for the superuser only; None keeps the present one or takes the next free one.

    Raises
    ------
    StorageFull
        If the disk has no room; nothing half-made stays.
    """
    paths = AccountPaths(settings.home, account)
    try:
        with _lock(settings):
            if not paths.root.is_dir():
                _create(settings, paths, uid)
            _complete(settings, paths)
    except OSError as error:
        raise StorageFull(f"The folder of account '{account}' cannot be made: {error.strerror}.") from error
    return paths


def equip(settings: Settings, account: str) -> AccountPaths:
    """Make the account's folders and its Python environment, and bring that up to date with the base.

    Raises
    ------
    StorageFull, Unavailable
        As `prepare` and ``environments.ensure``.
    """
    paths = prepare(settings, account)
    environments.ensure(settings, paths)
    return paths


def uid_of(paths: AccountPaths) -> int:
    """Return the account's numeric user: the owner of its root folder."""
    return paths.root.stat().st_uid


def mark_first(settings: Settings, account: str) -> None:
    """Remember the first administrator, whose sandbox shows the folder of ``ropewalk up FOLDER``."""
    path = settings.home / "first-administrator"
    temporary = path.with_suffix(".new")
    temporary.write_text(account)
    temporary.replace(path)


def first(settings: Settings) -> str | None:
    """Return the first administrator's account, or None before there is one."""
    try:
        return (settings.home / "first-administrator").read_text().strip() or None
    except FileNotFoundError:
        return None


def folder_of(settings: Settings, account: str) -> Path | None:
    """Return the folder of ``ropewalk up FOLDER`` where this account is the one that works in it."""
    return settings.folder if settings.folder and first(settings) == account else None


def user_files(settings: Settings, account: str) -> tuple[Path, Path]:
    """Return the passwd and group files that the account's sandbox shows as /etc/passwd and /etc/group."""
    folder = settings.run / "etc" / account
    return folder / "passwd", folder / "group"


def open_inside(paths: AccountPaths, relative: str, *, append: bool = True) -> int:
    """Open a regular file of the account for writing, making it and its folders; return a descriptor.

    The account may swap any part of the path for a link while we look, so each part is opened without following.

    Raises
    ------
    BadPath
        If a part is a link or the file is not a regular one.
    """
    *folders, name = Path(relative).parts
    uid = uid_of(paths)
    at = os.open(paths.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for folder in folders:
            _make(at, folder, uid)
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(name, flags | (os.O_APPEND if append else os.O_TRUNC), 0o600, dir_fd=at)
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            raise StorageFull(f"The disk is full, so {relative} was not written.") from error
        raise BadPath(f"{relative} of account '{paths.account}' is not a plain file.", field=relative) from error
    finally:
        os.close(at)
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(file)
        raise BadPath(f"{relative} of account '{paths.account}' is not a plain file.", field=relative)
    if os.geteuid() == 0 and found.st_uid != uid:
        os.fchown(file, uid, uid)
    return file


def _make(at: int, folder: str, uid: int) -> None:
    try:
        os.mkdir(folder, 0o700, dir_fd=at)
        if os.geteuid() == 0:
            os.chown(folder, uid, uid, dir_fd=at, follow_symlinks=False)
    except FileExistsError:
        pass


def _create(settings: Settings, paths: AccountPaths, uid: int | None) -> None:
    """Make the root folder whole and give it its name last, so that a kill leaves no half of it."""
    new = paths.root.with_name(f".new-{paths.account}")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    if os.geteuid() == 0:
        uid = uid if uid is not None else _free_uid(settings)
        os.chown(new, uid, uid)
    new.rename(paths.root)


def _complete(settings: Settings, paths: AccountPaths) -> None:
    uid = uid_of(paths)
    at = os.open(paths.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for name in FOLDERS:
            _make(at, name, uid)
    finally:
        os.close(at)
    for folder in paths.built:  # the platform's own; an account may pass through and not list
        folder.mkdir(parents=True, exist_ok=True)
        for one in (folder, folder.parent, settings.home / BUILT):
            one.chmod(0o711)
    paths.sent.mkdir(parents=True, exist_ok=True)
    for one in (paths.sent, paths.sent.parent):
        one.chmod(0o711)
    passwd, group = user_files(settings, paths.account)
    if not group.exists():
        passwd.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        others = "root:x:0:0:root:/root:/usr/sbin/nologin\n" if uid else ""
        name = paths.account
        passwd.write_text(f"{others}{name}:x:{uid}:{uid}:{name}:{paths.files}:/bin/bash\n")
        group.write_text(f"{'root:x:0:' if uid else ''}\n{name}:x:{uid}:\n".lstrip())
        passwd.chmod(0o644)
        group.chmod(0o644)


def _free_uid(settings: Settings) -> int:
    """Return the next numeric user that neither an account nor the machine has."""
    accounts = [one.stat().st_uid for one in (settings.home / "accounts").iterdir()]
    machine = {one.pw_uid for one in pwd.getpwall()}
    start = max([settings.accounts.first_uid, *(uid + 1 for uid in accounts)])
    return next(uid for uid in range(start, start + len(machine) + 1) if uid not in machine)


@contextmanager
def _lock(settings: Settings) -> Iterator[None]:
    """Hold the accounts folder: two processes may prepare two accounts at once."""
    folder = settings.home / "accounts"
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
