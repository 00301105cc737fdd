"""Roles: what the platform's programs and a tenant's own accounts may do, and no more. Pure data.

The hub and the platform hold these rights in tenants' namespaces only; the controller alone holds any across the
cluster. It may not read a secret, run a pod or invent a role. A role cannot say where a right holds, so what it may
write it may write anywhere by these rules; admission policies keep it to the namespaces that it made, and to the very
bindings that belong there. Whoever takes its pod over can remove accounts' namespaces with all files, and gains no
right: so it faces nobody, listens to probes only, and reads nothing but requests. Not here: who is bound
(``tenancy.py``), and those policies (``bounds.py``).
"""

from __future__ import annotations

from typing import Any

Rule = dict[str, Any]
_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "patch"]


def _rule(group: str, resources: list[str], verbs: list[str], names: list[str] | None = None) -> Rule:
    named = {"resourceNames": names} if names else {}
    return {"apiGroups": [group], "resources": resources, **named, "verbs": verbs}


TENANT_RULES: dict[str, list[Rule]] = {
    # JupyterHub: notebook servers, and the namespace itself to look at its owner's mark before each.
    "hub": [
        _rule("", ["namespaces"], ["get"]),
        _rule("", ["pods"], [*_READ, "create", "delete"]),
        _rule("", ["events"], _READ),
    ],
    # The platform: functions, workflows, files and logs, and tokens of the account that Helm runs as.
    "platform": [
        _rule("", ["namespaces"], ["get"]),
        _rule("", ["pods"], [*_READ, "delete"]),
        _rule("", ["pods/log"], ["get"]),
        _rule("", ["events"], _READ),
        _rule("", ["configmaps", "services"], _READ + _WRITE),
        _rule("", ["persistentvolumeclaims"], ["get", "create"]),  # nobody's files can be deleted with it
        _rule("", ["secrets"], ["create", "patch"]),
        _rule("", ["serviceaccounts/token"], ["create"], ["releases"]),
        _rule("apps", ["deployments"], _READ + _WRITE),
        _rule("serving.knative.dev", ["services"], _READ + _WRITE),
        _rule("serving.knative.dev", ["revisions"], [*_READ, "delete"]),
        _rule("argoproj.io", ["workflows"], [*_READ, *_WRITE]),
    ],
    # What reports a step's outputs to Argo.
    "reports": [_rule("argoproj.io", ["workflowtaskresults"], ["create", "patch"])],
    # Helm as the tenant: the kinds that a service's chart may hold.
    "releases": [
        _rule("", ["configmaps", "persistentvolumeclaims", "secrets", "services"], _READ + _WRITE + ["update"]),
        _rule("", ["pods", "events"], _READ),
        _rule("apps", ["deployments", "statefulsets"], _READ + _WRITE + ["update"]),
        _rule("apps", ["replicasets"], _READ),
        _rule("batch", ["jobs"], _READ + _WRITE + ["update"]),
    ],
    # What a notebook's token may, where the installation gives one (`cluster.notebook_token`): see what runs, and why
    # it does not. What changes things goes through the platform, which knows of it then; secrets and configuration
    # are no part of seeing, and `kubectl exec` would be a way into pods that the gateway guards.
    "notebooks": [
        _rule("", ["pods", "events"], _READ),
        _rule("", ["pods/log"], ["get"]),
        _rule("serving.knative.dev", ["services"], _READ),
        _rule("argoproj.io", ["workflows"], _READ),
    ],
}


def controller_rules(bound: list[str]) -> list[Rule]:
    """Return what the tenancy controller may do across the cluster; ``bound`` are the only roles that it may give."""
    rbac = "rbac.authorization.k8s.io"
    return [
        _rule("", ["namespaces"], _READ + _WRITE),
        _rule("", ["nodes"], _READ),
        _rule("node.k8s.io", ["runtimeclasses"], _READ),
        _rule("", ["limitranges", "resourcequotas", "serviceaccounts"], _READ + _WRITE),
        _rule("networking.k8s.io", ["networkpolicies"], _READ + _WRITE),
        _rule(rbac, ["rolebindings"], _READ + _WRITE),
        _rule(rbac, ["clusterroles"], ["bind"], bound),
    ]


REQUEST_RULES: list[Rule] = [_rule("", ["configmaps"], [*_READ, "create", "patch"])]
"""What the controller may do in the platform's namespace: read the requests, answer them, and say what there is."""

ASKING_RULES: list[Rule] = [_rule("", ["configmaps"], [*_READ, "create", "patch"])]
"""What the platform may do in its own namespace: ask for tenants, and read the answers (``bounds``: by what names)."""


def placing_rules(prefix: str) -> list[Rule]:
    """Return what the hub may do in the platform's namespace: read what the cluster has, to place notebooks."""
    return [_rule("", ["configmaps"], ["get"], [f"{prefix}-site"])]
