"""`ropewalk up`, `down`, `status` and `doctor`: the commands about this machine's platform itself.

They start, end and look at processes; everything inside the platform is asked over its API. Not here: the supervisor,
which `up` becomes or starts. Rejected: a control socket; a lock that says who holds it, and a signal, are enough.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ropewalk_core import settings as settings_module
from ropewalk_core.cli.output import echo, table
from ropewalk_core.cli.parsing import Subparsers, common
from ropewalk_core.errors import BadInput, Internal, RopewalkError, Unavailable, from_problem
from ropewalk_core.local import sandbox
from ropewalk_core.placement import format_size
from ropewalk_core.process_table import proportional_memory, seen, send, tree
from ropewalk_core.processes import Processes, become
from ropewalk_core.settings import Settings
from ropewalk_hub import doctor, home, siblings, sockets
from ropewalk_hub.supervisor import PREFIX, greeting

_READY, _DOWN, _POLL = 90.0, 60.0, 0.05
_SYSTEMS = {
    "darwin": "macOS is not supported yet. Use a Linux machine, or a Linux virtual machine on this one.",
    "win32": "Windows is not supported. Use Ropewalk inside WSL 2: run `wsl --install`, then set it up there.",
    "cygwin": "Windows is not supported. Use Ropewalk inside WSL 2: run `wsl --install`, then set it up there.",
}


def register(subparsers: Subparsers) -> None:
    """Declare the commands."""
    up = _command(subparsers, "up", "start the platform here", _up, "ropewalk up ~/project --port 9000")
    up.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="folder that the first notebook opens")
    up.add_argument(
        "--port", type=int, metavar="N", help="port of the platform; people's things use N+1 (default 8000)"
    )
    up.add_argument("--detach", action="store_true", help="return when it is ready, and leave it running")
    down = _command(subparsers, "down", "stop the platform and everything it runs", _down, "ropewalk down")
    del down
    _command(subparsers, "status", "say what runs, and where", _status, "ropewalk status --json")
    look = _command(subparsers, "doctor", "check this machine and say what to do", _doctor, "ropewalk doctor")
    look.add_argument("--cluster", action="store_true", help="check the Kubernetes cluster of the settings instead")
    look.add_argument("--kubeconfig", type=Path, metavar="FILE", help="how to reach it, outside a pod of the platform")


def _command(subparsers: Subparsers, name: str, text: str, run: Any, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common(parser)
    parser.set_defaults(run=run)
    return parser


def check_system(system: str = sys.platform) -> None:
    """Refuse at once on a system that cannot work.

    Raises
    ------
    BadInput
        On macOS and on Windows outside WSL.
    """
    if system in _SYSTEMS:
        sentence, _, hint = _SYSTEMS[system].partition(". ")
        raise BadInput(f"{sentence}.", field="system", hint=hint)


def check_start(settings: Settings) -> None:
    """Refuse what cannot start while nothing has been made.

    A home that exists may have left processes on its ports, which the supervisor ends first; so only it can judge then.

    Raises
    ------
    BadInput
        If the folder cannot be used, or a port of a new home is taken.
    """
    sandbox.check_folder(settings)
    if not settings.home.exists():
        sockets.listen(settings).close()


def _up(arguments: argparse.Namespace) -> int:
    check_system()
    settings = settings_module.load(arguments.home, door_port=arguments.port, folder=arguments.folder)
    check_start(settings)
    argv = [sys.executable, "-m", "ropewalk_hub.supervisor", "--home", str(settings.home)]
    argv += ["--port", str(settings.door.port)]
    argv += ["--json"] if arguments.json or arguments.detach else []
    argv += [str(settings.folder)] if settings.folder else []
    if not arguments.detach:
        become(argv, env=siblings.environment(settings))
    facts = _detach(settings, argv)
    echo(json.dumps(facts) if arguments.json else greeting(facts), end="\n" if arguments.json else "")
    return 0


def _detach(settings: Settings, argv: list[str]) -> dict[str, Any]:
    home.prepare(settings)
    if (facts := home.holder(settings.home)) is not None:
        raise home.held(settings.home, facts)
    (settings.run / "ready.json").unlink(missing_ok=True)
    log = settings.logs / "start.log"
    log.unlink(missing_ok=True)
    processes = Processes(settings.run / "processes")
    running = processes.spawn("supervisor", argv, env=siblings.environment(settings), log=log)
    deadline = time.monotonic() + _READY
    while time.monotonic() < deadline and processes.alive("supervisor"):
        ready = _read(settings.run / "ready.json")
        if ready.get("pid") == running.pid:
            return ready
        time.sleep(_POLL)
    processes.end("supervisor")
    raise _not_ready(log)


def _not_ready(log: Path) -> RopewalkError:
    """Return what the supervisor said before it ended."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    for line in reversed(lines):
        if line.startswith('{"code": "RW-'):
            return from_problem(json.loads(line))
    return Unavailable("The platform did not get ready.", hint=f"Look at {log}.")


def _down(arguments: argparse.Namespace) -> int:
    settings = settings_module.load(arguments.home)
    facts = home.holder(settings.home)
    if facts is None:
        left = Processes(settings.run / "processes").sweep() if settings.run.is_dir() else []
        said = f"Nothing ran the home {settings.home}; ended what was left: {', '.join(left)}." if left else ""
        _say(arguments, {"stopped": False, "ended": left}, said or f"Nothing runs in the home {settings.home}.")
        return 0
    supervisor = seen(int(facts.get("pid", 0)))
    if supervisor is None:
        raise Internal(f"The home {settings.home} is held, but its holder cannot be seen.")
    send(supervisor, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN
    while home.holder(settings.home) is not None:
        if time.monotonic() > deadline:
            raise Unavailable(
                f"Process {supervisor.pid} did not stop in {_DOWN:.0f} seconds.",
                hint=f"Look at {settings.logs / 'supervisor.log'}.",
            )
        time.sleep(_POLL)
    _say(arguments, {"stopped": True, "ended": []}, "Ropewalk has stopped.")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    settings = settings_module.load(arguments.home)
    facts = status(settings)
    if arguments.json:
        echo(json.dumps(facts, indent=2))
    elif not facts["running"]:
        echo(f"Nothing runs in the home {settings.home}. Start it with `ropewalk up`.")
    else:
        echo(f"Ropewalk runs at {facts['address']} (process {facts['pid']}, home {facts['home']}).\n")
        rows = [(one["name"], str(one["pid"]), format_mib(one["memory"])) for one in facts["processes"]]
        echo("\n".join(table(["PROCESS", "ID", "MEMORY"], rows, 0)))
        echo(f"\nThe platform itself uses {format_mib(facts['memory'])} of memory.")
    return 0 if facts["running"] else 1


def status(settings: Settings) -> dict[str, Any]:
    """Return who holds the home, what runs there and how much memory each part uses (PSS, with its children)."""
    held = home.holder(settings.home)
    processes = Processes(settings.run / "processes")
    found = {one.name: one.pid for one in processes.living() if one.name != "supervisor"}
    roots = set(found.values())
    listed = [
        {"name": name.removeprefix(PREFIX), "pid": pid, "memory": _memory(pid, roots), "own": name.startswith(PREFIX)}
        for name, pid in sorted(found.items(), key=lambda item: (not item[0].startswith(PREFIX), item[0]))
    ]
    if held and held.get("pid"):
        own = {"name": "supervisor", "pid": held["pid"], "memory": proportional_memory(held["pid"]), "own": True}
        listed.insert(0, own)
    return {
        "running": held is not None,
        "address": (held or {}).get("address"),
        "pid": (held or {}).get("pid"),
        "home": str(settings.home),
        "folder": (held or {}).get("folder"),
        "processes": listed,
        "memory": sum(one["memory"] for one in listed if one["own"]),
        "sandbox": doctor.sandbox_works(),
    }


def _memory(pid: int, roots: set[int]) -> int:
    """Return the memory of a process and its descendants, less those that are listed themselves."""
    return sum(proportional_memory(one) for one in tree(pid, without=roots - {pid}))


def format_mib(size: int) -> str:
    """Return bytes as people compare them."""
    return f"{size / 2**20:.0f} MiB" if size else format_size(0)


def _doctor(arguments: argparse.Namespace) -> int:
    if arguments.cluster:
        lines = _cluster_lines(arguments)
    else:
        check_system()
        lines = asyncio.run(doctor.examine(settings_module.load(arguments.home)))
    bad = [one for one in lines if one["state"] == "problem"]
    if arguments.json:
        echo(json.dumps(lines, indent=2))
    else:
        echo("\n".join(doctor.written(one) for one in lines))
        echo("\nEverything is fine." if not bad else f"\n{len(bad)} to look at.")
    return 1 if bad else 0


def _cluster_lines(arguments: argparse.Namespace) -> list[doctor.Line]:
    from ropewalk_hub import cluster_doctor  # only who asks for a cluster waits for its client to load
    from ropewalk_hub.platform import SystemClock

    settings = settings_module.load(arguments.home, cluster_kubeconfig=arguments.kubeconfig)
    return asyncio.run(cluster_doctor.examine(settings, SystemClock()))


def _say(arguments: argparse.Namespace, facts: dict[str, Any], text: str) -> None:
    echo(json.dumps(facts) if arguments.json else text)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
