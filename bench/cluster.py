"""The figures of the platform on a cluster beside Knative and Argo alone: `python -m bench.cluster [--json]`.

It installs on the test cluster that runs, or starts one, as `make kube` does, and removes what it installed; with
``--at PORT`` it measures what is installed there and leaves it. Ours and the peer take turns, so that whatever else the
machine does falls on both. Run it as the superuser, on a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import socket
import sys
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench import bare, peers, tenants
from bench.platforms import make_administrator
from bench.report import Row, alone, paired, publish
from ropewalk_core.flows import RunSpec
from ropewalk_core.model import FunctionSpec
from ropewalk_workflows import compile as compiler
from ropewalk_workflows.capture import capture
from ropewalk_workflows.dag import step, workflow
from tests.cluster.installed import SPACE, Installed
from tests.cluster.kube import Kube
from tests.cluster.layout import ClusterError, layout

KEPT = "cold"
"""The function that is there all the time."""
IDLE = 6.0
_KNATIVE = "serving.knative.dev/service={}"


def echo(value: int) -> int:
    return value


@step
def add(value: int) -> int:
    return value + 1


@workflow
def single():
    return add(0)


@workflow
def wide():
    return [add(number) for number in range(20)]


@dataclass
class Bench:
    """An installation, the account that everything is measured as, and how often."""

    installed: Installed
    kube: Kube
    runs: int
    account: str = "bench"
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return self.installed.port

    @property
    def space(self) -> str:
        """Return the account's namespace."""
        mine = f"ropewalk.dev/installation={SPACE},ropewalk.dev/account={self.account}"
        found = self.kube.listed("/api/v1/namespaces", labelSelector=mine)
        return str(found[0]["metadata"]["name"])

    def image(self) -> str:
        """Return the runner's image as our own functions name it."""
        path = f"/apis/serving.knative.dev/v1/namespaces/{self.space}/services/fn--{KEPT}"
        found = self.kube.get(path) or {}
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"])

    def token(self, audience: str) -> str:
        """Return a token that is still good for a while."""
        known, until = self._tokens.get(audience, ("", 0.0))
        if time.monotonic() > until:
            done = self.installed.ropewalk("token", "--audience", audience, "--as", self.account, "--json")
            if done.returncode:
                raise RuntimeError(f"no token: {done.stderr}")
            known = json.loads(done.stdout)["token"]
            self._tokens[audience] = (known, time.monotonic() + 240)
        return known

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the platform's REST interface and return its JSON."""
        headers = {"Authorization": f"Bearer {self.token('api')}"}
        status, text = send(self.port, method, f"/api/v1/{path}", f"localhost:{self.port}", headers, body)
        if status >= 300:
            raise RuntimeError(f"{method} {path} was answered with {status}: {text[:500]}")
        return json.loads(text) if text else None

    def call(self, name: str) -> float:
        """Call a function through the gateway; return the seconds until its answer."""
        host = f"{name}--fn--{self.account}.localhost:{self.port + 1}"
        headers = {"Authorization": f"Bearer {self.token('functions')}"}
        return answered(self.port + 1, host, headers)

    def bare_ready(self, name: str) -> bool:
        """Say whether the peer is ready, Kourier included."""
        path = f"/apis/serving.knative.dev/v1/namespaces/{bare.SPACE}/services/{name}"
        said = (self.kube.get(path) or {}).get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in said)

    def call_bare(self, name: str) -> float:
        """Call the peer through Kourier."""
        port = json.loads(self.installed.at.state.read_text())["doors"]["ingress"]
        url = (self.kube.get(f"/apis/serving.knative.dev/v1/namespaces/{bare.SPACE}/services/{name}") or {})["status"][
            "url"
        ]
        return answered(port, str(urllib.parse.urlparse(url).hostname), {})


def send(port: int, method: str, path: str, host: str, headers: dict[str, str], body: Any) -> tuple[int, str]:
    """Send one request over a connection of its own; return the status and the text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=180)
    try:
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Host": host, "Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def answered(port: int, host: str, headers: dict[str, str]) -> float:
    """Post one small payload; return the seconds until it is answered with 3."""
    begin = time.perf_counter()
    status, text = send(port, "POST", "/", host, headers, {"value": 3})
    taken = time.perf_counter() - begin
    if (status, text.strip()) != (200, "3"):
        raise RuntimeError(f"{host} answered {status}: {text[:300]}")
    return taken


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def notebooks(bench: Bench) -> list[Row]:
    """Measure a start of the person's notebook until it answers at the person's address."""
    host = f"{bench.account}.localhost:{bench.port}"

    def click() -> None:
        bench.ask("POST", f"notebooks/{bench.account}/start", {})
        peers.wait_for(bench.port, f"/user/{bench.account}/api", (200,), host=host, seconds=300)

    def stop() -> None:
        bench.ask("POST", f"notebooks/{bench.account}/stop", {})
        labels = "component=singleuser-server"
        bare.at_zero(bench.kube, bench.space, labels)

    taken = []
    for _ in range(1 + max(3, bench.runs // 3)):
        taken.append(timed(click))
        stop()
    return [
        Row("notebook, click to usable, first time (volume made)", taken[0], "s"),
        alone("notebook, click to usable, later", "s", taken[1:]),
    ]


def deploys(bench: Bench) -> list[Row]:
    """Measure a function's deploy to its first answer beside a Knative Service's."""

    def ours(number: int) -> float:
        spec = FunctionSpec(name=f"fresh-{number}", bundle=capture(echo), idle=IDLE)
        bench.token("functions")

        def act() -> None:
            bench.ask("PUT", f"functions/{bench.account}/{spec.name}", spec.model_dump(mode="json"))
            bench.call(spec.name)

        taken = timed(act)
        bench.ask("DELETE", f"functions/{bench.account}/{spec.name}")
        return taken

    def theirs(number: int) -> float:
        name = f"fresh-{number}"
        path = f"/apis/serving.knative.dev/v1/namespaces/{bare.SPACE}/services/{name}"

        def act() -> None:
            bench.kube.apply(bare.service(name, bench.image()))
            bare.until(lambda: bench.bare_ready(name), f"{name} is ready", 120)
            bench.call_bare(name)

        taken = timed(act)
        bench.kube.delete(path)
        return taken

    ours(0)  # the first of each pulls the image
    theirs(0)
    pairs = [(ours(number), theirs(number)) for number in range(1, bench.runs + 1)]
    peer = "bare Knative Service, apply to first answer"
    return [
        alone("function, deploy to first answer", "s", [one for one, _ in pairs], "<= 5"),
        paired("function, deploy to first answer, beside Knative", "s", peer, pairs),
    ]


def cold_starts(bench: Bench) -> list[Row]:
    """Measure calls that find no worker, and calls that find one."""

    turn = itertools.count()

    def both() -> tuple[float, float]:
        bench.token("functions")
        if next(turn) % 2:
            theirs = bench.call_bare(KEPT)
            return bench.call(KEPT), theirs
        return bench.call(KEPT), bench.call_bare(KEPT)

    bench.kube.apply(bare.service(KEPT, bench.image()))
    bare.until(lambda: bench.bare_ready(KEPT), "the bare service", 120)
    both()

    def colds() -> tuple[float, float]:
        bare.at_zero(bench.kube, bench.space, _KNATIVE.format(f"fn--{KEPT}"))
        bare.at_zero(bench.kube, bare.SPACE, _KNATIVE.format(KEPT))
        return both()

    pairs = [colds() for _ in range(bench.runs)]
    both()
    warm = [(ours * 1e3, theirs * 1e3) for ours, theirs in (both() for _ in range(10 * bench.runs))]
    peer = "bare Knative, the runner's image, one line"
    return [
        paired("function, cold start from zero, p50", "s", peer, pairs, "<= 1.1"),
        paired("function, warm call over a new connection, p50", "ms", peer, warm),
    ]


def workflows(bench: Bench) -> list[Row]:
    """Measure a run to its first step, and a fan-out of 20 to its end, beside the same manifest given to Argo."""

    def ours(flow: object, reached: Callable[[Kube, str, str], None]) -> tuple[float, str]:
        spec: RunSpec = compiler.from_object(flow).model_copy(update={"fresh": True})
        body, name = spec.model_dump(mode="json"), ""

        def act() -> None:
            nonlocal name
            name = str(bench.ask("POST", f"workflows/{bench.account}", body)["id"])
            reached(bench.kube, bench.space, name)

        taken = timed(act)
        bare.ended(bench.kube, bench.space, name)
        return taken, name

    def theirs(manifest: bare.Manifest, reached: Callable[[Kube, str, str], None]) -> float:
        name = ""

        def act() -> None:
            nonlocal name
            name = bare.submit(bench.installed, manifest)
            reached(bench.kube, bench.space, name)

        taken = timed(act)
        bare.ended(bench.kube, bench.space, name)
        bench.installed.kubectl("--namespace", bench.space, "delete", "workflow", name, "--wait=true")
        return taken

    rows, peer = [], "the same manifest, kubectl create"
    for flow, reached, what in (
        (single, bare.first_step, "submit to first step"),
        (wide, bare.ended, "20-wide fan-out"),
    ):
        _, name = ours(flow, reached)
        manifest = bare.workflow_again(bench.kube, bench.space, name)
        theirs(manifest, reached)
        pairs = [(ours(flow, reached)[0], theirs(manifest, reached)) for _ in range(bench.runs)]
        rows.append(paired(f"workflow, {what}", "s", peer, pairs, "<= 1.05"))
    return rows


def memory(bench: Bench) -> list[Row]:
    """Return the working set of the platform's own pods, as the nodes' kubelets count it."""
    found = tenants.weights(bench.kube)
    whole = Row(f"memory of our own pods ({', '.join(sorted(found))})", sum(found.values()), "MiB")
    return [whole, *(Row(f"memory of {part}", size, "MiB") for part, size in sorted(found.items()))]


def functions(bench: Bench) -> list[Row]:
    """Measure deploys and cold starts."""
    bare.open_space(bench.kube)
    spec = FunctionSpec(name=KEPT, bundle=capture(echo), idle=IDLE)
    bench.ask("PUT", f"functions/{bench.account}/{KEPT}", spec.model_dump(mode="json"))
    bench.call(KEPT)
    try:
        return deploys(bench) + cold_starts(bench)
    finally:
        bench.ask("DELETE", f"functions/{bench.account}/{KEPT}")
        bench.kube.delete(f"/api/v1/namespaces/{bare.SPACE}")


# Memory first, while nothing has happened yet; tenants last, since programs are started again for them.
PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "memory": memory,
    "notebooks": notebooks,
    "functions": functions,
    "workflows": workflows,
    "tenants": tenants.tenants,
}


def install(bench: Bench) -> list[Row]:
    """Install, make the first administrator, and measure both."""
    first = Row("helmfile sync, nothing installed, to the sign-in page", bench.installed.sync(), "s")
    link = bench.installed.first()
    if "/first/" in link:
        make_administrator(bench.port, urllib.parse.urlparse(link.split()[-1]).path, bench.account)
    again = Row("helmfile sync, nothing changed", bench.installed.sync(), "s")
    time.sleep(10)
    return [first, again]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--runs", type=int, default=10, help="pairs of each row")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--at", type=int, metavar="PORT", help="measure what is installed and answers at this port")
    parser.add_argument("--account", default="bench", help="whose work it is; made as the first administrator")
    chosen = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # how it goes; what comes of it is all that is printed
        rows, failed = measured(chosen)
    publish(rows, as_json=chosen.json)
    return failed


def measured(chosen: argparse.Namespace) -> tuple[list[Row], int]:
    """Return the rows, and 1 if a part of them is missing."""
    at = layout()
    installed, rows = Installed(at, chosen.at or peers.free_port()), []
    if not chosen.at:
        installed.prepare()
    kube = Kube(at.kubeconfig)
    bench, failed = Bench(installed, kube, chosen.runs, chosen.account), 0
    try:
        rows += install(bench) if not chosen.at else []
        for part in (one for one in PARTS if one in chosen.only):
            try:
                rows += PARTS[part](bench)
            except (RuntimeError, OSError, LookupError, ClusterError, httpx.HTTPError) as error:
                sys.stderr.write(f"{part}: {error!r}\n")  # what was measured before is not lost
                failed = 1
    finally:
        kube.close()
        if not chosen.at:
            installed.destroy()
    return rows, failed


if __name__ == "__main__":
    sys.exit(main())
