"""``python -m tests.cluster up|down|status|build|...``: the test cluster from the command line."""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.cluster import dockerfiles, policy_enforcer
from tests.cluster.builder import Builder
from tests.cluster.cluster import Cluster
from tests.cluster.inside import Inside, alive
from tests.cluster.layout import PROFILES, ClusterError, Layout, carried_out, layout, nodes, say


def main() -> int:
    """Do what was asked; a failure is one message and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("up", "build"):
        verbs.add_parser(name).add_argument("--profile", choices=PROFILES, default="core")
    for name in ("down", "status"):
        verbs.add_parser(name)
    verbs.add_parser("policies", help="enforce network policies, or not").add_argument("state", choices=("on", "off"))
    run = verbs.add_parser("run", help="run a command in the network of the control plane, or of a node")
    run.add_argument("network", choices=("control", *(one.name for one in nodes())))
    run.add_argument("command", nargs=argparse.REMAINDER)
    for name in ("start", "stop", "kill"):
        verbs.add_parser(name, help=f"{name} one part, like node2-kubelet").add_argument("part")
    own = verbs.add_parser("images", help="build our own images and push them to the registry of the cluster that runs")
    own.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(dockerfiles.NAMES)}; else all")
    asked = parser.parse_args()
    return carried_out(lambda: _do(asked, layout()))


def _do(asked: argparse.Namespace, at: Layout) -> None:
    started = time.monotonic()
    match asked.verb:
        case "up":
            Cluster(at).up(asked.profile)
            say(f"in {time.monotonic() - started:.1f} s")
        case "down":
            Cluster(at).down()
        case "build":
            Builder(at).build(asked.profile)
        case "status":
            _tell(at)
        case "policies":
            (policy_enforcer.on if asked.state == "on" else policy_enforcer.off)(_running(at))
        case "run":
            network = "" if asked.network == "control" else asked.network
            say(_running(at).run(*asked.command, network=network).rstrip())
        case "start":
            _running(at).start(asked.part)
        case "images":
            _images(at, asked.names)
        case verb:
            _running(at).stop(asked.part, kill=verb == "kill")


def _running(at: Layout) -> Inside:
    inside = alive(at)
    if inside is None:
        raise ClusterError(f"no cluster runs in {at.run}; start one with: make cluster")
    return inside


def _images(at: Layout, names: list[str]) -> None:
    _running(at)
    address = f"127.0.0.1:{json.loads(at.state.read_text())['doors']['registry']}"
    ours = dockerfiles.Dockerfiles(at)
    ours.build(*names)
    ours.push(address, *names)
    if not names:
        ours.push_peoples(address)


def _tell(at: Layout) -> None:
    inside = _running(at)
    for name, part in inside.parts().items():
        state = f"process {part['pid']}" if part["pid"] else f"ended: {part['ended']}"
        say(f"{name:<26} {state:<18} started {part['starts']} times  {part['log']}")
    say(f"kubeconfig {at.kubeconfig}, commands {at.run / 'bin'}")


if __name__ == "__main__":
    sys.exit(main())
