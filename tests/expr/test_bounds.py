"""Any text at all is a value or a refusal, in bounded time and memory; and a value is never read as anything else."""

from __future__ import annotations

import json
import re
import sys
import tracemalloc
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropewalk_workflows.expr import BadExpression, read
from ropewalk_workflows.expr.calling import FUNCTIONS
from ropewalk_workflows.expr.values import clean
from ropewalk_workflows.manifest import text
from tests.expr.hostile import HOSTILE

NAMES = {"inputs": {"parameters": {"n": "3", "text": "a b", "long": "x" * 100_000, "list": '[1, [2, {}], "a"]'}}}
WORDS = [
    *"()[]{}.,:;?|#+-*/%^<>=!&'\"`\\ ",
    *(
        "??",
        "?.",
        "..",
        "**",
        "==",
        "!=",
        "&&",
        "||",
        "//",
        "/*",
        "*/",
        "#acc",
        "1",
        "2.5",
        "0x1F",
        "1e3",
        "'a'",
        '"b"',
    ),
    *("true", "false", "nil", "not", "in", "and", "or", "matches", "contains", "startsWith", "let", "if", "else", "x"),
    *(
        "inputs",
        ".parameters",
        ".n",
        "['text']",
        "[0]",
        "[1:]",
        "sprig",
        "asInt(",
        "len(",
        "filter(",
        "map(",
        "reduce(",
    ),
    *(f"{name}(" for name in sorted(FUNCTIONS)),
    "fromJSON(inputs.parameters.list)",
]


def outcome(expression: str) -> str:
    """Return its value, or why it has none; anything else that is raised fails the test."""
    try:
        return read(expression).text(NAMES)
    except BadExpression as error:
        assert str(error) and len(str(error)) < 600
        return ""


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=200))
def test_any_text(expression: str) -> None:
    outcome(expression)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(WORDS), max_size=24).map(" ".join))
def test_any_words(expression: str) -> None:
    outcome(expression)


ARGUMENTS = [
    "1",
    "-3",
    "2.5",
    "'a b'",
    "''",
    "nil",
    "true",
    "[1, 'a', nil]",
    "[]",
    "{a: 1}",
    "{}",
    "inputs",
    "[[1], [2]]",
]


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(FUNCTIONS)), st.lists(st.sampled_from(ARGUMENTS), max_size=4))
def test_any_function_of_anything(name: str, arguments: list[str]) -> None:
    outcome(f"{name}({', '.join(arguments)})")


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 3_000,
        "[" * 4_000,
        "{" * 4_000,
        "-" * 4_000 + "1",
        "!" * 4_000 + "true",
        "not " * 1_000 + "true",
        "a" * 5_000,
        "1" + " + 1" * 1_000,
        "1" + " ** 1" * 800,
        "a" + ".b" * 2_000,
        "a" + "?.b" * 1_300,
        "a" + "[0]" * 1_300,
        "true ? 1 : " * 370 + "1",
        "let a = 1; " * 300 + "1",
        "1 < (1 < (1 < (1 < (1 < (1 < (1 < 1)) < 1)) < 1)) < 1",
        "1..100000000",
        "1..100000 | map(1..100000)",
        "1..1000 | map(repeat('a', 1000000))",
        "repeat('a', 1000000) | repeat(1000000)",
        "let a = repeat('a', 1000000); [a, a, a, a, a, a, a, a, a, a] | join(a)",
        "replace(repeat('a', 1000000), 'a', repeat('b', 1000000))",
        "sprig.indent(1000000, repeat('\\n', 1000000))",
        "sprig.until(1000000000)",
        "sprig.untilStep(0, 1000000000, 1)",
        "sprig.seq(1000000000)",
        "bitshl(1, 1000000000000)",
        "2 ** 1000000",
        "9223372036854775807 * 9223372036854775807",
        "sprig.mul(9223372036854775807, 9223372036854775807)",
        "sprig.round(1.5, 1000000000)",
        "sprig.round(1.5, -1000000000)",
        "int(1e308)",
        "sprig.addf(1e308, 1e308)",
        "reduce(1..100000, #acc + 'aaaaaaaaaaaaaaaaaaaa', '')",
        "reduce(1..100, [#acc, #acc], [1])",
        "reduce(1..100, [#acc, #acc], [1]) == reduce(1..100, [#acc, #acc], [1])",
        "toJSON(reduce(1..60, [#acc, #acc], [1]))",
        "string(reduce(1..60, [#acc, #acc], [1]))",
        "flatten(reduce(1..60, [#acc, #acc], [1]))",
        "max(reduce(1..60, [#acc, #acc], [1]))",
        "sprig.deepEqual(reduce(1..60, [#acc, #acc], [1]), reduce(1..60, [#acc, #acc], [1]))",
        "reduce(1..50000, [#acc], [])",
        "sort(1..100000, 'desc')",
        "map(1..300, map(1..300, map(1..300, #)))",
        "uniq(1..100000)",
        "inputs.parameters.long matches '(a*)*(b*)*$'",
        "inputs.parameters.long matches '((((x*)*)*)*)*y'",
        "inputs.parameters.long matches 'x{1000}{1000}'",
        "map(1..1000, inputs.parameters.long matches 'y')",
        "map(1..100000, upper(inputs.parameters.long))",
        "fromJSON(repeat('[', 100000))",
        "fromJSON(repeat('[', 900) + repeat(']', 900))",
        "jsonpath(repeat('[', 900) + repeat(']', 900), '$' + repeat('[0]', 800))",
        "fromJSON(repeat('1', 100000))",
        "int(repeat('1', 100000))",
        "float(repeat('1', 100000))",
        "sprig.int(repeat('1', 100000))",
        "sprig.toDecimal(repeat('7', 100000))",
    ],
)
def test_what_would_take_for_ever_or_all_memory_does_not(expression: str) -> None:
    tracemalloc.start()
    try:
        outcome(expression)
        assert tracemalloc.get_traced_memory()[1] < 300 * 2**20
    finally:
        tracemalloc.stop()


def test_a_long_sum_is_no_deep_one() -> None:
    assert outcome("1" + " + 1" * 600) == "601"


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_never_more_than_a_value(value: str) -> None:
    names = {"v": value, "other": "safe"}
    assert text.fill("{{=v}}", names) == clean(value)
    assert text.fill("[{{=v + v}}]", names) == f"[{clean(value) * 2}]"
    assert text.fill("{{=v == v && other == 'safe'}}", names) == "true"
    assert text.fill("{{=v == other}}", names) == "false"
    assert text.fill("{{=[v][0] in [v] ? 'in' : 'out'}}", names) == "in"
    assert text.fill("{{=fromJSON(toJson({a: v})).a == v}}", {"v": clean(value)}) == "true"
    assert json.loads(text.fill("{{={a: v, b: [v]} }}", names)) == {"a": clean(value), "b": [clean(value)]}
    assert text.is_true("'{{=v}}.' == '{{v}}.'", {"v": clean(value)}) is True
    assert text.is_true("{{=other}} == unsafe", names) is False


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=50))
def test_whatever_the_value_is(value: str) -> None:
    test_a_value_is_never_more_than_a_value(value)


def test_refusals_name_their_place() -> None:
    for expression, words in (
        ("1 +", "ends too early (at character 3"),
        ("1 + * 2", "nothing was expected before '* 2' (at character 5"),
        ("asInt(1) + foo(2)", "there is no function 'foo' here (at character 12"),
        ("now()", "depends on the time"),
        ("sprig.uuidv4()", "would differ each time"),
        ("sprig.randAlpha(3)", "would differ each time"),
        ("sprig.env('HOME')", "there is no function"),
        ("len()", "'len' cannot take 0 arguments (at character 1"),
        ("'a' matches '('", "is no pattern (at character 5"),
        ("[1, #]", "'#' means nothing here (at character 5"),
        ("1 ?? 2 + 3", "needs brackets (at character 8"),
        ("x.Format('2006')", "there is no function 'x.Format'"),
        ("'a'.Format('2006')", "'.Format()' is not supported"),
    ):
        with pytest.raises(BadExpression) as caught:
            read(expression)
        assert words in str(caught.value), expression


def test_without_re2_patterns_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from ropewalk_workflows.expr.patterns import compiled

    compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(BadExpression, match="google-re2 is not installed"):
        read("'abc' matches 'never met before'")


def test_the_document_lists_every_function() -> None:
    page = (Path(__file__).parents[2] / "docs" / "expressions.md").read_text()
    listed = set(re.findall(r"`([\w.]+)`", page.partition("## What there is")[2].partition("## What is different")[0]))
    grammar = (files("ropewalk_workflows.expr") / "grammar.lark").read_text()
    over = set(re.search(r"PREDICATE.2: /\(\?:([\w|]+)\)", grammar)[1].split("|"))  # type: ignore[index]
    assert {*FUNCTIONS, *over} <= listed
    assert not {"now", "date", "sprig.now"} & {*FUNCTIONS}
