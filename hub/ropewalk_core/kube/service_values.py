"""What a service's chart is given besides the person's own values, under the one reserved key ``ropewalk``. Pure.

Not here: whether a rendered chart may run (``charts.py``).
"""

from __future__ import annotations

from typing import Any

from ropewalk_core import names
from ropewalk_core.catalog import Entry
from ropewalk_core.kube.charts import Rules
from ropewalk_core.kube.placement import Fragment
from ropewalk_core.kube.tenancy import WORK
from ropewalk_core.kube.volumes import NAME, Files
from ropewalk_core.model import Service
from ropewalk_core.placement import format_size
from ropewalk_core.settings import Cluster

KEY = "ropewalk"
"""The key of our own values; a person's values cannot have it, as the form's schema leaves it out."""
WISH = "ropewalk.dev/wish"
"""The annotation of a pod that says which wish it was made from."""
KIND_LABEL = {"ropewalk.dev/kind": "service"}
_NAME = "ropewalk.dev/name"
_RESERVED = 512 * 2**20
_MEMORY = 2 * 2**30


def release_of(name: str) -> str:
    """Return the name of a service's release and of its objects; no other noun's name can have two dashes."""
    return f"service--{name}"


def labels_of(owner: str, name: str) -> dict[str, str]:
    """Return the labels of everything that a service has in the cluster."""
    return {"ropewalk.dev/account": names.slug(owner), **KIND_LABEL, _NAME: name}


def name_in(labels: dict[str, str]) -> str:
    """Return the name of the service that an object with these labels belongs to; empty if to none."""
    return labels.get(_NAME, "") if KIND_LABEL.items() <= labels.items() else ""


def pod_of(fragment: Fragment, files: Files) -> dict[str, Any]:
    """Return the fields of the pod that say where it may run: as asked, and where the files are."""
    affinity = {**fragment.pod.get("affinity", {}), **files.affinity}
    return {**fragment.pod, **({"affinity": affinity} if affinity else {})}


def values_of(
    service: Service, entry: Entry, fragment: Fragment, files: Files, cluster: Cluster, wish: str
) -> dict[str, Any]:
    """Return the whole values of a release: the person's, and ours."""
    memory = entry.local.memory if entry.local else _MEMORY
    # Without a wish of the person's it may use what it may use on one machine, and reserves less of it.
    requests = {"memory": format_size(min(_RESERVED, memory))} | fragment.resources.get("requests", {})
    limits = {"memory": format_size(memory)} | fragment.resources.get("limits", {})
    ours = {
        "image": cluster.images["runner"],
        "host": service.address.split("/")[2],
        "origin": service.address.rstrip("/"),
        "claim": NAME,
        "labels": {**labels_of(service.owner, service.spec.name), **files.labels},
        "annotations": {WISH: wish},
        "pod": pod_of(fragment, files),
        "resources": {"requests": requests, "limits": limits},
    }
    return {**service.spec.values, KEY: ours}


def rules_of(service: Service, fragment: Fragment, files: Files, cluster: Cluster, namespace: str) -> Rules:
    """Return what the rendered chart of a service may hold."""
    return Rules(
        release=release_of(service.spec.name),
        namespace=namespace,
        labels={**labels_of(service.owner, service.spec.name), **files.labels},
        images=frozenset({cluster.images["runner"], cluster.images["notebook"]}),
        account=WORK,
        pod=pod_of(fragment, files),
    )
