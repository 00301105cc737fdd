"""Kinds: the resources of the cluster that Ropewalk touches, and where each lives in the API. Pure.

Objects stay plain JSON dictionaries; what is read from them is checked where it is read. Rejected: generated classes
for all of Kubernetes (70,000 lines for the thirty fields that are used, and a second model beside ``model.py``), and
discovery at run time (a round trip for what is fixed).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

Object = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """One kind of object: its group (empty for the core), version, plural in addresses, name and scope."""

    group: str
    version: str
    plural: str
    name: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What stands as ``apiVersion`` in an object."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", sub: str = "") -> str:
        """Return the address of one object or its part; without a name that of the list, of all namespaces if none.

        Names are quoted, so that no text can reach another address.
        """
        parts = ["apis", self.group] if self.group else ["api"]
        parts += [self.version, *(("namespaces", namespace) if self.namespaced and namespace else ()), self.plural]
        parts += [one for one in (name, sub) if one]
        return "/" + "/".join(quote(one, safe=":") if one not in (".", "..") else "%2E" * len(one) for one in parts)

    def of(self, body: Object) -> Object:
        """Return the body with ``apiVersion`` and ``kind``, which items of a list lack."""
        return {"apiVersion": self.api_version, "kind": self.name, **body}


NAMESPACE = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
NODE = Kind("", "v1", "nodes", "Node", namespaced=False)
POD = Kind("", "v1", "pods", "Pod")
SERVICE = Kind("", "v1", "services", "Service")
CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")
SECRET = Kind("", "v1", "secrets", "Secret")
CLAIM = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
EVENT = Kind("", "v1", "events", "Event")
SERVICE_ACCOUNT = Kind("", "v1", "serviceaccounts", "ServiceAccount")
QUOTA = Kind("", "v1", "resourcequotas", "ResourceQuota")
LIMIT_RANGE = Kind("", "v1", "limitranges", "LimitRange")
DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
STATEFUL_SET = Kind("apps", "v1", "statefulsets", "StatefulSet")
JOB = Kind("batch", "v1", "jobs", "Job")
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
ROLE = Kind("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDING = Kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDING = Kind(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
ADMISSION_POLICY = Kind(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False
)
ADMISSION_BINDING = Kind(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)
RUNTIME_CLASS = Kind("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False)
WORKFLOW = Kind("argoproj.io", "v1alpha1", "workflows", "Workflow")
KNATIVE_SERVICE = Kind("serving.knative.dev", "v1", "services", "Service")
KNATIVE_REVISION = Kind("serving.knative.dev", "v1", "revisions", "Revision")


def selector(labels: dict[str, str]) -> str:
    """Return a label selector for exactly these labels.

    Raises
    ------
    ValueError
        If a key or value is not a label's, so that no text of a person can add a condition.
    """
    for key, value in labels.items():
        prefix, _, name = key.rpartition("/")
        if not is_label(name, least=1) or not is_label(value) or not re.fullmatch(r"[a-z0-9.-]*", prefix):
            raise ValueError(f"{key}={value} is not a label")
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def is_label(text: str, *, least: int = 0) -> bool:
    """Whether the text can be the value of a label: 63 letters, digits and ``-_.``, of which the ends are no signs."""
    if not least <= len(text) <= 63 or not text.isascii():
        return False
    return not text or (text[0].isalnum() and text[-1].isalnum() and all(one.isalnum() or one in "-_." for one in text))
