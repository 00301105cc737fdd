"""Secrets of steps: named in the workflow, put in by the host, and in nothing that a step tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk import program, step, workflow
from ropewalk_core.errors import BadWorkflow, NotFound
from ropewalk_core.flows import Run
from ropewalk_core.kube import safe
from ropewalk_core.kube.nodes import Site
from ropewalk_core.local.safe import LocalSafe
from ropewalk_core.model import State
from ropewalk_core.placement import Inventory, Node
from ropewalk_core.secrets import SecretBook
from ropewalk_core.settings import Settings
from ropewalk_hub.platform import SystemClock
from ropewalk_runtime import hidden
from ropewalk_workflows.argo.render import Where
from ropewalk_workflows.argo.render import workflow as render
from ropewalk_workflows.manifest import read, secrets_of
from ropewalk_workflows.manifest.images import AnyImage
from tests.engine_rig import ADA, EngineRig

ROOTS = os.pathsep.join(str(Path(__file__).parents[2] / one) for one in ("hub", "workflows", "extensions"))
VALUE = "hunter2-hunter2"


@step(secrets=["TOKEN"])
def spend() -> int:
    print("spending", os.environ["TOKEN"], flush=True)  # noqa: T201
    subprocess.run(["/bin/sh", "-c", 'printf "%s" "$TOKEN"; echo " from $0" >&2'], check=True)
    return len(os.environ["TOKEN"])


@step(secrets="TOKEN")
def spill() -> None:
    raise ValueError(f"no entry with {os.environ['TOKEN']}")


shell = program(script='#!/bin/sh\necho "${#TOKEN} $TOKEN" >&2\necho ${#TOKEN}\n', secrets=["TOKEN"], returns="json")


@workflow
def spending() -> Any:
    return [spend(), shell()]


@workflow
def spilling() -> Any:
    return spill()


async def ran(rig: EngineRig, flow: Any) -> Run:
    return await rig.wait((await rig.submit(flow.spec())).id)


async def test_the_host_puts_values_in_and_nothing_tells_them(tmp_path: Path) -> None:
    rig = EngineRig(tmp_path / "home")
    try:
        await rig.start()
        with pytest.raises(NotFound, match="There is no secret TOKEN") as caught:
            await rig.submit(spending.spec())
        assert caught.value.field == "secrets of spend"
        book = SecretBook(rig.journal, SystemClock(), LocalSafe(rig.settings))
        await book.set(ADA, "ada", "TOKEN", VALUE)
        run = await ran(rig, spending)
        assert run.status.state == State.DONE, [one.error for one in run.steps]
        logs = [line for one in run.steps if one.kind == "step" for line in await rig.log(run.id, one.id)]
        assert "spending ***" in logs and "*** from /bin/sh" in logs and f"{len(VALUE)} ***" in logs
        failed = await ran(rig, spilling)
        assert failed.status.state == State.FAILED
        told = failed.model_dump_json() + run.model_dump_json() + "".join(logs)
        told += "".join([line for one in failed.steps for line in await rig.log(failed.id, one.id)])
        assert "no entry with ***" in told and VALUE not in told
    finally:
        await rig.close()


def test_a_cluster_refers_to_them() -> None:
    spec = spending.spec()
    site = Site(inventory=Inventory(nodes=(Node(name="one", arch="amd64", cpu=4, memory=2**34),)))
    made = render(spec, read(spec.manifest, AnyImage()), Where("ada", "run-1", "people-ada"), Settings(), site)
    for one in made["spec"]["templates"][1:]:
        assert safe.variable("TOKEN") in one["container"]["env"]
        call = next(file for file in one["inputs"]["artifacts"] if file["name"] == "ropewalk-call")
        assert json.loads(call["raw"]["data"])["secrets"] == ["TOKEN"]


def test_a_manifest_has_names_only() -> None:
    manifest = read(spending.spec().manifest, {})
    assert [secrets_of(one, one.name) for one in manifest.spec.templates] == [(), ("TOKEN",), ("TOKEN",)]


@pytest.mark.parametrize("names", [["1x"], ["ROPEWALK_TOKEN"], ["LD_PRELOAD"], [3], [f"T{one}" for one in range(33)]])
def test_what_can_be_no_variable_is_refused(names: list[Any]) -> None:
    with pytest.raises(BadWorkflow) as caught:
        step(secrets=names)(spend.function)
    assert caught.value.field == "secrets"


@pytest.mark.parametrize("said", ["no", '"TOKEN"', "[1]", '["1x"]', "{"])
def test_a_foreign_annotation_is_refused_by_its_place(said: str) -> None:
    manifest = json.loads(json.dumps(spending.spec().manifest))
    manifest["spec"]["templates"][1]["metadata"]["annotations"]["ropewalk.dev/secrets"] = said
    with pytest.raises(BadWorkflow) as caught:
        found = read(manifest, {}).spec.templates[1]
        secrets_of(found, found.name)
    assert "annotations" in str(caught.value.field)


def test_a_container_of_somebody_elses_gets_none() -> None:
    manifest = json.loads(json.dumps(spending.spec().manifest))
    manifest["spec"]["templates"][1]["container"]["image"] = "busybox"
    found = read(manifest, {"busybox": "shell"}).spec.templates[1]
    with pytest.raises(BadWorkflow, match=r"Only steps of Ropewalk's own"):
        secrets_of(found, found.name)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["abab", "ababcd", "line one\nline two", "xyzé"]), min_size=1, unique=True), st.data())
def test_a_value_is_hidden_however_it_is_cut(values: list[str], data: Any) -> None:
    os.environ.update({f"HIDDEN_{place}": one for place, one in enumerate(values)})
    try:
        hidden.know([f"HIDDEN_{place}" for place in range(len(values))])
        parts = data.draw(st.lists(st.sampled_from([*values, "a", "ab", "b\n", "line one\n", "é"]), max_size=9))
        text = "".join(parts).encode()
        shown, kept, place = b"", b"", 0
        for cut in [*sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=9))), len(text)]:
            piece, kept = hidden.passed(kept + text[place:cut])
            shown, place = shown + piece, cut
        assert shown + hidden.hidden_bytes(kept) == hidden.hidden_bytes(text)
    finally:
        hidden.know([])


def test_what_is_no_beginning_of_a_value_is_shown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDDEN", VALUE)
    hidden.know(["HIDDEN"])
    try:
        assert hidden.passed(b"10 %") == (b"10 %", b"")
        assert hidden.passed(b"10 % hunt") == (b"10 % ", b"hunt")
    finally:
        hidden.know([])


def test_a_step_in_an_image_hides_them_too(tmp_path: Path) -> None:
    mount = tmp_path / "ropewalk"
    (mount / "bundle").mkdir(parents=True)
    (mount / "bundle" / "cell.py").write_text(
        "import os\ndef f():\n    print('with', os.environ['TOKEN'])\n    raise ValueError(os.environ['TOKEN'])\n"
    )
    (mount / "bundle" / "bundle.json").write_text(json.dumps({"entry": "cell:f", "digest": "x"}))
    (mount / "call.json").write_text(json.dumps({"wants": [], "lists": [], "secrets": ["TOKEN"]}))
    code = f"from pathlib import Path; from ropewalk_runtime.step import in_image; in_image(Path({str(mount)!r}))"
    said = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": ROOTS, "TOKEN": VALUE}, capture_output=True, text=True
    )
    facts = (mount / "outputs" / "ropewalk-facts.json").read_text()
    assert "with ***" in said.stdout and "ValueError: ***" in said.stderr + facts
    assert VALUE not in said.stdout + said.stderr + facts
