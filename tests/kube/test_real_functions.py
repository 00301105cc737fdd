"""Functions on the real cluster pass the contract, on Knative and as plain Deployments, and survive what others do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ropewalk_core.errors import BadInput, Conflict, NotFound, RopewalkError, Unavailable
from ropewalk_core.kube.function_ledger import FOREIGN_CHANGE, FOREIGN_END, NEXT
from ropewalk_core.kube.function_objects import KNATIVE, PLAIN, labels_of
from ropewalk_core.kube.function_trial import watched
from ropewalk_core.kube.functions import KubeFunctions
from ropewalk_core.kube.kinds import CONFIG_MAP, KNATIVE_SERVICE, POD, Object
from ropewalk_core.model import Function, State
from ropewalk_core.testing import ADA, FunctionsContract
from tests.kube.function_rig import KubeRig, running
from tests.kube.stage import Stage, until

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(400)]
DOUBLE = "def handler(value: int):\n    print('doubling', value)\n    return value * 2\n"


class TestKnativeFunctions(FunctionsContract):
    how = KNATIVE

    @pytest.fixture
    async def rig(self, stage: Stage) -> AsyncIterator[KubeRig]:
        # New accounts for each test: what another one's pods that still end take counts for a namespace's quota.
        async with running(stage, self.how, stage.spaces()) as one:
            yield one

    @pytest.fixture
    async def port(self, rig: KubeRig) -> KubeFunctions:  # type: ignore[override]
        return rig.functions  # type: ignore[no-any-return]


@pytest.mark.cluster_slow
class TestPlainFunctions(TestKnativeFunctions):
    how = PLAIN


@pytest.fixture(params=[KNATIVE, PLAIN])
async def rig(stage: Stage, request: pytest.FixtureRequest) -> AsyncIterator[KubeRig]:
    async with running(stage, request.param, stage.spaces()) as one:
        yield one


@pytest.fixture
async def knative(stage: Stage) -> AsyncIterator[KubeRig]:
    async with running(stage, KNATIVE, stage.spaces()) as one:
        yield one


async def objects(rig: KubeRig) -> list[Object]:
    """Return what serves functions in the account's namespace."""
    kind = watched(rig.how)
    found = (await rig.stage.api("administrator").list(kind, await rig.space("ada"), labels=labels_of())).items
    return [one for one in found if not one["metadata"].get("ownerReferences")]


async def pods(rig: KubeRig) -> list[Object]:
    return list((await rig.stage.api("administrator").list(POD, await rig.space("ada"), labels=labels_of())).items)


async def known(rig: KubeRig, state: State, note: str = "") -> Function:
    async def look() -> Function | None:
        with contextlib.suppress(NotFound):
            found: Function = await rig.functions.get(ADA, "ada", "double")
            if found.status.state is state and found.status.note == note:
                return found
        return None

    found = await until(f"the function is {state} {note}", look, 120)
    assert found is not None
    return found


async def deployed(rig: KubeRig, source: str, **changes: Any) -> Function:
    """Deploy a function, and hold the answer to what it says."""
    function: Function = await rig.functions.deploy(ADA, "ada", rig.spec(source, **changes))
    assert function.status.state is State.RUNNING and not function.status.note, function.status
    return function


async def remove(rig: KubeRig) -> None:
    """Remove a function as somebody with kubectl does."""
    [one] = await objects(rig)
    await rig.stage.api("administrator").delete(watched(rig.how), one["metadata"]["name"], one["metadata"]["namespace"])


async def test_a_wish_survives_a_kill_and_is_carried_out_once(rig: KubeRig) -> None:
    await rig.die()
    rig.functions = rig.port()
    rig.begin(carries=False)
    deploying = asyncio.create_task(rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE)))
    await until("the wish is in the journal", lambda: _has(rig, NEXT), 30)
    assert (await rig.functions.get(ADA, "ada", "double")).status.state is State.STARTING
    assert await objects(rig) == []
    await rig.again()
    deploying.cancel()
    await asyncio.gather(deploying, return_exceptions=True)
    assert (await known(rig, State.RUNNING)).revision.number == 1
    assert await rig.functions.call(ADA, "ada", "double", b"21") == b"42"
    [one] = await objects(rig)
    assert one["metadata"]["generation"] == 1
    await rig.again()  # a start with nothing left to do does nothing
    await asyncio.sleep(2)
    [same] = await objects(rig)
    assert (same["metadata"]["uid"], same["metadata"]["generation"]) == (one["metadata"]["uid"], 1)


async def _has(rig: KubeRig, kind: str) -> bool:
    return rig.journal.get(kind, "ada", "double") is not None


async def test_what_somebody_removes_is_seen_and_not_made_again(rig: KubeRig) -> None:
    await deployed(rig, DOUBLE)
    await remove(rig)
    await known(rig, State.STOPPED, FOREIGN_END)
    with pytest.raises(Unavailable, match="kubectl"):
        await rig.functions.call(ADA, "ada", "double", b"21")
    await asyncio.sleep(3)
    assert await objects(rig) == []
    events = [one.type for one in rig.journal.events(kind="function", owner="ada")]
    assert events[-1] == "stopped"
    again = await deployed(rig, DOUBLE)
    assert not again.unchanged and again.status.state is State.RUNNING
    await rig.die()
    await remove(rig)
    rig.functions = rig.port()
    rig.begin()
    await known(rig, State.STOPPED, FOREIGN_END)


async def test_what_somebody_changes_is_seen_and_left(rig: KubeRig) -> None:
    await deployed(rig, DOUBLE)
    [one] = await objects(rig)
    change: Object = {"spec": {"replicas": 0}}
    if rig.how == KNATIVE:
        meta = {"name": "fn--double-foreign", "annotations": {"autoscaling.knative.dev/max-scale": "3"}}
        change = {"spec": {"template": {"metadata": meta}}}
    where = one["metadata"]
    api = rig.stage.api("administrator")
    await api.patch(watched(rig.how), where["name"], change, namespace=where["namespace"])
    await known(rig, State.RUNNING, FOREIGN_CHANGE)
    await asyncio.sleep(2)
    [left] = await objects(rig)
    assert left["metadata"]["generation"] == where["generation"] + 1
    same = await deployed(rig, DOUBLE)  # asking for it again puts it right
    assert not same.unchanged and same.status.note == "" and same.revision.number == 1
    assert await rig.functions.call(ADA, "ada", "double", b"21") == b"42"
    assert (await deployed(rig, DOUBLE)).unchanged
    mended = await deployed(rig, DOUBLE.replace("* 2", "* 3"))
    assert mended.status.note == ""
    assert await rig.functions.call(ADA, "ada", "double", b"21") == b"63"


async def test_a_revision_that_is_removed_while_it_is_tried_is_given_up(knative: KubeRig) -> None:
    rig = knative
    deploying = asyncio.create_task(
        rig.functions.deploy(ADA, "ada", rig.spec("import time\ntime.sleep(30)\n" + DOUBLE))
    )
    await until("it is in the cluster", lambda: objects(rig), 30)
    await asyncio.sleep(1)
    await remove(rig)
    with pytest.raises(Conflict, match="kubectl"):
        await deploying
    await known(rig, State.STOPPED, FOREIGN_END)


SNOOP = """
import os
def handler(value=None):
    found = {"token": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token"), "uid": os.getuid()}
    found["caps"] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")][0]
    found["folder"] = os.getcwd()
    found["pid1"] = open("/proc/1/cmdline").read().replace(chr(0), " ")
    with open("/home/work/note", "w") as file:
        file.write("kept")
    return found
"""


async def test_a_functions_container_sees_no_token_and_has_no_privilege(rig: KubeRig) -> None:
    await deployed(rig, SNOOP)
    found = json.loads(await rig.functions.call(ADA, "ada", "double", b"1"))
    assert (found["token"], found["uid"], int(found["caps"], 16)) == (False, 1000, 0)
    assert found["folder"] == "/home/work" and "ropewalk_runtime.serve" in found["pid1"]


SLOW = "import time\ndef handler(value: float):\n    time.sleep(value)\n    return value\n"


async def test_http_callers_get_clear_answers(rig: KubeRig) -> None:
    await deployed(rig, SLOW, timeout=5)  # a start on a busy machine fits into it
    assert (await rig.call(b"0.01")).json() == 0.01
    late = await rig.call(b"60")
    assert (late.status_code, late.json()["code"]) == (504, "RW-TIMED-OUT")
    assert (await rig.call(b"0.02")).json() == 0.02  # a fresh worker in the same container
    wrong = await rig.call(b'"x"')
    assert (wrong.status_code, wrong.json()["field"]) == (422, "value")
    assert (await rig.call(account="bob")).status_code == 404
    await deployed(rig, DOUBLE)
    assert (await rig.call()).json() == 42

    async def records() -> list[Any]:
        found = (await rig.functions.calls(ADA, "ada", "double")).items
        return [one for one in found if "doubling 21" in one.logs]

    assert await until("the call is on record with what it printed", records, 20)
    assert {one.status for one in (await rig.functions.calls(ADA, "ada", "double")).items} >= {200, 504, 422}


@pytest.mark.cluster_slow
async def test_earlier_revisions_leave_nothing(rig: KubeRig) -> None:
    for factor in (2, 3):
        await deployed(rig, DOUBLE.replace("* 2", f"* {factor}"))
    api, space = rig.stage.api("administrator"), await rig.space("ada")

    async def one_each() -> bool:
        kinds = [CONFIG_MAP, watched(rig.how)]
        counts = [len((await api.list(kind, space, labels=labels_of("double"))).items) for kind in kinds]
        return counts == [1, 1] if rig.how == PLAIN else counts[0] == 1

    await until("only the last revision is there", one_each, 60)
    await rig.functions.remove(ADA, "ada", "double")

    async def nothing() -> bool:
        kinds = [CONFIG_MAP, watched(rig.how), POD]
        return not [one for kind in kinds for one in (await api.list(kind, space, labels=labels_of("double"))).items]

    await until("nothing is left", nothing, 120)


@pytest.mark.cluster_slow
async def test_no_call_fails_while_shares_move(rig: KubeRig) -> None:
    """A few callers that never stop, while a revision is deployed, gets its share and loses it again."""
    await deployed(rig, DOUBLE)
    await deployed(rig, DOUBLE.replace("* 2", "* 3"))
    seen: set[tuple[int, str]] = set()
    ended = asyncio.Event()

    async def lane() -> None:
        while not ended.is_set():
            answer = await rig.call(b"1")
            seen.add((answer.status_code, answer.text))

    lanes = [asyncio.create_task(lane()) for _ in range(3)]
    try:
        split = await rig.functions.traffic(ADA, "ada", "double", {0: 50, 1: 50})
        await asyncio.sleep(3)
        assert (await rig.call(b"1", function="r1--double")).json() == 2
        third = await deployed(rig, DOUBLE.replace("* 2", "* 4"))
        assert third.traffic == split.traffic
        await asyncio.sleep(3)
        await rig.functions.traffic(ADA, "ada", "double", {0: 100})
        await asyncio.sleep(3)
    finally:
        ended.set()
        await asyncio.gather(*lanes)
    assert seen == {(200, "2"), (200, "3"), (200, "4")}

    async def one_left() -> bool:
        return len(await objects(rig)) == 1

    await until("what took a share is gone", one_left, 60)


YIELDING = "def handler(value: int):\n    for number in range(value):\n        yield number\n"


async def test_answers_in_parts_come_whole_however_soon_they_begin(knative: KubeRig) -> None:
    """Knative's proxies once cut off what was answered before they had closed the request themselves."""
    rig = knative
    await deployed(rig, YIELDING)
    whole = "".join(f"{number}\n" for number in range(200))
    for _ in range(100):
        answer = await rig.call(b"200")
        assert (answer.status_code, answer.text) == (200, whole)


async def test_it_goes_to_zero_and_comes_back_cold(knative: KubeRig) -> None:
    rig = knative
    await deployed(rig, DOUBLE, idle=6)
    assert (await rig.call()).headers["x-ropewalk-start"] == "warm"

    async def none() -> bool:
        return not await pods(rig)

    await until("no pod is left", none, 180)
    answer = await rig.call()
    assert (answer.json(), answer.headers["x-ropewalk-start"]) == (42, "cold")
    assert (await rig.call()).headers["x-ropewalk-start"] == "warm"


async def test_an_image_that_does_not_exist_is_said_so(knative: KubeRig) -> None:
    rig = knative
    await rig.die()
    rig.settings.cluster.images["runner"] = "registry.local:5000/ropewalk/none:0"
    rig.functions = rig.port()
    rig.begin()
    with pytest.raises(RopewalkError) as caught:
        await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE))
    assert "none" in caught.value.message
    assert (await rig.functions.list(ADA, "ada")).items == ()

    async def gone() -> bool:
        found = await rig.stage.api("administrator").list(KNATIVE_SERVICE, await rig.space("ada"), labels=labels_of())
        return not found.items

    await until("it leaves nothing in the cluster", gone, 30)


async def test_a_time_that_the_cluster_does_not_allow_is_refused_by_field(knative: KubeRig) -> None:
    with pytest.raises(BadInput) as caught:
        await knative.functions.deploy(ADA, "ada", knative.spec(DOUBLE, timeout=900))
    assert caught.value.field == "timeout" and "595 seconds" in caught.value.message
    assert (await knative.functions.list(ADA, "ada")).items == ()
