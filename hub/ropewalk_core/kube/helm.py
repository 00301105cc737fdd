"""Helm: the one module that runs it. Renders a chart, installs what was rendered and looked at, and takes it away.

What is installed is exactly what was rendered before: the objects go into a chart of their own as a file that nothing
is filled into, so that a chart cannot say one thing here and another in the cluster (``lookup`` sees no cluster here).
Helm runs with a home, a kubeconfig (0600) and a token of its own, which are gone after; values are a file. Nothing is
waited for: whoever watches the objects sees more. Not here: what may be installed (``charts.py``). Rejected: pyhelm3,
which starts Helm through a shell with the platform's whole environment, without an end to its time, and beside
``processes.py``; ``--rollback-on-failure``, which waits, and hides the first reason behind a second change.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import yaml

from ropewalk_core import processes
from ropewalk_core.errors import BadValues, Conflict, Denied, Internal, RopewalkError, Unavailable
from ropewalk_core.kube.charts import refuse
from ropewalk_core.kube.config import Access, kubeconfig
from ropewalk_core.kube.kinds import Object
from ropewalk_core.kube.transient import passes
from ropewalk_core.settings import child_environment
from ropewalk_core.why import cluster as why

_PREFIX = "helm-"
_LONGEST = 60.0
_AT_ONCE = 3  # a cluster that does not answer must not take every thread; one of a namespace, so nor may a namespace
_HISTORY = "3"
_MISSING = ("release: not found", "release not found")
_LEFT = ("another operation (install/upgrade/rollback) is in progress", "has no deployed releases")
_PASSES = (
    "connection refused",
    "connection reset",
    "context deadline exceeded",
    "client rate limiter",
    "etcdserver",
    "i/o timeout",
    "no such host",
    "kubernetes cluster unreachable",
    "the server is currently unable",
    "tls handshake timeout",
    "too many requests",
    "unauthorized",
    "unexpected eof",
    "http2: client connection lost",
    "the object has been modified",
)


@dataclass(frozen=True)
class Reach:
    """Where and as whom Helm acts: the API server, a token, and a namespace."""

    access: Access
    token: str
    namespace: str


class Helm:
    """Runs Helm 4.

    Parameters
    ----------
    folder
        Where its short-lived files lie; nobody else may read it.
    program
        The program, found on the path.
    """

    def __init__(self, folder: Path, *, program: str = "helm") -> None:
        self._folder, self._program = folder, program
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._spaces: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._first, self._begun = threading.Lock(), False

    async def render(self, chart: Path, release: str, namespace: str, values: Mapping[str, Any]) -> list[Object]:
        """Return the objects that a chart becomes with these values.

        Raises
        ------
        Denied
            If it cannot be rendered, with Helm's own words.
        BadValues
            If the values do not fit the chart's schema.
        """
        return await asyncio.to_thread(self._render, chart, release, namespace, values)

    async def install(
        self, reach: Reach, chart: Path, release: str, objects: Sequence[Object], values: Mapping[str, Any]
    ) -> None:
        """Install these objects as a release of the chart, or change the release to them; once more changes nothing.

        A release that a kill left half-way, or that the cluster did not take whole, is brought back to what it was
        before, or taken away if it never was.
        """
        async with self._turn(reach):
            await asyncio.to_thread(self._install, reach, chart, release, objects, values)

    async def uninstall(self, reach: Reach, release: str) -> None:
        """Take a release away; one that is not there is done already."""
        async with self._turn(reach):
            await asyncio.to_thread(self._uninstall, reach, release)

    async def state(self, reach: Reach, release: str) -> str:
        """Return the state of a release in Helm's words, such as ``deployed``; empty if there is none."""
        async with self._turn(reach):
            return await asyncio.to_thread(self._state, reach, release)

    @contextlib.asynccontextmanager
    async def _turn(self, reach: Reach) -> AsyncIterator[None]:
        async with self._spaces.setdefault(reach.namespace, asyncio.Lock()), self._turns:
            yield

    # What runs in a thread

    def _render(self, chart: Path, release: str, namespace: str, values: Mapping[str, Any]) -> list[Object]:
        with self._place() as place:
            (place / "values.yaml").write_text(yaml.safe_dump(dict(values)))
            argv = ["template", release, str(chart), "--namespace", namespace, "--values", str(place / "values.yaml")]
            done = self._run(place, [*argv, "--include-crds"])
        if done.code == 0:
            try:
                return [one for one in yaml.safe_load_all(done.out) if one is not None]
            except yaml.YAMLError as error:
                raise refuse(chart.name, f"it does not render to YAML ({str(error)[:300]}).") from error
        said = _said(done.err)
        if done.code in (124, 127):
            raise Unavailable(f"Charts cannot be rendered: {said}", hint="Ask your administrator.")
        if "don't meet the specifications of the schema" in done.err:
            raise BadValues(f"The values do not fit the chart '{chart.name}': {said}", field="values")
        raise refuse(chart.name, f"it cannot be rendered. {said}")

    def _install(
        self, reach: Reach, chart: Path, release: str, objects: Sequence[Object], values: Mapping[str, Any]
    ) -> None:
        with self._place(reach) as place:
            frozen = _frozen(place, chart, objects)
            (place / "values.yaml").write_text(yaml.safe_dump(dict(values)))
            argv = ["upgrade", release, str(frozen), "--install", "--values", str(place / "values.yaml")]
            argv += ["--server-side=true", "--force-conflicts", "--history-max", _HISTORY]
            done = self._run(place, argv, reach)
            if done.code and any(one in done.err for one in _LEFT):
                self._recover(place, reach, release)
                done = self._run(place, argv, reach)
            try:
                _raise(done, chart.name)
            except RopewalkError as error:
                if not passes(error):  # the cluster took some of it and not all
                    with contextlib.suppress(RopewalkError):
                        self._recover(place, reach, release)
                raise

    def _recover(self, place: Path, reach: Reach, release: str) -> None:
        """Bring a release that was left in the middle back to its last good revision, or take it away."""
        done = self._run(place, ["history", release, "--output", "json"], reach)
        _raise(done, release)
        revisions = {str(one["status"]): int(one["revision"]) for one in json.loads(done.out)}  # the latest of each
        good = revisions.get("deployed") or revisions.get("superseded")
        argv = ["uninstall", release, "--ignore-not-found"]
        if good:
            argv = ["rollback", release, str(good), "--server-side=true", "--force-conflicts"]
        _raise(self._run(place, argv, reach), release)

    def _uninstall(self, reach: Reach, release: str) -> None:
        with self._place(reach) as place:
            done = self._run(place, ["uninstall", release, "--ignore-not-found"], reach)
        if not any(one in done.err.lower() for one in _MISSING):
            _raise(done, release)

    def _state(self, reach: Reach, release: str) -> str:
        with self._place(reach) as place:
            done = self._run(place, ["status", release, "--output", "json"], reach)
        if any(one in done.err.lower() for one in _MISSING):
            return ""
        _raise(done, release)
        return str(json.loads(done.out)["info"]["status"])

    @contextlib.contextmanager
    def _place(self, reach: Reach | None = None) -> Iterator[Path]:
        """Give a folder that only we may read, with a kubeconfig if Helm is to reach the cluster."""
        self._begin()
        place = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._folder))
        try:
            if reach is not None:
                path = place / "kubeconfig"
                path.touch(mode=0o600)
                path.write_text(kubeconfig(reach.access, token=reach.token, namespace=reach.namespace))
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _begin(self) -> None:
        """Before the first use, remove what a killed platform left."""
        with self._first:
            if not self._begun:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                for one in self._folder.glob(f"{_PREFIX}*"):
                    shutil.rmtree(one, ignore_errors=True)
                self._begun = True

    def _run(self, place: Path, argv: Sequence[str], reach: Reach | None = None) -> processes.Finished:
        own = {"HOME": str(place), "TMPDIR": str(place)}
        if reach is not None:
            own["KUBECONFIG"] = str(place / "kubeconfig")
            argv = [*argv, "--namespace", reach.namespace]
        # It ends with the platform: a release is never changed by one that was started before and one after.
        command = ["setpriv", "--pdeathsig", "KILL", "--", self._program, *argv]
        return processes.run(command, env=child_environment(own), cwd=place, timeout=_LONGEST)


def _frozen(place: Path, chart: Path, objects: Sequence[Object]) -> Path:
    """Write a chart that is these objects and nothing else, under the name and version of the chart they come from."""
    frozen = place / "chart"
    (frozen / "templates").mkdir(parents=True)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    kept = {key: about[key] for key in ("apiVersion", "name", "version", "appVersion", "description") if key in about}
    (frozen / "Chart.yaml").write_text(yaml.safe_dump(kept))
    (frozen / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    (frozen / "templates" / "objects.yaml").write_text('{{ .Files.Get "objects.yaml" }}')
    return frozen


def _raise(done: processes.Finished, about: str) -> None:
    """Raise what Helm's failure means; nothing if it did not fail."""
    if done.code == 0:
        return
    said, low = _said(done.err), done.err.lower()
    raise _judged(done.code, said, low, about)


def _judged(code: int, said: str, low: str, about: str) -> RopewalkError:
    if code == 127:
        return Internal(f"Helm cannot be started: {said}")
    told = why.explained(said)
    if told is not None and told.code != "RW-UNAVAILABLE":
        return Denied(told.cause, hint=told.next or None, details={"raw": said})
    if code < 0 or code in (124, 128 + 9) or any(one in low for one in _PASSES):
        return Unavailable(f"Helm could not carry out '{about}': {said}")
    if "cannot be imported into the current release" in low or "already exists" in low:
        return Conflict(
            f"An object of '{about}' is there already and belongs to something else: {said}",
            hint="Remove it, or choose another name.",
        )
    return Denied(f"The cluster refused '{about}': {said}", hint="Ask your administrator.")


def _said(text: str) -> str:
    """Return Helm's last words without its warnings."""
    lines = [line for line in text.strip().splitlines() if line.strip() and not line.startswith(("WARNING", "level="))]
    return " ".join(line.removeprefix("Error: ").strip() for line in lines)[:2000]
