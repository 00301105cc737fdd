"""A notebook on a cluster, as far as it is pure: its pod, its environment, what it waits for, and who may have it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import BadInput, NotFound, Unavailable
from ropewalk_core.flows import RunSpec
from ropewalk_core.kube import file_pod
from ropewalk_core.kube.function_objects import KNATIVE, PLAIN, Place, serving
from ropewalk_core.kube.nodes import Site
from ropewalk_core.kube.placement import Fragment, place
from ropewalk_core.kube.volumes import claim, mount
from ropewalk_core.model import Bundle, FunctionSpec, Notebook, State, Status, Why
from ropewalk_core.placement import Inventory, Node, Placement
from ropewalk_core.settings import Cluster, Door, Settings
from ropewalk_hub import addresses, cluster_doctor, health, kube_notebook, tenancy
from ropewalk_hub.backends import find, kube
from ropewalk_hub.kube_pod import finished, resources, variables
from ropewalk_hub.notebooks import Seen, observed
from ropewalk_hub.secrets_store import Secret, SecretsStore
from ropewalk_workflows.argo.render import Where, workflow
from ropewalk_workflows.manifest import read
from ropewalk_workflows.manifest.images import AnyImage
from tests.ports import free_port

GIB = 2**30
SITE = Site(Inventory(nodes=(Node(name="n1", arch="amd64", cpu=8, memory=32 * GIB),)))
DRAWN: dict[str, Any] = {
    "metadata": {"name": "notebook", "labels": {"component": "singleuser-server"}},
    "spec": {"containers": [{"name": "notebook", "image": "x", "ports": [{"containerPort": 8888}]}], "volumes": []},
}


def settings_of(home: Path, **cluster: Any) -> Settings:
    door = Door(port=8300, host="ropewalk.test", people_host="people.test")
    return Settings(home=home, backend="kube", door=door, cluster=Cluster(prefix="rw", namespace="rw", **cluster))


# The pod


def test_a_sites_package_index_reaches_pip_and_uv(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert not {"PIP_INDEX_URL", "UV_DEFAULT_INDEX"} & variables(settings, "ada", Placement()).keys()
    mirror = replace(settings, environments=replace(settings.environments, index="http://mirror.test:8/simple"))
    found = variables(mirror, "ada", Placement())
    assert found["PIP_INDEX_URL"] == found["UV_DEFAULT_INDEX"] == "http://mirror.test:8/simple"
    assert found["PIP_TRUSTED_HOST"] == "mirror.test"


def test_the_pod_is_restricted_and_has_the_files_and_no_token(tmp_path: Path) -> None:
    fragment = place(Placement(cpu=2, memory=4 * GIB, arch=("amd64",)), SITE)
    pod = finished(DRAWN, "ada", fragment, settings_of(tmp_path))
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["fsGroup"] == 1000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "amd64"} and spec["restartPolicy"] == "Never"
    [container] = spec["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "objects-environment", "optional": True}}]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "2Gi"}
    assert {"name": "files", "mountPath": "/home/work"} in container["volumeMounts"]
    assert {"name": "files", "persistentVolumeClaim": {"claimName": "files"}} in spec["volumes"]
    assert (
        pod["metadata"]["labels"]
        | {
            "component": "singleuser-server",
            "ropewalk.dev/account": "ada",
            "ropewalk.dev/kind": "notebook",
            "ropewalk.dev/mounts": "files",
        }
        == pod["metadata"]["labels"]
    )
    assert DRAWN["spec"]["containers"][0].keys() == {"name", "image", "ports"}, "what was drawn stays as it is"


def test_a_notebook_has_a_token_where_the_installation_gives_one(tmp_path: Path) -> None:
    without = finished(DRAWN, "ada", Fragment(), settings_of(tmp_path))
    given = finished(DRAWN, "ada", Fragment(), settings_of(tmp_path, notebook_token=True))
    assert without["spec"]["serviceAccountName"] == "work" and "projected" not in json.dumps(without)
    spec = given["spec"]
    assert spec.pop("serviceAccountName") == "notebooks" and spec["automountServiceAccountToken"] is False
    volume, mounted = spec["volumes"].pop(), spec["containers"][0]["volumeMounts"].pop()
    assert mounted == {
        "name": volume["name"],
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        "readOnly": True,
    }
    assert volume["projected"]["sources"] == [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    del without["spec"]["serviceAccountName"]
    assert given == without, "nothing else differs"
    beside = {"metadata": DRAWN["metadata"], "spec": {"containers": [*DRAWN["spec"]["containers"], {"name": "other"}]}}
    [_, other] = finished(beside, "ada", Fragment(), settings_of(tmp_path, notebook_token=True))["spec"]["containers"]
    assert other == {"name": "other"}, "the notebook's container alone has it"


def test_nothing_but_a_notebook_ever_gets_a_token(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, notebook_token=True)
    function = FunctionSpec(name="f", bundle=Bundle(files={}, entry="cell:handler", digest="d"))
    where, files = Place("ada", "f", "0123456789abcdef", "rw--ada"), mount(settings)
    step = {"name": "main", "container": {"image": "busybox", "command": ["sh"]}}
    manifest = {"kind": "Workflow", "spec": {"entrypoint": "main", "templates": [step]}}
    run = RunSpec(name="x", manifest=manifest, source="argo")
    rendered = {
        "a function on Knative": serving(KNATIVE, where, function, settings, Fragment(), files),
        "a function as a Deployment": serving(PLAIN, where, function, settings, Fragment(), files),
        "a workflow": workflow(run, read(manifest, AnyImage()), Where("ada", "run-0", "rw--ada"), settings, SITE),
        "the file server": file_pod.render("ada", "rw--ada", claim(settings), "key", settings)[-1][1],
        "the doctor's probe": cluster_doctor.probe(settings, "rw--ada", ""),
    }
    for what, objects in rendered.items():
        text = json.dumps(objects)
        assert '"serviceAccountName": "work"' in text and '"automountServiceAccountToken": false' in text, what
        assert '"notebooks"' not in text and '"serviceAccountToken"' not in text and "projected" not in text, what
    # Of a service, whose chart somebody else wrote, `charts.py` refuses each of these (tests/kube/test_charts.py).


def test_who_asks_for_nothing_gets_the_common_limits() -> None:
    given = resources(Fragment(), Cluster())
    assert given["limits"] == Cluster().container
    assert given["requests"] == {**Cluster().container, "cpu": "100m"}


def test_files_of_one_node_tie_the_pod_to_it_beside_its_own_affinity(tmp_path: Path) -> None:
    two = Site(Inventory(nodes=(*SITE.inventory.nodes, Node(name="n2", arch="arm64", cpu=8, memory=GIB))))
    fragment = place(Placement(arch=("arm64", "amd64")), two)
    affinity = finished(DRAWN, "ada", fragment, settings_of(tmp_path, files_access="ReadWriteOnce"))["spec"]["affinity"]
    assert set(affinity) == {"nodeAffinity", "podAffinity"}


def test_a_notebook_knows_the_platform_by_the_clusters_names(tmp_path: Path) -> None:
    told = variables(settings_of(tmp_path), "ada", Placement(cpu=1.5))
    assert told["ROPEWALK_API"] == "http://proxy.rw:8300" and told["ROPEWALK_HOST"] == "ropewalk.test:8300"
    assert told["ROPEWALK_PEOPLE"] == "http://%s.people.test:8301" and told["OMP_NUM_THREADS"] == "2"
    assert "ROPEWALK_GATEWAY" not in told
    local = Settings(home=tmp_path, backend="kube")
    assert variables(local, "ada", Placement())["ROPEWALK_GATEWAY"] == "http://gateway.ropewalk:8001"


# The account's environment in its files


def test_the_accounts_environment_is_made_in_the_persons_files(tmp_path: Path) -> None:
    base = Path(__file__).parents[2] / ".venv-user"
    if not (base / "bin" / "python").exists():
        pytest.skip("the base of people's environments is not installed; `make setup` does it")
    paths = kube_notebook.PodPaths(tmp_path, "ada")
    kube_notebook.prepare(paths, base)
    kube_notebook.prepare(paths, base)
    environment = kube_notebook.environment(paths, base)
    python = tmp_path / ".ropewalk" / "environment" / "bin" / "python"
    assert environment["PATH"].split(":")[:2] == [str(python.parent), str(base / "bin")]
    assert environment["HOME"] == str(tmp_path) and environment["VIRTUAL_ENV"] == str(python.parent.parent)
    kernel = Path(environment["JUPYTER_PATH"].split(":")[0]) / "kernels" / "python3" / "kernel.json"
    assert json.loads(kernel.read_text())["argv"][0] == str(python)
    said = subprocess.run([python, "-c", "import ropewalk, sys; print(sys.prefix)"], capture_output=True, text=True)
    assert said.stdout.strip() == str(python.parent.parent), said.stderr


def test_a_server_starts_also_when_the_environment_cannot_be_made(tmp_path: Path) -> None:
    paths = kube_notebook.PodPaths(tmp_path, "ada")
    kube_notebook.prepare(paths, tmp_path / "no-base")
    assert (tmp_path / ".ropewalk" / ".run").is_dir() and not paths.environment.exists()


# What it waits for


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "notebook", "uid": "1"}, "spec": {}, "status": status}


def test_a_pod_without_a_node_waits_and_says_for_what() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 Insufficient memory.",
    }
    told = kube.seen(pod(phase="Pending", conditions=[condition]), [])
    assert told.state is State.WAITING and told.why and "memory" in told.why.cause


def test_a_pod_that_pulls_says_what_is_wrong_with_the_image() -> None:
    waiting = {"reason": "ErrImagePull", "message": 'failed to pull image "a/b:1": not found'}
    placed = pod(phase="Pending", containerStatuses=[{"name": "notebook", "state": {"waiting": waiting}}])
    placed["spec"]["nodeName"] = "n1"
    told = kube.seen(placed, [])
    assert told.state is State.STARTING and told.why and told.why.cause == "There is no image 'a/b:1'."
    assert kube.seen(pod(phase="Pending"), []) == Seen(State.STARTING, None)


def test_events_of_an_earlier_pod_of_that_name_do_not_count() -> None:
    event = {
        "type": "Warning",
        "metadata": {},
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
        "involvedObject": {"name": "notebook", "uid": "0"},
    }
    assert kube.seen(pod(phase="Pending"), [event]) == Seen(State.STARTING, None)
    mine = event | {"involvedObject": {"name": "notebook", "uid": "1"}}
    assert kube.seen(pod(phase="Pending"), [mine]).state is State.WAITING


def test_a_step_forward_outdates_what_was_complained_of_before_it() -> None:
    about = {"involvedObject": {"name": "notebook", "uid": "1"}, "metadata": {}}
    mount = about | {"type": "Warning", "reason": "FailedMount", "lastTimestamp": "2026-11-21T19:00:01Z"}
    mount["message"] = 'MountVolume.SetUp failed for volume "x" : not found'
    pulling = about | {"type": "Normal", "reason": "Pulling", "lastTimestamp": "2026-11-21T19:00:05Z", "message": "x"}
    probe = about | {"type": "Warning", "reason": "Unhealthy", "lastTimestamp": "2026-11-21T19:00:09Z"}
    probe["message"] = "Startup probe failed: dial tcp 10.0.0.1:8888: connect: connection refused"
    assert kube.seen(pod(phase="Pending"), [mount]).why is not None
    assert kube.seen(pod(phase="Pending"), [probe, mount, pulling]).why is None


def of_hub(**server: Any) -> dict[str, Any]:
    return {"name": "ada", "servers": {"": server} if server else {}}


def last(state: State, why: Why | None = None) -> Notebook:
    return Notebook(owner="ada", status=Status(state=state, since=5.0, why=why), address="x", placement=Placement())


def test_what_a_start_waits_for_is_its_state_and_stays_its_reason(tmp_path: Path) -> None:
    settings, busy = settings_of(tmp_path), Why(cause="It waits for a machine.")
    spawning = of_hub(pending="spawn", ready=False)
    waits = observed(settings, "ada", spawning, last(State.STARTING), Seen(State.WAITING, busy))
    assert waits.status.state is State.WAITING and waits.status.why == busy
    goes_on = observed(settings, "ada", spawning, waits, Seen(State.STARTING))
    assert goes_on.status.state is State.STARTING and goes_on.status.why is None
    same = observed(settings, "ada", spawning, waits, Seen(State.WAITING, Why(cause="Another.")))
    assert same.status.since == waits.status.since and same.status.why and same.status.why.cause == "Another."
    failed = observed(settings, "ada", of_hub(), waits)
    assert failed.status.state is State.FAILED and failed.status.why == busy


def test_a_server_that_died_says_of_what(tmp_path: Path) -> None:
    why = Why(cause="It ran out of memory and was ended.")
    died = observed(settings_of(tmp_path), "ada", of_hub(), last(State.RUNNING), Seen(State.FAILED, why))
    assert died.status.state is State.FAILED and died.status.why == why
    ended = observed(settings_of(tmp_path), "ada", of_hub(), last(State.RUNNING))
    assert ended.status.state is State.STOPPED and ended.status.note == "It ended by itself."


# Composition, addresses, secrets


def test_backends_are_found_by_name() -> None:
    assert find("kube") is kube.build
    with pytest.raises(BadInput, match="There is no backend 'slurm'") as caught:
        find("slurm")
    assert "kube, local" in str(caught.value.hint)


def test_processes_meet_at_services_of_the_cluster(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    where = addresses.read(settings)
    assert where.hub_url == "http://hub.rw:8081" and where.platform_url == "http://platform.rw:8300"
    assert where.proxy_api_url == "http://proxy.rw:8001" and where.bind == "0.0.0.0"
    assert addresses.names(settings) == {"127.0.0.1", "[::1]", "platform", "platform.rw"}
    assert addresses.names(Settings(home=tmp_path)) == {"127.0.0.1", "[::1]"}
    own = Settings(home=tmp_path, backend="kube", door=Door(bind="::"))
    assert addresses.listening(own) == "::" and addresses.listening(Settings(home=tmp_path)) == "127.0.0.1"


def test_shared_secrets_come_from_the_mounted_secret_and_others_from_the_home(tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / Secret.HUB_CLIENT).write_text("given\n")
    store = SecretsStore(settings_of(tmp_path / "home", secrets=mounted))
    assert store.text(Secret.HUB_CLIENT) == "given" and store.file(Secret.HUB_CLIENT).parent == mounted
    assert store.file(Secret.PAGE_KEY).parent == tmp_path / "home" / "secrets"
    with pytest.raises(Unavailable, match="is not there"):
        store.text(Secret.PROXY_TOKEN)
    (mounted / Secret.PROXY_TOKEN).write_text("")
    with pytest.raises(Unavailable, match="it is empty"):
        store.text(Secret.PROXY_TOKEN)
    assert sorted(one.name for one in mounted.iterdir()) == [Secret.HUB_CLIENT, Secret.PROXY_TOKEN]


class _Accounts:
    def get(self, name: str) -> Any:
        return None


async def test_nobody_without_an_account_gets_a_namespace() -> None:
    spaces = kube.Spaces(None, _Accounts())  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="There is no account 'eve'"):
        await spaces("eve")


# Health


async def test_a_kubelet_is_told_how_a_process_is() -> None:
    import asyncio

    troubles = [""]

    async def ask(port: int, path: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        return answer

    async with health.served("127.0.0.1", 0, lambda: troubles[0]) as port:
        assert (await ask(port, "/healthz")).startswith("HTTP/1.1 200")
        assert (await ask(port, "/readyz")).startswith("HTTP/1.1 200")
        troubles[0] = "out of touch"
        assert (await ask(port, "/readyz")).startswith("HTTP/1.1 503") and "out of touch" in await ask(port, "/readyz")
        assert (await ask(port, "/healthz")).startswith("HTTP/1.1 200")
        assert (await ask(port, "/x")).startswith("HTTP/1.1 404")


def test_a_short_break_of_the_api_server_is_no_trouble() -> None:
    assert tenancy.troubles({"namespaces": 3.0}) == ""
    assert tenancy.troubles({"namespaces": 31.0, "nodes": 40.0}) == (
        "out of touch with the API server: namespaces, nodes"
    )


# The doctor


def test_the_doctor_says_plainly_that_policies_are_not_enforced() -> None:
    door, inner, server = "the platform's door", "the proxy's inner port", "the API server"
    good = cluster_doctor.network([{door: True, inner: True, server: True}, {door: True, inner: False, server: False}])
    assert good["state"] == "ok" and "enforced" in good["text"]
    bad = cluster_doctor.network([{door: True, inner: True, server: False}])
    assert bad["state"] == "problem" and "Network policies are not enforced here" in bad["text"]
    assert inner in bad["text"] and server not in bad["text"] and "network plugin" in bad["hint"]
    cut_off = cluster_doctor.network([{door: False, inner: False, server: False}])
    assert cut_off["state"] == "problem" and "cannot reach the platform" in cut_off["text"]
    assert cluster_doctor.network([])["state"] == "problem"
    public = cluster_doctor.network([{door: True, inner: False, "another account's pod": False, server: True}])
    assert public["state"] == "problem" and "not enforced" not in public["text"] and server in public["text"]
    assert "cluster.api_server" in public["hint"]
    other = cluster_doctor.network([{door: True, inner: False, "another account's pod": True, server: False}])
    assert "Network policies are not enforced here" in other["text"] and "another account's pod" in other["text"]


def test_the_probe_runs_as_any_work_does(tmp_path: Path) -> None:
    made = cluster_doctor.probe(settings_of(tmp_path), "rw--system", "10.1.2.3")
    beside = cluster_doctor.listener(settings_of(tmp_path), "rw--root")
    for one in (made, beside):
        spec = one["spec"]["template"]["spec"]
        assert spec["serviceAccountName"] == "work" and spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] and spec["containers"][0]["resources"]["limits"]
    targets = json.loads(made["spec"]["template"]["spec"]["containers"][0]["command"][3])
    assert targets["the platform's door"] == ["proxy.rw", 8300]
    assert targets["another account's pod"] == ["10.1.2.3", 8888]
    assert targets["the address where clouds keep keys"] == ["169.254.169.254", 80]
    compile(beside["spec"]["template"]["spec"]["containers"][0]["command"][2], "listener", "exec")


def test_the_probe_says_what_it_reaches(tmp_path: Path) -> None:
    program = cluster_doctor.probe(settings_of(tmp_path), "rw--system", "")["spec"]["template"]["spec"]["containers"][0]
    with socket.create_server(("127.0.0.1", 0)) as door:
        targets = {"open": ["127.0.0.1", door.getsockname()[1]], "shut": ["127.0.0.1", free_port()]}
        argv = [sys.executable, "-c", program["command"][2], json.dumps(targets), "1"]
        server = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(door.getsockname()[1])}
        with subprocess.Popen(argv, cwd=tmp_path, env=server, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            said = [running.stdout.readline() for _ in range(3)]
            running.kill()
    assert json.loads(said[0]) == {"open": True, "shut": False, "the API server": True}
    assert [json.loads(said[1]), said[2]] == [{"files": ""}, "done\n"]
