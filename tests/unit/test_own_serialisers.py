"""Serialisers of a person's own: they travel with the code, and values of their type need no pickle."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from ropewalk_core.errors import BadCode
from ropewalk_core.model import State
from ropewalk_runtime import bundle, kinds, own, values
from ropewalk_runtime.formats import Unformed
from ropewalk_workflows.capture import capture
from ropewalk_workflows.capture.serialisers import with_serialisers
from ropewalk_workflows.dag import step, workflow
from tests.workflow_rig import Rig, step_named

SIGN = b"colour:"


class Colour:
    def __init__(self, name: str) -> None:
        self.name = name


def write_colour(colour: Colour, file: BinaryIO) -> None:
    file.write(SIGN + colour.name.encode())


def read_colour(file: BinaryIO) -> Colour:
    assert file.read(len(SIGN)) == SIGN
    return Colour(file.read().decode())


def write_random(found: random.Random, file: BinaryIO) -> None:
    file.write(repr(found.getstate()).encode())


def read_random(file: BinaryIO) -> random.Random:
    import ast

    found = random.Random()
    found.setstate(ast.literal_eval(file.read().decode()))
    return found


@step
def mix(first: Colour, rng: random.Random) -> dict[str, Any]:
    return {"mixed": Colour(f"dark {first.name}"), "rng": rng, "is": isinstance(first, Colour)}


@step
def told(mixed: dict[str, Any]) -> str:
    return f"{mixed['mixed'].name} {isinstance(mixed['mixed'], Colour)} {mixed['is']} {mixed['rng'].random()}"


@workflow
def colours(name: str) -> object:
    mixed = mix(Colour(name), random.Random(5))
    return {"mixed": mixed, "told": told(mixed)}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    kept = own.registered()
    own.serialiser(Colour, write_colour, read_colour)
    own.serialiser(random.Random, write_random, read_random)
    yield
    own._registered.clear()
    own._registered.update(kept)


async def test_values_of_ones_own_types_pass_from_step_to_step(rig: Rig) -> None:
    run = await rig.wait((await rig.submit(colours.spec(name="red"))).id)
    assert run.status.state == State.DONE, [one.error for one in run.steps]
    made = step_named(run, "mix").artifacts[0]
    assert made.media_type == kinds.VALUE
    result = rig.result(run)
    assert result["told"] == f"dark red True True {random.Random(5).random()}"
    assert type(result["mixed"]["mixed"]) is Colour, "and come back to the notebook"


def test_what_is_registered_wins_over_a_pickle_and_nothing_else_changes() -> None:
    content, kind = values.encode((Colour("red"), 1))
    assert kind == kinds.VALUE and b"colour:red" in content
    back = values.decode(content)
    assert back[0].name == "red" and back[1] == 1
    assert values.encode([1])[1] == values.JSON


def test_a_reader_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content, _ = values.encode(Colour("red"))
    monkeypatch.setattr(own, "_registered", {})
    with pytest.raises(Unformed, match=r"of the type \S*Colour was written by a serialiser that is not here") as found:
        values.decode(content)
    assert "ropewalk.serialiser" in found.value.hint


def test_bundles_change_only_where_a_serialiser_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    with_them = next(iter(colours.spec(name="red").bundles.values()))
    assert own.file_of("random.Random") in with_them.files and own.file_of("__main__.Colour") in with_them.files
    assert "write_random" in with_them.files[own.file_of("random.Random")], "people can read what is sent"
    monkeypatch.setattr(own, "_registered", {})

    @workflow
    def plain() -> object:
        return told({})

    assert list(next(iter(plain.spec().bundles.values())).files) == ["ropewalk_cells.py"]


@pytest.mark.parametrize(
    "wrong", [(1, write_colour, read_colour), (Colour, lambda a, b: None, read_colour), (Colour, write_colour, open)]
)
def test_what_cannot_travel_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(TypeError, match="takes"):
        own.serialiser(*wrong)


def test_a_serialiser_that_uses_what_cannot_travel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SIGN", open(__file__, "rb"))  # noqa: SIM115
    try:
        with pytest.raises(BadCode, match="SIGN"):
            with_serialisers(capture(told))
    finally:
        globals()["SIGN"].close()


def test_only_files_of_loaded_bundles_are_found(tmp_path: Path) -> None:
    (tmp_path / own.file_of("x.Y")).write_text("WRITE = READ = None\n")
    assert bundle.found(own.file_of("x.Y")) is None
