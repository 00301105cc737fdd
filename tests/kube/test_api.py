"""The way to the API server, against one on a real socket that misbehaves on order."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import (
    BadInput,
    Conflict,
    Denied,
    Internal,
    Limited,
    NameTaken,
    NotFound,
    TooLarge,
    Unavailable,
)
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.config import Token
from ropewalk_core.kube.kinds import CONFIG_MAP, DEPLOYMENT, POD, selector
from ropewalk_core.kube.logs import read
from ropewalk_core.kube.transient import passes, refusal, wait_before
from ropewalk_core.kube.view import Change, Happened
from tests.kube.server import QuickClock, Server, event, hangs, says, spoken_to, writes


@contextlib.asynccontextmanager
async def rig(**options: float) -> AsyncIterator[tuple[Server, Api, QuickClock]]:
    server, clock = Server(), QuickClock()
    async with spoken_to(server, clock, **options) as api:
        yield server, api, clock


class Watching:
    """A watch that is read in the background, and what it has brought so far."""

    def __init__(self, api: Api) -> None:
        self.seen: dict[str, dict[str, str]] = {}
        self.changes: list[tuple[Happened, str]] = []
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._read(api))

    async def _read(self, api: Api) -> None:
        async with contextlib.aclosing(api.watch(CONFIG_MAP, "n")) as changes:
            async for one in changes:
                self._take(one)

    def _take(self, one: Change) -> None:
        name = one.object["metadata"]["name"] if one.object else ""
        self.changes.append((one.happened, name))
        if one.happened in (Happened.ADDED, Happened.CHANGED):
            self.seen[name] = one.object["data"]
            assert "managedFields" not in one.object["metadata"]
        elif one.happened is Happened.REMOVED:
            del self.seen[name]
        self._news.set()

    async def until(self, wanted: dict[str, dict[str, str]]) -> None:
        async with asyncio.timeout(20):
            while self.seen != wanted or (Happened.SYNCED, "") not in self.changes:
                self._news.clear()
                await self._news.wait()

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@contextlib.asynccontextmanager
async def watching(**options: float) -> AsyncIterator[tuple[Server, Watching, Api, QuickClock]]:
    async with rig(**options) as (server, api, clock):
        server.put("a", x="1")
        one = Watching(api)
        try:
            await one.until({"a": {"x": "1"}})
            yield server, one, api, clock
        finally:
            await one.end()


def data(server: Server) -> dict[str, dict[str, str]]:
    return {name: one["data"] for name, one in server.objects.items()}


FIELDS = ["kind", "message", "reason", "details", "causes", "field", "retryAfterSeconds", "code"]


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  # what is waited for is the server's and the client's, without an event
            await asyncio.sleep(0.01)


async def test_lists_are_read_in_pages() -> None:
    async with rig() as (server, api, _):
        for number in range(7):
            server.put(f"m{number}", n=str(number))
        listing = await api.list(CONFIG_MAP, "n", page=3)
        assert [one["metadata"]["name"] for one in listing.items] == [f"m{number}" for number in range(7)]
        assert listing.items[0]["kind"] == "ConfigMap" and listing.version == str(server.version)
        assert [one[2].get("continue") for one in server.requests] == [None, "3", "6"]


async def test_a_list_whose_pages_outlived_the_history_begins_again() -> None:
    async with rig() as (server, api, _):
        for number in range(4):
            server.put(f"m{number}")
        server.faults["list"].append(server._list)
        server.faults["list"].append(says(410, "Expired", "The provided continue parameter is too old"))
        assert len((await api.list(CONFIG_MAP, "n", page=2)).items) == 4


async def test_create_tells_what_is_there_already_from_a_conflict() -> None:
    async with rig() as (server, api, _):
        body = {"metadata": {"name": "one", "namespace": "n"}, "data": {"a": "1"}}
        assert (await api.create(CONFIG_MAP, body))["data"] == {"a": "1"}
        with pytest.raises(NameTaken):
            await api.create(CONFIG_MAP, body)
        server.faults["write"].append(says(409, "Conflict", "the object has been modified"))
        with pytest.raises(Conflict) as found:
            await api.patch(CONFIG_MAP, "one", {"metadata": {"name": "one"}}, namespace="n")
        assert type(found.value) is Conflict


async def test_a_field_of_somebody_else_is_named_with_its_owner() -> None:
    async with rig() as (server, api, _):
        causes = [
            {
                "reason": "FieldManagerConflict",
                "message": 'conflict with "kubectl-edit" using apps/v1',
                "field": ".spec.replicas",
            }
        ]
        server.faults["write"].append(says(409, "Conflict", "Apply failed with 1 conflict", causes=causes))
        with pytest.raises(
            Conflict, match=r"\.spec\.replicas of Deployment 'web' in n belongs to kubectl-edit"
        ) as found:
            await api.apply(DEPLOYMENT, {"metadata": {"name": "web", "namespace": "n"}})
        assert found.value.details["owners"] == ["kubectl-edit"]
        assert server.requests[-1][2] == {"fieldManager": "ropewalk", "force": "false"}


async def test_a_removal_of_what_is_not_there_is_done_already() -> None:
    async with rig() as (server, api, _):
        server.put("one")
        with pytest.raises(Conflict):
            await api.delete(CONFIG_MAP, "one", "n", uid="another")
        assert await api.delete(CONFIG_MAP, "one", "n", uid="uid-1") is True
        assert await api.delete(CONFIG_MAP, "one", "n") is False


@pytest.mark.parametrize(
    ("status", "reason", "message", "kind", "words"),
    [
        (
            403,
            "Forbidden",
            'pods "x" is forbidden: exceeded quota: tenant, requested: pods=1, used: pods=10, limited: pods=10',
            Denied,
            "You use 10 of 10 pods, and this asks for pods=1 more.",
        ),
        (
            403,
            "Forbidden",
            'pods "x" is forbidden: User "system:serviceaccount:a:b" cannot create resource "pods" in API group "" in '
            'the namespace "n"',
            Denied,
            "The platform may not create pods in the cluster",
        ),
        (
            400,
            "BadRequest",
            'admission webhook "v.example.test" denied the request: no latest tag',
            BadInput,
            "A rule of your cluster (v.example.test) refused it. no latest tag",
        ),
        (
            422,
            "Invalid",
            "Pod is invalid: spec.containers: Required value",
            BadInput,
            "spec.containers: Required value",
        ),
        (413, "RequestEntityTooLarge", "limit is 3145728", TooLarge, "larger than the cluster takes"),
        (405, "MethodNotAllowed", "not supported", Internal, "not supported"),
        (404, "NotFound", "the server could not find the requested resource", NotFound, "does not know the kind"),
    ],
)
async def test_a_refusal_carries_its_reason_and_is_not_repeated(
    status: int, reason: str, message: str, kind: type[Exception], words: str
) -> None:
    async with rig() as (server, api, clock):
        server.faults["write"].append(says(status, reason, message))
        with pytest.raises(kind) as found:
            await api.create(POD, {"metadata": {"name": "x", "namespace": "n"}})
        assert type(found.value) is kind and words in str(found.value)
        assert found.value.details["raw"] == message and not passes(found.value)  # type: ignore[attr-defined]
        assert len(server.requests) == 1 and clock.slept == []


async def test_what_may_pass_is_tried_again_and_retry_after_is_kept() -> None:
    async with rig(patience=1000) as (server, api, clock):
        server.put("one", x="1")
        server.faults["get"] += [
            says(429, "TooManyRequests", "slow down", headers={"Retry-After": "7"}),
            says(500, "InternalError", "etcdserver: request timed out"),
            says(504, "Timeout", "later", retryAfterSeconds=3),
            writes(b'{"metadata"'),
            writes(b'{"metadata"', cut=True),
        ]
        assert (await api.get(CONFIG_MAP, "one", "n"))["data"] == {"x": "1"}
        assert [round(one, 2) for one in clock.slept] == [7.1, 0.2, 3.4, 0.8, 1.6]


async def test_patience_ends_and_the_error_says_what_it_was() -> None:
    async with rig(patience=0.5) as (server, api, _):
        server.faults["get"] += [says(503, "ServiceUnavailable", "no endpoints")] * 20
        with pytest.raises(Unavailable, match="no endpoints"):
            await api.get(CONFIG_MAP, "one", "n")
        server.faults["get"].clear()
        server.faults["get"].append(says(429, "TooManyRequests", "busy", headers={"Retry-After": "30"}))
        with pytest.raises(Limited) as found:
            await api.get(CONFIG_MAP, "one", "n")
        assert found.value.retry_after == 30.0


async def test_a_server_that_has_just_come_back_is_not_believed_about_rights() -> None:
    denied = says(403, "Forbidden", 'configmaps "one" is forbidden: User "u" cannot get resource "configmaps"')
    async with rig(patience=20) as (server, api, _):
        server.put("one", x="1")
        server.faults["get"].append(denied)
        with pytest.raises(Denied):
            await api.get(CONFIG_MAP, "one", "n")
        server.faults["get"] += [says(503, "ServiceUnavailable", "starting"), denied, denied]
        assert (await api.get(CONFIG_MAP, "one", "n"))["data"] == {"x": "1"}


async def test_a_generated_name_is_not_asked_for_twice() -> None:
    async with rig() as (server, api, _):
        server.faults["write"].append(says(500, "InternalError", "maybe it was made"))
        with pytest.raises(Unavailable):
            await api.create(CONFIG_MAP, {"metadata": {"generateName": "x-", "namespace": "n"}})
        assert len(server.requests) == 1


async def test_a_token_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    server = Server()
    server.put("one")
    async with spoken_to(server, QuickClock(), token=Token(file=file)) as api:
        await api.get(CONFIG_MAP, "one", "n")
        file.write_text("new\n")
        server.faults["get"].append(says(401, "Unauthorized", "Unauthorized"))
        await api.get(CONFIG_MAP, "one", "n")
        assert server.tokens == ["Bearer old", "Bearer old", "Bearer new"]
        server.faults["get"] += [says(401, "Unauthorized", "Unauthorized")] * 50
        with pytest.raises(Unavailable, match="does not accept the platform's credentials"):
            await api.get(CONFIG_MAP, "one", "n")


async def test_a_server_that_is_away_is_unavailable() -> None:
    async with rig(patience=0.1) as (_, api, __):
        pass
    api = Api(api._access, QuickClock(), patience=0.1)
    with pytest.raises(Unavailable, match="does not answer"):
        await api.get(CONFIG_MAP, "one", "n")
    await api.close()


async def test_a_watch_brings_what_is_there_and_then_each_change() -> None:
    async with watching() as (server, one, _, __):
        server.put("b", x="1")
        server.put("a", x="2")
        server.remove("b")
        await one.until({"a": {"x": "2"}})
        assert one.changes == [
            (Happened.ADDED, "a"),
            (Happened.SYNCED, ""),
            (Happened.ADDED, "b"),
            (Happened.CHANGED, "a"),
            (Happened.REMOVED, "b"),
        ]
        assert [verb for verb, *_ in server.requests] == ["list", "watch"]


async def test_a_watch_goes_on_from_a_bookmark() -> None:
    async with watching(watch_seconds=1) as (server, one, _, __):
        await eventually(lambda: sum(verb == "watch" for verb, *_ in server.requests) >= 2)
        server.put("b")
        await one.until({"a": {"x": "1"}, "b": {}})
        assert [verb for verb, *_ in server.requests].count("list") == 1


async def test_a_watch_reads_the_list_again_after_410_and_says_what_vanished() -> None:
    async with rig(watch_seconds=1) as (server, api, _):
        server.put("a", x="1")
        server.put("b", x="1")
        one = Watching(api)
        await one.until({"a": {"x": "1"}, "b": {"x": "1"}})
        server.faults["watch"].append(writes(cut=True))
        server.faults["watch"].append(says(410, "Expired", "too old resource version"))
        for verb in ("a", "b"):
            server.remove(verb)
        server.put("b", x="2")
        server.forget()
        await one.until({"b": {"x": "2"}})
        assert (Happened.REMOVED, "a") in one.changes and one.changes.count((Happened.ADDED, "b")) == 2
        await one.end()


async def test_a_watch_that_hears_410_every_time_waits_longer_and_loses_nothing() -> None:
    async with rig(watch_seconds=1) as (server, api, clock):
        server.put("a", x="1")
        gone = event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
        server.faults["watch"] += [writes(gone)] * 6
        one = Watching(api)
        await one.until({"a": {"x": "1"}})
        await eventually(lambda: not server.faults["watch"])
        server.put("b")
        await one.until({"a": {"x": "1"}, "b": {}})
        assert clock.slept[:6] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2])
        await one.end()


async def test_a_half_open_connection_is_noticed() -> None:
    async with rig(watch_seconds=0.5, slack=0.3) as (server, api, _):
        server.put("a", x="1")
        server.faults["watch"].append(hangs())
        one = Watching(api)
        await one.until({"a": {"x": "1"}})
        server.put("b")
        await one.until({"a": {"x": "1"}, "b": {}})
        await one.end()


async def test_a_watch_survives_refusals_garbage_and_cuts_and_never_gives_up() -> None:
    async with rig(patience=0, watch_seconds=1) as (server, api, clock):
        server.put("a", x="1")
        whole = event("ADDED", server.put("b"))
        server.faults["list"] += [says(500, "InternalError", "leader changed"), says(403, "Forbidden", "not yet")]
        server.faults["watch"] += [
            says(429, "TooManyRequests", "", headers={"Retry-After": "5"}),
            writes(whole[: len(whole) // 2]),
            writes(b"no json\n"),
            writes(b'{"type": "ADDED"}\n', b'["x"]\n'),
            writes(event("ADDED", {"metadata": {"name": "x"}})),
            writes(event("SOMETHING", {"metadata": {}}), cut=True),
            says(502, "", "<html>bad gateway</html>"),
            says(401, "Unauthorized", "Unauthorized"),
            *[says(503, "ServiceUnavailable", "away")] * 20,
        ]
        one = Watching(api)
        await one.until({"a": {"x": "1"}, "b": {}})
        await eventually(lambda: not server.faults["watch"])
        assert max(clock.slept) <= 10.2
        server.put("c", x="é\u2028\x85")
        await one.until(data(server))
        assert any(one >= 5 for one in clock.slept)
        await one.end()


async def test_a_watch_out_of_touch_is_told_until_it_is_back() -> None:
    async with watching(watch_seconds=1, patience=0) as (server, one, api, _):
        assert api.troubled() == {}
        server.faults["watch"] += [says(503, "ServiceUnavailable", "away")] * 15
        server.faults["list"] += [says(503, "ServiceUnavailable", "away")] * 5
        await eventually(lambda: "configmaps in n" in api.troubled())
        await eventually(lambda: not api.troubled())
        server.put("z")
        await one.until(data(server))
    assert api.troubled() == {}


async def test_an_event_out_of_order_is_settled_by_the_list() -> None:
    async with rig(watch_seconds=1) as (server, api, _):
        stale = server.put("a", x="1")
        server.put("a", x="2")
        server.put("b")
        server.faults["watch"].append(writes(event("MODIFIED", stale), event("ADDED", server.objects["b"])))
        one = Watching(api)
        await one.until({"a": {"x": "2"}, "b": {}})
        await eventually(lambda: [verb for verb, *_ in server.requests].count("list") >= 2)
        assert one.seen["a"] == {"x": "2"}
        await one.end()


@pytest.mark.parametrize("text", ["a,b=c", "a!=b", "a=b", "é", "-a", "a b", "a" * 64, "x\n"])
def test_no_text_adds_a_condition_to_a_selector(text: str) -> None:
    with pytest.raises(ValueError, match="is not a label"):
        selector({"ropewalk.dev/account": text})


@given(st.text(max_size=80))
def test_a_selector_has_one_condition_whatever_the_text(text: str) -> None:
    try:
        told = selector({"ropewalk.dev/account": text})
    except ValueError:
        return
    assert told == f"ropewalk.dev/account={text}" and not set(text) & set(",=!()<> \n")


def test_no_name_reaches_another_address() -> None:
    assert POD.path("..", "../x?y=1#z", "log") == "/api/v1/namespaces/%2E%2E/pods/..%2Fx%3Fy=1%23z/log".replace(
        "=", "%3D"
    )


def test_waits_are_under_a_doubling_bound_and_over_what_was_asked() -> None:
    assert [wait_before(one, lambda: 1.0) for one in (0, 1, 2, 3, 100)] == [0.2, 0.2, 0.4, 0.8, 10.0]
    assert wait_before(3, lambda: 0.0, asked=4.0) == 4.0


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), one, max_size=5),
    max_leaves=12,
)


@given(st.integers(300, 599), st.binary(max_size=40) | anything.map(lambda one: json.dumps(one).encode()), anything)
def test_any_refusal_is_one_of_our_errors(status: int, content: bytes, details: Any) -> None:
    for body in (content, json.dumps({"kind": "Status", "message": "m", "details": details}).encode()):
        error = refusal(status, body, {"retry-after": "x"}, about="Pod 'x'")
        assert error.details["status"] == status and error.message and error.hint
        assert passes(error) == (error.status in (429, 503))


def line(second: int, nanos: str, text: str) -> tuple[str, str]:
    return f"2026-11-21T14:00:{second:02}.{nanos}Z", text


async def test_a_log_is_followed_over_cuts_without_loss_or_repeat() -> None:
    async with rig() as (server, api, clock):
        server.log = [line(1, "1", "one"), line(1, "1", "two"), line(1, "100000001", "three")]
        server.pod = {"status": {"phase": "Running"}}
        seen: list[str] = []
        async for one in read(api, clock, "n", "p", follow=True):
            seen.append(one.text)
            if one.text == "three":
                server.log += [line(1, "100000001", "four"), line(2, "5", "five at last")]
                server.faults["log"].append(says(502, "", "dial tcp: connection refused"))
            if one.text == "five at last":
                assert one.offset == len("one\ntwo\nthree\nfour\nfive at last\n")
                server.pod = {"status": {"phase": "Succeeded"}}
        assert seen == ["one", "two", "three", "four", "five at last"]


async def test_a_log_is_taken_up_at_an_offset_and_waits_for_its_container() -> None:
    async with rig() as (server, api, clock):
        server.log = [line(1, "1", "one"), line(2, "1", "unended")]
        assert [one.text async for one in read(api, clock, "n", "p", after=4)] == ["unended"]
        waits = says(400, "BadRequest", 'container "main" in pod "p" is waiting to start: ContainerCreating')
        busy = says(429, "TooManyRequests", "busy", headers={"Retry-After": "3"})
        server.faults["log"] += [waits, busy, says(401, "Unauthorized", "Unauthorized"), waits]
        server.pod = {"status": {"phase": "Succeeded"}}
        assert [one.text async for one in read(api, clock, "n", "p", follow=True)] == ["one", "unended"]
        assert any(one > 3 for one in clock.slept)
        server.faults["log"].append(waits)
        with pytest.raises(Unavailable, match="has not started yet"):
            [one async for one in read(api, clock, "n", "p")]
        server.faults["log"].append(says(404, "NotFound", 'pods "p" not found'))
        with pytest.raises(NotFound):
            [one async for one in read(api, clock, "n", "p", follow=True)]
