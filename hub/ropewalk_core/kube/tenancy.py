"""Tenancy: everything that a namespace of one account holds, and who may do what in it. Pure rendering.

One golden file, ``tests/unit/golden/tenancy.yaml``, shows all of it. A namespace is ours only with our mark and its
owner's subject; any other of that name is refused by name, never taken over. What may be done in it are cluster roles
that the chart installs once; a namespace holds only bindings, so that the controller that makes them needs no right to
invent a role. Kubernetes isolates namespaces of people who trust their cluster's administrator and its kernel; people
who distrust each other need separate clusters. Not here: applying anything (``tenancy_controller.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ropewalk_core import names
from ropewalk_core.errors import BadInput, NameTaken
from ropewalk_core.kube.kinds import (
    CLUSTER_ROLE,
    CONFIG_MAP,
    LIMIT_RANGE,
    NAMESPACE,
    NETWORK_POLICY,
    QUOTA,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    Kind,
    Object,
)
from ropewalk_core.kube.policies import policies
from ropewalk_core.kube.roles import TENANT_RULES, controller_rules
from ropewalk_core.settings import Cluster, Settings

INSTALLATION, ACCOUNT, OWNER = "ropewalk.dev/installation", "ropewalk.dev/account", "ropewalk.dev/owner"
MANAGED = {"app.kubernetes.io/managed-by": "ropewalk-tenancy"}
KINDS: tuple[Kind, ...] = (QUOTA, LIMIT_RANGE, NETWORK_POLICY, SERVICE_ACCOUNT, ROLE_BINDING)
"""What a tenant's namespace holds of ours."""
WORK, REPORTS, RELEASES, NOTEBOOKS = "work", "reports", "releases", "notebooks"
"""Service accounts: of everything that people run, of the reporter beside a step, of Helm as the tenant, and of a
notebook where it gets a token; elsewhere a notebook is `WORK` like the rest, and there is no `NOTEBOOKS`."""
PROGRAMS = ("hub", "platform")
"""Service accounts of the platform's own namespace that are bound in every tenant's."""
GUARD = "pod-security.kubernetes.io"
_STATE, _WHY, _REQUEST = "ropewalk.dev/state", "ropewalk.dev/why", "ropewalk.dev/tenant"
_LONGEST_PREFIX = 63 - len("--") - names.LONGEST


@dataclass(frozen=True)
class Tenant:
    """An account, or a team, that has a namespace.

    ``subject`` is the issuer's opaque identifier, which nobody can guess or take again. ``quota`` replaces amounts of
    the common one. ``gone`` asks for the namespace and all files in it to be removed.
    """

    account: str
    subject: str
    kind: str = "person"
    quota: Mapping[str, str] = field(default_factory=dict)
    gone: bool = False


def namespace_of(account: str, cluster: Cluster) -> str:
    """Return the name of an account's namespace, ``<prefix>--<account>``; distinct accounts have distinct ones.

    Raises
    ------
    BadInput
        If the prefix of the installation is too long or no name.
    """
    if not names.is_name(cluster.prefix) or len(cluster.prefix) > _LONGEST_PREFIX:
        raise BadInput(
            f"The prefix {cluster.prefix!r} cannot begin the name of a namespace.",
            field="cluster.prefix",
            hint=f"Use at most {_LONGEST_PREFIX} small letters, digits and single dashes.",
        )
    return f"{cluster.prefix}--{names.slug(account)}"


def check_owner(namespace: Object, tenant: Tenant, cluster: Cluster) -> None:
    """Refuse a namespace that is not this tenant's own: planted, of another installation, or of another account."""
    metadata = namespace.get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    name, wanted = metadata.get("name"), _mark(tenant, cluster)
    if not tenant.subject or any(labels.get(key) != value for key, value in wanted.items()):
        owner = labels.get(ACCOUNT)
        whose = f"belongs to {owner!r} of the installation {labels.get(INSTALLATION)!r}" if owner else "is not ours"
        raise _refused(f"The namespace {name!r} is there already and {whose}.")
    if annotations.get(OWNER) != tenant.subject:
        raise _refused(f"The namespace {name!r} belongs to an earlier account {tenant.account!r}.")


def render(tenant: Tenant, settings: Settings) -> list[Object]:
    """Return the namespace of a tenant and everything in it, in the order in which it is made."""
    cluster = settings.cluster
    space = namespace_of(tenant.account, cluster)
    inside = [
        _quota(tenant, cluster),
        _limits(cluster),
        *policies(settings),
        *(_account(one) for one in ("default", WORK, *_bound(cluster))),
        *_bindings(space, cluster),
    ]
    return [_namespace(tenant, cluster), *(_placed(one, space, tenant, cluster) for one in inside)]


def cluster_roles(cluster: Cluster) -> list[Object]:
    """Return what may be done in a tenant's namespace, and by the controller; the chart installs them once."""
    rules = {f"{cluster.prefix}-tenant-{name}": one for name, one in TENANT_RULES.items()}
    rules[f"{cluster.prefix}-tenancy"] = controller_rules(sorted(rules))
    return [
        CLUSTER_ROLE.of({"metadata": {"name": name, "labels": {INSTALLATION: cluster.prefix}}, "rules": one})
        for name, one in rules.items()
    ]


def request(tenant: Tenant, cluster: Cluster) -> Object:
    """Return the config map in the platform's namespace that asks for a tenant."""
    data = {"account": tenant.account, "subject": tenant.subject, "kind": tenant.kind}
    data |= {"quota": json.dumps(dict(tenant.quota), sort_keys=True)} if tenant.quota else {}
    data |= {"gone": "yes"} if tenant.gone else {}
    metadata = {
        "name": namespace_of(tenant.account, cluster),
        "namespace": cluster.namespace,
        "labels": request_labels(cluster),
    }
    return CONFIG_MAP.of({"metadata": metadata, "data": data})


def request_labels(cluster: Cluster) -> dict[str, str]:
    """Return the labels of every request."""
    return {_REQUEST: "yes", INSTALLATION: cluster.prefix}


def tenant_of(config_map: Object, cluster: Cluster) -> Tenant:
    """Return the tenant that a request asks for.

    Raises
    ------
    BadInput
        If it cannot be read, or stands under another name than its account's.
    """
    data, name = config_map.get("data") or {}, (config_map.get("metadata") or {}).get("name")
    try:
        tenant = Tenant(
            account=data["account"],
            subject=data["subject"],
            kind=data.get("kind", "person"),
            quota={str(key): str(one) for key, one in json.loads(data.get("quota", "{}")).items()},
            gone=data.get("gone") == "yes",
        )
    except (KeyError, ValueError, AttributeError) as error:
        raise BadInput(f"The request {name!r} for a namespace cannot be read: {error!r}.", field="data") from error
    if name != namespace_of(tenant.account, cluster):
        raise BadInput(f"The request {name!r} is for the account {tenant.account!r}.", field="data.account")
    return tenant


def answer(config_map: Object, state: str, why: str = "") -> Object:
    """Return what the controller applies to a request: ``ready``, ``refused`` with the reason, or ``gone``."""
    metadata = config_map["metadata"]
    told = {_STATE: state} | ({_WHY: why} if why else {})
    return CONFIG_MAP.of(
        {"metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "annotations": told}}
    )


def answered(config_map: Object) -> tuple[str, str]:
    """Return the state and the reason that the controller gave; empty until it did."""
    told = (config_map.get("metadata") or {}).get("annotations") or {}
    return str(told.get(_STATE) or ""), str(told.get(_WHY) or "")


def _refused(message: str) -> NameTaken:
    return NameTaken(message, hint="An administrator looks at who made it, and removes it if nobody needs it.")


def _mark(tenant: Tenant, cluster: Cluster) -> dict[str, str]:
    return {INSTALLATION: cluster.prefix, ACCOUNT: names.slug(tenant.account), **MANAGED}


def _placed(one: Object, space: str, tenant: Tenant, cluster: Cluster) -> Object:
    metadata = {**one["metadata"], "namespace": space, "labels": _mark(tenant, cluster)}
    return {**one, "metadata": metadata}


def _namespace(tenant: Tenant, cluster: Cluster) -> Object:
    guard: dict[str, str] = {}
    for one in ("audit", "enforce", "warn"):
        guard |= {f"{GUARD}/{one}": "restricted", f"{GUARD}/{one}-version": "latest"}
    metadata = {
        "name": namespace_of(tenant.account, cluster),
        "labels": {**_mark(tenant, cluster), "ropewalk.dev/kind": tenant.kind, **guard},
        "annotations": {OWNER: tenant.subject},
    }
    return NAMESPACE.of({"metadata": metadata})


def _quota(tenant: Tenant, cluster: Cluster) -> Object:
    return QUOTA.of({"metadata": {"name": "tenant"}, "spec": {"hard": {**cluster.quota, **tenant.quota}}})


def _limits(cluster: Cluster) -> Object:
    reserved = {**cluster.container, **cluster.container_request}
    limit: Object = {"type": "Container", "default": dict(cluster.container), "defaultRequest": reserved}
    limit |= {"max": dict(cluster.container_most)} if cluster.container_most else {}
    return LIMIT_RANGE.of({"metadata": {"name": "tenant"}, "spec": {"limits": [limit]}})


def _account(name: str) -> Object:
    return SERVICE_ACCOUNT.of({"metadata": {"name": name}, "automountServiceAccountToken": False})


def _bindings(space: str, cluster: Cluster) -> list[Object]:
    """Return who may do what here: our two programs, and accounts of the namespace's own; ``bounds`` knows them."""
    group = ROLE_BINDING.group

    def binding(name: str, namespace: str) -> Object:
        return ROLE_BINDING.of(
            {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": f"{cluster.prefix}-tenant-{name}"},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            }
        )

    return [
        *(binding(one, cluster.namespace) for one in PROGRAMS),
        *(binding(one, space) for one in _bound(cluster)),
    ]


def _bound(cluster: Cluster) -> tuple[str, ...]:
    """Return the namespace's own accounts that may do anything."""
    return (REPORTS, RELEASES, *((NOTEBOOKS,) if cluster.notebook_token else ()))
