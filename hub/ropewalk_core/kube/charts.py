"""Charts: what a rendered chart may hold before Helm sees a cluster, and why it is refused. Pure.

Allow-lists throughout, of kinds and of fields, so that what nobody thought of is refused too; each refusal names the
object. The namespace's own defences (its quota, Pod Security, and the narrow account that Helm runs as) stand behind
this: they would stop most of it later and say it worse. Not here: rendering (``helm.py``), and what is asked of a
service (``service_values.py``). Rejected: a list of what is forbidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ropewalk_core.errors import Denied, RopewalkError
from ropewalk_core.kube.kinds import CLAIM, CONFIG_MAP, DEPLOYMENT, JOB, SECRET, SERVICE, STATEFUL_SET, Kind, Object
from ropewalk_core.kube.volumes import NAME as FILES

KINDS = (CONFIG_MAP, CLAIM, SECRET, SERVICE, DEPLOYMENT, STATEFUL_SET, JOB)
"""What a chart may hold: what the account that Helm runs as may make (`roles.TENANT_RULES`)."""
PORT = 80
"""The port at which the gateway asks the Service that is named as the release."""
_LOWEST_PORT = 1024
_MOST = 50
_WORKLOADS = (DEPLOYMENT.name, STATEFUL_SET.name, JOB.name)
_WHOLE_CLUSTER = {
    "APIService",
    "CertificateSigningRequest",
    "ClusterRole",
    "ClusterRoleBinding",
    "CSIDriver",
    "CustomResourceDefinition",
    "FlowSchema",
    "IngressClass",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "PriorityLevelConfiguration",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeAttachment",
}
_RIGHTS = {"Role", "RoleBinding", "ServiceAccount"}
_METADATA = {"name", "namespace", "labels", "annotations"}
_SECRET_TYPES = {None, "", "Opaque", "kubernetes.io/tls", "kubernetes.io/basic-auth", "kubernetes.io/ssh-auth"}
_POD = {
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "enableServiceLinks",
    "initContainers",
    "nodeSelector",
    "restartPolicy",
    "runtimeClassName",
    "securityContext",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "terminationGracePeriodSeconds",
    "tolerations",
    "volumes",
}
_PLACED = ("affinity", "nodeSelector", "runtimeClassName", "tolerations")
_POD_SECURITY = {
    "fsGroup",
    "fsGroupChangePolicy",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seccompProfile",
    "supplementalGroups",
}
_CONTAINER = {
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "restartPolicy",
    "securityContext",
    "startupProbe",
    "stdin",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeMounts",
    "workingDir",
}
_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation",
    "capabilities",
    "privileged",
    "readOnlyRootFilesystem",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seccompProfile",
}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE = {
    "exec",
    "failureThreshold",
    "grpc",
    "httpGet",
    "initialDelaySeconds",
    "periodSeconds",
    "successThreshold",
    "tcpSocket",
    "terminationGracePeriodSeconds",
    "timeoutSeconds",
}
_ASKED = {"httpGet": {"httpHeaders", "path", "port", "scheme"}, "tcpSocket": {"port"}}
"""What a probe may say of whom it asks; the node asks, so a host would be one that no policy keeps it from."""
_VOLUMES = {"name", "configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
_PROJECTED = {"configMap", "downwardAPI", "secret"}
_REFERENCES = {
    "configMapRef": CONFIG_MAP,
    "configMapKeyRef": CONFIG_MAP,
    "secretRef": SECRET,
    "secretKeyRef": SECRET,
}
_LABELS = ("app.kubernetes.io/", "helm.sh/")
_HOOK = "helm.sh/hook"


@dataclass(frozen=True)
class Rules:
    """What one release may hold: its name and namespace, the labels of each pod, the images, and the place it has."""

    release: str
    namespace: str
    labels: Mapping[str, str]
    images: frozenset[str]
    account: str
    pod: Mapping[str, Any] = field(default_factory=dict)
    brought: frozenset[tuple[str, str]] = frozenset()
    """Kinds and names of what the chart holds, which `check` finds itself."""


def refuse(chart: str, message: str) -> RopewalkError:
    """Return the refusal of a chart."""
    return Denied(
        f"The chart '{chart}' cannot run here: {message}",
        field="template",
        hint="Choose another template, or ask who wrote the chart to leave this out.",
    )


def check(chart: str, objects: Iterable[Object], rules: Rules) -> list[Object]:
    """Return the objects of a rendered chart, or refuse it.

    Raises
    ------
    Denied
        If it holds what it may not; the message names the object and what is wrong with it.
    """
    found = list(objects)
    try:
        named = [(one.get("kind"), one.get("metadata") or {}) for one in found if isinstance(one, dict)]
        brought = frozenset((str(kind), str(metadata.get("name"))) for kind, metadata in named)
        problem = next(_problems(found, replace(rules, brought=brought)), None)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a list where a mapping belongs, and the like
        problem = f"it cannot be read ({error!r})."
    if problem is not None:
        raise refuse(chart, problem)
    return found


def _problems(objects: list[Object], rules: Rules) -> Iterator[str]:
    if len(objects) > _MOST:
        yield f"it holds {len(objects)} objects, and {_MOST} is the most."
    for one in objects:
        yield from _object(one, rules)
    named = {(one.get("kind"), one["metadata"]["name"]): one for one in objects}
    main = named.get((DEPLOYMENT.name, rules.release))
    if main is None or not rules.labels.items() <= (main["metadata"].get("labels") or {}).items():
        yield f"it has no Deployment '{rules.release}', named as its release and labelled as it must be."
    service = named.get((SERVICE.name, rules.release))
    ports = ((service or {}).get("spec") or {}).get("ports") or ()
    if PORT not in [one.get("port") for one in ports]:
        yield f"it has no Service '{rules.release}', named as its release, with port {PORT}."


def _object(one: Object, rules: Rules) -> Iterator[str]:
    if not isinstance(one, dict) or not isinstance(one.get("metadata"), dict):
        yield "it holds something that is no object."
        return
    metadata, version, name = one["metadata"], str(one.get("apiVersion")), str(one.get("kind"))
    what = f"{name} '{metadata.get('name')}'"
    if name in _WHOLE_CLUSTER:
        yield f"{what} is for the whole cluster."
    if name in _RIGHTS or version.startswith("rbac.authorization.k8s.io/"):
        yield f"{what} gives rights."
    kind = next((kind for kind in KINDS if (kind.api_version, kind.name) == (version, name)), None)
    if kind is None:
        yield f"{what} ({version}) is of a kind that charts may not hold."
        return
    if metadata.get("namespace") not in (None, "", rules.namespace):
        yield f"{what} is for the namespace '{metadata['namespace']}'."
    if any(key.startswith(_HOOK) for key in metadata.get("annotations") or {}):
        yield f"{what} is a hook, which nobody sees after it has run."
    yield from (f"{what} has metadata.{key}." for key in sorted(set(metadata) - _METADATA))
    own = str(metadata.get("name"))
    if own != rules.release and not own.startswith(f"{rules.release}-"):
        yield f"{what} is not named as its release, '{rules.release}', or with it in front."
    yield from _labels(what, metadata.get("labels") or {}, rules)
    yield from _spec(what, kind, one, rules)


def _spec(what: str, kind: Kind, one: Object, rules: Rules) -> Iterator[str]:
    spec = one.get("spec") or {}
    if kind is SECRET and one.get("type") not in _SECRET_TYPES:
        yield f"{what} is of the type '{one['type']}'."
    if kind is SERVICE:
        yield from _service(what, spec)
    if kind is CLAIM:
        yield from _claim(what, spec)
    if kind is STATEFUL_SET:
        for claim in spec.get("volumeClaimTemplates") or ():
            yield from _claim(what, claim.get("spec") or {})
    if kind.name in _WORKLOADS:
        template = spec.get("template") or {}
        labels = (template.get("metadata") or {}).get("labels") or {}
        yield from _labels(f"the pod of {what}", labels, rules)
        if any(labels.get(key) != value for key, value in rules.labels.items()):
            yield f"the pod of {what} lacks the labels {', '.join(sorted(rules.labels))}."
        claims = {str(one["metadata"]["name"]) for one in spec.get("volumeClaimTemplates") or ()}
        yield from _pod(f"the pod of {what}", template.get("spec") or {}, rules, claims)


def _labels(what: str, labels: Mapping[str, str], rules: Rules) -> Iterator[str]:
    """Refuse labels by which another program would take an object for its own, or a policy open something."""
    for key, value in labels.items():
        if "/" in key and not key.startswith(_LABELS) and rules.labels.get(key) != value:
            yield f"{what} has the label '{key}'."


def _service(what: str, spec: Mapping[str, Any]) -> Iterator[str]:
    if spec.get("type", "ClusterIP") != "ClusterIP":
        yield f"{what} is of the type {spec['type']}, which others could reach."
    for key in ("externalIPs", "externalName", "loadBalancerIP", "healthCheckNodePort"):
        if spec.get(key):
            yield f"{what} has {key}."
    if any(one.get("nodePort") for one in spec.get("ports") or ()):
        yield f"{what} asks for a port of the nodes."


def _claim(what: str, spec: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{what} has {key}." for key in ("volumeName", "selector", "dataSourceRef") if spec.get(key))


def _pod(what: str, pod: Mapping[str, Any], rules: Rules, claims: set[str]) -> Iterator[str]:
    yield from (f"{what} has {key}." for key in sorted(set(pod) - _POD))
    if pod.get("serviceAccountName") != rules.account:
        yield f"{what} does not run as the service account '{rules.account}'."
    if pod.get("automountServiceAccountToken") is not False:
        yield f"{what} would get a token of its service account; it must say automountServiceAccountToken: false."
    if pod.get("enableServiceLinks") is not False:
        yield f"{what} must say enableServiceLinks: false."
    for key in _PLACED:
        if (pod.get(key) or None) != (rules.pod.get(key) or None):
            yield f"{what} has another {key} than was asked for."
    security = pod.get("securityContext") or {}
    yield from (f"{what} has securityContext.{key}." for key in sorted(set(security) - _POD_SECURITY))
    yield from _user(what, security)
    if security.get("runAsNonRoot") is not True:
        yield f"{what} must say runAsNonRoot: true."
    if (security.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        yield f"{what} must have the seccomp profile RuntimeDefault."
    for volume in pod.get("volumes") or ():
        yield from _volume(what, volume, rules)
    mounted = {str(one.get("name")) for one in pod.get("volumes") or ()} | claims
    for container in (*(pod.get("initContainers") or ()), *(pod.get("containers") or ())):
        yield from _container(f"the container '{container.get('name')}' in {what}", container, rules)
        lost = {str(one.get("name")) for one in container.get("volumeMounts") or ()} - mounted
        yield from (f"{what} mounts the volume '{one}', which it does not have." for one in sorted(lost))


def _user(what: str, security: Mapping[str, Any]) -> Iterator[str]:
    if security.get("runAsUser") == 0 or security.get("runAsGroup") == 0 or security.get("runAsNonRoot") is False:
        yield f"{what} runs as root."
    if (security.get("seccompProfile") or {}).get("type", "RuntimeDefault") != "RuntimeDefault":
        yield f"{what} has another seccomp profile than RuntimeDefault."


def _container(what: str, one: Mapping[str, Any], rules: Rules) -> Iterator[str]:
    yield from (f"{what} has {key}." for key in sorted(set(one) - _CONTAINER))
    if one.get("image") not in rules.images:
        yield f"{what} has the image '{one.get('image')}', which is not one of this platform's."
    security = one.get("securityContext") or {}
    yield from (f"{what} has securityContext.{key}." for key in sorted(set(security) - _CONTAINER_SECURITY))
    yield from _user(what, security)
    if security.get("privileged"):
        yield f"{what} is privileged."
    if security.get("allowPrivilegeEscalation") is not False:
        yield f"{what} must say allowPrivilegeEscalation: false."
    capabilities = security.get("capabilities") or {}
    if capabilities.get("add") or "ALL" not in (capabilities.get("drop") or ()):
        yield f"{what} must drop ALL capabilities and add none."
    for port in one.get("ports") or ():
        if port.get("hostPort") or port.get("hostIP"):
            yield f"{what} asks for a port of its node."
        if not _LOWEST_PORT <= int(port.get("containerPort") or 0) <= 65535:
            yield f"{what} listens at port {port.get('containerPort')}; it must be {_LOWEST_PORT} or more."
    for key in _PROBES:
        yield from _probe(f"the {key} of {what}", one.get(key) or {})
    for source in (*(one.get("envFrom") or ()), *((each.get("valueFrom") or {}) for each in one.get("env") or ())):
        for key, kind in _REFERENCES.items():
            if key in source:
                yield from _own(what, key, kind, str(source[key].get("name")), rules)


def _probe(what: str, probe: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{what} has {key}." for key in sorted(set(probe) - _PROBE))
    for asked, fields in _ASKED.items():
        yield from (f"{what} has {asked}.{key}." for key in sorted(set(probe.get(asked) or {}) - fields))


def _volume(what: str, volume: Mapping[str, Any], rules: Rules) -> Iterator[str]:
    yield from (f"{what} has a volume of the type {key}." for key in sorted(set(volume) - _VOLUMES))
    if "configMap" in volume:
        yield from _own(what, "configMap", CONFIG_MAP, str(volume["configMap"].get("name")), rules)
    if "secret" in volume:
        yield from _own(what, "secret", SECRET, str(volume["secret"].get("secretName")), rules)
    claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
    if claim not in (None, FILES):
        yield from _own(what, "persistentVolumeClaim", CLAIM, str(claim), rules)
    for source in (volume.get("projected") or {}).get("sources") or ():
        yield from (f"{what} has a projected {key}." for key in sorted(set(source) - _PROJECTED))
        for key, kind in (("configMap", CONFIG_MAP), ("secret", SECRET)):
            if key in source:
                yield from _own(what, key, kind, str(source[key].get("name")), rules)


def _own(what: str, key: str, kind: Kind, name: str, rules: Rules) -> Iterator[str]:
    """Refuse to take what the chart did not bring: secrets of the platform and of other services lie beside it."""
    if (kind.name, name) not in rules.brought:
        yield f"{what} takes the {key} '{name}', which is not the release's own."
