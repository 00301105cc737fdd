"""What a tenant's namespace holds: one golden file, names that never meet, owners that are checked, drift that is seen.

`python -m tests.unit.test_tenancy` writes the golden file.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core import names
from ropewalk_core.errors import BadInput, NameTaken
from ropewalk_core.kube.kinds import is_label
from ropewalk_core.kube.roles import ASKING_RULES, REQUEST_RULES
from ropewalk_core.kube.tenancy import (
    MANAGED,
    OWNER,
    Tenant,
    answer,
    answered,
    check_owner,
    cluster_roles,
    namespace_of,
    render,
    request,
    tenant_of,
)
from ropewalk_core.kube.tenancy_controller import satisfies, steps
from ropewalk_core.reconcile import Act
from ropewalk_core.settings import Cluster, Settings

GOLDEN = Path(__file__).parent / "golden" / "tenancy.yaml"
ADA = Tenant("ada", "3b9d8c02", quota={"requests.nvidia.com/gpu": "2"})
SETTINGS = Settings(
    home=Path("/home"),
    cluster=Cluster(
        gateways=("knative-serving", "kourier-system"),
        api_server=("10.250.0.1:6443",),
        container_most={"memory": "16Gi"},
        notebook_token=True,
    ),
)
CLUSTER = SETTINGS.cluster

Object = dict[str, Any]


def golden() -> str:
    """Return everything that is rendered for one tenant and for the installation."""
    head = (
        "# Everything that a tenant's namespace holds, and what may be done there.\n"
        "# Written by `python -m tests.unit.test_tenancy`; read each change of it as a change of who may do what.\n"
        "# The account `notebooks`, its binding and `allow-notebook-token` need `cluster.notebook_token`.\n"
    )
    objects = [*render(ADA, SETTINGS), request(ADA, CLUSTER), *cluster_roles(CLUSTER)]
    version = "rbac.authorization.k8s.io/v1"
    for name, rules in (("tenancy", REQUEST_RULES), ("tenants", ASKING_RULES)):
        metadata = {"name": f"ropewalk-{name}", "namespace": "ropewalk"}
        objects.append({"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules})
    return head + yaml.dump_all(
        copy.deepcopy(objects),
        Dumper=_Plain,
        sort_keys=False,
        explicit_start=True,
        width=120,
    )


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def test_the_golden_file_shows_all_of_it() -> None:
    assert GOLDEN.read_text() == golden(), "run python -m tests.unit.test_tenancy and read what changed"


texts = st.text(max_size=80) | st.from_regex(names._NAME, fullmatch=True)


@given(texts, texts, st.sampled_from(["ropewalk", "r", "a-b", "x" * 29]), st.sampled_from(["ropewalk", "a", "a-b"]))
def test_namespaces_never_meet(one: str, other: str, prefix: str, another: str) -> None:
    first, second = namespace_of(one, Cluster(prefix=prefix)), namespace_of(other, Cluster(prefix=another))
    assert len(first) <= 63 and is_label(first) and first == first.lower()
    assert (first == second) == (one == other and prefix == another)


@pytest.mark.parametrize("prefix", ["", "a--b", "A", "x" * 30, "a.b", "1"])
def test_a_prefix_that_cannot_begin_a_name_is_refused(prefix: str) -> None:
    with pytest.raises(BadInput) as found:
        namespace_of("ada", Cluster(prefix=prefix))
    assert found.value.field == "cluster.prefix"


def test_a_namespace_is_ours_only_with_our_mark_and_its_owners_subject() -> None:
    ours = render(ADA, SETTINGS)[0]
    check_owner(ours, ADA, CLUSTER)
    plain = {"metadata": {"name": "ropewalk--ada"}}
    with pytest.raises(NameTaken, match="'ropewalk--ada' is there already and is not ours"):
        check_owner(plain, ADA, CLUSTER)
    with pytest.raises(NameTaken, match="belongs to an earlier account 'ada'"):
        check_owner(ours, Tenant("ada", "another"), CLUSTER)
    with pytest.raises(NameTaken, match="belongs to 'ada' of the installation 'ropewalk'"):
        check_owner(ours, ADA, Cluster(prefix="other"))
    with pytest.raises(NameTaken):
        check_owner({"metadata": {**ours["metadata"], "annotations": {OWNER: ""}}}, Tenant("ada", ""), CLUSTER)


@given(st.builds(Tenant, texts, texts, st.sampled_from(["person", "team"]), st.just({"pods": "1"}), st.booleans()))
def test_a_request_is_read_back(tenant: Tenant) -> None:
    assert tenant_of(request(tenant, CLUSTER), CLUSTER) == tenant


def test_a_request_that_cannot_be_read_or_names_another_is_refused() -> None:
    asked = request(ADA, CLUSTER)
    for data in ({}, {**asked["data"], "quota": "["}, {**asked["data"], "quota": "3"}):
        with pytest.raises(BadInput, match="cannot be read"):
            tenant_of({**asked, "data": data}, CLUSTER)
    with pytest.raises(BadInput, match="is for the account 'bob'"):
        tenant_of({**asked, "data": {**asked["data"], "account": "bob"}}, CLUSTER)


def test_an_answer_is_read_back() -> None:
    asked = request(ADA, CLUSTER)
    assert answered(asked) == ("", "") and answered(answer(asked, "refused", "because")) == ("refused", "because")


def test_nothing_opens_a_namespace_to_everybody() -> None:
    policies = [one for one in render(ADA, SETTINGS) if one["kind"] == "NetworkPolicy"]
    assert policies[0]["spec"] == {"podSelector": {}, "policyTypes": ["Egress", "Ingress"]}
    for rule in (rule for one in policies for way in ("ingress", "egress") for rule in one["spec"].get(way, [])):
        for peer in rule.get("to", rule.get("from")):
            assert peer.get("namespaceSelector") != {}
            assert set(peer) != {"namespaceSelector"} or peer["namespaceSelector"].get("matchExpressions")


def test_the_world_can_be_cut_off() -> None:
    closed = Settings(home=Path("/home"), cluster=Cluster(private=("0.0.0.0/0", "::/0")))
    assert "allow-world" not in [one["metadata"]["name"] for one in render(ADA, closed)]
    six = Settings(home=Path("/home"), cluster=Cluster(private=("0.0.0.0/0",)))
    world = next(one for one in render(ADA, six) if one["metadata"]["name"] == "allow-world")
    assert world["spec"]["egress"] == [{"to": [{"ipBlock": {"cidr": "::/0"}}]}]


def test_a_public_api_server_is_no_part_of_the_world() -> None:
    """A cloud's API server often has a public address, which only a step's reporter may reach."""
    servers = ("203.0.113.9:443", "[2001:db8::9]:443", "10.250.0.1:6443")
    rendered = render(ADA, Settings(home=Path("/home"), cluster=Cluster(api_server=servers)))
    named = {one["metadata"]["name"]: one["spec"] for one in rendered if one["kind"] == "NetworkPolicy"}
    four, six = (one["ipBlock"] for one in named["allow-world"]["egress"][0]["to"])
    assert four["cidr"] == "0.0.0.0/0" and "203.0.113.9/32" in four["except"]
    assert six["cidr"] == "::/0" and "2001:db8::9/128" in six["except"]
    assert "10.250.0.1/32" not in four["except"] and "10.0.0.0/8" in four["except"]
    reported = [one["to"][0]["ipBlock"]["cidr"] for one in named["allow-step-reports"]["egress"]]
    assert reported == ["203.0.113.9/32", "2001:db8::9/128", "10.250.0.1/32"]


@pytest.mark.parametrize(
    ("cluster", "field"),
    [
        (Cluster(dns="kube-dns"), "cluster.dns"),
        (Cluster(private=("10.0.0.1/8",)), "cluster.private"),
        (Cluster(api_server=("kubernetes",)), "cluster.api_server"),
        (Cluster(api_server=("kubernetes:443",)), "cluster.api_server"),
    ],
)
def test_settings_that_cannot_be_read_are_named(cluster: Cluster, field: str) -> None:
    with pytest.raises(BadInput) as found:
        render(ADA, Settings(home=Path("/home"), cluster=cluster))
    assert found.value.field == field


def test_no_role_reads_secrets_or_grants_what_it_has_not() -> None:
    for role in cluster_roles(CLUSTER):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not {"escalate", "impersonate"} & set(rule["verbs"])
            if "secrets" in rule["resources"]:
                assert role["metadata"]["name"] in ("ropewalk-tenant-platform", "ropewalk-tenant-releases")
            if "bind" in rule["verbs"]:
                assert rule["resourceNames"] == [f"ropewalk-tenant-{one}" for one in CLUSTER_TENANTS]
    controller = cluster_roles(CLUSTER)[-1]
    touched = {resource for rule in controller["rules"] for resource in rule["resources"]}
    assert not touched & {"secrets", "pods", "roles"}


CLUSTER_TENANTS = ("hub", "notebooks", "platform", "releases", "reports")


def test_a_notebooks_token_reads_and_reads_no_secrets() -> None:
    [role] = [one for one in cluster_roles(CLUSTER) if one["metadata"]["name"] == "ropewalk-tenant-notebooks"]
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert {(group, one) for rule in role["rules"] for group in rule["apiGroups"] for one in rule["resources"]} == {
        ("", "pods"),
        ("", "pods/log"),
        ("", "events"),
        ("serving.knative.dev", "services"),
        ("argoproj.io", "workflows"),
    }


def test_nothing_of_a_notebooks_token_is_there_unless_the_installation_says_so() -> None:
    assert Cluster().notebook_token is False
    off = render(ADA, replace(SETTINGS, cluster=replace(CLUSTER, notebook_token=False)))
    on = render(ADA, SETTINGS)
    assert [one for one in on if one in off] == off
    more = {(one["kind"], one["metadata"]["name"]) for one in on if one not in off}
    assert more == {
        ("NetworkPolicy", "allow-notebook-token"),
        ("ServiceAccount", "notebooks"),
        ("RoleBinding", "notebooks"),
    }
    taken_back = steps(off, stored(on))  # who says no later, takes it from all at once
    assert {one.key for one in taken_back} == more and {one.act for one in taken_back} == {Act.REMOVE}


def test_a_notebook_with_a_token_reaches_the_api_server_and_nothing_else_does() -> None:
    named = {one["metadata"]["name"]: one["spec"] for one in render(ADA, SETTINGS) if one["kind"] == "NetworkPolicy"}
    notebook, step = named["allow-notebook-token"], named["allow-step-reports"]
    assert notebook["podSelector"] == {"matchLabels": {"ropewalk.dev/kind": "notebook"}}
    assert notebook["egress"] == step["egress"] and notebook["policyTypes"] == ["Egress"]


def stored(objects: list[Object]) -> list[Object]:
    """Return the objects as an API server keeps them: with identities, defaults and amounts written its own way."""
    kept = copy.deepcopy(objects)
    for number, one in enumerate(kept):
        one["metadata"] |= {"uid": f"u{number}", "resourceVersion": "7"}
        if one["kind"] == "ResourceQuota":
            one["spec"]["hard"]["requests.cpu"] = "8000m"
            one["status"] = {"hard": {}}
        if one["kind"] == "RoleBinding":
            one["subjects"][0]["apiGroup"] = ""
    return kept


def test_what_is_there_as_wanted_needs_no_step() -> None:
    assert steps(render(ADA, SETTINGS), stored(render(ADA, SETTINGS))) == []


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value that holds no others."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner or not value:
        yield path
    for key, one in inner:
        yield from leaves(one, (*path, key))


NAMES = (("apiVersion",), ("kind",), ("metadata", "name"))
LEAVES = [
    (number, path) for number, one in enumerate(render(ADA, SETTINGS)) for path in leaves(one) if path not in NAMES
]


@given(st.sampled_from(LEAVES), st.sampled_from(["remove", "change"]))
def test_every_drift_of_ours_is_seen_and_settled_by_its_step(leaf: tuple[int, tuple[Any, ...]], how: str) -> None:
    number, path = leaf
    want = render(ADA, SETTINGS)
    have = stored(want)
    place: Any = have[number]
    for one in path[:-1]:
        place = place[one]
    if how == "remove":
        del place[path[-1]]
    else:
        place[path[-1]] = "drifted"
    planned = steps(want, have)
    key = (want[number]["kind"], want[number]["metadata"]["name"])
    assert [one.key for one in planned if one.act is not Act.REMOVE] == [key]
    assert all(one.key == key for one in planned)
    rebound = path[0] == "roleRef"
    assert [one.act for one in planned] == ([Act.REMOVE, Act.CHANGE] if rebound else [Act.CHANGE])


def test_only_what_is_ours_is_removed() -> None:
    want = render(ADA, SETTINGS)
    foreign = {"kind": "NetworkPolicy", "metadata": {"name": "foreign"}}
    stale = {"kind": "RoleBinding", "metadata": {"name": "stale", "labels": dict(MANAGED), "uid": "x"}}
    planned = steps(want, [*stored(want), foreign, stale])
    assert [(one.act, one.key) for one in planned] == [(Act.REMOVE, ("RoleBinding", "stale"))]
    assert {one.act for one in steps(want, [])} == {Act.CREATE}


def test_amounts_are_the_same_however_they_are_written() -> None:
    want = {"kind": "ResourceQuota", "spec": {"hard": {"requests.cpu": "0.5", "limits.memory": "1Gi"}}}
    have = {"kind": "ResourceQuota", "spec": {"hard": {"requests.cpu": "500m", "limits.memory": "1024Mi"}}}
    assert satisfies(want, have)
    assert not satisfies({**want, "kind": "Service"}, have)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(golden())
