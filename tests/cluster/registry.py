"""Starts the registry that the nodes pull from, and fills it with what the cluster's own pods need.

Both nodes use it in place of every other registry, so ``docker.io/library/busybox:1`` is asked for here as
``library/busybox:1``: what it does not hold cannot be pulled, which is a real pull error.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster.builder import Builder
from tests.cluster.images import Image, Registry
from tests.cluster.inside import Inside
from tests.cluster.layout import CONTROL, REGISTRY_PORT, machine, other_machine

BUSYBOX = Path("/bin/busybox")
# Names that people's own manifests use. Alpine's commands are busybox's too.
_SMALL = ("busybox:1", "busybox:latest", "alpine:3", "alpine:latest")
_APPLETS = [
    "awk",
    "cat",
    "chmod",
    "cut",
    "date",
    "dd",
    "echo",
    "env",
    "false",
    "grep",
    "head",
    "hostname",
    "id",
    "ip",
    "ls",
    "mkdir",
    "nc",
    "nslookup",
    "printf",
    "rm",
    "sed",
    "seq",
    "sh",
    "sleep",
    "sort",
    "stat",
    "tail",
    "tar",
    "test",
    "touch",
    "tr",
    "true",
    "wc",
    "wget",
]


def start(inside: Inside, builder: Builder) -> None:
    """Start the registry."""
    config = inside.layout.run / "registry.yaml"
    config.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "warn", "accesslog": {"disabled": True}},
                "storage": {
                    "filesystem": {"rootdirectory": str(inside.layout.folder("registry"))},
                    "delete": {"enabled": True},
                },
                "http": {"addr": f"{CONTROL}:{REGISTRY_PORT}"},
            }
        )
    )
    argv: list[str | Path] = [builder.binary("registry"), "serve", config]
    inside.start("registry", argv, env={"OTEL_TRACES_EXPORTER": "none"})


def fill(registry: Registry, builder: Builder) -> None:
    """Push what every profile needs."""
    arch = machine()
    pause, coredns = builder.binary("pause"), builder.binary("coredns")
    registry.push(Image("pause:1", {"pause": pause}, ("/pause",), user="65535", arch=arch))
    registry.push(Image("coredns:1", {"coredns": coredns}, ("/coredns",), arch=arch))
    registry.push(Image("probe:1", {"probe": builder.binary("probe")}, ("/probe",), user="65532", arch=arch))
    for name in ("busybox:1", *(f"library/{one}" for one in _SMALL)):
        registry.push(busybox(name, arch))
    elsewhere = Image("elsewhere:1", {"pause": builder.binary("pause-elsewhere")}, ("/pause",), arch=other_machine())
    registry.push(elsewhere)  # a program of another architecture, which says so
    registry.index("elsewhere-only:1", [elsewhere])


def busybox(name: str, arch: str) -> Image:
    """Return Debian's static busybox as an image, with the commands that tests use."""
    links = {f"bin/{one}": "busybox" for one in _APPLETS}
    return Image(name, {"bin/busybox": BUSYBOX}, command=("sh",), links=links, arch=arch)
