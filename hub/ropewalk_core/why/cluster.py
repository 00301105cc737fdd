"""Why, on a cluster: what schedulers, kubelets, quotas and admission say becomes a cause and a next step. Pure.

One table of patterns over the texts of Kubernetes 1.36 and of containerd; a text that no row knows is shown as it is,
never swallowed. Not here: asking the cluster (``kube``). Rejected: reasons alone (``Failed`` and ``FailedScheduling``
say nothing), and a model of every condition.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ropewalk_core.model import Why

_ASK = "Ask your administrator."
_BY_ITSELF = "Nothing to do; it starts by itself."
_LOG = "Look at its log for the last lines."
_MEMORY = "Ask for more with `Placement(memory=...)`, or use less."
_RESOURCES = {"cpu": "cores", "memory": "memory", "ephemeral-storage": "scratch space", "pods": "room for one more"}


@dataclass(frozen=True)
class _Row:
    """One kind of text: how it is known, and what it means. ``{x}`` stands for the pattern's group of that name."""

    pattern: re.Pattern[str]
    cause: str | Callable[[Mapping[str, str]], str]
    next: str = _ASK
    code: str = ""

    def why(self, match: re.Match[str], text: str) -> Why:
        found = {name: (value or "").strip() for name, value in match.groupdict().items()}
        cause = self.cause(found) if callable(self.cause) else self.cause.format(**found)
        return Why(cause=cause.strip(), next=self.next.format(**found), code=self.code, raw=text)


def _row(pattern: str, cause: str | Callable[[Mapping[str, str]], str], next_step: str = _ASK, code: str = "") -> _Row:
    return _Row(re.compile(pattern, re.DOTALL), cause, next_step, code)


_NO_NODE = re.compile(r"0/\d+ nodes are available: ?(.*)", re.DOTALL)


def of_scheduler(text: str) -> bool:
    """Whether a message says that no machine takes a pod now, which passes when a machine or a volume is there."""
    return _NO_NODE.search(text) is not None


def explained(text: str) -> Why | None:
    """Return the cause and next step of a message, or None if no row knows it."""
    if (nodes := _NO_NODE.search(text)) is not None:
        return _unscheduled(nodes[1], text)
    for row in _TABLE:
        if (match := row.pattern.search(text)) is not None:
            return row.why(match, text)
    return None


def from_message(text: str, *, reason: str = "") -> Why:
    """Return the cause and next step of an event or condition; an unknown one shows its own words."""
    told = explained(text) or (explained(reason) if reason else None)
    return told.model_copy(update={"raw": text or reason}) if told else Why(cause=text or reason, raw=text)


def from_pod(pod: Mapping[str, Any], events: Iterable[Mapping[str, Any]] = ()) -> Why | None:
    """Return why a pod waits or failed, from its status, else from the latest warning about it; None if all is well.

    Parameters
    ----------
    pod
        The object; what its containers say comes first, as it is nearest to the cause.
    events
        Events about it, in any order.
    """
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for one in containers:
        if (told := _from_container(one)) is not None:
            return told
    if status.get("phase") == "Failed" and (status.get("message") or status.get("reason")):
        return from_message(str(status.get("message") or ""), reason=str(status.get("reason") or ""))
    for one in containers:
        if (told := _from_end(one)) is not None:
            return told
    for one in status.get("conditions") or ():
        says = (one.get("type"), one.get("status"))
        if says in (("PodScheduled", "False"), ("DisruptionTarget", "True")) and one.get("message"):
            return from_message(str(one["message"]), reason=str(one.get("reason") or ""))
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in status.get("conditions") or ())
    if ready or status.get("phase") == "Succeeded":
        return None
    warnings = [str(one.get("message") or "") for one in by_time(events) if one.get("type") == "Warning"]
    return next((told for text in reversed(warnings) if (told := explained(text)) is not None), None)


def by_time(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return events oldest first; the API server lists them by name, and those without a time stay as they came."""
    return sorted(events, key=_when)


def _when(event: Mapping[str, Any]) -> str:
    made = (event.get("metadata") or {}).get("creationTimestamp")
    return str(event.get("lastTimestamp") or event.get("eventTime") or made or "")


def _from_container(one: Mapping[str, Any]) -> Why | None:
    state, last = one.get("state") or {}, one.get("lastState") or {}
    ended = state.get("terminated") or (last.get("terminated") if "waiting" in state else None) or {}
    if ended.get("reason") == "OOMKilled":
        return from_message("OOMKilled")
    waiting = state.get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    if reason and reason not in ("ContainerCreating", "PodInitializing"):
        return from_message(str(waiting.get("message") or ""), reason=reason)
    return None


def _from_end(one: Mapping[str, Any]) -> Why | None:
    ended = (one.get("state") or {}).get("terminated") or {}
    if code := ended.get("exitCode"):
        told = explained(f"{ended.get('reason') or ''} {ended.get('message') or ''}".strip())
        return told or Why(cause=f"It ended with exit code {code}.", next=_LOG, raw=str(ended.get("message") or ""))
    return None


def _unscheduled(reasons: str, text: str) -> Why:
    """Return what keeps a pod from every node: the nearest to success first, since one free node is enough."""
    said = re.split(r"\.? (?:preemption: |no new claims)", reasons)[0]
    short = sorted(set(re.findall(r"Insufficient ([\w./-]+?)(?=[,.]? |[,.]?$)", said)))
    if "Too many pods" in said:
        short.append("pods")
    if short:
        words = " and ".join(_RESOURCES.get(one, one) for one in short)
        return Why(
            cause=f"It waits for a machine with enough free {words}; those that could take it are busy.",
            next="It starts by itself when something else ends. To start sooner, ask for less.",
            raw=text,
        )
    for row in _NODES:
        if (match := row.pattern.search(said)) is not None:
            return row.why(match, text)
    return Why(cause=f"No machine can take it now: {said.strip()}", next=_ASK, raw=text)


def _quota(found: Mapping[str, str]) -> str:
    names = [one.partition("=")[0] for one in found["limited"].split(",")]
    limits = [one.partition("=")[2] for one in found["limited"].split(",")]
    used = dict(one.partition("=")[::2] for one in found["used"].split(","))
    parts = [f"{used.get(name, '?')} of {limit} {name}" for name, limit in zip(names, limits, strict=True)]
    return f"You use {' and '.join(parts)}, and this asks for {found['asked']} more."


_NODES = (
    _row(
        r"unbound immediate PersistentVolumeClaims|did not have enough free storage|available persistent volumes",
        "It waits for its volume, which is not there yet.",
        "If this lasts, ask your administrator whether the cluster has room for volumes.",
    ),
    _row(
        r'persistentvolumeclaim "(?P<name>[^"]+)" (?:not found|is being deleted)',
        "Its volume '{name}' is not there.",
        "Start it again; if that fails, ask your administrator.",
    ),
    _row(
        r"didn't match PersistentVolume's node affinity|volume node affinity conflict|no available volume zone",
        "Its volume lies on a machine that cannot run this.",
        "Leave out what ties it to another machine: arch, accelerator or labels.",
        "RW-UNSATISFIABLE",
    ),
    _row(
        r"ReadWriteOncePod access mode already in-use|no available disk|exceed max volume count",
        "Its volume is in use by something else.",
        "Stop what uses the volume.",
    ),
    _row(
        r"didn't match pod affinity",
        "Its files are in use on another machine, and only one machine at a time can use them here.",
        "Stop what uses the files there, or wait until that machine has room.",
    ),
    _row(
        r"didn't match Pod's node affinity/selector|didn't match the requested node name",
        "No machine that is there now has the architecture, accelerator or labels that were asked for.",
        "Change or leave out arch, accelerator or labels, or wait for such a machine to come back.",
        "RW-UNSATISFIABLE",
    ),
    _row(
        r"had untolerated taint|had taints that the pod didn't tolerate",
        "The machines that are free are kept for other work.",
        "Ask for what they are kept for (an accelerator, a label), or ask your administrator.",
    ),
    _row(r"were unschedulable|had unknown conditions", "The machines are being serviced.", _BY_ITSELF),
    _row(r"free ports for the requested", "The port that it asks for is taken on every machine."),
    _row(r"pod (?:anti-)?affinity|topology spread", "It may not share a machine with what runs there.", _BY_ITSELF),
)

_TABLE = (
    _row(
        r"exceeded quota: [^,]+, requested: (?P<asked>.+?), used: (?P<used>.+?), limited: (?P<limited>\S+?)\.?(?=\s|$)",
        _quota,
        "Stop something that you do not need, or ask your administrator for more.",
        "RW-DENIED",
    ),
    _row(
        r"(?:failed|status unknown for) quota: (?P<why>.+)", "Your limits could not be checked: {why}", code="RW-DENIED"
    ),
    _row(
        r"(?P<end>maximum|minimum) (?P<what>[\w./-]+) usage per (?P<per>\w+) is (?P<limit>[^,.\s]+)"
        r"[,.]\s+(?:but (?:request|limit) is (?P<asked>[^\s\],]+))?",
        "The {end} of {what} for one {per} is {limit}, and {asked} was asked for.",
        "Ask for what is allowed, or ask your administrator to change the limit.",
        "RW-BAD-INPUT",
    ),
    _row(
        r'violates PodSecurity "(?P<level>[^"]+)": (?P<what>.+)',
        "It asks for rights that no work of people has here: {what}",
        "Leave out host folders, host networks, privileges and root.",
        "RW-DENIED",
    ),
    _row(
        r'RuntimeClass "?(?P<name>[\w.-]+)"?(?: not found|: .*not found)',
        "There is no isolation '{name}' here.",
        "Leave out isolation, or ask your administrator to install it.",
        "RW-UNSATISFIABLE",
    ),
    _row(
        r'admission webhook "(?P<name>[^"]+)" denied the request(?:: (?P<why>.+)| without explanation)',
        "A rule of your cluster ({name}) refused it. {why}",
        "Change what the rule names, or ask your administrator.",
        "RW-DENIED",
    ),
    _row(
        r"ValidatingAdmissionPolicy '(?P<name>[^']+)'.* denied request: (?P<why>.+)",
        "A rule of your cluster ({name}) refused it. {why}",
        "Change what the rule names, or ask your administrator.",
        "RW-DENIED",
    ),
    _row(
        r'failed calling webhook "(?P<name>[^"]+)"',
        "A part of the cluster that checks new work ({name}) does not answer.",
        "It is tried again by itself. If it lasts, ask your administrator.",
        "RW-UNAVAILABLE",
    ),
    _row(r"^OOMKilled|Memory cgroup out of memory", "It ran out of memory and was ended.", _MEMORY, "RW-OUT-OF-MEMORY"),
    _row(
        r"exceeded its local ephemeral storage limit \"(?P<limit>[^\"]+)\""
        r"|ephemeral local storage usage exceeds the total limit of containers (?P<total>[^\s]+?)\.? ?$"
        r"|Usage of EmptyDir volume \"[^\"]+\" exceeds the limit \"(?P<empty>[^\"]+)\"",
        lambda found: f"It wrote more than its {found['limit'] or found['total'] or found['empty']} of scratch space.",
        'Ask for more: `Placement(scratch="20Gi")`, or write to your files instead.',
        "RW-STORAGE-FULL",
    ),
    _row(
        r"node was low on resource: memory|System OOM encountered|MemoryPressure",
        "Its machine ran out of memory, and it was stopped to make room.",
        "Start it again, and say how much memory it needs: `Placement(memory=...)`.",
        "RW-OUT-OF-MEMORY",
    ),
    _row(
        r"node was low on resource: (?P<what>[\w-]+)|node had condition: \[?(?P<condition>\w+)",
        lambda found: (
            f"Its machine ran out of {_RESOURCES.get(found['what'], found['what'] or 'room')}, so it was stopped."
        ),
        "Start it again; it goes to another machine.",
    ),
    _row(
        r"TaintManagerEviction|Marking for deletion Pod|DeletionByTaintManager|deleting due to NoExecute taint"
        r"|node no longer exists|Eviction API: evicting|node shutdown",
        "Its machine was lost or taken out of service.",
        "It is started again elsewhere by itself, or start it again.",
    ),
    _row(r"Node is not ready|NodeNotReady|NodeLost", "Its machine does not answer.", "If it lasts, start it again."),
    _row(
        r"Preempted by|^Preempted|preempting to accommodate",
        "More urgent work took its place.",
        "Start it again later.",
    ),
    _row(
        r"longer than (?:the )?specified deadline|^DeadlineExceeded",
        "It ran over its time and was ended.",
        "Give it more time with `timeout=`, or make it do less.",
        "RW-TIMED-OUT",
    ),
    _row(
        r"no match for platform in manifest|exec format error|no matching manifest for",
        "The image is not made for this machine's architecture.",
        "Ask for an architecture that the image has with `arch=`, or use an image that is made for this one.",
        "RW-UNSATISFIABLE",
    ),
    _row(
        r'[Pp]ull(?:ing| and unpack) image "(?P<image>[^"]+)".*?(?:401|403|unauthorized|authorization failed|denied)',
        "The registry does not let us have the image '{image}'.",
        "Look at the image's name; a private one needs credentials from your administrator.",
    ),
    _row(
        r'[Pp]ull(?:ing| and unpack)? image "(?P<image>[^"]+)".*?(?:not found|manifest unknown|404)',
        "There is no image '{image}'.",
        "Look at its name and its tag.",
    ),
    _row(
        r'[Pp]ull(?:ing| and unpack)? image "(?P<image>[^"]+)".*?'
        r"(?:no such host|dial tcp|i/o timeout|connection refused|TLS handshake|x509|RegistryUnavailable|EOF)",
        "The registry of the image '{image}' cannot be reached.",
        "It is tried again by itself. If it lasts, ask your administrator.",
        "RW-UNAVAILABLE",
    ),
    _row(
        r'[Pp]ull(?:ing)? image "(?P<image>[^"]+)"',
        "The image '{image}' could not be fetched; it is tried again.",
        "Look at the image's name if this goes on.",
    ),
    _row(r'Container image "(?P<image>[^"]+)" is not present', "The image '{image}' is not on the machine."),
    _row(
        r"InvalidImageName|couldn't parse image name|[Ff]ailed to apply default image tag \"(?P<image>[^\"]*)\"",
        "The image's name cannot be read.",
        "Correct the image's name.",
        "RW-BAD-INPUT",
    ),
    _row(
        r"^(?:ErrImagePull|ImagePullBackOff|RegistryUnavailable)", "Its image could not be fetched; it is tried again."
    ),
    _row(
        r"(?P<kind>Liveness|Startup) probe (?:failed|errored)[^:]*: (?P<said>.+)",
        "It does not answer any more and is started again: {said}",
        _LOG,
    ),
    _row(
        r"Readiness probe (?:failed|errored)[^:]*: (?P<said>.+)",
        "It runs and is not ready yet: {said}",
        "Wait a little; if it lasts, look at its log.",
    ),
    _row(
        r"failed (?P<kind>liveness|startup) probe",
        "It did not answer any more and is started again.",
        _LOG,
    ),
    _row(
        r"[Bb]ack-off (?:(?P<time>[\dhms]+) )?restarting failed container|^CrashLoopBackOff",
        lambda found: f"It ends again and again; the next try is in {found['time'] or 'a while'}.",
        _LOG,
        "RW-USER-CODE",
    ),
    _row(
        r"runAsNonRoot and image (?:will run as root|has non-numeric user)|runAsUser breaks non-root",
        "The image wants to run as root, which nothing may here.",
        "Use an image with a numbered user that is not 0.",
        "RW-DENIED",
    ),
    _row(
        r"(?P<kind>secret|configmap|serviceaccount|persistentvolumeclaim) \"(?P<name>[^\"]+)\" "
        r"(?:not found|is being deleted)",
        "It needs the {kind} '{name}', which is not there.",
        "Start it again; if that fails, ask your administrator.",
    ),
    _row(
        r'exec: "(?P<name>[^"]+)": (?:executable file not found|stat .*no such file|permission denied)'
        r"|exec (?P<other>\S+): no such file",
        lambda found: f"The image has no program '{found['name'] or found['other']}'.",
        "Correct the command, or use an image that has it.",
        "RW-USER-CODE",
    ),
    _row(
        r"MountVolume\.\w+ failed for volume|Unable to attach or mount volumes|AttachVolume\.\w+ failed",
        "Its files cannot be attached yet; this is tried again.",
        "If it lasts, ask your administrator.",
        "RW-UNAVAILABLE",
    ),
    _row(
        r'storageclass(?:\.storage\.k8s\.io)? "(?P<name>[^"]+)" not found|no storage class is set',
        lambda found: (
            f"The cluster has no storage class{' ' + repr(found['name']) if found['name'] else ''} for volumes."
        ),
    ),
    _row(r"waiting for first consumer|aiting for a volume to be created", "Its volume is being made.", _BY_ITSELF),
    _row(
        r"Allocate failed due to|Update plugin resources failed|OutOf(?P<what>[\w./-]+)|UnexpectedAdmissionError",
        "Its machine had no accelerator or room left when it arrived.",
        "Start it again; it is placed anew.",
    ),
    _row(
        r"Failed to create pod sandbox|failed to create containerd task|failed to setup network",
        "Its machine could not set up the sandbox; this is tried again.",
        "If it lasts, ask your administrator.",
        "RW-UNAVAILABLE",
    ),
)
