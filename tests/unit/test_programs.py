"""Programs as steps: what they are given and give back, what is refused, and that no value ever becomes code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ropewalk
from ropewalk import program, step, workflow
from ropewalk_core.errors import BadWorkflow
from ropewalk_core.flows import Run
from ropewalk_core.model import State
from ropewalk_runtime.commands import ProgramFailed
from ropewalk_workflows import copies
from tests.workflow_rig import Rig

SAY = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]
HOSTILE = ["; rm -rf /", "$(id)", "`id`", "{value}", "{{inputs.parameters.x}}", "'\"", "a\nb", "", "-x", "*", "%s"]


def test_a_value_is_one_argument_or_a_file_or_the_input() -> None:
    assert program(["echo", "-n", "{a}-{b}", "{{c}}"])("x y", 3) == "x y-3 {c}"
    assert program("cat {text:file}")(b"\xc3\xa9") == "é"
    assert program("cat", stdin="rows", returns="json")([1, {"a": None}]) == [1, {"a": None}]
    assert program(["printf", "%s", "{on}"])(True) == "true"
    assert program(["printf", "%s", "{path}"])(Path("a b")) == "a b"
    assert program("cat {given:file}", returns="bytes")(b"\xff\0") == b"\xff\0"


def test_a_file_that_it_writes_is_the_result() -> None:
    assert program("cp {a:file} {b:out}")("text") == b"text"
    both = program(["{one:out}", "{two:out}"], script='#!/bin/sh\necho 1 > "$1"\necho 2 > "$2"\n')
    assert both() == {"one": b"1\n", "two": b"2\n"}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=2, max_size=2))
def test_whatever_is_in_a_value_it_stays_one_argument(values: list[str]) -> None:
    say = program([*SAY, "{a}", "--b={b}"], returns="json")
    assert say(*values) == [values[0], f"--b={values[1]}"]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_shell_script_gets_hostile_values_as_they_are(value: str) -> None:
    echo = program(["{value}"], script='#!/bin/sh\nprintf "%s" "$1"\n', returns="bytes")
    assert echo(value) == value.encode()


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (lambda: program(""), "command"),
        (lambda: program(["{which}", "x"]), "command"),
        (lambda: program("echo {a!r}"), "command"),
        (lambda: program("echo {a.b}"), "command"),
        (lambda: program("echo {0}"), "command"),
        (lambda: program("echo {a:>9}"), "command"),
        (lambda: program("echo {a"), "command"),
        (lambda: program("echo 'a"), "command"),
        (lambda: program(["echo", 3]), "command"),  # type: ignore[list-item]
        (lambda: program(["echo", "a\0"]), "command"),
        (lambda: program("cp {a:file} {a:out}"), "command"),
        (lambda: program(script="echo"), "script"),
        (lambda: program("cat", stdin="a b"), "stdin"),
        (lambda: program("cat", returns="yaml"), "returns"),
        (lambda: program("cat", timeout=-1), "timeout"),
    ],
)
def test_what_is_wrong_is_named(made: Any, field: str) -> None:
    with pytest.raises(BadWorkflow) as caught:
        made()
    assert caught.value.field == field


def test_a_failure_says_what_happened() -> None:
    with pytest.raises(ProgramFailed, match=r"'false' ended with exit code 1\."):
        program("false")()
    with pytest.raises(ProgramFailed, match=r"'no-such-program' cannot be started: No such file"):
        program("no-such-program {a}")(1)
    with pytest.raises(ProgramFailed, match=r"was ended by signal 9"):
        program(script="#!/bin/sh\nkill -9 $$\n")()
    with pytest.raises(ProgramFailed, match=r"wrote no file at \{b:out\}"):
        program("true {b:out}")()
    with pytest.raises(ProgramFailed, match="is not json"):
        program("echo {a}", returns="json")("no")
    with pytest.raises(ProgramFailed, match="names /no/such, which is not here"):
        program(script="#!/no/such\n")()
    with pytest.raises(TypeError, match=r"rows is a list.*\{rows:file\}"):
        program("echo {rows}")([1])
    with pytest.raises(ValueError, match=r"NUL.*\{a:file\}"):
        program("echo {a}")("\0")


@step
def two() -> list[str]:
    return ["one two", "three"]


@step
def listed(numbers: list[int]) -> list[int]:
    return numbers


count = program("wc -w", stdin="text", returns="json")
grumble = program(["{text}"], script='#!/bin/sh\necho "$1" >&2\nexit 3\n', name="grumble")


@workflow
def counted() -> Any:
    return listed(count.map(two()))


@workflow
def grumbled() -> Any:
    return grumble("not today")


@step
def around(text: str) -> str:
    return f"<{tr('o', text)}>"


tr = program(["tr", "-d", "{letters}"], stdin="text")


@workflow
def helped() -> Any:
    return around("too")


async def ran(rig: Rig, flow: Any) -> Run:
    spec = flow.spec().model_copy(update={"folder": ""})
    return await rig.wait((await rig.submit(spec)).id, seconds=50)


async def test_it_is_a_step_like_others(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home")
    rig.start()
    try:
        run = await ran(rig, counted)
        assert run.status.state == State.DONE and rig.result(run) == [2, 1]
        run = await ran(rig, helped)
        assert run.status.state == State.DONE and rig.result(run) == "<t>", "a step may call a program too"
        run = await ran(rig, grumbled)
        failed = next(one for one in run.steps if one.name == "grumble")
        assert run.status.state == State.FAILED
        assert "'/bin/sh' ended with exit code 3." in str(failed.error)
    finally:
        await rig.close()


def test_the_text_of_a_workflow_makes_the_program_again() -> None:
    text = copies.as_python(counted.spec())
    names: dict[str, Any] = {}
    exec(text, names)
    assert "ropewalk_runtime" not in text and names["count"]("a b c") == 3


def test_every_step_of_programs_has_a_name_and_arguments() -> None:
    assert repr(program("/usr/bin/sort -k {key} {rows:file}", stdin="more")) == "<step sort(key, rows, more)>"
    assert ropewalk.program is program


def test_a_script_without_arguments_travels_too() -> None:
    alone = program(script="#!/bin/sh\necho 1\n")
    assert alone.made is not None
    names: dict[str, Any] = {}
    exec(next(iter(alone.made.bundle.files.values())), names)
    assert names["call"]() == "1"
