"""Bounds: what the API server refuses to the controller and the platform although their roles allow it. Pure data.

A role cannot say "only in namespaces of ours" or "only config maps of such names"; an admission policy can, and every
Kubernetes that we support has them. With them the controller writes only in namespaces that carry this installation's
name and marks, binds there only those accounts to those roles that ``tenancy`` renders, and neither it nor the platform
changes the settings that all parts obey. Who may remove these policies is above both. Not here: the roles themselves
(``roles.py``). Rejected: an immutable config map of settings, whose name must change with them and restart every part.
"""

from __future__ import annotations

from ropewalk_core.kube.kinds import ADMISSION_BINDING, ADMISSION_POLICY, Object
from ropewalk_core.kube.roles import REQUEST_RULES, Rule, controller_rules
from ropewalk_core.kube.tenancy import ACCOUNT, GUARD, INSTALLATION, MANAGED, OWNER, PROGRAMS
from ropewalk_core.settings import Cluster

_NAMESPACE, _BINDING = "request.resource.resource == 'namespaces'", "request.resource.resource == 'rolebindings'"


def bounds(cluster: Cluster) -> list[Object]:
    """Return the admission policies of an installation and their bindings; the chart installs them once."""
    account = f"system:serviceaccount:{cluster.namespace}"
    asks = f"request.userInfo.username in ['{account}:platform', '{account}:tenancy']"
    site = f"request.name == '{cluster.prefix}-site' && request.userInfo.username == '{account}:tenancy'"
    return [
        *_policy(
            f"{cluster.prefix}-tenancy",
            cluster,
            controller_rules([]),
            f"request.userInfo.username == '{account}:tenancy'",
            _tenancy(cluster),
            variables={
                "space": f"{_NAMESPACE} ? request.name : request.namespace",
                "there": f"{_NAMESPACE} ? oldObject : dyn(namespaceObject)",
            },
        ),
        *_policy(
            f"{cluster.prefix}-requests",
            cluster,
            REQUEST_RULES,
            f"request.namespace == '{cluster.namespace}' && {asks}",
            {
                f"request.name.startsWith('{cluster.prefix}--') || ({site})": "Only requests for namespaces, and what "
                "the cluster has, are written here by the platform and its controller."
            },
        ),
    ]


def _tenancy(cluster: Cluster) -> dict[str, str]:
    """Return what must hold for whatever the controller writes, and what is said when it does not."""
    made = f"({_NAMESPACE} && request.operation == 'CREATE')"
    stays = f"!({_NAMESPACE}) || request.operation == 'DELETE'"
    changed = f"!({_NAMESPACE}) || request.operation != 'UPDATE'"
    owner = _same("labels", ACCOUNT), _same("annotations", OWNER)
    return {
        f"variables.space.startsWith('{cluster.prefix}--')": (
            f"The tenancy controller writes only in namespaces whose names begin with {cluster.prefix}--."
        ),
        f"{made} || ({_marked('variables.there', cluster)})": (
            "The tenancy controller writes only in namespaces that it made."
        ),
        f"{stays} || ({_marked('object', cluster)} && {_guarded()})": (
            "A namespace keeps the marks of its installation, and restricted pods."
        ),
        f"{changed} || ({' && '.join(owner)})": "A namespace keeps its owner.",
        f"!({_BINDING}) || request.operation == 'DELETE' || ({_bound(cluster)})": (
            "Only this installation's accounts are bound, each to its own role."
        ),
    }


def _bound(cluster: Cluster) -> str:
    """Return that a binding is one of those that every namespace has."""
    one = "object.subjects[0]"
    return " && ".join(
        [
            "object.roleRef.kind == 'ClusterRole'",
            f"object.roleRef.name == '{cluster.prefix}-tenant-' + object.metadata.name",
            "has(object.subjects)",
            "object.subjects.size() == 1",
            f"{one}.kind == 'ServiceAccount'",
            f"{one}.name == object.metadata.name",
            f"{one}.namespace == ({one}.name in {list(PROGRAMS)} ? '{cluster.namespace}' : request.namespace)",
        ]
    )


def _marked(whose: str, cluster: Cluster) -> str:
    marks = {**MANAGED, INSTALLATION: cluster.prefix}
    return " && ".join(_is(whose, "labels", key, value) for key, value in marks.items())


def _guarded() -> str:
    wanted = {f"{GUARD}/enforce": "restricted", f"{GUARD}/enforce-version": "latest"}
    return " && ".join(_is("object", "labels", key, value) for key, value in wanted.items())


def _is(whose: str, part: str, key: str, value: str) -> str:
    return f"{_at(whose, part, key)} == '{value}'"


def _same(part: str, key: str) -> str:
    return f"{_at('object', part, key)} == {_at('oldObject', part, key)}"


def _at(whose: str, part: str, key: str) -> str:
    return f"{whose}.metadata.?{part}[?'{key}'].orValue('')"


def _policy(
    name: str,
    cluster: Cluster,
    rules: list[Rule],
    who: str,
    checks: dict[str, str],
    *,
    variables: dict[str, str] | None = None,
) -> list[Object]:
    """Return a policy for all that these rules let somebody write, and the binding that puts it in force."""
    operations = ["CREATE", "UPDATE", "DELETE"]
    matched = [
        {"apiGroups": one["apiGroups"], "apiVersions": ["*"], "operations": operations, "resources": one["resources"]}
        for one in rules
        if {"create", "delete", "patch", "update"} & set(one["verbs"])
    ]
    spec: Object = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": matched},
        "matchConditions": [{"name": "who", "expression": who}],
        "variables": [{"name": key, "expression": one} for key, one in (variables or {}).items()],
        "validations": [
            {"expression": one, "message": message, "reason": "Forbidden"} for one, message in checks.items()
        ],
    }
    metadata = {"name": name, "labels": {INSTALLATION: cluster.prefix}}
    return [
        ADMISSION_POLICY.of({"metadata": metadata, "spec": spec}),
        ADMISSION_BINDING.of({"metadata": metadata, "spec": {"policyName": name, "validationActions": ["Deny"]}}),
    ]
