"""Texts of Kubernetes 1.36.3 and containerd become causes and next steps.

Each text stands as its source writes it, with the format's blanks filled; the source file is named beside it, under
``k8s.io/kubernetes`` unless another module is named.
"""

# ruff: noqa: E501  # texts of others stay as they are

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.why import cluster as why

RECORDED = [
    # scheduler: pkg/scheduler/framework/types.go (FitError), plugins named below
    (
        "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) didn't match Pod's node affinity/selector. "
        "preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not "
        "helpful for scheduling.",
        "plugins/noderesources/fit.go",
        "It waits for a machine with enough free nvidia.com/gpu; those that could take it are busy.",
    ),
    (
        "0/2 nodes are available: 2 Insufficient cpu, 2 Insufficient memory. preemption: 0/2 nodes are available: 2 "
        "Preemption is not helpful for scheduling.",
        "plugins/noderesources/fit.go",
        "It waits for a machine with enough free cores and memory; those that could take it are busy.",
    ),
    (
        "0/1 nodes are available: 1 Too many pods. preemption: 0/1 nodes are available: 1 No preemption victims found "
        "for incoming pod.",
        "plugins/noderesources/fit.go",
        "It waits for a machine with enough free room for one more; those that could take it are busy.",
    ),
    (
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are "
        "available: 2 Preemption is not helpful for scheduling.",
        "plugins/nodeaffinity/node_affinity.go",
        "No machine that is there now has the architecture, accelerator or labels that were asked for.",
    ),
    (
        "0/1 nodes are available: 1 node(s) had untolerated taint(s). preemption: 0/1 nodes are available: 1 Preemption "
        "is not helpful for scheduling.",
        "plugins/tainttoleration/taint_toleration.go",
        "The machines that are free are kept for other work.",
    ),
    (
        "0/1 nodes are available: 1 node(s) were unschedulable. preemption: 0/1 nodes are available: 1 Preemption is "
        "not helpful for scheduling.",
        "plugins/nodeunschedulable/node_unschedulable.go",
        "The machines are being serviced.",
    ),
    (
        "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
        "plugins/volumebinding/volume_binding.go",
        "It waits for its volume, which is not there yet.",
    ),
    (
        '0/2 nodes are available: persistentvolumeclaim "files" not found. not found',
        "plugins/volumebinding/volume_binding.go",
        "Its volume 'files' is not there.",
    ),
    (
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity. preemption: 0/2 nodes are "
        "available: 2 Preemption is not helpful for scheduling.",
        "plugins/volumebinding/binder.go",
        "Its volume lies on a machine that cannot run this.",
    ),
    (
        "0/1 nodes are available: 1 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode "
        "already in-use by another pod.",
        "plugins/volumerestrictions/volume_restrictions.go",
        "Its volume is in use by something else.",
    ),
    (
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
        "plugins/nodeports/node_ports.go",
        "The port that it asks for is taken on every machine.",
    ),
    (
        "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't match pod "
        "affinity rules. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful "
        "for scheduling.",
        "plugins/interpodaffinity/filtering.go",
        "Its files are in use on another machine, and only one machine at a time can use them here.",
    ),
    (
        "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.",
        "plugins/interpodaffinity/filtering.go",
        "It may not share a machine with what runs there.",
    ),
    # pulls: pkg/kubelet/images/image_manager.go around what containerd says (pkg/cri/server/image_pull.go there)
    (
        'Failed to pull image "registry.local:5000/none:1": rpc error: code = NotFound desc = failed to pull and unpack '
        'image "registry.local:5000/none:1": failed to resolve reference "registry.local:5000/none:1": '
        "registry.local:5000/none:1: not found",
        "pkg/kubelet/images/image_manager.go",
        "There is no image 'registry.local:5000/none:1'.",
    ),
    (
        'Back-off pulling image "registry.local:5000/secret:1": ErrImagePull: rpc error: code = Unknown desc = failed to '
        'pull and unpack image "registry.local:5000/secret:1": failed to resolve reference '
        '"registry.local:5000/secret:1": pull access denied, repository does not exist or may require authorization: '
        "server message: insufficient_scope: authorization failed",
        "pkg/kubelet/images/image_manager.go",
        "The registry does not let us have the image 'registry.local:5000/secret:1'.",
    ),
    (
        'Failed to pull image "registry.local:5000/x:1": rpc error: code = Unknown desc = failed to pull and unpack image '
        '"registry.local:5000/x:1": failed to resolve reference "registry.local:5000/x:1": failed to do request: Head '
        '"https://registry.local:5000/v2/x/manifests/1": dial tcp: lookup registry.local: no such host',
        "pkg/kubelet/images/image_manager.go",
        "The registry of the image 'registry.local:5000/x:1' cannot be reached.",
    ),
    (
        'Failed to pull image "registry.local:5000/x:1": rpc error: code = NotFound desc = failed to pull and unpack '
        'image "registry.local:5000/x:1": no match for platform in manifest: not found',
        "pkg/kubelet/images/image_manager.go",
        "The image is not made for this machine's architecture.",
    ),
    (
        'Back-off pulling image "x:1"',
        "pkg/kubelet/images/image_manager.go",
        "The image 'x:1' could not be fetched; it is tried again.",
    ),
    (
        'Container image "x:1" is not present with pull policy of Never',
        "pkg/kubelet/images/image_manager.go",
        "The image 'x:1' is not on the machine.",
    ),
    (
        'Failed to apply default image tag "A B": couldn\'t parse image name "A B": invalid reference format',
        "pkg/kubelet/images/image_manager.go",
        "The image's name cannot be read.",
    ),
    ("ImagePullBackOff", "pkg/kubelet/images/types.go", "Its image could not be fetched; it is tried again."),
    # quota and limits
    (
        'pods "nb" is forbidden: exceeded quota: tenant, requested: limits.memory=4Gi,pods=1, used: '
        "limits.memory=14Gi,pods=10, limited: limits.memory=16Gi,pods=10",
        "k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go",
        "You use 14Gi of 16Gi limits.memory and 10 of 10 pods, and this asks for limits.memory=4Gi,pods=1 more.",
    ),
    (
        'Error creating: pods "web-5d" is forbidden: exceeded quota: tenant, requested: pods=1, used: pods=10, limited: '
        "pods=10",
        "pkg/controller/controller_utils.go",
        "You use 10 of 10 pods, and this asks for pods=1 more.",
    ),
    (
        "RevisionFailed: pods is forbidden: exceeded quota: share, requested: limits.cpu=2, used: limits.cpu=16, limited: "
        "limits.cpu=16. Will be tried again.",
        "k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go",
        "You use 16 of 16 limits.cpu, and this asks for limits.cpu=2 more.",
    ),
    (
        'pods "nb" is forbidden: failed quota: tenant: must specify limits.cpu for: main; limits.memory for: main',
        "pkg/quota/v1/evaluator/core/pods.go",
        "Your limits could not be checked: tenant: must specify limits.cpu for: main; limits.memory for: main",
    ),
    (
        'pods "nb" is forbidden: maximum memory usage per Container is 8Gi, but limit is 16Gi',
        "plugin/pkg/admission/limitranger/admission.go",
        "The maximum of memory for one Container is 8Gi, and 16Gi was asked for.",
    ),
    # admission
    (
        'pods "nb" is forbidden: violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true), '
        'privileged (container "main" must not set securityContext.privileged=true)',
        "k8s.io/pod-security-admission/admission/admission.go",
        "It asks for rights that no work of people has here: host namespaces (hostNetwork=true), privileged (container "
        '"main" must not set securityContext.privileged=true)',
    ),
    (
        'pods "nb" is forbidden: pod rejected: RuntimeClass "kata" not found',
        "plugin/pkg/admission/runtimeclass/admission.go",
        "There is no isolation 'kata' here.",
    ),
    (
        'admission webhook "validation.gatekeeper.sh" denied the request: [no-latest] the tag latest is not allowed',
        "k8s.io/apiserver/pkg/admission/plugin/webhook/errors/statuserror.go",
        "A rule of your cluster (validation.gatekeeper.sh) refused it. [no-latest] the tag latest is not allowed",
    ),
    (
        'admission webhook "a.example.test" denied the request without explanation',
        "k8s.io/apiserver/pkg/admission/plugin/webhook/errors/statuserror.go",
        "A rule of your cluster (a.example.test) refused it.",
    ),
    (
        "ValidatingAdmissionPolicy 'no-root' with binding 'all' denied request: root is not allowed",
        "k8s.io/apiserver/pkg/admission/plugin/policy/validating/dispatcher.go",
        "A rule of your cluster (no-root) refused it. root is not allowed",
    ),
    (
        'Internal error occurred: failed calling webhook "webhook.serving.knative.dev": failed to call webhook: Post '
        '"https://webhook.knative-serving.svc:443/defaulting?timeout=10s": dial tcp 10.96.0.7:443: connect: connection '
        "refused",
        "k8s.io/apiserver/pkg/util/webhook/error.go",
        "A part of the cluster that checks new work (webhook.serving.knative.dev) does not answer.",
    ),
    # probes: pkg/kubelet/prober/prober.go, pkg/kubelet/kuberuntime/kuberuntime_manager.go
    (
        "Readiness probe failed: HTTP probe failed with statuscode: 503",
        "pkg/kubelet/prober/prober.go",
        "It runs and is not ready yet: HTTP probe failed with statuscode: 503",
    ),
    (
        'Liveness probe failed: Get "http://10.244.1.7:8080/": context deadline exceeded (Client.Timeout exceeded while '
        "awaiting headers)",
        "pkg/kubelet/prober/prober.go",
        'It does not answer any more and is started again: Get "http://10.244.1.7:8080/": context deadline exceeded '
        "(Client.Timeout exceeded while awaiting headers)",
    ),
    (
        "Container main failed liveness probe, will be restarted",
        "pkg/kubelet/kuberuntime/kuberuntime_manager.go",
        "It did not answer any more and is started again.",
    ),
    (
        "back-off 20s restarting failed container=main pod=nb_tenant(3c0e)",
        "pkg/kubelet/kuberuntime/kuberuntime_manager.go",
        "It ends again and again; the next try is in 20s.",
    ),
    (
        'container has runAsNonRoot and image will run as root (pod: "nb_tenant(3c0e)", container: main)',
        "pkg/kubelet/kuberuntime/security_context_others.go",
        "The image wants to run as root, which nothing may here.",
    ),
    (
        'secret "token" not found',
        "pkg/kubelet/kubelet_pods.go, through the API server's own error",
        "It needs the secret 'token', which is not there.",
    ),
    (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
        'unable to start container process: exec: "pythn": executable file not found in $PATH: unknown',
        "runc, as the kubelet shows it",
        "The image has no program 'pythn'.",
    ),
    (
        "exec /usr/bin/python3: exec format error",
        "the container's own last line",
        "The image is not made for this machine's architecture.",
    ),
    # memory, eviction, loss
    ("OOMKilled", "the CRI's reason of a container's end", "It ran out of memory and was ended."),
    (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 84Mi. Container main was using "
        "3Gi, request is 1Gi, has larger consumption of memory. ",
        "pkg/kubelet/eviction/helpers.go",
        "Its machine ran out of memory, and it was stopped to make room.",
    ),
    (
        "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 800Mi. ",
        "pkg/kubelet/eviction/helpers.go",
        "Its machine ran out of scratch space, so it was stopped.",
    ),
    (
        'Container main exceeded its local ephemeral storage limit "1Gi". ',
        "pkg/kubelet/eviction/helpers.go",
        "It wrote more than its 1Gi of scratch space.",
    ),
    (
        "Pod ephemeral local storage usage exceeds the total limit of containers 2Gi. ",
        "pkg/kubelet/eviction/helpers.go",
        "It wrote more than its 2Gi of scratch space.",
    ),
    (
        'Usage of EmptyDir volume "scratch" exceeds the limit "512Mi". ',
        "pkg/kubelet/eviction/helpers.go",
        "It wrote more than its 512Mi of scratch space.",
    ),
    (
        "Marking for deletion Pod tenant/nb",
        "pkg/controller/tainteviction/taint_eviction.go",
        "Its machine was lost or taken out of service.",
    ),
    (
        "Taint manager: deleting due to NoExecute taint",
        "pkg/controller/tainteviction/taint_eviction.go",
        "Its machine was lost or taken out of service.",
    ),
    (
        "PodGC: node no longer exists",
        "pkg/controller/podgc/gc_controller.go",
        "Its machine was lost or taken out of service.",
    ),
    (
        "Eviction API: evicting",
        "pkg/registry/core/pod/storage/eviction.go",
        "Its machine was lost or taken out of service.",
    ),
    (
        "Pod was terminated in response to imminent node shutdown.",
        "pkg/kubelet/nodeshutdown/nodeshutdown_manager.go",
        "Its machine was lost or taken out of service.",
    ),
    (
        "default-scheduler: preempting to accommodate a higher priority pod",
        "pkg/scheduler/framework/preemption/executor.go",
        "More urgent work took its place.",
    ),
    ("Node is not ready", "pkg/controller/util/node/controller_utils.go", "Its machine does not answer."),
    (
        "Preempted by pod 3c0e-11 on node node1",
        "pkg/scheduler/framework/preemption/executor.go",
        "More urgent work took its place.",
    ),
    (
        "Pod was active on the node longer than the specified deadline",
        "pkg/kubelet/active_deadline.go",
        "It ran over its time and was ended.",
    ),
    (
        "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu, which is "
        "unexpected",
        "pkg/kubelet/cm/admission/errors.go",
        "Its machine had no accelerator or room left when it arrived.",
    ),
    # volumes
    (
        "Unable to attach or mount volumes: unmounted volumes=[files], unattached volumes=[], failed to process "
        "volumes=[]: timed out waiting for the condition",
        "pkg/kubelet/kubelet.go",
        "Its files cannot be attached yet; this is tried again.",
    ),
    (
        "no persistent volumes available for this claim and no storage class is set",
        "pkg/controller/volume/persistentvolume/pv_controller.go",
        "The cluster has no storage class for volumes.",
    ),
    (
        'storageclass.storage.k8s.io "fast" not found',
        "pkg/controller/volume/persistentvolume/pv_controller.go",
        "The cluster has no storage class 'fast' for volumes.",
    ),
    (
        "waiting for first consumer to be created before binding",
        "pkg/controller/volume/persistentvolume/pv_controller.go",
        "Its volume is being made.",
    ),
    (
        'Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox "3c": '
        'plugin type="bridge" failed (add): no IP addresses available',
        "pkg/kubelet/kuberuntime/kuberuntime_manager.go",
        "Its machine could not set up the sandbox; this is tried again.",
    ),
]


@pytest.mark.parametrize(("text", "source", "cause"), RECORDED, ids=[one[0][:50] for one in RECORDED])
def test_a_recorded_text_has_a_cause_and_a_next_step(text: str, source: str, cause: str) -> None:
    told = why.explained(text)
    assert told is not None, source
    assert told.cause == cause and told.next and told.raw == text


def test_each_row_of_the_table_is_met_by_a_recorded_text() -> None:
    met = set()
    for text, _, _ in RECORDED:
        rows = why._NODES if "nodes are available" in text else why._TABLE
        met.add(next((row.pattern for row in rows if row.pattern.search(text)), None))
    unmet = [row.pattern.pattern for row in (*why._NODES, *why._TABLE) if row.pattern not in met]
    assert unmet == []


@given(st.text(max_size=200))
def test_no_text_is_swallowed(text: str) -> None:
    told = why.from_message(text)
    assert told.raw == text and (told.cause or not text.strip())


def told_of(start: str) -> str:
    return next(text for text, *_ in RECORDED if text.startswith(start))


def container(**state: Any) -> dict[str, Any]:
    return {"status": {"phase": "Pending", "containerStatuses": [{"name": "main", **state}]}}


def test_what_a_container_says_comes_before_what_its_pod_says() -> None:
    killed = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    waits = {
        "waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container=main pod=x"}
    }
    told = why.from_pod(container(state=waits, lastState=killed))
    assert told is not None and told.code == "RW-OUT-OF-MEMORY"
    told = why.from_pod(container(state=waits))
    assert told is not None and told.cause == "It ends again and again; the next try is in 10s."
    told = why.from_pod(container(state={"terminated": {"reason": "Error", "exitCode": 3}}))
    assert told is not None and told.cause == "It ended with exit code 3."
    assert why.from_pod(container(state={"waiting": {"reason": "ContainerCreating"}})) is None


def test_a_pod_that_waits_for_a_machine_says_why() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": told_of("0/2 nodes are available: 2 Insufficient cpu"),
    }
    told = why.from_pod({"status": {"phase": "Pending", "conditions": [condition]}})
    assert told is not None and "busy" in told.cause
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    assert why.from_pod(ready, [{"type": "Warning", "message": "Readiness probe failed: x"}]) is None


def test_an_evicted_pod_and_one_that_only_events_explain() -> None:
    ended = {"containerStatuses": [{"state": {"terminated": {"exitCode": 137, "reason": "Error"}}}]}
    told = why.from_pod(
        {"status": {"phase": "Failed", "reason": "Evicted", "message": told_of("Usage of EmptyDir"), **ended}}
    )
    assert told is not None and told.code == "RW-STORAGE-FULL"
    events = [
        {"type": "Normal", "message": "Pulled"},
        {"type": "Warning", "message": "Readiness probe failed: connection refused"},
        {"type": "Warning", "message": "something unheard of"},
    ]
    told = why.from_pod({"status": {"phase": "Running"}}, events)
    assert told is not None and told.cause == "It runs and is not ready yet: connection refused"
    later = {"type": "Warning", "message": "Readiness probe failed: timeout", "lastTimestamp": "2026-01-02T00:00:02Z"}
    early = {**events[1], "eventTime": "2026-01-02T00:00:01.000000Z"}
    for order in ([later, early], [early, later]):  # they come by name
        told = why.from_pod({"status": {"phase": "Running"}}, order)
        assert told is not None and told.cause == "It runs and is not ready yet: timeout"
