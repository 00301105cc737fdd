"""Removes what a cluster left outside its namespaces, and takes the pictures that tests compare: before, and after.

The kernel ends processes, mounts and interfaces together with the cluster's first process. What remains are its control
groups and its run folder; nothing else is written outside.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.inside import Inside, alive, signal_first, started_at
from tests.cluster.layout import ClusterError, Layout, Node

_GROUPS = Path("/sys/fs/cgroup")
_SYSCTLS = ("net/ipv4/ip_forward", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
_PLACES = ("/run", "/var/lib", "/var/log", "/etc", "/opt", "/var/lib/cni", "/run/netns", "/etc/cni")


def take_down(layout: Layout) -> bool:
    """End the cluster of this run folder and remove what it left; return whether anything was there."""
    inside, there = alive(layout), layout.run.exists()
    if inside is not None:
        _end(inside)
    _end_unrecorded(layout)
    _remove_groups(layout)
    if layout.run.exists():
        _remove(layout.run)
    return there


def make_groups(layout: Layout, nodes: tuple[Node, ...]) -> None:
    """Make the control groups that the nodes put their pods under."""
    for hierarchy in _hierarchies():
        own = hierarchy / layout.cgroup
        for node in nodes:
            (own / node.name).mkdir(parents=True, exist_ok=True)
        if (hierarchy / "cgroup.controllers").exists() and hierarchy == _GROUPS:
            offered = (hierarchy / "cgroup.controllers").read_text().split()
            for folder in (hierarchy, own, *(own / node.name for node in nodes)):
                (folder / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in offered))


def picture(layout: Layout) -> dict[str, object]:
    """Return what this cluster could leave on the machine, to compare; other clusters' control groups are left out."""
    return {
        "mounts": sorted(Path("/proc/self/mountinfo").read_text().splitlines()),
        "interfaces": sorted(one.name for one in Path("/sys/class/net").iterdir()),
        "routes": _said("ip", "route", "show", "table", "all"),
        "firewall": _said("nft", "list", "ruleset"),
        "groups": sorted(one for one in _groups() if _is_ours(one, layout)),
        "settings": {name: (Path("/proc/sys") / name).read_text() for name in _SYSCTLS},
        "files": {place: sorted(os.listdir(place)) if Path(place).is_dir() else None for place in _PLACES},
        "own": sorted(one.name for one in layout.run.parent.glob(f"{layout.run.name}*")),
    }


def processes(inside: Inside) -> set[tuple[int, str]]:
    """Return the processes of a cluster, each with its start: all that is in its first process's namespace or below."""
    home = _process_namespace(inside.pid)
    parents = {one: _parent(one) for one in _everyone()}
    found = set()
    for one in parents:
        above: int | None = one
        while above and above != inside.pid and _process_namespace(above) != home:
            above = parents.get(above)
        if above:
            found.add(one)
    return {(one, started) for one in found | {parents.get(inside.pid, 0)} if (started := started_at(one))}


def spaces(known: set[tuple[int, str]]) -> set[str]:
    """Return the namespaces of the kernel that these processes live in and this one does not."""
    ours = _spaces_of("self")
    return {space for process, _ in known for space in _spaces_of(process)} - ours


def kept(known: set[str]) -> set[str]:
    """Return which of these namespaces some process still lives in, or some mount here still holds."""
    held = {space for process in _everyone() for space in _spaces_of(process)}
    mounts = Path("/proc/self/mountinfo").read_text()
    return {one for one in known if one in held or one in mounts}


def still(known: set[tuple[int, str]]) -> set[int]:
    """Return which of these processes still live; one that has ended and was not waited for does not."""
    return {one for one, started in known if started_at(one) == started}


def _process_namespace(process: int) -> str:
    try:
        return os.readlink(f"/proc/{process}/ns/pid")
    except OSError:
        return ""


def _spaces_of(process: int | str) -> set[str]:
    try:
        return {os.readlink(one) for one in Path(f"/proc/{process}/ns").iterdir()}
    except OSError:  # it ended meanwhile
        return set()


def _parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _end(inside: Inside) -> None:
    known = processes(inside)
    signal_first(inside, signal.SIGTERM)
    end = time.monotonic() + 30
    while alive(inside.layout) is not None or still(known):
        if time.monotonic() > end - 25:
            signal_first(inside, signal.SIGKILL)
        if time.monotonic() > end:
            raise ClusterError(f"these processes of the cluster do not end: {still(known)}")
        time.sleep(0.05)


def _end_unrecorded(layout: Layout) -> None:
    """End first processes of this run folder that whoever started them was killed before writing down."""
    mine = [b"tests.cluster.world", str(layout.run).encode()]
    end = time.monotonic() + 20
    while found := [one for one in _everyone() if _words(one)[-2:] == mine and _process_namespace(one)]:
        if time.monotonic() > end:
            raise ClusterError(f"these processes of the cluster do not end: {found}")
        for one in found:
            os.kill(one, signal.SIGKILL)
        time.sleep(0.05)


def _everyone() -> list[int]:
    return [int(one) for one in os.listdir("/proc") if one.isdigit()]


def _words(process: int) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return []


def _hierarchies() -> list[Path]:
    if (_GROUPS / "cgroup.controllers").exists():
        return [_GROUPS]
    return [
        one for one in _GROUPS.iterdir() if one.is_dir() and not one.is_symlink() and (one / "cgroup.procs").exists()
    ]


def _groups() -> Iterator[str]:
    for folder, _, _ in os.walk(_GROUPS):
        yield folder


def _is_ours(group: str, layout: Layout) -> bool:
    """Whether a control group is this cluster's, or looks as if a node had made it in a wrong place."""
    return layout.cgroup in group or ("kube" in group and "/ropewalk-" not in group)


def _remove_groups(layout: Layout) -> None:
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / layout.cgroup, topdown=False):
            _remove_group(Path(folder))


def _remove_group(folder: Path) -> None:
    """Remove a control group; the kernel needs a moment after its last process has ended."""
    end = time.monotonic() + 10
    while folder.exists():
        try:
            folder.rmdir()
        except OSError as error:
            for one in (folder / "cgroup.procs").read_text().split() if folder.exists() else ():
                os.kill(int(one), signal.SIGKILL)
            if time.monotonic() > end:
                raise ClusterError(f"{folder} cannot be removed: {error}") from error
            time.sleep(0.05)


def _remove(run: Path) -> None:
    """Remove the run folder, which is only ever ours: it bears our mark, or is refused."""
    if not (run / "mark").exists() and any(run.iterdir()):
        raise ClusterError(f"{run} is no run folder of a test cluster; set ROPEWALK_TEST_CLUSTER_RUN to another place")
    keep = run.with_name(run.name + ".going")
    shutil.rmtree(keep, ignore_errors=True)
    run.rename(keep)
    shutil.rmtree(keep)


def mark(run: Path) -> None:
    """Make a new run folder and say that it is ours."""
    run.mkdir(parents=True, mode=0o700)
    (run / "mark").write_text(json.dumps({"what": "a test cluster of Ropewalk; `make cluster-down` removes it"}))


def _said(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
