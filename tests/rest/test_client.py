"""The client against the real application: nouns, pages, streams, and patience with a platform that restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from ropewalk_core import callkeys, sharing
from ropewalk_core.artifacts import ArtifactStore
from ropewalk_core.client import Client, HubToken, NoToken, Token, Tokens
from ropewalk_core.client.wire import Wire
from ropewalk_core.errors import (
    BadInput,
    BadValues,
    Conflict,
    Denied,
    Internal,
    Limited,
    NotFound,
    Unauthenticated,
    Unavailable,
    UserCodeFailed,
)
from ropewalk_core.flows import Artifact, RunSpec
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import Access, Actor, Bundle, FunctionSpec, Revision, ServiceSpec
from ropewalk_core.testing import take
from ropewalk_hub.platform import Platform
from tests.rest.conftest import API, bearer
from tests.rest.memory import MemoryFunctions, MemoryWorkflows

Make = Callable[..., Client]
FUNCTION = FunctionSpec(name="double", bundle=Bundle(files={"cell.py": "x"}, entry="cell:x"))


async def test_who_and_what(client_of: Make) -> None:
    ada = client_of()
    assert (await ada.me()).name == await ada.account() == "ada"
    assert (await ada.inventory()).nodes and (await ada.templates()).items


async def test_services(client_of: Make) -> None:
    ada = client_of()
    for name in ("c", "a", "b"):
        await ada.services.apply(ServiceSpec(name=name, template="editor"))
    assert [one.spec.name async for one in ada.services.all()] == ["a", "b", "c"]
    page = await ada.services.list(limit=2)
    assert page.next == "b"
    assert (await ada.services.get("a")).owner == "ada"
    lines = [line.text async for line in ada.services.logs("a", after=10)]
    assert lines == ["line 2", "line 3"]
    await ada.services.remove("a")
    with pytest.raises(NotFound):
        await ada.services.get("a")
    with pytest.raises(NotFound):
        await take(ada.services.logs("a"), 1)


async def test_functions(client_of: Make) -> None:
    ada = client_of()
    assert (await ada.functions.deploy(FUNCTION)).revision.spec == FUNCTION
    assert await ada.functions.call("double", b"ab") == b"abab"
    assert (await ada.functions.calls("double")).items[0].function == "double"
    assert [line.text async for line in ada.functions.logs("double", call="c1", after=10)] == ["line 2", "line 3"]
    with pytest.raises(NotFound):
        await take(ada.functions.logs("nothing"), 1)
    for window, bars in (("hour", 60), ("day", 96)):
        found = await ada.functions.figures("double", window=window)  # type: ignore[arg-type]
        assert (len(found.bars), found.total.calls, found.total.errors) == (bars, 4, 2) and found.total.p99
    with pytest.raises(BadInput):
        await ada.functions.figures("double", window="week")  # type: ignore[arg-type]
    for costs in (await ada.functions.costs("double"), await ada.functions.costs()):
        assert [(one.calls, one.cpu) for one in costs.days] == [(4, 0.25)]
    for asked in (ada.functions.figures("nothing"), ada.functions.costs("nothing")):
        with pytest.raises(NotFound):
            await asked
    with pytest.raises(UserCodeFailed) as caught:
        await ada.functions.call("double", b'"fail"')
    assert caught.value.details["traceback"] == "cell line 2"
    await ada.functions.remove("double")


async def test_a_function_describes_itself(client_of: Make, platform: Platform) -> None:
    ada = client_of()
    source = "def handler(x: int) -> int:\n    'Twice.'\n    return 2 * x\n"
    await ada.functions.deploy(
        FunctionSpec(name="told", bundle=Bundle(files={"a.py": source}, entry="a:handler", digest="t"))
    )
    told = await ada.functions.openapi("told")
    assert (told["openapi"], told["info"]["description"]) == ("3.1.0", "Twice.")
    shown = told["paths"]["/"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert shown["properties"] == {"x": {"type": "integer"}}
    theirs = await client_of("eve").functions.openapi("told", owner="ada")  # an administrator sees no code
    assert "description" not in theirs["info"] and "properties" not in str(theirs["paths"])
    for who, name in (("bob", "told"), ("ada", "nothing")):
        with pytest.raises(NotFound):
            await client_of(who).functions.openapi(name, owner="ada")
    await ada.functions.remove("told")


async def test_revisions(client_of: Make, platform: Platform) -> None:
    ada, eve = client_of(), client_of("eve")
    made = [
        await ada.functions.deploy(
            FunctionSpec(name="many", bundle=Bundle(files={"a.py": text}, entry="a:x", digest=text))
        )
        for text in "abc"
    ]
    page = await ada.functions.revisions("many", limit=2)
    rest = await ada.functions.revisions("many", after=page.next)
    assert (*page.items, *rest.items) == tuple(one.revision.summary() for one in reversed(made))
    assert await ada.functions.revision("many", 2) == made[1].revision
    for _ in range(2):  # the second one as after an answer that was lost
        back = await ada.functions.rollback("many", 2, key="once")
        assert (back.revision.number, back.revision.spec) == (4, made[1].revision.spec)
    assert back.unchanged
    split = await ada.functions.traffic("many", {1: 90, 4: 10})
    assert [(one.number, one.weight) for one in split.traffic.shares] == [(1, 90), (4, 10)] and not split.traffic.latest
    other = FunctionSpec(name="many", bundle=Bundle(files={"a.py": "d"}, entry="a:x", digest="d"))
    assert (await ada.functions.deploy(other)).traffic == split.traffic  # a deploy leaves a split as it is
    ended = await ada.functions.rollback("many", 2)
    assert (ended.traffic.latest, [one.weight for one in ended.traffic.shares]) == (100, [0, 0])
    for shares in ({1: 90}, {}, {1: 101}, {"first": 100}, {1: -1, 2: 101}, {1: True, 2: 99}):
        with pytest.raises(BadInput) as caught:
            await ada.functions.traffic("many", shares)
        assert caught.value.field == "traffic"
    with pytest.raises(NotFound):
        await ada.functions.traffic("many", {77: 100})
    with pytest.raises(Denied):
        await eve.functions.traffic("many", {1: 100}, owner="ada")
    with pytest.raises(NotFound):
        await client_of("bob").functions.traffic("many", {1: 100}, owner="ada")
    assert (await ada.functions.get("many")).traffic == ended.traffic
    with pytest.raises(NotFound, match="no revision 9"):
        await ada.functions.rollback("many", 9)
    with pytest.raises(BadInput):
        await ada.functions.rollback("many", 0)
    assert (await eve.functions.revision("many", 2, owner="ada")).spec.bundle.files == {}
    with pytest.raises(Denied):
        await eve.functions.rollback("many", 1, owner="ada")
    with pytest.raises(NotFound):
        await client_of("bob").functions.revisions("many", owner="ada")
    await ada.functions.remove("many")
    with pytest.raises(NotFound):
        await ada.functions.revisions("many")


async def test_a_rollback_brings_nothing_back_that_was_removed_meanwhile(
    client_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, look = client_of(), MemoryFunctions.revision

    async def removed_meanwhile(self: MemoryFunctions, actor: Actor, owner: str, name: str, number: int) -> Revision:
        revision = await look(self, actor, owner, name, number)
        await self.remove(actor, owner, name)
        return revision

    await ada.functions.deploy(FUNCTION)
    monkeypatch.setattr(MemoryFunctions, "revision", removed_meanwhile)
    with pytest.raises(NotFound):
        await ada.functions.rollback("double", 1)
    with pytest.raises(NotFound):
        await ada.functions.get("double")


async def test_who_may_call_is_chosen_by_the_owner(client_of: Make, platform: Platform) -> None:
    ada, bob, eve = client_of(), client_of("bob"), client_of("eve")
    spec = FunctionSpec(name="open", bundle=Bundle(files={"a.py": "x"}, entry="a:x", digest="x"))
    await ada.functions.deploy(spec)
    for access in (Access(), Access(who="shared", accounts=("eve",))):
        await ada.functions.access("open", access)
        with pytest.raises(NotFound) as hidden:
            await bob.functions.get("open", owner="ada")
        with pytest.raises(NotFound) as called:
            await bob.functions.call("open", b"1", owner="ada")
        with pytest.raises(NotFound) as missing:
            await bob.functions.call("nothing", b"1", owner="ada")
        assert hidden.value.problem() == called.value.problem() == missing.value.problem()
    for access in (Access(who="shared", accounts=("bob", "ada")), Access(who="public")):
        shared = await ada.functions.access("open", access)
        assert shared.access.who == access.who and "ada" not in shared.access.accounts
        seen = await bob.functions.get("open", owner="ada")
        assert seen.address == shared.address and not seen.access.accounts  # what it takes to call it
        assert not seen.revision.spec.bundle.files and not seen.revision.spec.bundle.entry
        assert await bob.functions.call("open", b"1", owner="ada") == b"11"
        for act in (
            bob.functions.access("open", Access(who="public"), owner="ada"),
            bob.functions.keys("open", owner="ada"),
            bob.functions.add_key("open", owner="ada"),
            bob.functions.revoke_key("open", "0123456789", owner="ada"),
            bob.functions.traffic("open", {"latest": 100}, owner="ada"),
            bob.functions.calls("open", owner="ada"),
            bob.functions.revisions("open", owner="ada"),
            bob.functions.remove("open", owner="ada"),
        ):
            with pytest.raises(NotFound):
                await act
    with pytest.raises(Denied):
        await eve.functions.access("open", Access(who="public"), owner="ada")
    for wrong in (
        Access(who="shared", accounts=("nobody",)),
        Access(who="shared"),
        Access(who="public", accounts=("bob",)),
        Access(origins=("null",)),
    ):
        with pytest.raises(BadInput):
            await ada.functions.access("open", wrong)
    assert (await ada.functions.get("open")).access.who == "public"


async def test_a_key_is_told_once(client_of: Make, platform: Platform) -> None:
    ada = client_of()
    await ada.functions.deploy(FunctionSpec(name="keyed", bundle=Bundle(files={"a.py": "x"}, entry="a:x", digest="x")))
    made = [await ada.functions.add_key("keyed", label="web", calls=5, seconds=60, key="once") for _ in range(2)]
    assert made[0].key.id == made[1].key.id and made[0].secret != made[1].secret  # as after an answer that was lost
    assert (await ada.functions.keys("keyed")).items == (made[1].key,)
    stored = sharing.of(platform.journal, "ada", "keyed").keys
    assert callkeys.find(stored, made[1].secret) and not callkeys.find(stored, made[0].secret)
    assert made[1].secret not in str(platform.journal.page(sharing.SHARING))
    await ada.functions.revoke_key("keyed", made[1].key.id)
    assert not (await ada.functions.keys("keyed")).items
    with pytest.raises(NotFound):
        await ada.functions.revoke_key("keyed", made[1].key.id)
    for _ in range(callkeys.MOST):
        await ada.functions.add_key("keyed")
    with pytest.raises(BadInput, match="20 keys already"):
        await ada.functions.add_key("keyed")


async def test_runs(client_of: Make, platform: Platform) -> None:
    paths = AccountPaths(platform.settings.home, "ada")
    MemoryWorkflows.store = store = ArtifactStore(paths.artifacts, anchor=paths.root)
    digest, size = store.put(b"model")
    MemoryWorkflows.artifacts = (Artifact(name="model.bin", digest=digest, size=size),)
    ada = client_of()
    spec = RunSpec(name="train", manifest={})
    run = await ada.workflows.submit(spec, key="k1")
    assert (await ada.workflows.submit(spec, key="k1")).id == run.id
    assert (await ada.workflows.submit(spec)).id != run.id
    assert [line.text async for line in ada.workflows.logs(run.id, "s1")] == ["line 1", "line 2", "line 3"]
    with pytest.raises(NotFound):
        await take(ada.workflows.logs(run.id, "s2"), 1)
    assert b"".join([chunk async for chunk in ada.workflows.artifact(run.id, digest)]) == b"model"
    with pytest.raises(NotFound):
        await take(ada.workflows.artifact(run.id, "0" * 64), 1)
    assert (await ada.workflows.inputs(run.id, "s1")).bundle.entry == "cell:f"
    assert (await ada.workflows.spec(run.id)).manifest == {"kind": "Workflow"}
    compared = await ada.workflows.compare(run.name, steps=["s1", "s2"])
    assert {run.id} < {one.run for one in compared.rows} and compared.steps == ("s1", "s2")
    with pytest.raises(NotFound):
        await ada.workflows.compare("nothing")
    with pytest.raises(BadInput, match="limit"):
        await ada.workflows.compare(run.name, limit=0)
    with pytest.raises(NotFound):
        await ada.workflows.inputs(run.id, "s2")
    for name in ("bob", "eve"):  # content is its owner's alone
        with pytest.raises((NotFound, Denied)):
            await take(client_of(name).workflows.artifact(run.id, digest, owner="ada"), 1)
        with pytest.raises((NotFound, Denied)):
            await client_of(name).workflows.inputs(run.id, "s1", owner="ada")
        with pytest.raises((NotFound, Denied)):
            await client_of(name).workflows.spec(run.id, owner="ada")
        with pytest.raises((NotFound, Denied)):
            await client_of(name).workflows.compare(run.name, owner="ada")
    paths.artifacts.joinpath(digest[:2], digest).write_bytes(b"other")
    with pytest.raises(Conflict):
        await take(ada.workflows.artifact(run.id, digest), 1)


async def test_files(client_of: Make) -> None:
    ada = client_of()
    await ada.files.write("data/a b?#%.txt", b"hello")
    assert [one.path async for one in ada.files.all("data")] == ["data/a b?#%.txt"]
    assert b"".join([chunk async for chunk in ada.files.read("data/a b?#%.txt")]) == b"hello"
    assert (await ada.files.usage()).used == 5
    await ada.files.remove("data")
    assert [one.path async for one in ada.files.all()] == []


async def test_an_administrator_sees_outlines(client_of: Make) -> None:
    await client_of("ada").functions.deploy(FUNCTION)
    eve = client_of("eve")
    assert (await eve.functions.get("double", owner="ada")).revision.spec.bundle.files == {}
    with pytest.raises(Denied):
        await eve.functions.call("double", b"x", owner="ada")
    with pytest.raises(Denied):
        await take(eve.files.read("x", owner="ada"), 1)


async def test_accounts(client_of: Make) -> None:
    eve = client_of("eve")
    assert [one.name async for one in eve.accounts.all()] == ["ada", "bob", "eve"]
    assert (await eve.accounts.approve("bob")).state == "active"
    with pytest.raises(Denied):
        await client_of("ada").accounts.approve("bob")


async def test_a_token_for_functions(client_of: Make) -> None:
    ada = client_of()
    assert (await ada.token("functions")).text  # a fixed token stands for every audience


async def test_a_hub_token_is_exchanged_only_where_it_may(app: FastAPI, platform: Platform) -> None:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    with pytest.raises(Unavailable):  # no hub runs here to ask
        await HubToken(API, "secret", transport=transport).fetch("api")
    async with httpx.AsyncClient(transport=transport, base_url=API) as http:
        answer = await http.get("/api/v1/me", headers={"Authorization": "token secret"})
        assert answer.status_code == 401
        headers = {"Authorization": f"Bearer {bearer(platform, 'ada')}"}
        made = await http.post("/api/v1/token", json={"audience": "functions"}, headers=headers)
        refused = await http.get("/api/v1/me", headers={"Authorization": f"Bearer {made.json()['token']}"})
        assert refused.status_code == 401


class Steps(httpx.AsyncBaseTransport):
    """Answers what a script says, then what the real application says."""

    def __init__(self, *script: Any, inner: httpx.AsyncBaseTransport | None = None) -> None:
        self.script, self.inner, self.seen = list(script), inner, list[httpx.Request]()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.seen.append(request)
        if not self.script:
            assert self.inner is not None
            return await self.inner.handle_async_request(request)
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, httpx.Response) else httpx.Response(step)


class Source:
    """Gives numbered tokens and then real ones."""

    def __init__(self, platform: Platform | None = None, life: float = 600.0) -> None:
        self.count, self.platform, self.life = 0, platform, life

    async def fetch(self, audience: str) -> Token:
        self.count += 1
        text = bearer(self.platform, "ada") if self.platform and self.count > 1 else f"token-{self.count}"
        return Token(text, time.time() + self.life, "ada")


def scripted(
    *script: Any, source: Any = None, inner: Any = None, patience: float = 5.0, reading: float | None = None
) -> tuple[Client, Steps]:
    transport = Steps(*script, inner=inner)
    wire = Wire(API, source or Source(), transport=transport, patience=patience, reading=reading, account="ada")
    return Client(wire), transport


EMPTY = httpx.Response(200, json={"items": [], "next": ""})
LOST = httpx.ReadError("lost")


async def test_a_platform_that_restarts_costs_a_wait(app: FastAPI, platform: Platform) -> None:
    page = httpx.Response(503, text="<html>proxy</html>")
    inner = httpx.ASGITransport(app)
    client, steps = scripted(httpx.ConnectError("refused"), page, LOST, 401, source=Source(platform), inner=inner)
    async with client:
        assert (await client.me()).name == "ada"
    assert len(steps.seen) == 5


async def test_a_write_is_repeated_with_its_own_key(app: FastAPI, platform: Platform) -> None:
    client, steps = scripted(LOST, 503, 401, source=Source(platform), inner=httpx.ASGITransport(app))
    async with client:
        await client.workflows.submit(RunSpec(name="train", manifest={}))
    keys = {one.headers["idempotency-key"] for one in steps.seen}
    assert len(steps.seen) == 4 and len(keys) == 1


async def test_a_call_is_never_repeated_once_it_was_sent() -> None:
    client, steps = scripted(LOST, EMPTY)
    async with client:
        with pytest.raises(Unavailable):
            await client.functions.call("double", b"1")
    assert len(steps.seen) == 1


async def test_patience_ends() -> None:
    client, _ = scripted(*[503] * 50, patience=0.2)
    async with client:
        with pytest.raises(Unavailable):
            await client.services.list()


AWAY = (httpx.ConnectError("no name"), 503, httpx.ReadTimeout("slow"), 502)


async def test_what_only_reads_waits_longer() -> None:
    line = httpx.Response(200, content=b'{"offset": 20, "text": "two"}\n')
    model = httpx.Response(200, content=b"model")
    script = (*AWAY, EMPTY, *AWAY, line, *AWAY, model, *AWAY, model)
    client, _ = scripted(*script, patience=0.2, reading=20.0)
    async with client:
        assert (await client.services.list()).items == ()
        assert [one.text async for one in client.services.logs("a")] == ["two"]
        assert [one async for one in client.workflows.artifact("r", "digest")] == [b"model"]
        assert [one async for one in client.files.read("model")] == [b"model"]


async def test_a_write_and_a_limit_keep_the_short_patience() -> None:
    client, _ = scripted(*[503] * 3, httpx.Response(429, headers={"Retry-After": "5"}), patience=0.4, reading=20.0)
    async with client:
        with pytest.raises(Unavailable):
            await client.workflows.submit(RunSpec(name="train", manifest={}))
        with pytest.raises(Limited):
            await client.services.list()


async def test_content_that_is_cut_goes_on_only_if_it_cannot_have_changed() -> None:
    def cut() -> httpx.Response:
        return httpx.Response(200, content=_broken(b"mod"))

    whole = httpx.Response(200, content=b"model")
    client, _ = scripted(cut(), 503, cut(), whole, cut(), whole)
    async with client:
        assert b"".join([one async for one in client.workflows.artifact("r", "digest")]) == b"model"
        with pytest.raises(Unavailable):
            await take(client.files.read("model"), 2)


async def test_a_limit_is_obeyed_and_a_long_one_is_told() -> None:
    short = httpx.Response(429, json=Limited("wait", retry_after=0.01).problem())
    long = httpx.Response(429, headers={"Retry-After": "30"})
    client, _ = scripted(short, EMPTY, long)
    async with client:
        await client.services.list()
        with pytest.raises(Limited) as caught:
            await client.services.list()
    assert caught.value.retry_after == 30.0


async def test_a_refused_token_is_renewed_once() -> None:
    client, steps = scripted(401, EMPTY, 401, 401)
    async with client:
        await client.services.list()
        assert [one.headers["authorization"][-1] for one in steps.seen] == ["1", "2"]
        with pytest.raises(Unauthenticated):
            await client.services.list()


async def test_simultaneous_requests_share_one_renewal() -> None:
    source = Source(life=30.0)  # always too old: each asks again
    tokens = Tokens(source)
    await asyncio.gather(*(tokens.get() for _ in range(5)))
    assert source.count == 5
    fresh = Source()
    tokens = Tokens(fresh)
    await asyncio.gather(*(tokens.get() for _ in range(5)))
    assert fresh.count == 1


async def test_code_without_an_identity_is_told_so() -> None:
    with pytest.raises(Unauthenticated, match="without an identity"):
        await Tokens(NoToken()).get()


async def test_errors_come_back_as_they_were() -> None:
    error = BadValues("'port' must be a number.", field="port", details={"port": "x"})
    client, _ = scripted(httpx.Response(422, json=error.problem()))
    async with client:
        with pytest.raises(BadValues) as caught:
            await client.services.list()
    assert caught.value.problem() == error.problem()


async def test_an_answer_that_is_not_ours_is_an_error_of_ours() -> None:
    client, _ = scripted(httpx.Response(200, text="<html>"))
    async with client:
        with pytest.raises(Internal):
            await client.services.list()


async def _broken(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    raise httpx.ReadError("cut")


async def test_a_cut_log_goes_on_where_it_was_cut() -> None:
    first = httpx.Response(200, content=_broken(b'{"offset": 10, "text": "one"}\n'))
    rest = httpx.Response(200, content=b'{"offset": 20, "text": "two"}\n')
    client, steps = scripted(first, 503, rest)
    async with client:
        assert [line.text async for line in client.services.logs("a", follow=True)] == ["one", "two"]
    assert [one.url.params["after"] for one in steps.seen] == ["0", "10", "10"]


async def test_a_log_that_the_platform_cut_goes_on_where_it_was_cut() -> None:
    cut = b'{"offset": 10, "text": "The store is away.", "stream": "platform", "cut": true}\n'
    first = httpx.Response(200, content=b'{"offset": 10, "text": "one"}\n' + cut)
    rest = httpx.Response(200, content=b'{"offset": 20, "text": "two"}\n')
    client, steps = scripted(first, httpx.Response(200, content=cut), rest)
    async with client:
        assert [line.text async for line in client.services.logs("a")] == ["one", "two"]
    assert [one.url.params["after"] for one in steps.seen] == ["0", "10", "10"]
    client, _ = scripted(*[httpx.Response(200, content=cut) for _ in range(50)], patience=0.2)
    async with client:
        with pytest.raises(Unavailable, match="The store is away"):
            await take(client.services.logs("a"), 1)


EVENT = '{"cursor": %d, "at": 1.0, "kind": "run", "owner": "ada", "name": "r", "type": "asked", "body": {}}'


async def test_a_cut_watch_goes_on_where_it_was_cut() -> None:
    first = httpx.Response(
        200,
        headers={"Ropewalk-Cursor": "4"},
        content=_broken(b": from 4\n\n", f"id: 5\nevent: run\ndata: {EVENT % 5}\n\ndata: {{".encode()),
    )
    second = httpx.Response(200, content=f"data: {EVENT % 6}\n\n".encode())
    client, steps = scripted(first, 502, second)
    async with client:
        seen = await take(client.watch(["run"]), 2)
    assert [one.cursor for one in seen] == [5, 6]
    assert [one.url.params.get("after") for one in steps.seen] == [None, "5", "5"]
