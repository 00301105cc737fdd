"""The chart's files: what is written from the code is current, and its schema takes its values and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, ValidationError

from ropewalk_core import settings as settings_module
from tests import chart, reference

SCHEMA = Draft7Validator(json.loads(chart.SCHEMA.read_text()))
VALUES = yaml.safe_load((chart.CHART / "values.yaml").read_text())


def test_what_is_written_from_the_code_is_current() -> None:
    assert chart.SCHEMA.read_text() == chart.written(chart.schema()), "run python -m tests.chart"
    assert chart.ROLES.read_text() == chart.roles(), "run python -m tests.chart"
    assert chart.BOUNDS.read_text() == chart.bounded(), "run python -m tests.chart"
    assert chart.PAGE.read_text() == chart.page(), "run python -m tests.chart"


def test_the_schema_is_one_and_takes_the_defaults() -> None:
    Draft7Validator.check_schema(SCHEMA.schema)
    SCHEMA.validate(VALUES)


def test_every_value_has_a_default_and_an_explanation() -> None:
    def look(properties: dict[str, Any], defaults: dict[str, Any], at: str = "") -> None:
        for name, one in properties.items():
            if at == "" and name == "settings":
                continue
            assert name in defaults, f"{at}{name} has no default"
            if "properties" in one:
                look(one["properties"], defaults[name], f"{at}{name}.")
            else:
                assert one.get("description"), f"{at}{name} is not explained"

    look(SCHEMA.schema["properties"], VALUES)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 8000},
        {"images": {"hup": "x"}},
        {"settings": {"door": {"prot": 9000}}},
        {"settings": {"door": {"port": "9000"}}},
        {"settings": {"accounts": {"sign_up": "no"}}},
        {"settings": {"backend": "local"}},
        {"settings": {"cluster": {"secrets": "/tmp"}}},
        {"expose": {"type": "Ingress"}},
        {"prefix": "Rope--walk"},
        {"volumes": {"hub": "much"}},
    ],
)
def test_it_refuses_what_it_does_not_know(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SCHEMA.validate(wrong)


def test_every_setting_can_be_set_or_is_the_charts_own(tmp_path: Path) -> None:
    known = {f"{group}.{name}".lstrip(".") for group, name, _, _ in reference.fields()}
    groups = SCHEMA.schema["properties"]["settings"]["properties"]
    free = {f"{group}.{name}" for group, one in groups.items() for name in one.get("properties", ())}
    free |= {name for name, one in groups.items() if "properties" not in one}
    assert free | chart.FIXED == known
    assert not free & chart.FIXED
    SCHEMA.validate({"settings": {"accounts": {"sign_up": False}, "cluster": {"quota": {"requests.cpu": "4"}}}})
    (tmp_path / "ropewalk.toml").write_text('[cluster.quota]\n"requests.cpu" = "4"\n')
    assert settings_module.load(tmp_path, environ={}).cluster.quota == {"requests.cpu": "4"}


def test_nobody_may_do_everything() -> None:
    for role in yaml.safe_load_all(chart.ROLES.read_text()):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], role["metadata"]["name"]
            assert "escalate" not in rule["verbs"]
            assert "impersonate" not in rule["verbs"]


def test_the_gateway_shares_one_socket_with_the_platform_and_can_write_nothing_of_its() -> None:
    helpers = (chart.CHART / "templates" / "_helpers.tpl").read_text()
    ours = re.search(r'define "ropewalk.settingsMount" -}}\n(.*?)\n{{- end', helpers, re.S)
    assert ours is not None
    text = (chart.CHART / "templates" / "platform.yaml").read_text().split("\n---")[0]
    text = re.sub(
        r"^( *){{- include \"ropewalk.settingsMount\".*$", lambda at: indent(ours[1], at[1]), text, flags=re.M
    )
    pod = yaml.safe_load(re.sub(r"{{.*?}}", "0", re.sub(r"^ *{{-.*}}$", "", text, flags=re.M)))["spec"]["template"]
    mounts = {one["name"]: {each["name"]: each for each in one["volumeMounts"]} for one in pod["spec"]["containers"]}
    shared = mounts["platform"].keys() & mounts["gateway"].keys()
    assert shared == {"door", "settings"}
    assert all(mounts["gateway"][name]["readOnly"] for name in shared)
    assert mounts["gateway"]["door"]["mountPath"].endswith("/run/gateway")
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_whatever_the_controller_may_write_is_bounded() -> None:
    roles = {one["metadata"]["name"]: one for one in yaml.safe_load_all(chart.ROLES.read_text())}
    policies = {one["metadata"]["name"]: one for one in _bounds("ValidatingAdmissionPolicy")}
    for role, policy in (
        ("PREFIX-tenancy", "PREFIX-tenancy"),
        ("tenancy", "PREFIX-requests"),
        ("platform", "PREFIX-requests"),
    ):
        spec = policies[policy]["spec"]
        assert spec["failurePolicy"] == "Fail"
        operations = {
            (group, resource): rule["operations"]
            for rule in spec["matchConstraints"]["resourceRules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }
        for rule in roles[role]["rules"]:
            if set(rule["verbs"]) <= {"get", "list", "watch", "bind"}:  # what it may bind, the policy says by itself
                continue
            for what in ((group, resource) for group in rule["apiGroups"] for resource in rule["resources"]):
                assert operations[what] == ["CREATE", "UPDATE", "DELETE"], (role, what)
        account = f"system:serviceaccount:SPACE:{role.removeprefix('PREFIX-')}"
        assert account in json.dumps(spec["matchConditions"])


def test_every_bound_is_in_force() -> None:
    bindings = {one["spec"]["policyName"]: one["spec"] for one in _bounds("ValidatingAdmissionPolicyBinding")}
    assert bindings.keys() == {one["metadata"]["name"] for one in _bounds("ValidatingAdmissionPolicy")}
    for one in bindings.values():
        assert one["validationActions"] == ["Deny"] and one.keys() == {"policyName", "validationActions"}


def _bounds(kind: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(chart.BOUNDS.read_text()) if one["kind"] == kind]


def test_the_parts_of_others_have_the_versions_that_are_tested_here() -> None:
    tools, charts = chart.CHART.parents[1] / "tests" / "cluster" / "tools", chart.CHART.parent
    pinned = {
        name: re.search(rf"^\s*(?:require )?{re.escape(path)} v(\S+)", (tools / name / "go.mod").read_text(), re.M)
        for name, path in (("argo", "github.com/argoproj/argo-workflows/v3"), ("knative", "knative.dev/serving"))
    }
    argo, knative = pinned["argo"], pinned["knative"]
    assert argo is not None and knative is not None
    minor, patch = (int(one) for one in knative[1].split(".")[1:])
    fetch = (charts / "parts" / "fetch").read_text()
    assert f"argo=v{argo[1]} knative=knative-v1.{minor - 27}.{patch}" in fetch  # its releases count from 1.0 = 0.27
    images = re.findall(r"argo/[a-z-]+:v([\d.]+)", (charts / "environments" / "test.yaml").read_text())
    assert images and set(images) == {argo[1]}
