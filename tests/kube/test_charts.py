"""The shipped charts as the real Helm renders them: the same program as on one machine, and nothing that is refused.

Hostile charts, one for each refusal, are rendered by Helm too. No cluster is needed, only its programs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from ropewalk_core.catalog import Catalog, argv, environment, shipped
from ropewalk_core.errors import BadValues, Denied
from ropewalk_core.kube import charts
from ropewalk_core.kube.helm import Helm
from ropewalk_core.kube.kinds import Object
from ropewalk_core.kube.placement import Fragment
from ropewalk_core.kube.roles import TENANT_RULES
from ropewalk_core.kube.service_values import WISH, release_of, rules_of, values_of
from ropewalk_core.kube.volumes import HOME, mount
from ropewalk_core.model import Service, ServiceSpec, State, Status
from ropewalk_core.placement import format_size
from ropewalk_core.settings import Settings
from tests.cluster.builder import Builder
from tests.cluster.layout import layout

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

SETTINGS = Settings(home=Path("/home"))
CATALOG = Catalog()
FILES = mount(SETTINGS)
SPACE = "ropewalk--ada"
PLACED = Fragment(
    selector={"kubernetes.io/arch": "arm64"},
    affinity={"nodeAffinity": {"x": 1}},
    tolerations=({"key": "kubernetes.io/arch", "operator": "Equal", "value": "arm64"},),
    runtime_class="gvisor",
    resources={"requests": {"cpu": "2", "memory": "3Gi"}, "limits": {"cpu": "2", "memory": "3Gi"}},
)
WORDS = "a b; $(touch /tmp/x) '\" {port} {{ .Values.ropewalk }} \u00e9\U0001f600\u2028 && exit"


@pytest.fixture
def helm(tmp_path: Path) -> Helm:
    program = Builder(layout()).binary("helm")
    assert program.exists(), "helm is not built: make cluster PROFILE=all builds it"
    return Helm(tmp_path / "run", program=str(program))


def service(template: str, values: dict[str, Any]) -> Service:
    spec = ServiceSpec(name="one", template=template, values=CATALOG.check(template, values))
    status = Status(state=State.ASKED)
    return Service(owner="ada", spec=spec, status=status, address="http://one--ada.localhost:8001/")


async def rendered(helm: Helm, one: Service, fragment: Fragment, chart: Path | None = None) -> list[Object]:
    entry = CATALOG.get(one.spec.template)
    values = values_of(one, entry, fragment, FILES, SETTINGS.cluster, "wish-1")
    rules = rules_of(one, fragment, FILES, SETTINGS.cluster, SPACE)
    objects = await helm.render(chart or entry.folder, release_of(one.spec.name), SPACE, values)
    return charts.check(one.spec.template, objects, rules)


def deployment(objects: list[Object]) -> Object:
    [found] = [one for one in objects if one["kind"] == "Deployment"]
    return found


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("editor", {}),
        ("editor", {"folder": WORDS}),
        ("site", {"folder": "a/./b//c"}),
        ("tensorboard", {"folder": "runs", "reload_seconds": 3600}),
        ("voila", {"notebook": "reports/a b.ipynb"}),
        ("voila", {"notebook": ".ipynb", "show_code": True, "theme": "dark"}),
    ],
)
async def test_a_chart_runs_what_runs_on_one_machine(helm: Helm, template: str, values: dict[str, Any]) -> None:
    one, entry = service(template, values), CATALOG.get(template)
    local = entry.local
    assert local is not None
    objects = await rendered(helm, one, Fragment())
    pod = deployment(objects)["spec"]["template"]["spec"]
    [container] = pod["containers"]
    properties = entry.template.values_schema["properties"]
    placed = {
        name: str(PurePosixPath(HOME) / value) if properties[name].get("format") in ("file", "folder") else value
        for name, value in one.spec.values.items()
    }
    builtins = {
        "python": "python",
        "base": "/opt/ropewalk/user",
        "port": str(local.port),
        "host": "one--ada.localhost:8001",
    }
    builtins["origin"] = "http://one--ada.localhost:8001"
    words = [word.replace("127.0.0.1", "0.0.0.0") for word in argv(local, placed, builtins)]
    command = container["args"]
    if local.folders:
        assert command[:3] == ["/bin/sh", "-c", 'mkdir -p -- "$0" && exec "$@"']
        assert command[3] == placed[local.folders[0]]
        command = command[4:]
    assert command == words
    assert environment(local, placed, builtins).items() <= {it["name"]: it["value"] for it in container["env"]}.items()
    assert container["ports"] == [{"name": "http", "containerPort": local.port}]
    probe = container["startupProbe"]
    assert probe["httpGet"] == container["readinessProbe"]["httpGet"] == {"path": local.readiness.path, "port": "http"}
    assert probe["periodSeconds"] * probe["failureThreshold"] == 3 * local.readiness.seconds
    assert container["resources"]["limits"] == {"memory": format_size(local.memory)}
    assert pod["volumes"] == [FILES.volume] and container["volumeMounts"] == [FILES.mount]
    assert container["workingDir"] == HOME and container["image"] == SETTINGS.cluster.images["runner"]
    [reached] = [it for it in objects if it["kind"] == "Service"]
    assert reached["spec"]["ports"] == [{"name": "http", "port": charts.PORT, "targetPort": "http"}]
    labels = deployment(objects)["spec"]["template"]["metadata"]["labels"]
    assert reached["spec"]["selector"].items() <= labels.items()


@pytest.mark.parametrize("template", [one.name for one in CATALOG.list()])
async def test_a_placement_reaches_the_pod(helm: Helm, template: str) -> None:
    values = {"notebook": "a.ipynb"} if template == "voila" else {}
    made = deployment(await rendered(helm, service(template, values), PLACED))["spec"]["template"]
    assert PLACED.pod.items() <= made["spec"].items()
    assert made["spec"]["containers"][0]["resources"] == PLACED.resources
    assert made["metadata"]["annotations"] == {WISH: "wish-1"}


@pytest.mark.parametrize("template", [one.name for one in CATALOG.list()])
async def test_a_chart_renders_by_itself(helm: Helm, template: str) -> None:
    values = {"notebook": "a.ipynb"} if template == "voila" else {}
    assert len(await helm.render(CATALOG.get(template).folder, "by-hand", SPACE, values)) == 2


async def test_values_outside_of_the_schema_are_refused_by_helm_too(helm: Helm) -> None:
    with pytest.raises(BadValues, match="nothing"):
        await helm.render(CATALOG.get("site").folder, "one", SPACE, {"nothing": 1})


def test_what_helm_may_make_is_what_a_chart_may_hold() -> None:
    may = {
        (group, name)
        for rule in TENANT_RULES["releases"]
        if "create" in rule["verbs"]
        for group in rule["apiGroups"]
        for name in rule["resources"]
    }
    assert may == {(one.group, one.plural) for one in charts.KINDS}


# Hostile charts: the chart `site` with one thing changed or added.


def hostile(tmp_path: Path, extra: str = "", change: tuple[str, str] = ("", ""), file: str = "deployment.yaml") -> Path:
    chart = tmp_path / "site"
    shutil.copytree(shipped() / "site", chart)
    if extra:
        (chart / "templates" / "extra.yaml").write_text(extra)
    path = chart / "templates" / file
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change, 1) if change[0] else text)
    return chart


def extra(api: str, kind: str, *, name: str = "{{ .Release.Name }}-x", metadata: str = "", **fields: Any) -> str:
    rest = "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items())
    return f"apiVersion: {api}\nkind: {kind}\nmetadata:\n  name: {name}\n{metadata}{rest}"


RBAC = "rbac.authorization.k8s.io/v1"
HOOK = '  annotations: {"helm.sh/hook": pre-install}\n'
POD_SPEC = "      terminationGracePeriodSeconds: 10\n"
CONTAINER = "          workingDir: /home/work\n"
VOLUME = "      volumes:\n"
ADDED = [
    (extra("v1", "Namespace"), "Namespace 'service--one-x' is for the whole cluster"),
    (extra("apiextensions.k8s.io/v1", "CustomResourceDefinition"), "for the whole cluster"),
    (extra(RBAC, "ClusterRoleBinding"), "for the whole cluster"),
    (extra(RBAC, "RoleBinding"), "RoleBinding 'service--one-x' gives rights"),
    (extra("v1", "ServiceAccount"), "gives rights"),
    (extra("v1", "ConfigMap", metadata="  namespace: kube-system\n"), "for the namespace 'kube-system'"),
    (extra("v1", "ConfigMap", metadata=HOOK), "is a hook"),
    (extra("batch/v1", "Job", metadata=HOOK), "is a hook"),
    (extra("v1", "Pod"), "of a kind that charts may not hold"),
    (extra("networking.k8s.io/v1", "NetworkPolicy"), "of a kind that charts may not hold"),
    (extra("argoproj.io/v1alpha1", "Workflow"), "of a kind that charts may not hold"),
    (extra("v1", "List", items=[]), "of a kind that charts may not hold"),
    (extra("v1", "ConfigMap", name="files"), "is not named as its release"),
    (extra("v1", "ConfigMap", metadata="  finalizers: [a.b/c]\n"), "metadata.finalizers"),
    (extra("v1", "ConfigMap", metadata='  labels: {"ropewalk.dev/kind": "function"}\n'), "label 'ropewalk.dev/kind'"),
    (extra("v1", "Secret", type="kubernetes.io/service-account-token"), "of the type 'kubernetes.io/service-acc"),
    (extra("v1", "Service", spec={"type": "NodePort"}), "of the type NodePort"),
    (extra("v1", "Service", spec={"type": "ExternalName", "externalName": "a.b"}), "of the type ExternalName"),
    (extra("v1", "Service", spec={"externalIPs": ["10.0.0.1"]}), "has externalIPs"),
    (extra("v1", "PersistentVolumeClaim", spec={"volumeName": "other"}), "has volumeName"),
    (extra("batch/v1", "Job", spec={"template": {"spec": {}}}), "lacks the labels"),
    (extra("v1", "Service", spec={"ports": [7]}), "cannot be read"),
    ('{{ fail "no" }}', "cannot be rendered"),
]
CHANGED = [
    ((POD_SPEC, POD_SPEC + "      hostNetwork: true\n"), "has hostNetwork"),
    ((POD_SPEC, POD_SPEC + "      hostPID: true\n"), "has hostPID"),
    ((POD_SPEC, POD_SPEC + "      nodeName: node1\n"), "has nodeName"),
    ((POD_SPEC, POD_SPEC + "      priorityClassName: system-node-critical\n"), "has priorityClassName"),
    ((POD_SPEC, POD_SPEC + "      tolerations: [{operator: Exists}]\n"), "another tolerations than was asked for"),
    (("serviceAccountName: work", "serviceAccountName: releases"), "service account 'work'"),
    (("automountServiceAccountToken: false", "automountServiceAccountToken: true"), "would get a token"),
    (("runAsUser: 1000", "runAsUser: 0"), "runs as root"),
    (("runAsNonRoot: true", "runAsNonRoot: false"), "runs as root"),
    (("type: RuntimeDefault", "type: Unconfined"), "seccomp profile"),
    (("allowPrivilegeEscalation: false", "privileged: true"), "is privileged"),
    (("allowPrivilegeEscalation: false", "procMount: Unmasked"), "securityContext.procMount"),
    (("allowPrivilegeEscalation: false", "readOnlyRootFilesystem: true"), "allowPrivilegeEscalation: false"),
    (("{drop: [ALL]}", "{drop: [ALL], add: [SYS_ADMIN]}"), "drop ALL capabilities"),
    (("{{ toJson $our.image }}", "evil.example/miner:latest"), "image 'evil.example/miner:latest'"),
    (("containerPort: 8080", "containerPort: 80"), "listens at port 80"),
    (("containerPort: 8080", "containerPort: 8080, hostPort: 8080"), "a port of its node"),
    ((CONTAINER, CONTAINER + "          volumeDevices: [{name: a, devicePath: /dev/a}]\n"), "has volumeDevices"),
    ((CONTAINER, CONTAINER + "          envFrom: [{secretRef: {name: s3}}]\n"), "secretRef 's3'"),
    ((CONTAINER, CONTAINER + "          envFrom: [{configMapRef: {name: service--one-two}}]\n"), "'service--one-two'"),
    (
        (CONTAINER, CONTAINER + "          lifecycle: {preStop: {httpGet: {host: 10.0.0.1, port: 80}}}\n"),
        "has lifecycle",
    ),
    (("{path: /, port: http}", "{host: 169.254.169.254, port: 80}"), "has httpGet.host"),
    (
        (CONTAINER, CONTAINER + "          livenessProbe: {tcpSocket: {host: 10.0.0.1, port: 22}}\n"),
        "has tcpSocket.host",
    ),
    ((CONTAINER, CONTAINER + "          livenessProbe: {later: {port: 22}}\n"), "has later"),
    ((VOLUME, VOLUME + "        - {name: h, hostPath: {path: /}}\n"), "of the type hostPath"),
    ((VOLUME, VOLUME + "        - {name: s, secret: {secretName: s3}}\n"), "secret 's3', which is not the release's"),
    ((VOLUME, VOLUME + "        - {name: t, projected: {sources: [{serviceAccountToken: {path: t}}]}}\n"), "projected"),
    ((VOLUME, VOLUME + "        - {name: c, persistentVolumeClaim: {claimName: other}}\n"), "'other'"),
    (("name: {{ .Release.Name }}", "name: {{ .Release.Name }}-other"), "has no Deployment 'service--one'"),
]


@pytest.mark.parametrize(("text", "says"), ADDED, ids=[says for _, says in ADDED])
async def test_a_chart_that_holds_too_much_is_refused_by_name(helm: Helm, tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(Denied) as caught:
        await rendered(helm, service("site", {}), Fragment(), hostile(tmp_path, text))
    assert says in caught.value.message and caught.value.field == "template"


async def test_a_chart_takes_what_it_brings(helm: Helm, tmp_path: Path) -> None:
    taken = "          envFrom: [{secretRef: {name: {{ .Release.Name }}-x}}]\n"
    chart = hostile(tmp_path, extra("v1", "Secret", stringData={"a": "b"}), (CONTAINER, CONTAINER + taken))
    assert len(await rendered(helm, service("site", {}), Fragment(), chart)) == 3


@pytest.mark.parametrize(("change", "says"), CHANGED, ids=[says for _, says in CHANGED])
async def test_a_pod_that_wants_too_much_is_refused_by_name(
    helm: Helm, tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    with pytest.raises(Denied) as caught:
        await rendered(helm, service("site", {}), Fragment(), hostile(tmp_path, change=change))
    assert says in caught.value.message


async def test_definitions_beside_the_templates_are_seen(helm: Helm, tmp_path: Path) -> None:
    chart = hostile(tmp_path)
    (chart / "crds").mkdir()
    kind = extra("apiextensions.k8s.io/v1", "CustomResourceDefinition", name="a.b.c")
    (chart / "crds" / "one.yaml").write_text(kind)
    with pytest.raises(Denied, match=r"CustomResourceDefinition 'a\.b\.c'"):
        await rendered(helm, service("site", {}), Fragment(), chart)


async def test_a_chart_cannot_hide_behind_another_port(helm: Helm, tmp_path: Path) -> None:
    chart = hostile(tmp_path, change=("port: 80,", "port: 81,"), file="service.yaml")
    with pytest.raises(Denied, match="with port 80"):
        await rendered(helm, service("site", {}), Fragment(), chart)


async def test_nothing_of_a_run_is_left(helm: Helm, tmp_path: Path) -> None:
    await rendered(helm, service("site", {}), Fragment())
    assert not list((tmp_path / "run").iterdir())


def test_the_charts_hold_no_value_that_nobody_gives() -> None:
    for one in CATALOG.list():
        folder = CATALOG.get(one.name).folder
        schema = json.loads((folder / "values.schema.json").read_text())["properties"]["ropewalk"]
        given = values_of(
            service(one.name, {"notebook": "a.ipynb"} if one.name == "voila" else {}),
            CATALOG.get(one.name),
            PLACED,
            FILES,
            SETTINGS.cluster,
            "w",
        )["ropewalk"]
        assert set(given) == set(schema["properties"]) == set(schema["required"])
        assert set(given) == set(yaml.safe_load((folder / "values.yaml").read_text())["ropewalk"])
