"""The revisions of functions that the journal keeps: which, in which order, and which go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropewalk_core import history
from ropewalk_core.errors import BadInput, NotFound
from ropewalk_core.history import CODE, KEPT, REVISION
from ropewalk_core.journal import Journal
from ropewalk_core.model import Bundle, Function, FunctionSpec, Revision, Share, State, Status, Traffic


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    one = Journal(tmp_path / "journal.db")
    yield one
    one.close()


def made(
    number: int, name: str = "double", owner: str = "ada", state: State = State.RUNNING, more: str = ""
) -> Function:
    bundle = Bundle(
        files={"cell.py": f"x = {number}\n{more}"}, entry="cell:x", origin={"cell.py": "cell [1]:1"}, digest="d"
    )
    revision = Revision(id=f"r{number}", number=number, spec=FunctionSpec(name=name, bundle=bundle))
    return Function(owner=owner, name=name, revision=revision, status=Status(state=state))


def accept(journal: Journal, function: Function, before: Function | None = None) -> Function:
    journal.write_now(*history.keeping(journal, function, before))
    return function


def numbers(journal: Journal, function: Function) -> list[int]:
    found, after = [], ""
    while True:
        page = history.page(journal, function, after, 7)
        found += [one.number for one in page.items]
        if not (after := page.next):
            return found


def test_the_latest_are_kept_also_where_numbers_are_missing(journal: Journal) -> None:
    kept: list[int] = []
    for number in [*range(1, 40), *range(45, 80), 99, *range(101, 130)]:
        latest = accept(journal, made(number))
        kept = [number, *kept][:KEPT]
        assert len(journal.page(REVISION)) == len(journal.page(CODE)) == len(kept)
    assert numbers(journal, latest) == kept
    assert history.find(journal, latest, kept[-1]) == made(kept[-1]).revision.model_copy(
        update={"created": history.find(journal, latest, kept[-1]).created}
    )
    with pytest.raises(NotFound, match="no revision 1 of 'double'"):
        history.find(journal, latest, 1)


def test_the_code_that_is_kept_has_a_bound(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEPT_BYTES", 10_000)
    for number in range(1, 9):
        latest = accept(journal, made(number, more="#" * 2_400))
        assert sum(len(json.dumps(one.body)) for one in journal.page(CODE)) <= 10_000
    assert numbers(journal, latest) == [8, 7, 6]
    accept(journal, made(9, "other"))
    for number, more, left in (
        (10, "", [10, 8, 7, 6]),
        (11, "\1" * 1_500, [11, 10]),  # what is escaped counts as what it takes
        (12, "#" * 10_000, [12]),  # the one that serves stays
        (13, "", [13]),
    ):
        latest = accept(journal, made(number, more=more))
        assert numbers(journal, latest) == left
        assert len(journal.page(REVISION)) == len(journal.page(CODE)) == len(left) + 1
        assert history.find(journal, latest, number).spec == latest.revision.spec
    with pytest.raises(NotFound, match="no revision 12"):
        history.find(journal, latest, 12)


def test_a_large_function_that_is_older_than_its_history_is_not_written_down(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "KEPT_BYTES", 10_000)
    new = accept(journal, made(6), made(5, more="#" * 10_000))
    assert numbers(journal, new) == [6]


def test_revisions_that_were_chosen_stay(journal: Journal) -> None:
    accept(journal, made(1))
    shares = (Share(number=1, revision="r1", weight=90),)
    latest = made(1)
    for number in range(2, KEPT + 20):
        latest = accept(journal, made(number).model_copy(update={"traffic": Traffic(latest=10, shares=shares)}))
    kept = numbers(journal, latest)
    assert kept[-1] == 1 and len(kept) == KEPT + 1
    assert history.find(journal, latest, 1).spec.bundle.files == {"cell.py": "x = 1\n"}
    assert history.summary(journal, "ada", "double", 1) == history.find(journal, latest, 1).summary()
    assert history.summary(journal, "ada", "double", 2) is None
    latest = accept(journal, made(KEPT + 20))
    assert len(numbers(journal, latest)) == KEPT and not history.summary(journal, "ada", "double", 1)


def test_functions_with_names_alike_and_other_owners_stay_apart(journal: Journal) -> None:
    several = [made(number, name) for name in ("a", "a-b", "ab", "a0", "b") for number in (1, 2, 12)]
    others = [made(7, "a", owner="bob"), made(8, "a", owner="ad")]
    for one in (*several, *others):
        accept(journal, one)
    for one in several:
        assert numbers(journal, one) == [12, 2, 1]
    journal.write_now(*history.forgetting(journal, "ada", "a"))
    assert numbers(journal, made(3, "a-b")) == numbers(journal, made(3, "ab")) == [12, 2, 1]
    assert numbers(journal, others[0]) == [7] and numbers(journal, others[1]) == [8]
    assert not [one for one in journal.page(CODE, "ada") if one.name.startswith("a/")]


def test_a_function_older_than_its_history_has_one_revision(journal: Journal) -> None:
    old = made(5)
    assert history.page(journal, old, "", 50).items == (old.revision.summary(),)
    assert history.find(journal, old, 5) == old.revision
    assert history.page(journal, old, "5", 50).items == ()
    new = accept(journal, made(6), old)
    assert numbers(journal, new) == [6, 5]
    assert history.find(journal, new, 5) == old.revision
    later = accept(journal, made(7), made(6))
    assert numbers(journal, later) == [7, 6, 5]


@pytest.mark.parametrize("state", [State.ASKED, State.WAITING, State.STARTING, State.FAILED])
def test_what_is_only_tried_is_no_revision(journal: Journal, state: State) -> None:
    tried = made(1, state=state)
    assert history.page(journal, tried, "", 50).items == ()
    with pytest.raises(NotFound):
        history.find(journal, tried, 1)
    assert numbers(journal, accept(journal, made(2), tried)) == [2]


def test_accepting_the_same_again_keeps_it_once(journal: Journal) -> None:
    old = made(3)
    assert numbers(journal, accept(journal, old, old)) == [3]
    assert numbers(journal, accept(journal, old, old)) == [3]


@pytest.mark.parametrize("after", ["x", "-1", "1.0", "²", " 3", "a/00000001"])
def test_a_page_that_cannot_be_is_refused(journal: Journal, after: str) -> None:
    with pytest.raises(BadInput):
        history.page(journal, made(1), after, 50)


def test_numbers_out_of_bounds_find_nothing_and_break_nothing(journal: Journal) -> None:
    one = accept(journal, made(1))
    for number in (0, -1, 10**8, 10**200):
        with pytest.raises(NotFound):
            history.find(journal, one, number)
    assert [found.number for found in history.page(journal, one, "9" * 200, -5).items] == [1]
    assert history.page(journal, one, "0", 50).items == ()


NAMES = st.sampled_from(["a", "a-1", "a1", "b"])


@given(st.lists(st.tuples(NAMES, st.sampled_from(["accept", "skip", "remove"])), max_size=60))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_kept_follows_what_was_accepted(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, str]]
) -> None:
    journal, kept, last = Journal(tmp_path_factory.mktemp("home") / "journal.db"), dict[str, list[int]](), 0
    try:
        for name, act in acts:
            last += 1
            if act == "accept":
                accept(journal, made(last, name))
                kept[name] = [last, *kept.get(name, [])][:KEPT]
            elif act == "remove":
                journal.write_now(*history.forgetting(journal, "ada", name))
                kept.pop(name, None)
            for one, expected in kept.items():
                assert numbers(journal, made(last + 1, one)) == expected
        assert len(journal.page(REVISION)) == len(journal.page(CODE)) == sum(map(len, kept.values()))
    finally:
        journal.close()


def test_environments_of_requirements_are_told_by_account(journal: Journal) -> None:
    for number, lines, environment in [(1, (), "own"), (2, ("numpy",), "k2"), (3, ("numpy",), "k3")]:
        one = made(number)
        spec = one.revision.spec.model_copy(update={"requirements": lines})
        revision = one.revision.model_copy(update={"spec": spec, "environment": environment})
        accept(journal, one.model_copy(update={"revision": revision}))
    assert history.environments(journal, "ada") == {"k2", "k3"} and history.environments(journal, "bob") == set()
