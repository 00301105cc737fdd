"""What a function is on a cluster: one golden file for both ways, and what the cluster's words make of a trial.

`python -m tests.unit.test_kube_functions` writes the golden file.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import BadCode, BadInput, Denied, TooLarge, Unavailable, UserCodeFailed
from ropewalk_core.kube import restricted, safe
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.function_objects import (
    CONTAINER,
    KNATIVE,
    PLAIN,
    Place,
    clearer,
    code,
    fingerprint,
    judge,
    packed,
    serving,
)
from ropewalk_core.kube.kinds import SECRET
from ropewalk_core.kube.nodes import Site
from ropewalk_core.kube.placement import place
from ropewalk_core.kube.volumes import mount
from ropewalk_core.model import Bundle, FunctionSpec
from ropewalk_core.placement import Inventory, Node, Placement
from ropewalk_core.settings import Settings
from ropewalk_runtime.serve import DOES_NOT_LOAD

GOLDEN = Path(__file__).parent / "golden" / "functions.yaml"
SETTINGS = Settings(home=Path("/home"))
SITE = Site(Inventory(nodes=(Node(name="one", arch="amd64", cpu=8, memory=2**34),)), {}, frozenset())
BUNDLE = Bundle(files={"cell.py": "def handler(value):\n    return value\n"}, entry="cell:handler", digest="d")
WHERE = Place("ada", "double", "0123456789abcdef", "ropewalk--ada")


def rendered(how: str, **changes: Any) -> list[dict[str, Any]]:
    spec = FunctionSpec(name="double", bundle=BUNDLE, **changes)
    return serving(how, WHERE, spec, SETTINGS, place(spec.placement, SITE), mount(SETTINGS))


def golden() -> str:
    placement = Placement(memory="1Gi", cpu=2, arch=("amd64",))
    shown = {
        "idle": 600,
        "max_workers": 2,
        "concurrency": 8,
        "timeout": 90,
        "folder": "work/here",
        "placement": placement,
    }
    head = "# A function on a cluster, on Knative and without. Written by `python -m tests.unit.test_kube_functions`.\n"
    return head + yaml.safe_dump_all([*rendered(KNATIVE, **shown), *rendered(PLAIN, **shown)], sort_keys=True)


def test_what_is_rendered_is_written_down() -> None:
    assert GOLDEN.read_text() == golden()


@pytest.mark.parametrize("how", [KNATIVE, PLAIN])
def test_nothing_of_it_has_a_token_or_a_privilege(how: str) -> None:
    pod = rendered(how)[0]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    [container] = pod["containers"]
    secure = container["securityContext"]
    assert secure["runAsNonRoot"] and secure["runAsUser"] == 1000 and not secure["allowPrivilegeEscalation"]
    assert secure["capabilities"] == {"drop": ["ALL"]}
    assert "env" not in container
    if how == PLAIN:  # Knative takes none of a pod
        assert pod["securityContext"] == restricted.pod()


def test_workers_are_kept_as_each_way_can() -> None:
    annotations = rendered(KNATIVE, min_workers=2)[0]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/min-scale"] == "2"
    assert rendered(PLAIN, min_workers=2)[0]["spec"]["replicas"] == 2 and rendered(PLAIN)[0]["spec"]["replicas"] == 1


@pytest.mark.parametrize("how", [KNATIVE, PLAIN])
def test_limits_and_surroundings_are_those_of_one_machine(how: str) -> None:
    placement = Placement(memory="1Gi", scratch="64Mi")
    changes = {"cpu_time": 3, "files": "read", "environment": {"B": "$(A)", "A": "1"}, "secrets": ("TOKEN",)}
    pod = rendered(how, placement=placement, **changes)[0]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert {"--cpu-time=3", "--secrets=TOKEN"} <= set(container["args"])
    plain, other, secret = container["env"]
    assert (plain, other) == ({"name": "A", "value": "1"}, {"name": "B", "value": "$$(A)"})  # which is $(A) there
    assert secret == safe.variable("TOKEN")
    mounts = {one["name"]: one for one in container["volumeMounts"]}
    assert mounts["scratch"]["mountPath"] == "/tmp" and mounts["files"]["readOnly"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert volumes["scratch"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Mi"}
    assert container["resources"]["limits"]["memory"] == "1120Mi"  # the code's, scratch, and our server's own


def expanded(text: str, others: dict[str, str]) -> str:
    """Return what a kubelet makes of a variable's text: ``$$`` is a dollar, and ``$(NAME)`` another's value."""
    return re.sub(r"\$(\$|\(([^)]*)\))", lambda one: "$" if one[1] == "$" else others.get(one[2], one[0]), text)


@given(st.text(alphabet="$()Ax"))
def test_a_variable_has_the_value_that_it_has_on_one_machine(value: str) -> None:
    [one] = rendered(PLAIN, environment={"B": value})[0]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert expanded(one["value"], {"A": "another's"}) == value


def test_a_secret_is_an_object_that_pods_refer_to_and_that_can_be_emptied() -> None:
    kept, emptied = safe.rendered("space", "DB_PASSWORD", "open"), safe.rendered("space", "DB_PASSWORD", "")
    assert kept["data"] == {"value": "b3Blbg=="} and emptied["data"] == {}
    assert kept["metadata"] == emptied["metadata"] and kept["metadata"]["namespace"] == "space"
    name = safe.variable("DB_PASSWORD")["valueFrom"]["secretKeyRef"]["name"]
    assert kept["metadata"]["name"] == name == name.lower() and len(name) <= 63


async def test_the_safe_writes_into_the_accounts_own_namespace_and_reads_nothing() -> None:
    written: list[dict[str, Any]] = []

    class Writing:
        async def apply(self, kind: Any, body: dict[str, Any], *, force: bool) -> None:
            assert kind is SECRET and force
            written.append(body)

    async def space(owner: str) -> str:
        return f"ropewalk--{owner}"

    kept = safe.KubeSafe(cast(Api, Writing()), space)
    await kept.put("ada", "DB_PASSWORD", "open")
    await kept.drop("ada", "DB_PASSWORD")
    assert [one["metadata"]["namespace"] for one in written] == ["ropewalk--ada"] * 2
    assert [one["data"] for one in written] == [{"value": "b3Blbg=="}, {}]


def test_names_are_as_long_as_the_cluster_takes_them() -> None:
    longest = Place("a" * 32, "x" * 32, "0123456789abcdef", "n")
    assert len(longest.object) <= 63 and len(longest.service) <= 63


def test_other_content_is_another_rendering() -> None:
    one, other = rendered(KNATIVE), rendered(KNATIVE, timeout=61)
    assert fingerprint(one) == fingerprint(rendered(KNATIVE)) != fingerprint(other)


def test_code_that_a_config_map_cannot_hold_is_refused_by_name() -> None:
    noise = random.Random(1).randbytes(1_500_000).hex()
    with pytest.raises(TooLarge) as caught:
        packed(BUNDLE.model_copy(update={"files": {"cell.py": f"x = '{noise}'\n"}}))
    assert caught.value.field == "bundle" and "after compression" in caught.value.message
    assert len(json.dumps(code(WHERE, packed(BUNDLE)))) < 2000


# Verdicts


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "labels": {"ropewalk.dev/revision": WHERE.revision}}, "status": status}


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": CONTAINER, **state}]}


def ksvc(ready: str, *, created: str = WHERE.object, latest: str = WHERE.object, says: str = "") -> dict[str, Any]:
    conditions = [
        {"type": "Ready", "status": ready, "message": says},
        {"type": "ConfigurationsReady", "status": ready, "message": says},
    ]
    return {
        "metadata": {"name": WHERE.service, "generation": 3},
        "status": {
            "observedGeneration": 3,
            "conditions": conditions,
            "latestCreatedRevisionName": created,
            "latestReadyRevisionName": latest,
        },
    }


def deployment(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": WHERE.object, "generation": 1}, "status": {"observedGeneration": 1, **status}}


def test_it_is_ready_when_all_calls_reach_it() -> None:
    assert judge(KNATIVE, WHERE, ksvc("True"), []).ready
    assert not judge(KNATIVE, WHERE, ksvc("True", latest="fn--double-other"), []).ready
    stale = ksvc("True")
    stale["metadata"]["generation"] = 4
    assert not judge(KNATIVE, WHERE, stale, []).ready
    assert judge(PLAIN, WHERE, deployment(readyReplicas=1), []).ready
    assert not judge(PLAIN, WHERE, deployment(), []).ready


def test_code_that_does_not_load_is_the_persons() -> None:
    facts = {"code": "RW-BAD-CODE", "message": "The function does not load.", "field": "cell line 2", "hint": None}
    said = json.dumps({**facts, "details": {"traceback": "Traceback: no good"}})
    ended = {"exitCode": DOES_NOT_LOAD, "message": said}
    for state in ({"state": {"terminated": ended}}, {"state": {"waiting": {}}, "lastState": {"terminated": ended}}):
        error = judge(PLAIN, WHERE, deployment(), [pod(**container(**state))]).error
        assert isinstance(error, BadCode) and error.field == "cell line 2"
        assert error.details["traceback"] == "Traceback: no good"
    other = pod(**container(state={"terminated": ended}))
    other["metadata"]["labels"]["ropewalk.dev/revision"] = "another"
    assert judge(PLAIN, WHERE, deployment(), [other]).error is None
    knative = judge(
        KNATIVE, WHERE, ksvc("False", says=f"Revision failed with message: Container failed with: {said}"), []
    )
    assert isinstance(knative.error, BadCode) and knative.error.field == "cell line 2"
    nonsense = container(state={"terminated": {"exitCode": DOES_NOT_LOAD, "message": "[1"}})
    assert isinstance(judge(PLAIN, WHERE, deployment(), [pod(**nonsense)]).error, BadCode)


def test_what_the_cluster_refuses_is_said_in_plain_words() -> None:
    quota = 'pods "x" is forbidden: exceeded quota: tenant, requested: pods=1, used: pods=50, limited: pods=50'
    full = judge(
        PLAIN, WHERE, deployment(conditions=[{"type": "ReplicaFailure", "status": "True", "message": quota}]), []
    )
    assert isinstance(full.error, Denied) and "50 of 50 pods" in full.error.message
    image = 'Unable to fetch image "registry/x:1": failed to resolve image to digest: no such host'
    assert isinstance(judge(KNATIVE, WHERE, ksvc("False", says=image), []).error, Unavailable)
    crash = container(state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed"}})
    assert isinstance(judge(PLAIN, WHERE, deployment(), [pod(**crash)]).error, UserCodeFailed)


def test_a_time_that_knative_does_not_allow_is_told_as_ours() -> None:
    raw = "validation failed: expected 0 <= 905 <= 600: spec.template.spec.timeoutSeconds"
    error = clearer(Denied("A rule refused it.", details={"raw": raw}))
    assert isinstance(error, BadInput) and error.field == "timeout" and "595 seconds" in error.message
    other = Denied("no")
    assert clearer(other) is other


def test_what_only_takes_time_waits_and_says_so() -> None:
    busy = {
        "type": "PodScheduled",
        "status": "False",
        "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
    }
    told = judge(PLAIN, WHERE, deployment(), [pod(conditions=[busy])])
    assert told.error is None and told.why is not None and "waits for a machine" in told.why.cause
    volume = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. not eligible for preemption."
    soon = ksvc("False", says=f'Revision "{WHERE.object}" failed with message: {volume}.')
    told = judge(KNATIVE, WHERE, soon, [pod(conditions=[{**busy, "message": volume}])])
    assert told.error is None and told.why is not None and "its volume" in told.why.cause
    assert judge(KNATIVE, WHERE, soon, []).error is None  # its pod was not seen yet
    assert judge(KNATIVE, WHERE, ksvc("Unknown"), [pod(**container(state={"running": {}}))]).loading
    ready = pod(**container(state={"running": {}}), conditions=[{"type": "Ready", "status": "True"}])
    assert not judge(KNATIVE, WHERE, ksvc("Unknown"), [ready]).loading  # the rest is Knative's


if __name__ == "__main__":
    GOLDEN.write_text(golden())
