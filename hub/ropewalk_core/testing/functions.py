"""What any backend of functions must do. Not here: how fast (``bench``) and how code is captured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ropewalk_core.errors import BadInput, BadName, Denied, NotFound, RopewalkError, Unsatisfiable, UserCodeFailed
from ropewalk_core.functions import roll_back
from ropewalk_core.guard import GuardedFunctions
from ropewalk_core.model import Access, Bundle, FunctionSpec, Requirements, Traffic
from ropewalk_core.placement import Placement
from ropewalk_core.ports import Functions
from ropewalk_core.testing.people import ADA, BOB, EVE, take
from ropewalk_runtime.trace import Trace

_PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class FunctionsContract:
    """Subclass it, override the fixture ``port``, and, where handlers look otherwise, ``source``."""

    entry = "cell:handler"
    source = "def handler(value):\n    return {FACTOR} * value\n"
    failing = "def handler(value):\n    raise ValueError('no good')\n"
    yielding = (
        "def handler(value):\n    for number in range(value):\n        yield number\n"
        "        if number == 2:\n            raise ValueError('no good')\n"
    )
    loading = (
        "class handler:\n    def start(self):\n        self.factor = {FACTOR}\n"
        "    def call(self, value):\n        return self.factor * value\n"
    )
    printing = "def handler(value):\n    print('first')\n    print('last')\n    return value\n"
    script = "#!/bin/sh\nread value\necho $((value * 2))\n"
    payload, answer = b"21", 42

    @pytest.fixture
    def port(self) -> Functions:
        """Return the backend, without its guard."""
        raise NotImplementedError

    @pytest.fixture
    def functions(self, port: Functions) -> GuardedFunctions:
        """Return the backend behind policy."""
        return GuardedFunctions(port)

    def spec(self, name: str = "double", *, source: str = "", factor: int = 2, **changes: Any) -> FunctionSpec:
        """Return a function that the backend can run."""
        text = (source or self.source).replace("{FACTOR}", str(factor))
        wish: dict[str, Any] = {"name": name, "bundle": Bundle(files={"cell.py": text}, entry=self.entry)}
        return FunctionSpec(**(wish | changes))

    async def test_what_was_deployed_is_there(self, functions: GuardedFunctions) -> None:
        """An acknowledged revision is seen at once, whole; lists leave its code out."""
        deployed = await functions.deploy(ADA, "ada", self.spec())
        [listed] = (await functions.list(ADA, "ada")).items
        assert listed == deployed.summary() and not listed.revision.spec.bundle.files
        seen = await functions.get(ADA, "ada", "double")
        assert seen.revision.id == deployed.revision.id
        assert seen.revision.spec.bundle.files == self.spec().bundle.files

    async def test_the_same_content_is_unchanged(self, functions: GuardedFunctions) -> None:
        """Deploying twice is deploying once; other content is another revision."""
        first = await functions.deploy(ADA, "ada", self.spec())
        again = await functions.deploy(ADA, "ada", self.spec())
        assert again.unchanged and again.revision.id == first.revision.id
        other = await functions.deploy(ADA, "ada", self.spec(factor=3))
        assert not other.unchanged and other.revision.id != first.revision.id
        assert other.revision.number > first.revision.number

    async def test_a_call_answers(self, functions: GuardedFunctions) -> None:
        """A deployed function answers, and the call is on record."""
        await functions.deploy(ADA, "ada", self.spec())
        answer = await functions.call(ADA, "ada", "double", self.payload)
        assert json.loads(answer) == self.answer
        calls = (await functions.calls(ADA, "ada", "double")).items
        assert [one.function for one in calls] == ["double"]

    async def test_calls_are_counted_and_say_what_became_of_them(self, functions: GuardedFunctions) -> None:
        """A record has its times, its sizes and its cost; figures and costs count it, and go with the function."""
        await functions.deploy(ADA, "ada", self.spec())
        answer = await functions.call(ADA, "ada", "double", self.payload, trace=Trace(_PARENT))
        [call] = (await functions.calls(ADA, "ada", "double")).items
        assert call.queued is not None and call.ended is not None and call.queued <= call.started <= call.ended
        assert (call.received, call.sent, call.traceparent) == (len(self.payload), len(answer), _PARENT)
        assert call.worker and call.gb_seconds > 0
        found = await functions.figures(ADA, "ada", "double")
        assert (found.total.calls, found.total.errors) == (1, 0) and found.total.p50 == found.total.p99 is not None
        assert [one.calls for one in (await functions.costs(ADA, "ada", "double")).days] == [1]
        await functions.remove(ADA, "ada", "double")
        await functions.deploy(ADA, "ada", self.spec())
        assert (await functions.figures(ADA, "ada", "double", window="day")).total.calls == 0
        assert (await functions.costs(ADA, "ada")).days[0].calls >= 1

    async def test_what_calls_print_is_their_owners_to_read(self, functions: GuardedFunctions) -> None:
        """A log is read by call or of all calls; a stranger learns nothing of calls, figures or costs."""
        await functions.deploy(ADA, "ada", self.spec(source=self.printing))
        await functions.call(ADA, "ada", "double", self.payload)
        [call] = (await functions.calls(ADA, "ada", "double")).items
        of_one = [line.text async for line in functions.logs(ADA, "ada", "double", call=call.id)]
        assert of_one == ["first", "last"]
        of_all = [line.text async for line in functions.logs(ADA, "ada", "double")]
        assert of_all == [f"{call.id} first", f"{call.id} last"]
        with pytest.raises(NotFound):
            await take(functions.logs(ADA, "ada", "double", call="call-none"), 1)
        for ask in (functions.figures, functions.costs, functions.calls):
            with pytest.raises(NotFound):
                await ask(BOB, "ada", "double")
        with pytest.raises(NotFound):
            await take(functions.logs(BOB, "ada", "double"), 1)

    async def test_a_new_revision_answers_next(self, functions: GuardedFunctions) -> None:
        """After a deploy is acknowledged, no call reaches the revision before."""
        await functions.deploy(ADA, "ada", self.spec())
        await functions.call(ADA, "ada", "double", self.payload)
        await functions.deploy(ADA, "ada", self.spec(factor=3))
        assert json.loads(await functions.call(ADA, "ada", "double", b"1")) == 3

    async def test_a_handler_that_raises_shows_its_owner_the_lines(self, functions: GuardedFunctions) -> None:
        """The person's own error comes back with its traceback."""
        await functions.deploy(ADA, "ada", self.spec(source=self.failing))
        with pytest.raises(UserCodeFailed) as caught:
            await functions.call(ADA, "ada", "double", self.payload)
        assert "no good" in str(caught.value.details.get("traceback", ""))

    async def test_what_is_yielded_is_answered_whole_or_not_at_all(self, functions: GuardedFunctions) -> None:
        """A generator's values are lines of JSON; one that fails in the middle is a failure."""
        await functions.deploy(ADA, "ada", self.spec(source=self.yielding))
        assert await functions.call(ADA, "ada", "double", b"2") == b"0\n1\n"
        with pytest.raises(UserCodeFailed) as caught:
            await functions.call(ADA, "ada", "double", b"9")
        assert "no good" in str(caught.value.details.get("traceback", ""))

    async def test_a_class_is_started_before_it_answers(self, functions: GuardedFunctions) -> None:
        """A class answers by its method; one that does not start is refused."""
        await functions.deploy(ADA, "ada", self.spec(source=self.loading))
        assert json.loads(await functions.call(ADA, "ada", "double", self.payload)) == self.answer
        with pytest.raises(BadInput) as caught:
            await functions.deploy(ADA, "ada", self.spec(source=self.loading.replace("{FACTOR}", "1 / 0")))
        assert "does not start" in caught.value.message

    async def test_a_program_answers_by_its_output(self, functions: GuardedFunctions) -> None:
        """A program gets the payload as its input."""
        bundle = Bundle(files={"program": self.script}, entry="program:main", form="program")
        await functions.deploy(ADA, "ada", FunctionSpec(name="double", bundle=bundle))
        assert json.loads(await functions.call(ADA, "ada", "double", self.payload)) == self.answer

    async def test_what_is_no_requirement_is_refused_by_name(self, functions: GuardedFunctions) -> None:
        """Lines are read before anything is built; a Python that is not there is refused too."""
        for line in ("-e .", "https://example.org/package.whl", "pandas=2"):
            with pytest.raises(BadInput) as caught:
                await functions.deploy(ADA, "ada", self.spec(requirements=("numpy", line)))
            assert caught.value.field == "requirements" and line in caught.value.message
        with pytest.raises(BadInput) as caught:
            await functions.deploy(ADA, "ada", self.spec(requires_python=">=9"))
        assert caught.value.field == "requires_python"
        assert (await functions.list(ADA, "ada")).items == ()
        with pytest.raises(NotFound):
            functions.prepare(BOB, "ada", Requirements(requirements=("numpy",)))

    async def test_code_that_does_not_compile_changes_nothing(self, functions: GuardedFunctions) -> None:
        """A broken cell is refused, and the revision before stays."""
        first = await functions.deploy(ADA, "ada", self.spec())
        with pytest.raises(BadInput):
            await functions.deploy(ADA, "ada", self.spec(source="def handler(:\n"))
        assert (await functions.get(ADA, "ada", "double")).revision.id == first.revision.id
        assert [one.id for one in (await functions.revisions(ADA, "ada", "double")).items] == [first.revision.id]

    async def test_accepted_revisions_are_kept(self, functions: GuardedFunctions) -> None:
        """They are listed newest first without code, in pages; each is there whole, but not for others."""
        first = await functions.deploy(ADA, "ada", self.spec())
        second = await functions.deploy(ADA, "ada", self.spec(factor=3))
        kept = await functions.revisions(ADA, "ada", "double")
        assert kept.items == (second.revision.summary(), first.revision.summary()) and not kept.next
        page = await functions.revisions(ADA, "ada", "double", limit=1)
        rest = await functions.revisions(ADA, "ada", "double", limit=1, after=page.next)
        assert (*page.items, *rest.items) == kept.items and not rest.next
        for one in (first, second):
            assert await functions.revision(ADA, "ada", "double", one.revision.number) == one.revision
        with pytest.raises(NotFound):
            await functions.revision(ADA, "ada", "double", second.revision.number + 1)
        with pytest.raises(BadInput):
            await functions.revisions(ADA, "ada", "double", after="double")
        assert not (await functions.revision(EVE, "ada", "double", first.revision.number)).spec.bundle.files
        assert (await functions.revisions(EVE, "ada", "double")).items[0].spec.bundle.entry == ""

    async def test_rolling_back_is_deploying_again(self, functions: GuardedFunctions) -> None:
        """What an old revision was is tried and served as a new one, and the one in between stays."""
        first = await functions.deploy(ADA, "ada", self.spec())
        second = await functions.deploy(ADA, "ada", self.spec(factor=3))
        old = await functions.revision(ADA, "ada", "double", first.revision.number)
        back = await functions.deploy(ADA, "ada", old.spec, existing=True)
        assert not back.unchanged and back.revision.number > second.revision.number
        assert (back.revision.id, back.revision.spec) == (first.revision.id, first.revision.spec)
        assert json.loads(await functions.call(ADA, "ada", "double", self.payload)) == self.answer
        kept = (await functions.revisions(ADA, "ada", "double")).items
        assert kept == tuple(one.revision.summary() for one in (back, second, first))
        assert (await functions.deploy(ADA, "ada", old.spec)).unchanged

    async def test_calls_are_split_as_wished(self, functions: GuardedFunctions) -> None:
        """All calls of a share of 100 go there; of halves some go to each; a deploy changes nothing about it."""
        first = await functions.deploy(ADA, "ada", self.spec())
        second = await functions.deploy(ADA, "ada", self.spec(factor=3))
        split = await functions.traffic(ADA, "ada", "double", {1: 100, 2: 0})
        shares = split.traffic.shares
        assert [(one.number, one.revision, one.weight) for one in shares] == [
            (1, first.revision.id, 100),
            (2, second.revision.id, 0),
        ]
        assert await functions.get(ADA, "ada", "double") == split and split.revision == second.revision
        assert json.loads(await functions.call(ADA, "ada", "double", self.payload)) == self.answer
        third = await functions.deploy(ADA, "ada", self.spec(factor=4))
        assert third.traffic == split.traffic and third.revision.number == 3
        assert json.loads(await functions.call(ADA, "ada", "double", self.payload)) == self.answer
        await functions.traffic(ADA, "ada", "double", {0: 50, 1: 50})
        seen = {await functions.call(ADA, "ada", "double", b"1") for _ in range(40)}
        assert {json.loads(one) for one in seen} == {2, 4}
        await functions.traffic(ADA, "ada", "double", {0: 100})
        assert json.loads(await functions.call(ADA, "ada", "double", b"1")) == 4

    async def test_a_rollback_ends_a_split(self, functions: GuardedFunctions) -> None:
        """Who goes back wants all calls to go there, also where what is gone back to is the latest already."""
        await functions.deploy(ADA, "ada", self.spec())
        await functions.deploy(ADA, "ada", self.spec(factor=3))
        for number in (1, 3):
            await functions.traffic(ADA, "ada", "double", {0: 0, 2: 100})
            assert json.loads(await functions.call(ADA, "ada", "double", b"1")) == 3
            back = await roll_back(functions, ADA, "ada", "double", number)
            assert (back.traffic.latest, back.revision.number, back.unchanged) == (100, 3, number == 3)
            assert json.loads(await functions.call(ADA, "ada", "double", b"1")) == 2

    async def test_a_wrong_split_changes_nothing(self, functions: GuardedFunctions) -> None:
        """Shares that do not add up, revisions that are not kept, and strangers are refused."""
        await functions.deploy(ADA, "ada", self.spec())
        before = await functions.get(ADA, "ada", "double")
        wrong = {BadInput: ({}, {1: 99}, {0: 50, 1: 51}, {-1: 100}), NotFound: ({7: 100}, {0: 100, 7: 0})}
        for error, wishes in wrong.items():
            for weights in wishes:
                with pytest.raises(error):
                    await functions.traffic(ADA, "ada", "double", weights)
        for who, error in ((BOB, NotFound), (EVE, Denied)):
            with pytest.raises(error):
                await functions.traffic(who, "ada", "double", {1: 100})
        with pytest.raises(NotFound):
            await functions.traffic(ADA, "ada", "nothing", {0: 100})
        assert await functions.get(ADA, "ada", "double") == before

    async def test_revisions_that_take_calls_are_gone_with_the_function(self, functions: GuardedFunctions) -> None:
        """A function of the same name that comes later knows nothing of them."""
        await functions.deploy(ADA, "ada", self.spec())
        await functions.deploy(ADA, "ada", self.spec(factor=3))
        await functions.traffic(ADA, "ada", "double", {1: 100})
        await functions.remove(ADA, "ada", "double")
        again = await functions.deploy(ADA, "ada", self.spec(factor=5))
        assert again.traffic == Traffic() and again.revision.number == 1
        assert json.loads(await functions.call(ADA, "ada", "double", b"1")) == 5

    async def test_the_owner_says_who_may_call(self, functions: GuardedFunctions) -> None:
        """Nobody else may until they say so; a deploy changes nothing about it, and what is taken away is gone."""
        assert (await functions.deploy(ADA, "ada", self.spec())).access == Access()
        shared = await functions.access(ADA, "ada", "double", Access(who="shared", accounts=("bob",)))
        assert (
            shared.access.accounts == ("bob",) and (await functions.get(ADA, "ada", "double")).access == shared.access
        )
        assert [one.access for one in (await functions.list(ADA, "ada")).items] == [shared.access]
        assert json.loads(await functions.call(BOB, "ada", "double", self.payload)) == self.answer
        seen = await functions.get(BOB, "ada", "double")
        assert seen.address == shared.address and not seen.revision.spec.bundle.files
        with pytest.raises(NotFound):
            await functions.remove(BOB, "ada", "double")
        again = await functions.deploy(ADA, "ada", self.spec(factor=3))
        assert again.access == shared.access and json.loads(await functions.call(BOB, "ada", "double", b"1")) == 3
        [call, *_] = (await functions.calls(ADA, "ada", "double")).items
        assert call.caller == "bob"
        await functions.access(ADA, "ada", "double", Access())
        with pytest.raises(NotFound):
            await functions.call(BOB, "ada", "double", b"1")
        with pytest.raises(NotFound):
            await functions.get(BOB, "ada", "double")

    async def test_access_and_keys_are_gone_with_the_function(self, functions: GuardedFunctions) -> None:
        """A function of the same name that comes later is private and has no keys."""
        await functions.deploy(ADA, "ada", self.spec())
        await functions.access(ADA, "ada", "double", Access(who="public"))
        made = await functions.add_key(ADA, "ada", "double", label="web", calls=5, seconds=60)
        assert (await functions.keys(ADA, "ada", "double")).items == (made.key,)
        await functions.remove(ADA, "ada", "double")
        with pytest.raises(NotFound):
            await functions.keys(ADA, "ada", "double")
        assert (await functions.deploy(ADA, "ada", self.spec())).access == Access()
        assert (await functions.keys(ADA, "ada", "double")).items == ()
        with pytest.raises(NotFound):
            await functions.call(BOB, "ada", "double", self.payload)

    async def test_a_revoked_key_is_gone(self, functions: GuardedFunctions) -> None:
        """Keys are listed without their secrets, and end one by one; nobody else sees or makes any."""
        await functions.deploy(ADA, "ada", self.spec())
        made = [await functions.add_key(ADA, "ada", "double", calls=5, seconds=60) for _ in range(2)]
        assert made[0].secret != made[1].secret and all(one.key.id in one.secret for one in made)
        await functions.revoke_key(ADA, "ada", "double", made[0].key.id)
        assert (await functions.keys(ADA, "ada", "double")).items == (made[1].key,)
        with pytest.raises(NotFound):
            await functions.revoke_key(ADA, "ada", "double", made[0].key.id)
        for who, error in ((BOB, NotFound), (EVE, Denied)):
            with pytest.raises(error):
                await functions.keys(who, "ada", "double")
            with pytest.raises(error):
                await functions.add_key(who, "ada", "double", calls=5, seconds=60)
            with pytest.raises(error):
                await functions.access(who, "ada", "double", Access(who="public"))

    async def test_somebody_elses_is_not_found(self, functions: GuardedFunctions) -> None:
        """A stranger learns nothing, calls nothing and changes nothing."""
        await functions.deploy(ADA, "ada", self.spec())
        with pytest.raises(NotFound):
            await functions.get(BOB, "ada", "double")
        with pytest.raises(NotFound):
            await functions.call(BOB, "ada", "double", self.payload)
        with pytest.raises(NotFound):
            await functions.remove(BOB, "ada", "double")
        with pytest.raises(NotFound):
            await functions.calls(BOB, "ada", "double")
        with pytest.raises(NotFound):
            await functions.revisions(BOB, "ada", "double")
        with pytest.raises(NotFound):
            await functions.revision(BOB, "ada", "double", 1)

    async def test_lists_have_pages(self, functions: GuardedFunctions) -> None:
        """Pages follow each other by name and leave nothing out."""
        for name in ("c", "a", "b"):
            await functions.deploy(ADA, "ada", self.spec(name))
        first = await functions.list(ADA, "ada", limit=2)
        rest = await functions.list(ADA, "ada", after=first.next, limit=2)
        assert [one.name for one in (*first.items, *rest.items)] == ["a", "b", "c"]
        assert first.next and not rest.next

    async def test_what_was_removed_is_not_found(self, functions: GuardedFunctions) -> None:
        """A removed function is gone for everybody, with its revisions."""
        gone = await functions.deploy(ADA, "ada", self.spec())
        await functions.remove(ADA, "ada", "double")
        with pytest.raises(NotFound):  # whoever rolls back may have looked before
            await functions.deploy(ADA, "ada", gone.revision.spec, existing=True)
        with pytest.raises(NotFound):
            await functions.get(ADA, "ada", "double")
        with pytest.raises(NotFound):
            await functions.call(ADA, "ada", "double", self.payload)
        with pytest.raises(NotFound):
            await functions.remove(ADA, "ada", "double")
        with pytest.raises(NotFound):
            await functions.revisions(ADA, "ada", "double")
        again = await functions.deploy(ADA, "ada", self.spec(factor=3))
        assert (await functions.revisions(ADA, "ada", "double")).items == (again.revision.summary(),)

    @pytest.mark.parametrize(
        ("changes", "error"),
        [({"name": "Not A Name"}, BadName), ({"placement": Placement(arch=("riscv64",))}, Unsatisfiable)],
        ids=["name", "placement"],
    )
    async def test_a_wrong_wish_leaves_nothing(
        self, functions: GuardedFunctions, changes: dict[str, Any], error: type[RopewalkError]
    ) -> None:
        """What cannot be granted is refused at once, by field."""
        with pytest.raises(error) as caught:
            await functions.deploy(ADA, "ada", self.spec(**changes))
        assert caught.value.field
        assert (await functions.list(ADA, "ada")).items == ()

    async def test_a_watch_resumes_after_its_cursor(self, functions: GuardedFunctions) -> None:
        """Whoever comes back with a cursor misses nothing and sees nothing twice."""
        await functions.deploy(ADA, "ada", self.spec("a"))
        [(_, cursor)] = await take(functions.watch(ADA, "ada"), 1)
        await functions.deploy(ADA, "ada", self.spec("b"))
        seen = await take(functions.watch(ADA, "ada", after=cursor), 1)
        assert all(later > cursor for _, later in seen)
