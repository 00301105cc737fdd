"""The Python environment of an account: its own layer over the read-only base that everybody shares.

It is a venv of a few small files: its interpreter is the base's, and a ``.pth`` file puts the base's packages behind
its own. So it is there in milliseconds, `%pip install` changes only the account's layer, and a newer version of a base
package wins over the base. What the user side of Ropewalk needs is pinned: pip and uv read the pins and refuse, by
name, what would break them.

Not here: who may use it, and the sandbox. Rejected: ``python -m venv`` with its own pip (3 s and 12 MiB each), copying
the base (1 GiB each), and ``--system-site-packages`` (shows the interpreter's packages, not the base's).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import itertools
import json
import os
import re
import secrets
import shlex
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ropewalk_core import beneath, requirements
from ropewalk_core.errors import BadPath, NotFound, RopewalkError, StorageFull, Unavailable
from ropewalk_core.pip_guard import PINS
from ropewalk_core.settings import Settings

if TYPE_CHECKING:
    from ropewalk_core.local.layout import AccountPaths

_INSTALLED = (".dist-info", ".egg-link", ".pth")
_NEEDED = ("ropewalk[kernel]", "pip")
_MOST = 1000
"""Packages of an account's own layer that are told of; it may put there what it likes."""
_MOST_SEEN = 20
"""Entries of its folder of libraries that `seen` looks at; there is one for each version of Python."""
_PIP = """# The base's pip; this one says by name what would break Ropewalk's own side.
__path__.append({real!r})
with open({real!r} + "/__init__.py") as _file:
    exec(compile(_file.read(), _file.name, "exec"))
"""
_PIP_MAIN = "import sys\n\nfrom ropewalk_core.pip_guard import main\n\nsys.exit(main())\n"
_COMMAND = """#!/bin/sh
exec "$(dirname "$0")/python" -c 'import sys; from ropewalk_core.cli import main; sys.exit(main())' "$@"
"""
# JupyterLab asks newcomers whether it may fetch its project's news; nobody here asked for news.
_NO_NEWS = json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}})
_IPYTHON = 'c = get_config()\nc.InteractiveShellApp.extensions = ["ropewalk_kernel"]\n'


def ensure(settings: Settings, paths: AccountPaths) -> Path:
    """Make the account's environment, or bring it up to date with the base; return its interpreter.

    Raises
    ------
    Unavailable
        If the base environment is not there, or something else lies where the account's belongs.
    StorageFull
        If the disk has no room; nothing half-made stays.
    """
    base = settings.environments.base
    files = _files(base, paths.environment)
    stamp = hashlib.sha256(json.dumps([files, _changed(base)], sort_keys=True).encode()).hexdigest()
    if _stamp(paths) == stamp:  # without a look at the base's packages, which each process would take once
        return paths.python
    files[PINS] = "".join(f"{name}=={pin}\n" for name, pin in pins(base).items())
    try:
        if not os.path.lexists(paths.environment):
            _build(paths, base, files, stamp)
        else:
            for name, text in (files | {"ropewalk.json": json.dumps({"stamp": stamp})}).items():
                with beneath.replacing(paths.root, ["environment", *name.split("/")]) as file:
                    file.write(text.encode())
                    file.settle()
            _links(paths, base)
    except (OSError, BadPath, NotFound) as error:
        if isinstance(error, OSError) and error.errno in beneath.FULL:
            raise StorageFull(f"There is no room for the Python environment of '{paths.account}'.") from error
        raise Unavailable(
            f"The Python environment of '{paths.account}' can be neither made nor mended.", hint=start_over(paths)
        ) from error
    return paths.python


def start_over(paths: AccountPaths) -> str:
    """Return what a person does about an environment that is beyond mending."""
    command = shlex.join(["rm", "-rf", str(paths.environment)])
    return f"Remove it in a terminal of your notebook, and a fresh one is made at the next try: {command}"


def fingerprint(paths: AccountPaths) -> str:
    """Return 16 hex digits that change when a package of the account's environment or of its base changes."""
    # The account may have put a pipe or a link in the place of anything here.
    versions = [one for one in _listed(paths, "lib") if one.startswith("python3.")]
    names = [
        name for one in versions for name in _listed(paths, "lib", one, "site-packages") if name.endswith(_INSTALLED)
    ]
    try:
        with beneath.read(paths.root, ["environment", "pyvenv.cfg"]) as file:
            config = file.read(65536).decode(errors="replace")
    except (OSError, RopewalkError):
        config = ""
    if match := re.search(r"^base = ([^\0\n]+)$", config, re.MULTILINE):
        names += ["", *_base_distributions(Path(match[1]), _changed(Path(match[1])))]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def packages(paths: AccountPaths) -> tuple[str, ...]:
    """Return what the account's own layer holds, as ``name==version``: what it installed over the base."""
    versions = [one for one in _listed(paths, "lib") if one.startswith("python3.")]
    return requirements.listed(name for one in versions for name in _listed(paths, "lib", one, "site-packages"))[:_MOST]


def seen(settings: Settings, paths: AccountPaths) -> tuple[object, ...] | None:
    """Return what differs when `ensure` has something to do or `fingerprint` would return another text.

    It reads no file, so that it may be asked for every call that starts a worker. None where that cannot be said soon:
    a part is missing, there are too many, or one changed in this very second, when another change could bear the same
    time.
    """
    base, lib = settings.environments.base, paths.environment / "lib"
    try:
        with os.scandir(lib) as found_there:
            inside = [one.name for one in itertools.islice(found_there, _MOST_SEEN + 1)]
        if len(inside) > _MOST_SEEN:
            return None
        versions = [one for one in inside if one.startswith("python3.")]
        account = (
            "ropewalk.json",
            "pyvenv.cfg",
            "bin/python",
            "lib",
            *(f"lib/{one}/site-packages" for one in versions),
        )
        parts = [_site(base), base / "bin" / "python", *(paths.environment / one for one in account)]
        found = [os.stat(one) for one in parts]  # noqa: PTH116
    except OSError:
        return None
    if max(one.st_ctime for one in found) > time.time() - 1.0:
        return None
    return tuple((one.st_dev, one.st_ino, one.st_ctime_ns, one.st_mode) for one in found)


def pins(base: Path) -> dict[str, str]:
    """Return the packages that the user side of Ropewalk needs in the base, with their installed versions."""
    return dict(_pins(base, _changed(base)))


@functools.lru_cache(maxsize=8)
def _pins(base: Path, changed: int) -> tuple[tuple[str, str], ...]:
    found = {
        canonicalize_name(one.metadata["Name"]): one
        for one in importlib.metadata.distributions(path=[str(_site(base))])
        if one.metadata["Name"]
    }
    kept: dict[str, str] = {}
    waiting = [Requirement(text) for text in _NEEDED]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen or name not in found:
            continue
        seen.add((name, extras))
        kept[name] = found[name].version
        waiting += _requires(found[name], extras)
    kept.pop("ropewalk", None)  # installed in place; there is no other version of it to refuse
    return tuple(sorted(kept.items()))


def _requires(distribution: importlib.metadata.Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    machine: dict[str, str] = {key: str(value) for key, value in default_environment().items()}
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if not requirement.marker or any(
            requirement.marker.evaluate(machine | {"extra": extra}) for extra in (extras or {""})
        ):
            yield requirement


def _files(base: Path, environment: Path) -> dict[str, str]:
    """Return the environment's small files by their path inside it, but for the pins."""
    python = base / "bin" / "python"
    if not python.exists():
        raise Unavailable(
            f"There is no Python environment at {base}.", hint="Run `make setup`, or correct environments.base."
        )
    site = _site(base)
    version = site.parent.name.removeprefix("python")
    argv = [str(environment / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": argv, "display_name": "Python 3", "language": "python", "metadata": {"debugger": True}}
    constraint = environment / PINS
    pip = '#!/bin/sh\nexec "$(dirname "$0")/python" -m pip "$@"\n'
    return {
        "pyvenv.cfg": f"home = {python.resolve().parent}\ninclude-system-site-packages = false\n"
        f"version = {version}\nbase = {base}\n",
        f"lib/python{version}/site-packages/ropewalk-base.pth": f"import site; site.addsitedir({str(site)!r})\n",
        "pip.conf": f"[global]\nconstraint = {constraint}\ndisable-pip-version-check = true\n",
        "share/jupyter/kernels/python3/kernel.json": json.dumps(kernel),
        "etc/ipython/ipython_kernel_config.py": _IPYTHON,
        f"lib/python{version}/site-packages/pip/__init__.py": _PIP.format(real=str(site / "pip")),
        f"lib/python{version}/site-packages/pip/__main__.py": _PIP_MAIN,
        "bin/pip": pip,
        "bin/pip3": pip,
        "bin/ropewalk": _COMMAND,
        "etc/jupyter/labconfig/page_config.json": _NO_NEWS,
    }


def _build(paths: AccountPaths, base: Path, files: dict[str, str], stamp: str) -> None:
    """Build it beside the account's folder, give it to the account and move it into place at once."""
    new = paths.root.with_name(f".environment-{paths.account}-{os.getpid()}-{threading.get_ident()}")
    shutil.rmtree(new, ignore_errors=True)
    try:
        for name, text in (files | {"ropewalk.json": json.dumps({"stamp": stamp})}).items():
            target = new / name
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            target.write_text(text)
            target.chmod(0o755 if text.startswith("#!") else 0o644)
        for name in ("python", "python3"):
            (new / "bin" / name).symlink_to((base / "bin" / "python").resolve())
        if os.geteuid() == 0:
            owner = paths.root.stat()
            for one in [new, *new.rglob("*")]:
                os.chown(one, owner.st_uid, owner.st_gid, follow_symlinks=False)
        new.rename(paths.environment)
    except OSError:
        if not os.path.lexists(paths.environment):  # else somebody made it meanwhile
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _links(paths: AccountPaths, base: Path) -> None:
    """Point the interpreter's names at the base's interpreter."""
    target = str((base / "bin" / "python").resolve())
    with beneath.folder(paths.root, ["environment", "bin"]) as folder:
        for name in ("python", "python3"):
            temporary = f".{name}-{secrets.token_hex(8)}"  # several threads may mend it at once
            os.symlink(target, temporary, dir_fd=folder)
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        for name in ("pip", "pip3"):
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            os.fchmod(file, 0o755)
            os.close(file)


def _stamp(paths: AccountPaths) -> str:
    try:
        with beneath.read(paths.root, ["environment", "ropewalk.json"]) as file:
            found = json.loads(file.read(4096))
        return str(found["stamp"]) if os.access(paths.python, os.X_OK) else ""
    except (OSError, ValueError, TypeError, KeyError, RopewalkError):
        return ""


def _site(base: Path) -> Path:
    return next(iter(sorted(base.glob("lib/python3.*/site-packages"))), base / "lib/python3/site-packages")


def _changed(base: Path) -> int:
    try:
        return _site(base).stat().st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=8)
def _base_distributions(base: Path, changed: int) -> tuple[str, ...]:
    return tuple(_distributions(_site(base)))


def _listed(paths: AccountPaths, *inside: str) -> list[str]:
    try:
        with beneath.folder(paths.root, ["environment", *inside]) as folder:
            return sorted(os.listdir(folder))  # noqa: PTH208 - by descriptor
    except (OSError, RopewalkError):
        return []


def _distributions(folder: Path) -> list[str]:
    try:
        return sorted(one.name for one in os.scandir(folder) if one.name.endswith(_INSTALLED))
    except OSError:
        return []
