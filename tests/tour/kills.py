"""Kills the platform's own parts while somebody works with it: which, how and after how long is drawn from a seed.

Every round kills each part once, by `kill -9` of its first process or by removing its pod at once, in turn. Between two
kills everything is whole again for a while, so that work can go on. Not here: what the person sees (`__main__`).
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from tests.cluster.installed import SPACE, Installed
from tests.cluster.kube import Kube, deployed, wait
from tests.cluster.layout import ClusterError
from tests.tour.stage import BUILD

PARTS = {"hub": "hub", "platform": "platform", "gateway": "platform", "tenancy": "tenancy"}
"""Each part is a container of a pod; the gateway is in the platform's, and goes with it when that pod is removed."""
PROCESS, POD = "kill -9 of its process", "its pod removed at once"
LEAST, MOST = 2, 4
"""How often each part is killed: so often at least, and then no more."""
_PAUSE = (3.0, 15.0)
_BACK = 240.0
_STUCK = 120.0
"""Seconds after which more is killed though the walk has not gone on since the last kill."""
_AFTER = 30.0
"""Seconds after a part is back in which it still excuses what goes wrong."""
_NOTEBOOKS = "component=singleuser-server"
_AWAY = (ClusterError, httpx.HTTPError, OSError)


@dataclass(frozen=True)
class Kill:
    """One kill: of what, how, and how many seconds after everything was whole."""

    part: str
    how: str
    pause: float


def plan(seed: int) -> tuple[Kill, ...]:
    """Return all kills, the same for the same seed."""
    chance = random.Random(seed)
    first = {part: chance.randrange(2) for part in PARTS}
    kills: list[Kill] = []
    for number in range(MOST):
        order = list(PARTS)
        chance.shuffle(order)
        for part in order:
            how = (PROCESS, POD)[(first[part] + number) % 2]
            kills.append(Kill(part, how, chance.uniform(*_PAUSE)))
    return tuple(kills)


class Victims(Protocol):
    """What can be killed, and whether it is back."""

    def kill(self, kill: Kill) -> None:
        """Kill, and wait until the part is back."""

    def harmed(self) -> str:
        """Return what befell, since the last look, what no kill may touch."""

    def whole(self, seconds: float = _BACK) -> None:
        """Wait until every part answers again."""


class Kills:
    """Kills while the walk goes on, and remembers what was killed and what the walk had to do again for it."""

    def __init__(self, victims: Victims, seed: int, say: Callable[[str], None]) -> None:
        self.seed, self.doing = seed, "nothing yet"
        self.told: list[str] = []
        self.repeated: list[str] = []
        self.problems: list[str] = []
        self._victims, self._say = victims, say
        self._count: Counter[str] = Counter()
        self._began, self._enough = time.monotonic(), threading.Event()
        self._during, self._excused, self._last = "", float("-inf"), "nothing"

    @property
    def lacking(self) -> list[str]:
        """Return which parts were not killed often enough yet."""
        return [part for part in PARTS if self._count[part] < LEAST]

    @property
    def lives(self) -> bool:
        """Whether more may be killed."""
        return not self._enough.is_set()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Kill in a thread beside what is done meanwhile, and wait until everything is whole again at its end."""
        self._note(f"kills are drawn from seed {self.seed}; the same again: SEED={self.seed}")
        thread = threading.Thread(target=self._live, name="kills", daemon=True)
        self._began = time.monotonic()
        thread.start()
        try:
            yield
        finally:
            self._enough.set()
            thread.join()
            try:
                self._look()
            except _AWAY as error:
                self.problems.append(f"nobody could look at the notebooks at last: {error}")
        if self.lacking:
            self.problems.append(f"killed less than {LEAST} times: {', '.join(self.lacking)}")

    def excuse(self, since: float) -> bool:
        """Say whether something was away, or only just back, after this moment."""
        return self._excused >= since

    def again(self, what: str, said: str) -> None:
        """Note that something is done again, and wait until it can go well."""
        self.repeated.append(what)
        self._note(f"{what}: done again; it said: {' '.join(said.split())[-300:]}")
        try:
            self._victims.whole()
        except ClusterError as error:
            self.problems.append(str(error))

    def lines(self) -> Iterator[str]:
        """Yield the report."""
        yield from self.told
        counts = ", ".join(f"{part} {self._count[part]} times" for part in PARTS)
        yield f"killed: {counts}; done again by the person: {len(self.repeated)}"

    def _live(self) -> None:
        try:
            for kill in plan(self.seed):
                self._victims.whole()
                if self._goes_on() or self._enough.wait(kill.pause):
                    return
                self._kill(kill)
        except _AWAY as error:
            self.problems.append(f"the kills ended: {error}")
        finally:
            self._enough.set()

    def _goes_on(self) -> bool:
        """Wait until the walk has gone on since the last kill, or is stuck; say whether it is over."""
        end = time.monotonic() + _STUCK
        while self.doing == self._during and time.monotonic() < end:
            if self._enough.wait(0.2):
                return True
        return self._enough.is_set()

    def _kill(self, kill: Kill) -> None:
        began, during = time.monotonic(), self.doing
        self._look()
        self._during, self._excused, self._last = during, float("inf"), kill.part
        try:
            self._victims.kill(kill)
        finally:
            self._excused = time.monotonic() + _AFTER
        self._count[kill.part] += 1
        back = time.monotonic() - began
        self._note(f"killed {kill.part} ({kill.how}) during {during}; back after {back:.1f} s", began)
        self._look()

    def _look(self) -> None:
        if wrong := self._victims.harmed():
            self.problems.append(f"after {self._last} was killed: {wrong}")

    def _note(self, line: str, at: float | None = None) -> None:
        line = f"at {(time.monotonic() if at is None else at) - self._began:6.1f} s  {line}"
        self.told.append(line)
        self._say(line)


class Installation:
    """The parts of an installation on the test cluster."""

    def __init__(self, one: Installed) -> None:
        self._one, self._killed, self._notebooks = one, 0, Notebooks()

    def harmed(self) -> str:
        """Return which notebooks did not stay as they were at the last look."""
        kube = Kube(self._one.at.kubeconfig)
        try:
            return self._notebooks.harmed(kube.listed("/api/v1/pods", labelSelector=_NOTEBOOKS))
        finally:
            kube.close()

    def kill(self, kill: Kill) -> None:
        """Kill, and wait until the part is back."""
        kube = Kube(self._one.at.kubeconfig)
        try:
            wait(kill.part, lambda: "" if self._containers(kube, kill.part) else "it is not ready", _BACK)
            before = self._containers(kube, kill.part)
            pod, container = next(iter(before.items()))
            self._keep_log(pod, kill.part)
            if kill.how == POD:
                words = ("--namespace", SPACE, "delete", "pod", pod, "--grace-period=0", "--force")
                self._one.kubectl(*words)
            else:
                os.kill(first_process(container), signal.SIGKILL)
            gone = set(before.values())
            wait(kill.part, lambda: self._missing(kube, kill.part, gone), _BACK)
        finally:
            kube.close()

    def whole(self, seconds: float = _BACK) -> None:
        """Wait until every part answers again."""
        kube = Kube(self._one.at.kubeconfig)
        try:
            for name in dict.fromkeys(PARTS.values()):
                wait(name, lambda name=name: deployed(kube, SPACE, name), seconds)  # type: ignore[misc]
        finally:
            kube.close()

    def _keep_log(self, pod: str, part: str) -> None:
        """Keep what a part said so far; with its pod it is gone."""
        self._killed += 1
        folder = BUILD / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        said = self._one.kubectl("--namespace", SPACE, "logs", pod, "--container", part, "--tail=1000")
        (folder / f"killed-{self._killed:02}-{part}.log").write_text(said)

    def _missing(self, kube: Kube, part: str, gone: set[str]) -> str:
        """Return why a part is not back: another container of it is ready, and its pod with it."""
        if set(self._containers(kube, part).values()) - gone:
            return deployed(kube, SPACE, PARTS[part])
        return "it is not there yet"

    def _containers(self, kube: Kube, part: str) -> dict[str, str]:
        """Return the container of a part in each of its pods that is ready and not on its way out."""
        selector = f"app.kubernetes.io/component={PARTS[part]}"
        found = {}
        for pod in kube.listed(f"/api/v1/namespaces/{SPACE}/pods", labelSelector=selector):
            for one in pod["status"].get("containerStatuses", ()):
                if one["name"] == part and one["ready"] and not pod["metadata"].get("deletionTimestamp"):
                    found[str(pod["metadata"]["name"])] = str(one["containerID"]).rpartition("/")[2]
        return found


def first_process(container: str, proc: Path = Path("/proc")) -> int:
    """Return the first process of a container, as this machine numbers it."""
    for one in proc.glob("[0-9]*"):
        try:
            if container not in (one / "cgroup").read_text():
                continue
            numbers = re.search(r"^NSpid:\s*(.*)$", (one / "status").read_text(), re.MULTILINE)
        except OSError:  # it ended meanwhile
            continue
        if numbers and numbers[1].split()[-1] == "1":
            return int(one.name)
    raise ClusterError(f"no process of the container {container[:12]} is there")


class Notebooks:
    """People's notebooks, each from the first look on at which it is ready; nobody on the tour stops one."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def harmed(self, pods: Iterable[dict[str, Any]]) -> str:
        """Say which were started again or are gone since the last look."""
        now, ready = {}, set()
        for pod in pods:
            made, status = pod["metadata"], pod["status"]
            if status.get("phase") == "Running" and not made.get("deletionTimestamp"):
                name, containers = f"{made['namespace']}/{made['name']}", status.get("containerStatuses", ())
                now[name] = made["uid"], [one["restartCount"] for one in containers]
                if containers and all(one["ready"] for one in containers):
                    ready.add(name)
        gone = [name for name in self._known if name not in now]
        again = [name for name, known in self._known.items() if now.get(name, known) != known]
        self._known = {name: pod for name, pod in now.items() if name in ready or name in self._known}
        said = (("notebooks are gone", gone), ("notebooks were started again", again))
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in said if names)
