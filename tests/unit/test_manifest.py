"""Reading manifests: what the engine runs is accepted, everything else is refused with its place, before a start."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropewalk_core.errors import BadWorkflow
from ropewalk_workflows.compile import from_object
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.manifest import read, text
from ropewalk_workflows.manifest.model import Parameter

IMAGES = {"python": "python", "python:3": "python", "alpine": "shell"}
GOOD: dict[str, Any] = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Workflow",
    "metadata": {"generateName": "x-"},
    "spec": {
        "entrypoint": "main",
        "podGC": {"strategy": "OnPodCompletion"},
        "ttlStrategy": {"secondsAfterCompletion": 5},
        "templates": [
            {
                "name": "main",
                "dag": {
                    "tasks": [
                        {"name": "a", "template": "p"},
                        {
                            "name": "b",
                            "template": "p",
                            "dependencies": ["a"],
                            "when": "{{tasks.a.status}} == Succeeded",
                        },
                        {"name": "c", "template": "p", "depends": "a.Failed || (b && !a.Skipped)"},
                    ]
                },
            },
            {"name": "p", "container": {"image": "docker.io/library/python:3.12-slim", "command": ["true"]}},
        ],
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the good manifest with one place changed; numbers are places in lists."""
    manifest = copy.deepcopy(GOOD)
    *parts, last = path.split("/")
    here: Any = manifest
    for part in parts:
        here = here[int(part)] if part.isdigit() else here[part]
    if value is None:
        here.pop(last, None)
    else:
        here[int(last) if last.isdigit() else last] = value
    return manifest


def test_a_good_one_is_read() -> None:
    assert [one.name for one in read(GOOD, IMAGES).spec.templates] == ["main", "p"]


TASKS = "spec/templates/0/dag/tasks"


@pytest.mark.parametrize(
    ("path", "value", "words", "field"),
    [
        ("kind", "CronWorkflow", "kind", "kind"),
        ("spec/entrypoint", "other", "no template 'other'", "spec.entrypoint"),
        ("spec/onExit", "other", "no template 'other'", "spec.onExit"),
        ("spec/volumes", [], "not supported", "spec.volumes"),
        ("spec/templates/1/container/volumeMounts", [], "volumeMounts", "spec.templates[p].container.volumeMounts"),
        ("spec/templates/1/memoize", {"key": "x"}, "memoize", "spec.templates[p].memoize"),
        ("spec/templates/1/podSpecPatch", "{}", "podSpecPatch", "spec.templates[p].podSpecPatch"),
        ("spec/templates/1/container/image", "nvidia/cuda:12", "means nothing", "spec.templates[p].container.image"),
        ("spec/templates/1/container/command", None, "command", "spec.templates[p].container.command"),
        (
            "spec/templates/1/container/args",
            ["{{=1 +}}"],
            "ends too early (at character 3",
            "spec.templates[p].container",
        ),
        ("spec/templates/1/container/args", ["{{=now()}}"], "depends on the time", "spec.templates[p].container"),
        (
            "spec/templates/1/container/args",
            ["a {{=b}}"],
            "known as 'b' in the expression",
            "spec.templates[p].container",
        ),
        (
            "spec/templates/1/container/args",
            ["{{=inputs.parameters.x}}"],
            "at character",
            "spec.templates[p].container",
        ),
        (f"{TASKS}/1/when", "{{=tasks.a.status == }}", "ends too early", "spec.templates[main].dag.tasks[b].when"),
        (f"{TASKS}/1/when", "{{=tasks.c.status == 'x'}}", "'tasks.c.status'", "spec.templates[main].dag.tasks[b].when"),
        (f"{TASKS}/1/when", "{{=tasks.c?.status ?? 'x'}}", "'tasks.c'", "spec.templates[main].dag.tasks[b].when"),
        (f"{TASKS}/1/when", "{{=len(tasks) == 1}}", "known as 'tasks'", "spec.templates[main].dag.tasks[b].when"),
        (f"{TASKS}/1/when", "{{=tasks[workflow.name]}}", "known as 'tasks'", "spec.templates[main].dag.tasks[b].when"),
        (f"{TASKS}/1/when", "{{=item == 'x'}}", "known as 'item'", "spec.templates[main].dag.tasks[b].when"),
        (
            "spec/templates/1/container/args",
            ["{{inputs.parameters.no}}"],
            "Nothing is known",
            "spec.templates[p].container",
        ),
        ("spec/templates/1/retryStrategy", {"limit": "many"}, "retry limit", "spec.templates[p].retryStrategy.limit"),
        ("spec/templates/1/retryStrategy", {"limit": "²"}, "retry limit", "spec.templates[p].retryStrategy.limit"),
        ("spec/templates/1/activeDeadlineSeconds", "soon", "duration", "spec.templates[p].activeDeadlineSeconds"),
        (
            "spec/templates/1/synchronization",
            {"semaphore": {"configMapKeyRef": {"name": "x", "key": "y"}}},
            "not supported",
            "spec.templates[p].synchronization.semaphore",
        ),
        (
            "spec/templates/1/synchronization",
            {"mutex": {"name": "x", "namespace": "y"}},
            "not supported",
            "spec.templates[p].synchronization.mutex.namespace",
        ),
        ("spec/templates/1/synchronization", {}, "no mutex", "spec.templates[p].synchronization"),
        (
            "spec/templates/1/synchronization",
            {"mutexes": [{"name": "{{inputs.parameters.no}}"}]},
            "Nothing is known",
            "spec.templates[p].synchronization.mutexes",
        ),
        (
            "spec/templates/0/synchronization",
            {"mutex": {"name": "x"}},
            "container and script",
            "spec.templates[main].synchronization",
        ),
        ("spec/templates/1/suspend", {}, "must be one of", "spec.templates[p]"),
        (f"{TASKS}/0/dependencies", ["c"], "cycle", "spec.templates[main].dag.tasks"),
        (f"{TASKS}/0/dependencies", ["z"], "no task 'z'", "spec.templates[main].dag.tasks[a].dependencies"),
        (f"{TASKS}/0/template", "nope", "no template 'nope'", "spec.templates[main].dag.tasks[a].template"),
        (f"{TASKS}/0/template", "main", "calls itself", "spec.templates[main]"),
        (f"{TASKS}/0/name", "b", "same name", "spec.templates[main].dag"),
        (f"{TASKS}/0/when", "a ==", "cannot be read", "spec.templates[main].dag.tasks[a].when"),
        (f"{TASKS}/0/when", "a =~ b", "cannot be read", "spec.templates[main].dag.tasks[a].when"),
        (f"{TASKS}/0/when", "{{tasks.b.status}} == x", "Nothing is known", "spec.templates[main].dag.tasks[a].when"),
        (f"{TASKS}/2/depends", "a &&", "cannot be read", "spec.templates[main].dag.tasks[c].depends"),
        (f"{TASKS}/2/depends", "a.Wrong", "none of", "spec.templates[main].dag.tasks[c].depends"),
        (f"{TASKS}/0/inline", {}, "not both", "spec.templates[main].dag.tasks[a].inline"),
        (f"{TASKS}/0/withParam", "{{item}}", "Nothing is known", "spec.templates[main].dag.tasks[a].withParam"),
        ("spec/arguments", {"parameters": [{"name": "x"}]}, "no value", "spec.arguments[x]"),
        ("spec/templates/1/inputs", {"parameters": [{"name": "x"}]}, "needs the parameter 'x'", "parameters"),
        (
            "spec/templates/1/outputs",
            {"parameters": [{"name": "x", "valueFrom": {"path": "/etc/passwd"}}]},
            "cannot be used here",
            "spec.templates[p].outputs.parameters[x].valueFrom.path",
        ),
        ("spec/templates/1/nodeSelector", {"kubernetes.io/arch": []}, "must be text", "nodeSelector"),
        (
            "spec/templates/1/container/resources",
            {"limits": {"nvidia.com/gpu": 1}},
            "no meaning",
            "spec.templates[p].resources",
        ),
        ("spec/templates/0/parallelism", 2, "not supported", "spec.templates[main].parallelism"),
        ("spec/templates/0/failFast", False, "not supported", "spec.templates[main].failFast"),
        ("spec/templates/0/activeDeadlineSeconds", 5, "container and script", "[main].activeDeadlineSeconds"),
        ("spec/activeDeadlineSeconds", 10**400, "must be at most", "spec.activeDeadlineSeconds"),
        ("spec/templates/1/timeout", "9" * 400, "longer than ten years", "spec.templates[p].timeout"),
        *(
            ("spec/templates/1/retryStrategy", {"backoff": {"factor": bad}}, "0 to 1000", "backoff.factor")
            for bad in ("1e300", "nan", "inf", "-1", "x")
        ),
        (f"{TASKS}/0/withSequence", {"count": 2, "format": "%999999999d"}, "not a format", "withSequence.format"),
        (f"{TASKS}/0/when", "(" * 5000 + "true", "nested too deeply", "[a].when"),
        (f"{TASKS}/2/depends", "!" * 5000 + "a", "nested too deeply", "[c].depends"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: Any, words: str, field: str) -> None:
    with pytest.raises(BadWorkflow) as caught:
        read(changed(path, value), IMAGES)
    assert words in caught.value.message
    assert field in str(caught.value.field)


def test_only_a_program_has_an_exit_code() -> None:
    tasks = [
        {"name": "ran", "template": "p"},
        {"name": "inner", "template": "group"},
        {"name": "then", "template": "p", "depends": "ran && inner", "when": "{{tasks.ran.exitCode}} == 0"},
    ]
    group = {"name": "group", "steps": [[{"name": "one", "template": "p"}]]}
    templates = [{"name": "main", "dag": {"tasks": tasks}}, group, GOOD["spec"]["templates"][1]]
    manifest = {"kind": "Workflow", "spec": {"entrypoint": "main", "templates": templates}}
    assert read(manifest, IMAGES).kind == "Workflow"
    tasks[2]["when"] = "{{tasks.inner.exitCode}} == 0"
    with pytest.raises(BadWorkflow, match=r"Nothing is known as '\{\{tasks\.inner\.exitCode"):
        read(manifest, IMAGES)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=6,
    )
)
def test_any_junk_is_refused_as_bad_workflow(junk: Any) -> None:
    for manifest in (junk, {"kind": "Workflow", "spec": junk}, changed("spec/templates/0/dag/tasks/0/when", junk)):
        try:
            read(manifest, IMAGES)
        except BadWorkflow as error:
            assert error.message
            assert error.field


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("1 == 1", True),
        ("1.0 == 1", True),
        ("a == b || b == b && 1 > 2", False),
        ("!(a == b) && 3 >= 2", True),
        ("'{{v}}' == 'a == b || true'", True),
        ("{{v}} != x", True),
        ("true", True),
        ('"a b" == "a b"', True),
    ],
)
def test_conditions(expression: str, holds: bool) -> None:
    assert text.is_true(expression, {"v": "a == b || true"}) is holds


@given(st.text(), st.text(max_size=20))
def test_a_value_is_never_an_operator(value: str, other: str) -> None:
    assert text.is_true("{{a}} == {{b}}", {"a": value, "b": other}) is _equal(value, other)


def _equal(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return one == other


@pytest.mark.parametrize(("value", "seconds"), [("90", 90), ("1m30s", 90), ("500ms", 0.5), ("2h", 7200), ("1.5s", 1.5)])
def test_durations(value: str, seconds: float) -> None:
    assert text.duration(value) == seconds


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_its_digits_as_text(value: float) -> None:
    said = Parameter.model_validate({"name": "x", "value": value}).value
    assert said is not None and float(said) == value and not set(said) - set("-.0123456789")


@pytest.mark.parametrize(
    ("value", "said"), [(1234567.5, "1234567.5"), (1e21, "1" + "0" * 21), (3.0, "3"), (1e-7, "0.0000001")]
)
def test_a_number_is_written_as_argo_writes_it(value: float, said: str) -> None:
    assert Parameter.model_validate({"name": "x", "value": value}).value == said


@given(st.text())
def test_any_text_is_a_duration_or_refused(value: str) -> None:
    try:
        assert text.duration(value) >= 0
    except text.BadText:
        pass


def test_filling_does_not_read_values_again() -> None:
    assert text.fill("{{a}}{{ b }}", {"a": "{{b}}", "b": "x"}) == "{{b}}x"
    assert text.fill("{{a}} {{c}}", {"a": "1"}, lenient=True) == "1 {{c}}"


@step
def plus(a: int, b: int = 1) -> int:
    return a + b


def test_workflow_mistakes_are_named() -> None:
    @workflow
    def looks(n: int = 1) -> object:
        return plus(n) + 1

    @workflow
    def tests(n: int = 1) -> object:
        return plus(1) if plus(n) else None

    @workflow
    def wrong() -> object:
        return plus(1, c=2)

    @workflow
    def deep() -> object:
        return plus({"x": [plus(1)]})

    @workflow
    def empty() -> object:
        return None

    @workflow
    def constant() -> object:
        plus(1)
        return 3

    for bad, words in (
        (looks, "compute with"),
        (tests, "cannot test"),
        (wrong, "unexpected keyword"),
        (deep, "not deeper"),
        (empty, "calls no step"),
        (constant, "no step made"),
    ):
        with pytest.raises(BadWorkflow, match=words):
            bad.spec()
    with pytest.raises(BadWorkflow, match="cannot be submitted so"):
        looks.spec(zz=1)
    assert plus(1, b=2) == 3, "outside of a workflow a step is the function"
    assert plus.map([1, 2], b=1) == [2, 3]


@pytest.mark.parametrize("junk", ["a: [", "- 1", "", "{}---\n{}", "\x00"])
def test_text_that_is_no_manifest(junk: str) -> None:
    with pytest.raises(BadWorkflow):
        read(from_object(junk).manifest, IMAGES)


def test_templates_that_many_ways_lead_to_are_looked_into_once() -> None:
    manifest = copy.deepcopy(GOOD)
    layers = [[f"t{layer}x{number}" for number in range(20)] for layer in range(10)]
    templates = [manifest["spec"]["templates"][1]]
    for layer, below in zip([["main"], *layers], [*layers, ["p"]], strict=True):
        tasks = [{"name": f"k{number}", "template": one} for number, one in enumerate(below)]
        templates += [{"name": name, "dag": {"tasks": tasks}} for name in layer]
    manifest["spec"]["templates"] = templates
    assert len(read(manifest, IMAGES).spec.templates) == 202


def test_filling_has_a_limit() -> None:
    with pytest.raises(text.BadText, match="longer than"):
        text.fill("{{x}}" * 100, {"x": "y" * 100_000})
