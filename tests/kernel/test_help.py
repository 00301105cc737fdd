"""What `?` shows: an example for every magic and function, and each runs when pasted."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator

import pytest

import ropewalk
from tests.kernel.conftest import Notebook
from tests.kernel.fake import FakePlatform

COLLECTIONS = (ropewalk.functions, ropewalk.runs, ropewalk.services)


def documented() -> Iterator[tuple[str, object]]:
    yield "function", ropewalk.function
    yield "submit", ropewalk.submit
    for one in COLLECTIONS:
        yield type(one).__name__, type(one)
        for name, method in inspect.getmembers(one, inspect.ismethod):
            if not name.startswith("_"):
                yield f"{type(one).__name__}.{name}", method


EXAMPLES = list(documented())


@pytest.mark.parametrize("what", [one for _, one in EXAMPLES], ids=[name for name, _ in EXAMPLES])
def test_the_example_runs_when_pasted(platform: FakePlatform, notebook: Notebook, what: object) -> None:
    text = inspect.getdoc(what) or ""
    found = doctest.DocTestParser().get_examples(text)
    assert found, "no example"
    for one in found:
        notebook.run(one.source)
        assert notebook.outcome.success, notebook.errors


@pytest.mark.parametrize("magic", ["%functions", "%runs", "%services"])
def test_line_magics_run_as_their_help_says(platform: FakePlatform, notebook: Notebook, magic: str) -> None:
    notebook.run(magic)
    assert notebook.outcome.success
    assert f"``{magic}``" in str(notebook.shell.find_line_magic(magic[1:]).__doc__)


def test_the_cell_magic_shows_its_options_and_an_example_that_runs(platform: FakePlatform, notebook: Notebook) -> None:
    text = str(notebook.shell.find_cell_magic("function").__doc__)
    assert "--memory" in text
    example = inspect.cleandoc(text.partition("Example::")[2].partition("::")[0])
    notebook.run(example)
    assert notebook.outcome.success
    assert "double" in platform.functions


def test_nothing_is_loaded_before_it_is_used() -> None:
    assert set(ropewalk.__all__) <= set(dir(ropewalk))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ropewalk.nothing  # type: ignore[attr-defined]
