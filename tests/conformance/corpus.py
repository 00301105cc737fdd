"""The corpus as manifests, and what came of each here."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.flows import RunSpec, SavedSpec
from ropewalk_core.model import State
from ropewalk_core.settings import Environments, Limits
from ropewalk_hub.platform import SystemClock
from ropewalk_workflows.compile import from_object
from ropewalk_workflows.manifest import read
from ropewalk_workflows.referred import whole
from ropewalk_workflows.saved.desk import SavedDesk
from tests.workflow_rig import ALICE, Rig

CORPUS = Path(__file__).with_name("corpus.yaml")
_PATIENCE = 50.0


@dataclass(frozen=True)
class Case:
    """One thing that a manifest may say, with a workflow that says it."""

    group: str
    feature: str
    manifest: dict[str, Any]
    wanted: dict[str, Any] = field(default_factory=dict)
    differs: str = ""
    saved: dict[str, Any] = field(default_factory=dict)


def cases() -> list[Case]:
    """Return the whole corpus."""
    corpus = yaml.safe_load(CORPUS.read_text())
    common = {one["name"]: one for one in corpus["common"]}
    return [_case(group["name"], one, common) for group in corpus["groups"] for one in group["cases"]]


def _case(group: str, one: dict[str, Any], common: dict[str, Any]) -> Case:
    own = one.get("templates", [])
    called = sorted({str(each) for template in own for each in _templates(template)} & set(common))
    templates = [*own, *(common[name] for name in called)]
    spec = {**({"entrypoint": own[0]["name"], "templates": templates} if own else {}), **one.get("spec", {})}
    manifest = {"kind": one.get("kind", "Workflow"), "metadata": {"generateName": "case-"}, "spec": spec}
    wanted = {key: one[key] for key in ("gives", "ends", "refused") if key in one}
    return Case(group, one["feature"], manifest, wanted, one.get("differs", ""), one.get("saved", {}))


def _templates(value: Any) -> Iterator[Any]:
    """Yield the names of the templates that are called somewhere in here."""
    if isinstance(value, dict):
        yield from (one for key, one in value.items() if key == "template")
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _templates(one)


async def outcomes(found: list[Case]) -> list[dict[str, Any]]:
    """Return of each case what came of it, in the words of the corpus; `said` is why it was refused."""
    with tempfile.TemporaryDirectory(prefix="rw-", dir="/tmp") as folder:
        rig = Rig(Path(folder) / "home")
        rig.start()
        try:
            desk = SavedDesk(rig.journal, SystemClock(), Limits(), rig.workflows)
            for name, spec in {name: spec for one in found for name, spec in one.saved.items()}.items():
                run = RunSpec(name=name, manifest={"kind": "Workflow", "spec": spec}, source="argo")
                await desk.save(ALICE, ALICE.account, SavedSpec(name=name, run=run))
            own = (f"{folder}/{number}/" for number in itertools.count())
            return list(await asyncio.gather(*(_outcome(rig, one, next(own)) for one in found)))
        finally:
            await rig.close()


async def _outcome(rig: Rig, case: Case, folder: str) -> dict[str, Any]:
    # Steps have no /tmp of their own here, as they have on a platform: each case gets a folder in it.
    await asyncio.to_thread(Path(folder).mkdir)
    manifest = json.loads(json.dumps(case.manifest).replace("/tmp/", folder))
    try:
        read(whole(rig.journal, ALICE.account, from_object(manifest)).manifest, Environments().images)
    except BadWorkflow as error:
        return {"refused": error.field, "said": error.message}
    run = await rig.wait((await rig.submit(from_object(manifest))).id, seconds=_PATIENCE)
    if run.status.state is not State.DONE:
        return {"ends": run.status.state.value}
    return {"gives": run.outputs.get("out")}
