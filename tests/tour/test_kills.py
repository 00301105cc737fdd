"""What is killed during the tour, and what is done again for it; nothing is killed here."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from playwright.sync_api import Error

from tests.cluster.layout import ClusterError
from tests.tour import __main__ as tour_module
from tests.tour import kills as kills_module
from tests.tour.__main__ import Tour
from tests.tour.kills import LEAST, MOST, PARTS, POD, PROCESS, Kill, Kills, Notebooks, first_process, plan
from tests.tour.promises import Ledger


class Victims:
    """Parts that are back at once."""

    def __init__(self, wrong: str = "") -> None:
        self.killed: list[Kill] = []
        self.waited, self.wrong = 0, wrong
        self.all_killed = threading.Event()

    def kill(self, kill: Kill) -> None:
        self.killed.append(kill)
        if len(self.killed) == MOST * len(PARTS):
            self.all_killed.set()

    def harmed(self) -> str:
        return self.wrong if self.killed else ""

    def whole(self, seconds: float = 0) -> None:
        self.waited += 1


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kills_module, "_PAUSE", (0.0, 0.0))
    monkeypatch.setattr(kills_module, "_STUCK", 0.05)
    monkeypatch.setattr(tour_module, "BUILD", tmp_path)


def quiet(_line: str) -> None:
    pass


def touring(kills: Kills | None) -> Tour:
    nothing = SimpleNamespace(on=lambda *_: None, screenshot=lambda **_: None)
    platform = cast(Any, SimpleNamespace(kills=kills, patience=1))
    return Tour(platform, cast(Any, SimpleNamespace(new_page=lambda: nothing)), Ledger())


@pytest.mark.parametrize("seed", range(20))
def test_a_seed_says_everything_and_no_part_is_spared(seed: int) -> None:
    kills = plan(seed)
    assert kills == plan(seed)
    soon = Counter((one.part, one.how) for one in kills[: LEAST * len(PARTS)])
    assert soon == {(part, how): LEAST // 2 for part in PARTS for how in (PROCESS, POD)}
    assert Counter(one.part for one in kills) == dict.fromkeys(PARTS, MOST)


def test_another_seed_kills_otherwise() -> None:
    assert len({plan(seed) for seed in range(20)}) == 20


def test_it_kills_beside_what_is_done_and_ends() -> None:
    victims = Victims()
    kills = Kills(victims, 4, quiet)
    with kills.going_on():
        kills.doing = "cell result"
        assert victims.all_killed.wait(20)
    assert [(one.part, one.how) for one in victims.killed] == [(one.part, one.how) for one in plan(4)]
    assert not kills.problems and not kills.lacking and not kills.lives
    assert "seed 4" in kills.told[0] and "hub 4 times" in list(kills.lines())[-1]


def test_the_walk_goes_on_between_two_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills_module, "_STUCK", 60.0)
    victims = Victims()
    kills = Kills(victims, 4, quiet)
    kills.doing = "cell 0"
    with kills.going_on():
        for number in range(3):
            kills.doing = f"cell {number}"
            while len(victims.killed) <= number:
                threading.Event().wait(0.01)
            threading.Event().wait(0.3)
            assert len(victims.killed) == number + 1


def test_it_says_what_was_killed_too_seldom_and_what_was_harmed() -> None:
    victims = Victims("notebooks were started again: ropewalk--ada")
    kills = Kills(victims, 4, quiet)
    with kills.going_on():
        assert victims.all_killed.wait(20)
    assert kills.problems[0] == f"after {plan(4)[0].part} was killed: notebooks were started again: ropewalk--ada"
    kills = Kills(Victims(), 4, quiet)
    kills._enough.set()  # the walk is over before it began
    with kills.going_on():
        pass
    assert kills.problems == ["killed less than 2 times: hub, platform, gateway, tenancy"]


def test_what_befalls_a_notebook_after_the_last_kill_is_seen_too() -> None:
    victims = Victims()
    kills = Kills(victims, 4, quiet)
    with kills.going_on():
        assert victims.all_killed.wait(20)
        until_over(kills)
        victims.wrong = "notebooks are gone: ropewalk--ada/jupyter"
    assert kills.problems == [f"after {plan(4)[-1].part} was killed: notebooks are gone: ropewalk--ada/jupyter"]


def until_over(kills: Kills) -> None:
    while kills.lives:
        threading.Event().wait(0.01)


def pod(uid: str, *, restarts: int = 0, ready: bool = True, phase: str = "Running", ending: bool = False) -> Any:
    ended = {"deletionTimestamp": "2026-11-22T02:00:00Z"} if ending else {}
    return {
        "metadata": {"namespace": "ropewalk--ada", "name": "jupyter", "uid": uid} | ended,
        "status": {"phase": phase, "containerStatuses": [{"restartCount": restarts, "ready": ready}]},
    }


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ([[], [pod("a")], [pod("a")], [pod("a", ready=False)]], ""),
        ([[pod("a")], []], "notebooks are gone: ropewalk--ada/jupyter"),
        ([[pod("a")], [pod("a", ending=True)]], "notebooks are gone: ropewalk--ada/jupyter"),
        ([[pod("a")], [pod("a", phase="Failed")]], "notebooks are gone: ropewalk--ada/jupyter"),
        ([[pod("a")], [], [pod("b")], [pod("b")]], "notebooks are gone: ropewalk--ada/jupyter"),
        ([[pod("a")], [pod("b")], [pod("b")]], "notebooks were started again: ropewalk--ada/jupyter"),
        ([[pod("a")], [pod("a", restarts=1)]], "notebooks were started again: ropewalk--ada/jupyter"),
        ([[pod("a", ready=False)], [], [pod("b", ready=False)], [pod("c")], [pod("c")]], ""),  # nobody was in it yet
    ],
)
def test_a_notebook_stays_what_it_was_once_it_was_ready(looks: list[list[Any]], said: str) -> None:
    notebooks = Notebooks()
    assert [one for look in looks if (one := notebooks.harmed(look))] == ([said] if said else [])


def test_what_fails_beside_a_kill_is_done_again_and_counted() -> None:
    victims = Victims()
    kills = Kills(victims, 4, quiet)
    kills._excused = float("inf")
    tour, tries = touring(kills), list[bool]()

    def errand() -> None:
        tries.append(tour.tried)
        if len(tries) == 1:
            raise Error("503 Service Unavailable")
        tour.ledger.see("pages", len(tries) == 3, "no heading")

    assert tour.step("dashboard pages", errand)
    assert tries == [False, True, True] and not tour.tried
    assert not tour.problems and "pages" in tour.ledger.kept
    assert kills.repeated == ["dashboard pages"] * 2 and victims.waited == 2
    assert "503 Service Unavailable" in kills.told[0] and "no heading" in kills.told[1]


def test_what_fails_again_and_again_is_a_problem() -> None:
    kills = Kills(Victims(), 4, quiet)
    kills._excused = float("inf")
    tour, tries = touring(kills), list[bool]()

    def errand() -> None:
        tries.append(tour.tried)
        raise Error("503")

    assert not tour.step("save", errand)
    assert len(tries) == tour_module.TRIES and tour.problems == ["save: 503"]


@pytest.mark.parametrize("killing", [False, True])
def test_what_fails_by_itself_is_not_done_again(killing: bool) -> None:
    kills = Kills(Victims(), 4, quiet) if killing else None
    tour, tries = touring(kills), list[bool]()

    def errand() -> None:
        tries.append(tour.tried)
        tour.ledger.see("saved", False, "a token is in the notebook")
        raise AssertionError("wrong")

    assert not tour.step("save", errand)
    assert tries == [False] and tour.problems == ["save: wrong"]


def test_only_a_cell_that_is_run_again_may_find_its_work_done() -> None:
    ledger, said = Ledger(), "function digits: unchanged, revision 1 http://digits--fn--ada.localhost"
    ledger.read("function", said)
    assert "deploy" in ledger.broken
    ledger.read("function", said, again=True)
    assert "deploy" in ledger.kept and not ledger.broken


def test_the_first_process_of_a_container_is_found(tmp_path: Path) -> None:
    for process, container, numbers in ((10, "aa", "10 1"), (11, "bb", "11 2"), (12, "bb", "12 1")):
        (tmp_path / str(process)).mkdir()
        (tmp_path / str(process) / "cgroup").write_text(f"4:memory:/kubepods/pod1/{container}\n")
        (tmp_path / str(process) / "status").write_text(f"Name:\tpython\nNSpid:\t{numbers}\nNSsid:\t1\n")
    assert first_process("bb", tmp_path) == 12
    with pytest.raises(ClusterError):
        first_process("cc", tmp_path)
