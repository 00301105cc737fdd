"""The claim of an account's files: what it asks for, who makes it, and what a pod needs to have it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from ropewalk_core.errors import BadInput, Conflict, NameTaken, NotFound, Unsatisfiable
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.kinds import NAMESPACE, Kind, Object
from ropewalk_core.kube.volumes import HOME, LABEL, claim, ensure_files, mount, size
from ropewalk_core.settings import Cluster, Settings

SETTINGS = Settings(home=Path("/home"))


def with_cluster(**chosen: Any) -> Settings:
    return replace(SETTINGS, cluster=Cluster(**chosen))


class Few:
    """An API server with one namespace and at most one claim."""

    def __init__(self, kind: str = "person", there: Object | None = None, *, late: bool = False) -> None:
        self.kind, self.there, self.late, self.made = kind, there, late, list[Object]()

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        if kind is NAMESPACE:
            return {"metadata": {"name": name, "labels": {"ropewalk.dev/kind": self.kind}}}
        if self.there is None:
            raise NotFound("There is no claim.")
        return self.there

    async def create(self, kind: Kind, body: Object) -> Object:
        if self.late:
            self.there = body
            raise NameTaken("It is there already.")
        self.made.append(body)
        return body


def test_the_claim_says_what_the_settings_say() -> None:
    assert claim(SETTINGS)["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "10Gi"}},
    }
    chosen = with_cluster(storage_class="fast", files_size="1500M", files_access="ReadWriteOnce")
    assert claim(chosen)["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1500M"}},
        "storageClassName": "fast",
    }
    assert size(claim(chosen)) == 1_500_000_000
    assert size({**claim(chosen), "status": {"capacity": {"storage": "2Gi"}}}) == 2 * 2**30


@pytest.mark.parametrize(("setting", "value"), [("files_access", "ReadOnlyMany"), ("files_size", "much")])
def test_a_wrong_setting_is_named(setting: str, value: str) -> None:
    with pytest.raises(BadInput) as caught:
        claim(with_cluster(**{setting: value}))
    assert caught.value.field == f"cluster.{setting}"


async def test_the_claim_is_made_once() -> None:
    few = Few()
    await ensure_files(cast(Api, few), "ropewalk--ada", SETTINGS)
    assert [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in few.made] == [("ropewalk--ada", "files")]
    await ensure_files(cast(Api, Few(late=True)), "ropewalk--ada", SETTINGS)
    have = Few(there=claim(SETTINGS))
    await ensure_files(cast(Api, have), "ropewalk--ada", SETTINGS)
    assert have.made == []


async def test_files_that_are_being_removed_are_not_used() -> None:
    going = claim(SETTINGS)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    with pytest.raises(Conflict, match="being removed"):
        await ensure_files(cast(Api, Few(there=going)), "ropewalk--ada", SETTINGS)


async def test_a_shared_space_needs_files_that_many_can_use() -> None:
    alone = with_cluster(files_access="ReadWriteOnce")
    with pytest.raises(Unsatisfiable, match="only one machine at a time"):
        await ensure_files(cast(Api, Few("team")), "ropewalk--crew", alone)
    few = Few()
    await ensure_files(cast(Api, few), "ropewalk--ada", alone)
    await ensure_files(cast(Api, Few("team")), "ropewalk--crew", SETTINGS)
    assert few.made


def test_what_a_pod_needs() -> None:
    files = mount(SETTINGS)
    assert files.mount == {"name": "files", "mountPath": HOME} and files.affinity == {}
    assert files.volume["persistentVolumeClaim"] == {"claimName": "files"}
    assert mount(SETTINGS, folder="a/b").mount["subPath"] == "a/b"
    (term,) = mount(with_cluster(files_access="ReadWriteOnce")).affinity["podAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term == {"labelSelector": {"matchLabels": {LABEL: "files"}}, "topologyKey": "kubernetes.io/hostname"}
