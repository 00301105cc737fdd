"""Splits on a cluster that plays along: what serves, when calls move, and what a kill or a deploy in between does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ropewalk_core import sharing
from ropewalk_core.errors import BadCode, Conflict, NotFound, Unavailable
from ropewalk_core.kube.function_ledger import AT, NEXT
from ropewalk_core.kube.function_objects import KNATIVE, PLAIN, Place
from ropewalk_core.kube.kinds import CONFIG_MAP, KNATIVE_SERVICE, Object
from ropewalk_core.model import Access, Why
from tests.unit.test_kube_functions_port import ADA, SPACE, Stage, staged


@pytest.fixture(params=[KNATIVE, PLAIN])
async def stage(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with staged(tmp_path, request.param) as one:
        yield one


async def test_revisions_that_take_calls_are_there_and_no_others(stage: Stage) -> None:
    ids = [(await stage.deploy(factor)).revision.id for factor in (2, 3)]
    await stage.until(lambda: len(stage.api.names(CONFIG_MAP)) == 1)
    split = await stage.functions.traffic(ADA, "ada", "double", {0: 90, 1: 10})
    [route] = stage.functions.routes()
    own = f"fn--double--{ids[0]}" if stage.kind is KNATIVE_SERVICE else f"fn--double-{ids[0]}"
    assert [(one.number, one.weight, one.revision, one.url) for one in route.others] == [
        (1, 10, ids[0], f"http://{own}.{SPACE}.svc")
    ]
    assert route.weight == 90 and own in stage.api.names(stage.kind) and len(stage.api.names(stage.kind)) == 2
    third = await stage.deploy(4)  # a deploy leaves the split, and what it names
    assert third.traffic == split.traffic
    await stage.until(lambda: len(stage.api.names(CONFIG_MAP)) == 2)
    assert {f"fn--double-{one}" for one in (ids[0], third.revision.id)} == set(stage.api.names(CONFIG_MAP))
    assert own in stage.api.names(stage.kind) and len(stage.api.names(stage.kind)) == 2
    await stage.functions.traffic(ADA, "ada", "double", {0: 100})
    await stage.until(lambda: own not in stage.api.names(stage.kind))
    await stage.until(lambda: stage.api.names(CONFIG_MAP) == [f"fn--double-{third.revision.id}"])
    assert not stage.journal.page(NEXT) and (await stage.known()).status.note == ""


async def test_a_split_moves_only_when_all_of_it_is_there(stage: Stage) -> None:
    for factor in (2, 3):
        await stage.deploy(factor)
    await stage.until(lambda: len(stage.api.names(stage.kind)) == 1)
    stage.api.slow.clear()
    splitting = asyncio.create_task(stage.functions.traffic(ADA, "ada", "double", {1: 100}))
    await stage.until(lambda: len(stage.api.names(stage.kind)) == 2)
    assert stage.functions.routes()[0].others == () and (await stage.known()).traffic.latest == 100
    stage.api.ready(stage.kind, _own(stage))
    assert (await splitting).traffic.latest == 0
    assert [one.weight for one in stage.functions.routes()[0].others] == [100]


async def test_a_share_that_does_not_load_changes_nothing(stage: Stage) -> None:
    for factor in (2, 3):
        await stage.deploy(factor)
    before = await stage.known()
    stage.api.loads = False
    with pytest.raises(BadCode):
        await stage.functions.traffic(ADA, "ada", "double", {1: 100})
    await stage.until(lambda: len(stage.api.names(stage.kind)) == 1 and not stage.journal.page("intent"))
    assert await stage.known() == before and not stage.journal.page(NEXT)


async def test_a_start_goes_on_with_a_split(stage: Stage) -> None:
    for factor in (2, 3):
        await stage.deploy(factor)
    await stage.until(lambda: len(stage.api.names(stage.kind)) == 1)
    stage.api.slow.clear()
    splitting = asyncio.create_task(stage.functions.traffic(ADA, "ada", "double", {0: 50, 1: 50}))
    await stage.until(lambda: len(stage.api.names(stage.kind)) == 2 and not stage.journal.page("intent"))
    await stage.end()
    splitting.cancel()
    await asyncio.gather(splitting, return_exceptions=True)
    stage.api.ready(stage.kind, _own(stage))
    stage.begin()
    await stage.until(lambda: not stage.journal.page(NEXT))
    assert (await stage.known()).traffic.latest == 50


async def test_a_deploy_takes_the_place_of_a_split_that_is_tried(stage: Stage) -> None:
    for factor in (2, 3):
        await stage.deploy(factor)
    await stage.until(lambda: len(stage.api.names(stage.kind)) == 1)
    stage.api.slow.clear()
    splitting = asyncio.create_task(stage.functions.traffic(ADA, "ada", "double", {1: 100}))
    await stage.until(lambda: len(stage.api.names(stage.kind)) == 2)
    assert (await stage.deploy(3)).unchanged and stage.journal.page(NEXT)  # what serves is wished, and is not touched
    stage.api.slow.set()
    third = await stage.deploy(4)
    with pytest.raises(Conflict):
        await splitting
    assert third.traffic.latest == 100
    await stage.until(lambda: len(stage.api.names(stage.kind)) == 1)
    with pytest.raises(NotFound):
        await stage.functions.traffic(ADA, "ada", "double", {9: 100})


async def test_a_function_that_was_stopped_has_nothing_to_split(stage: Stage) -> None:
    for factor in (2, 3):
        await stage.deploy(factor)
    await stage.functions.traffic(ADA, "ada", "double", {1: 100})
    await stage.functions.stop_all("ada", Why(cause="The account was deactivated."))
    await stage.until(lambda: not stage.api.names(stage.kind) and not stage.api.names(CONFIG_MAP))
    [route] = stage.functions.routes()
    assert route.away and not route.others
    with pytest.raises(Unavailable):
        await stage.functions.traffic(ADA, "ada", "double", {0: 100})
    back = await stage.deploy(3)  # with it comes what the split names
    assert back.traffic.shares and len(stage.api.names(stage.kind)) == 2
    assert [one.weight for one in stage.functions.routes()[0].others] == [100]
    await stage.functions.remove(ADA, "ada", "double")
    await stage.until(lambda: not stage.api.names(stage.kind) and not stage.api.names(CONFIG_MAP))


def _own(stage: Stage) -> Object:
    """Return what serves a revision beside the latest."""
    [at] = stage.journal.page(AT)
    main = {one["metadata"]["name"] for one in at.body["objects"]}
    [own] = [name for name in stage.api.names(stage.kind) if name not in main]
    return stage.api.objects[f"{stage.kind.group}/{stage.kind.plural}", own]


async def test_what_an_owner_takes_away_no_deploy_brings_back(stage: Stage) -> None:
    """A deploy that is under way holds a function as it was; who may call it is not in that."""
    await stage.deploy(2)
    await stage.functions.access(ADA, "ada", "double", Access(who="public"))
    stage.api.slow.clear()
    deploying = asyncio.create_task(stage.deploy(3))
    await stage.until(lambda: stage.journal.page(NEXT) and not stage.journal.page("intent"))
    assert stage.functions.routes()[0].access.who == "public"
    await stage.functions.access(ADA, "ada", "double", Access())
    stage.api.slow.set()
    [tried] = stage.journal.page(NEXT)
    for one in tried.body["objects"]:
        kind = f"{stage.kind.group}/{stage.kind.plural}"
        if one["kind"] == stage.kind.name and (kind, one["metadata"]["name"]) in stage.api.objects:
            stage.api.ready(stage.kind, stage.api.objects[kind, one["metadata"]["name"]])
    assert (await deploying).access == Access()
    assert (await stage.known()).access == Access() and stage.functions.routes()[0].access == Access()


async def test_a_first_deploy_that_fails_leaves_nothing_open(stage: Stage) -> None:
    """Who may call it was chosen while it was tried; the next function of that name begins private."""
    stage.api.refuses[stage.kind] = Unavailable("The webhook does not answer.")  # and is tried again
    deploying = asyncio.create_task(stage.deploy(2))
    await stage.until(lambda: stage.journal.page(NEXT))
    await stage.functions.access(ADA, "ada", "double", Access(who="public"))
    stage.api.loads = False
    stage.api.refuses.clear()
    with pytest.raises(BadCode):
        await deploying
    assert (await stage.functions.list(ADA, "ada")).items == ()
    stage.api.loads = True
    assert (await stage.deploy(2)).access == Access()


async def test_what_was_chosen_as_a_function_was_removed_opens_no_later_one(stage: Stage) -> None:
    await stage.journal.write(sharing.choosing(stage.journal, "ada", "double", Access(who="public"))[1])
    assert (await stage.deploy(2)).access == Access() and stage.functions.routes()[0].access == Access()


def test_what_is_apart_has_names_of_its_own_that_fit() -> None:
    main = Place("ada", "a" * 32, "0" * 16, SPACE)
    own = replace(main, apart=True)
    assert own.knative_revision.startswith(f"{own.service}-") and main.knative_revision.startswith(f"{main.service}-")
    assert len({main.service, main.knative_revision, own.service, own.knative_revision}) == 4
    assert all(len(one) <= 63 for one in (own.service, own.knative_revision, own.object))
    assert own.object == main.object and own.labels == main.labels
