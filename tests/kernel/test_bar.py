"""The line of progress: under a cell, in a terminal, and nowhere else."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

import pytest

from ropewalk_kernel import bar, cards, functions
from ropewalk_kernel.bar import Bar
from tests.kernel.conftest import Notebook
from tests.kernel.fake import FakePlatform
from tests.kernel.test_calls import Gateway, gateway  # noqa: F401 - a fixture
from tests.kernel.test_functions import DOUBLE


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar, "EVERY", 0.0)


def test_what_the_line_says() -> None:
    half = cards.progress("double", 5_000, 10_000, 10.0, failed=3, held_back=2)
    assert half.text == "double: 5,000 of 10,000 calls, 10.0 s, 500/s, 10.0 s left, 3 failed, 2 wait for room"
    assert '<progress max="10000" value="5000">' in half.html and "500/s, 10.0 s left" in half.html
    assert cards.progress("double", 12, None, 4.0).text == "double: 12 calls, 4.0 s, 3.0/s"
    assert cards.progress("double", 0, 8, 0.0).text == "double: 0 of 8 calls, 0 ms"
    assert cards.progress("double", 0, 0, 0.0, ended="done").text == "double: 0 calls, 0 ms"
    assert cards.progress("double", 8, 8, 2.0, ended="done").text == "double: 8 calls, 2.0 s, 4.0/s"
    assert cards.progress("double", 5, 8, 2.0, ended="stopped").text.startswith("double: stopped after 5 of 8 calls")
    assert "<b>" not in cards.progress("<b>", 1, 2, 1.0).html


def test_a_terminal_gets_one_line_written_over(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    line = Bar("double", 3)
    line.show(1)
    line.show(2)
    line.end(3, over=True)
    written = terminal.getvalue()
    assert written.count("\r") == 3 and written.count("\n") == 1
    assert "\rdouble: 3 calls" in written and written.endswith("\x1b[K\n")


def test_what_is_no_terminal_gets_nothing(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    line = Bar("double", 3)
    line.show(1)
    line.end(3, over=True)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.fixture
def deployed(platform: FakePlatform, notebook: Notebook, gateway: Gateway) -> Iterator[Notebook]:  # noqa: F811
    """A notebook with a function whose address is that of the small gateway, which answers with what it is sent."""
    notebook.run(DOUBLE)
    known = platform.functions["double"]
    platform.functions["double"] = known.model_copy(update={"address": gateway.address})
    notebook.run("import asyncio, itertools, ropewalk\nfound = ropewalk.functions.get('double')")
    yield notebook


def test_a_cell_shows_one_line_that_moves_and_stays(deployed: Notebook, quick: None) -> None:
    deployed.run("got = [one['args'][0] for one in found.map(range(30))]")
    assert deployed.errors == [] and deployed.value("got") == list(range(30))
    said = [one["text/plain"] for one in deployed.updates]
    assert said[-1].startswith("double: 30 calls") and len(said) > 2
    assert any(" of 30 calls" in one for one in said[:-1])
    assert "<progress" in deployed.updates[-1]["text/html"]


def test_a_cell_may_show_no_line_and_leave_early(deployed: Notebook, quick: None) -> None:
    deployed.run("got = list(found.map([1, 2], [3, 4, 5], progress=False))")
    assert [one["args"] for one in deployed.value("got")] == [[1, 3], [2, 4]]
    assert deployed.updates == []
    deployed.run("for one in found.map(itertools.count()):\n    if one['args'] == [5]:\n        break\n")
    assert deployed.errors == []
    assert deployed.updates[-1]["text/plain"].startswith("double: stopped after ")


def test_a_cell_awaits_calls(deployed: Notebook) -> None:
    deployed.run("one, two = await asyncio.gather(found.aio(1), found.aio(x=2))")
    assert deployed.errors == []
    assert deployed.value("one")["args"] == [1] and deployed.value("two")["kwargs"] == {"x": 2}


def test_a_failed_call_is_told_with_its_place(deployed: Notebook) -> None:
    deployed.run("list(found.map([1, {2j}]))")
    [said] = deployed.errors
    assert "RW-BAD-INPUT" in said and "This was item 1 of map, counted from 0." in said


@pytest.mark.parametrize(
    ("cell", "field"),
    [
        ("found.map()", "iterables"),
        ("found.map([1], workers=0)", "workers"),
        ("found.map([1], workers=257)", "workers"),
        ("found.map([1], workers='all')", "workers"),
        ("found.map([1], on_error='ignore')", "on_error"),
    ],
)
def test_wrong_use_is_said_at_once(deployed: Notebook, cell: str, field: str) -> None:
    deployed.run(cell)
    [said] = deployed.errors
    assert "RW-BAD-INPUT" in said and f"Where: {field}" in said


def test_as_many_calls_as_the_function_takes(
    deployed: Notebook, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []

    class Lanes(functions.mapping.Lanes):
        def __init__(self, send: object, count: int, *, go_on: bool) -> None:
            counts.append(count)
            super().__init__(send, count, go_on=go_on)  # type: ignore[arg-type]

    monkeypatch.setattr(functions.mapping, "Lanes", Lanes)
    known = platform.functions["double"]
    for workers, concurrency in ((4, 1), (3, 8), (64, 64)):
        spec = known.revision.spec.model_copy(update={"max_workers": workers, "concurrency": concurrency})
        revision = known.revision.model_copy(update={"spec": spec})
        changed = platform.functions["double"].model_copy(update={"revision": revision})
        platform.functions["double"] = changed
        assert len(list(itertools.islice(deployed.value("found").map([1], progress=False), 1))) == 1
    assert counts == [4, 24, 256]


def test_tab_and_help_know_them(deployed: Notebook) -> None:
    assert {"aio", "map", "local"} <= set(dir(deployed.value("found")))
    shell = deployed.shell
    for name in ("aio", "map"):
        text = shell.object_inspect_text(f"found.{name}")
        assert "Examples" in text and "double." in text
