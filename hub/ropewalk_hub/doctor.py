"""What this machine lacks: one line per check, ok or a problem, and the next step. Changes nothing.

Not here: repairing it. Rejected: stopping at the first problem; people want the whole list at once.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ropewalk_core import environments
from ropewalk_core.errors import RopewalkError
from ropewalk_core.local import cgroups, sandbox
from ropewalk_core.processes import run
from ropewalk_core.settings import Settings
from ropewalk_hub import home, node, sockets

_ROOM = 2 * 2**30
_EPOCH = 1_700_000_000
Line = dict[str, Any]


async def examine(settings: Settings) -> list[Line]:
    """Return a line for each check: ``check``, ``state`` (ok, note or problem), ``text`` and ``hint``."""
    checks: list[Callable[[Settings], Line]] = [
        _system, _python, _base, _sandbox, _accounts, _limits, _node, _proxy, _home, _disk, _secrets, _ports, _clock,
        _browser,
    ]  # fmt: skip
    return [_examined(one, settings) for one in checks]


def written(line: Line) -> str:
    """Return a line as people read it."""
    mark = {"ok": "ok      ", "note": "note    ", "problem": "problem "}[line["state"]]
    return f"{mark} {line['check']:<12} {line['text']}" + (f"\n{'':22}{line['hint']}" if line["hint"] else "")


def sandbox_works() -> bool:
    """Say whether accounts can be kept apart here."""
    return sandbox.probe().works


def _examined(check: Callable[[Settings], Line], settings: Settings) -> Line:
    try:
        return check(settings)
    except RopewalkError as error:
        return problem(check.__name__.strip("_"), error.message, error.hint)
    except OSError as error:
        hint = f"Look whether you may read it: ls -ld {error.filename or settings.home}"
        return problem(check.__name__.strip("_"), f"cannot be checked: {error.strerror}", hint)


def _system(settings: Settings) -> Line:
    name = os.uname()
    return ok("system", f"{name.sysname} {name.release} {name.machine}, {os.cpu_count()} cores")


def _python(settings: Settings) -> Line:
    version = ".".join(map(str, sys.version_info[:3]))
    return ok("python", f"{version} in {sys.prefix}")


def _base(settings: Settings) -> Line:
    base = settings.environments.base
    done = run([str(base / "bin" / "python"), "-c", "import ropewalk, ipykernel, hera"], timeout=60)
    if done.code:
        why = (done.err.strip().splitlines() or ["it does not run"])[-1]
        return problem(
            "environment", f"The base of people's environments, {base}, is broken: {why}", "Run `make setup`."
        )
    return ok("environment", f"{base}, {len(environments.pins(base))} packages pinned for Ropewalk")


def _sandbox(settings: Settings) -> Line:
    report = sandbox.probe()
    if report.works:
        return ok("sandbox", f"{report.bwrap} works")
    hint = "Install bubblewrap (Debian: apt-get install bubblewrap). If the kernel forbids user namespaces, ask for: "
    hint += "sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0. "
    return problem("sandbox", f"No sandbox works: {report.why}.", f"{hint}Until then only one account is let in.")


def _accounts(settings: Settings) -> Line:
    if os.geteuid() == 0:
        return ok("accounts", f"each has a numeric user of its own, from {settings.accounts.first_uid}")
    return note("accounts", "all share your user; the sandbox alone keeps them apart", "")


def _limits(settings: Settings) -> Line:
    if cgroups.works(settings):
        return ok("limits", "a worker and all that it starts have one limit of memory together")
    text = "each process of a worker has a limit of memory, and all of them together have none"
    hint = "Run `ropewalk up` as the superuser, where control groups can be made." if os.geteuid() else ""
    return note(
        "limits", text, hint or "No control groups can be made here. In a container, have /sys/fs/cgroup writable."
    )


def _node(settings: Settings) -> Line:
    folder = node.find()
    if folder is None:
        return problem("node", f"Node.js {node.OLDEST} or newer is missing.", "Run `make setup`.")
    return ok("node", f"{folder / 'node'} {node.version(folder / 'node')}")


def _proxy(settings: Settings) -> Line:
    return ok("proxy", str(json.loads((node.proxy_script() / "package.json").read_text())["version"]))


def _home(settings: Settings) -> Line:
    home.check_length(settings.home)
    if not settings.home.exists():
        return note("home", f"{settings.home} is not there yet", "`ropewalk up` makes it.")
    home.prepare(settings)
    held = home.holder(settings.home)
    return ok("home", f"{settings.home}" + (f", held by process {held.get('pid')}" if held else ", free"))


def _disk(settings: Settings) -> Line:
    folder = next(one for one in (settings.home, *settings.home.parents) if one.exists())
    free = shutil.disk_usage(folder).free
    text = f"{free / 2**30:.1f} GiB free at {folder}"
    return ok("disk", text) if free > _ROOM else problem("disk", text, "Make room, or choose another --home.")


def _secrets(settings: Settings) -> Line:
    open_ones = [
        path
        for path in [settings.secrets, *(settings.secrets.glob("*") if settings.secrets.is_dir() else [])]
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    if open_ones:
        names = ", ".join(str(one) for one in open_ones)
        return problem("secrets", f"Others may read {names}.", f"Run: chmod go= {' '.join(map(str, open_ones))}")
    return ok("secrets", f"{settings.secrets} is yours alone")


def _ports(settings: Settings) -> Line:
    door = settings.door
    if home.holder(settings.home) is not None:
        return ok("ports", "held by the running platform")
    sockets.listen(settings).close()
    return ok("ports", f"{door.port} and {door.people_port} are free")


def _clock(settings: Settings) -> Line:
    now = time.time()
    if now < _EPOCH:
        return problem("clock", f"The clock says {time.ctime(now)}.", "Set the clock; sign-in depends on it.")
    newest = settings.home / "journal.db"
    if newest.exists() and newest.stat().st_mtime > now + 60:
        return problem("clock", "The clock is behind what was written before.", "Set the clock; sign-in depends on it.")
    return ok("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def _browser(settings: Settings) -> Line:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        return note("browser", "no Chromium here; only `make tour` needs one", "Debian: apt-get install chromium")
    return ok("browser", str(Path(found)))


def ok(check: str, text: str) -> Line:
    """Return the line of a check that found nothing wrong."""
    return {"check": check, "state": "ok", "text": text, "hint": ""}


def note(check: str, text: str, hint: str) -> Line:
    """Return the line of a check that found something worth knowing."""
    return {"check": check, "state": "note", "text": text, "hint": hint}


def problem(check: str, text: str, hint: str) -> Line:
    """Return the line of a check that found something wrong, with the next step."""
    return {"check": check, "state": "problem", "text": text, "hint": hint}
