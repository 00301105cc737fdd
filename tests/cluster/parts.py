"""Argo's and Knative's manifests and images for a cluster on which helmfile installs them, not the profiles.

``python -m tests.cluster.parts PART FOLDER`` writes the manifests of `argo` or `knative` as their projects wrote them,
read from the module cache, with images that this cluster's registry has. `push` brings those images into it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from tests.cluster import argo, knative
from tests.cluster.builder import Builder
from tests.cluster.images import Registry
from tests.cluster.kube import Manifest
from tests.cluster.layout import ClusterError, Layout, layout


def write(part: str, folder: Path, builder: Builder) -> None:
    """Write a part's manifests into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = argo.manifests(builder) if part == "argo" else knative.manifests(builder)
    with (folder / f"{part}.yaml").open("w") as out:
        yaml.dump_all(found, out, Dumper=_Plain, sort_keys=False, explicit_start=True, width=10_000)


def push(layout: Layout, registry: Registry) -> None:
    """Build what lacks, and push the images of both parts."""
    builder = Builder(layout)
    for part, profile in (("argo", argo), ("knative", knative)):
        builder.build(part)
        profile.push(registry, builder)


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice in full."""

    def ignore_aliases(self, data: Manifest) -> bool:
        """Write no anchors."""
        return True


def main() -> int:
    """Write what was asked for."""
    part, folder = sys.argv[1:]
    try:
        write(part, Path(folder), Builder(layout()))
    except ClusterError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
