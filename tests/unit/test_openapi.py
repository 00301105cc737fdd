"""The document of a function: true to its source, valid, and nothing to fear from a hostile one."""

from __future__ import annotations

import json
import sys
import time
import types
from typing import Any, cast

import pytest
from fastapi.openapi.models import OpenAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from ropewalk_core import openapi, samples, signatures
from ropewalk_core.errors import documented
from ropewalk_core.model import Access, Bundle, Function, FunctionSpec, Revision, State, Status
from ropewalk_core.signatures import Signature, read
from ropewalk_runtime.handler import Handler, answer

KNOWN = """
import dataclasses, enum
from dataclasses import dataclass, field
from typing import *

class Mode(enum.Enum):
    FAST = "fast"
    SLOW = "slow"

class Level(enum.IntEnum):
    LOW = enum.auto()
    HIGH = enum.auto()

@dataclass
class Point:
    x: float
    y: float = 0.5

@dataclasses.dataclass(kw_only=False)
class Circle(Point):
    radius: "int" = field(default=3)
    tags: list[str] = field(default_factory=list)

class Options(TypedDict, total=False):
    mode: Mode
    names: Required[list[str]]

class Tree(TypedDict):
    value: int
    children: NotRequired[list["Tree"]]
"""


def bundle(source: str, **more: str) -> Bundle:
    return Bundle(files={"cell.py": source, **more}, entry="cell:handler")


def document(
    source: str, address: str = "http://double--fn--ada.localhost:8001/", who: Any = "private", **more: str
) -> dict[str, Any]:
    spec = FunctionSpec(name="double", bundle=bundle(source, **more))
    status = Status(state=State.IDLE)
    function = Function(
        owner="ada",
        name="double",
        revision=Revision(id="r", number=7, spec=spec),
        status=status,
        address=address,
        access=Access(who=who),
    )
    made = openapi.describe(function)
    assert json.loads(json.dumps(made, allow_nan=False, ensure_ascii=False).encode()) == made
    return made


def accepts(made: dict[str, Any], pointer: str, value: Any) -> bool:
    registry: Registry[Any] = Registry().with_resource("urn:doc", DRAFT202012.create_resource(made))
    return bool(Draft202012Validator({"$ref": f"urn:doc#{pointer}"}, registry=registry).is_valid(value))


BODY = "/paths/~1/post/requestBody/content/application~1json/schema"
ANSWER = "/paths/~1/post/responses/200/content/application~1json/schema"


def valid(made: dict[str, Any]) -> dict[str, Any]:
    OpenAPI.model_validate(made)
    operation = made["paths"]["/"]["post"]
    for schema in (
        operation["requestBody"]["content"]["application/json"]["schema"],
        *(media["schema"] for one in operation["responses"].values() for media in one["content"].values()),
        *made["components"]["schemas"].values(),
    ):
        Draft202012Validator.check_schema(schema)
    return made


def parameters(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = made["paths"]["/"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return found


def test_a_function_is_described() -> None:
    source = "def handler(x: int, scale: float = 1.5, *, tag: str | None = None) -> list[float]:\n"
    source += "    '''Scale it.\n\n    By a lot.\n    '''\n"
    made = valid(document(source))
    assert made["info"] == {"title": "double", "version": "7", "description": "Scale it.\n\nBy a lot."}
    assert made["servers"] == [{"url": "http://double--fn--ada.localhost:8001"}]
    operation = made["paths"]["/"]["post"]
    assert (operation["summary"], operation["requestBody"]["required"]) == ("Scale it.", True)
    assert parameters(made) == {
        "type": "object",
        "properties": {
            "x": {"type": "integer"},
            "scale": {"type": "number", "default": 1.5},
            "tag": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["x"],
        "additionalProperties": False,
    }
    answers = operation["responses"]
    assert answers["200"]["content"]["application/json"]["schema"] == {"type": "array", "items": {"type": "number"}}
    assert set(answers) == {"200", "202", "401", "404", "413", "422", "429", "500", "503", "504"}
    assert "`RW-OUT-OF-MEMORY`: " in answers["500"]["description"]
    problem = made["components"]["schemas"]["ropewalk.Problem"]
    assert problem["properties"]["code"]["enum"] == [one.code for one in documented()]
    for kind in documented():
        assert accepts(made, "/components/schemas/ropewalk.Problem", kind("m").problem(origin="http://localhost"))
    schemes = made["components"]["securitySchemes"]
    assert made["security"] == [{"token": []}, {"key": []}] and schemes["token"]["scheme"] == "bearer"
    assert (schemes["key"]["in"], schemes["key"]["name"]) == ("header", "X-Ropewalk-Key")
    public = valid(document(source, who="public"))
    assert {} in public["security"] and "Anybody" in public["components"]["securitySchemes"]["token"]["description"]


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        ("int", [1, -3], ["1", 1.5, True, None]),
        ("float", [1, 1.5], ["1", True]),
        ("bool", [True], [1, "true"]),
        ("Optional[int]", [1, None], ["x"]),
        ("Union[int, 'list[str]']", [1, ["a"]], ["a", [1]]),
        ("int | np.ndarray", [1, "x", [2]], []),
        ("Literal['a', 3, None]", ["a", 3, None], ["b", 4]),
        ("Literal[b'x', 'a']", ["a", 5], []),
        ("dict[str, list[int]]", [{}, {"a": [1]}], [[], {"a": 1}]),
        ("Annotated[int, 'metres']", [1], ["x"]),
        ("tuple[int, str]", [[1, "a"]], [[1], ["a", 1], [1, "a", 2]]),
        ("tuple[int, ...]", [[], [1, 2]], [["a"]]),
        ("Mode", ["fast"], ["FAST", 1]),
        ("Literal[Mode.SLOW]", ["slow"], ["fast"]),
        ("Level", [1, 2], [3, "LOW"]),
        ("Point", [{"x": 1.0}, {"x": 1, "y": 2}], [{}, {"y": 1}, [1]]),
        ("list[Circle]", [[], [{"x": 1, "radius": 2}]], [[{"radius": 2}], [{"x": 1, "tags": [1]}]]),
        ("Options", [{"names": ["a"], "mode": "slow"}], [{"mode": "slow"}, {"names": [], "mode": "SLOW"}]),
        ("Tree", [{"value": 1, "children": [{"value": 2}]}], [{"value": 1, "children": [{}]}]),
        ("pd.DataFrame", [1, []], []),
        ("some.strange[thing](1)", [1, {}, None], []),
    ],
)
def test_a_hint_accepts_what_it_says(hint: str, good: list[Any], bad: list[Any]) -> None:
    made = valid(document(f"{KNOWN}\ndef handler(value: {hint}) -> {hint}: ...\n"))
    for value in good:
        assert accepts(made, BODY, {"value": value}) and accepts(made, ANSWER, value), value
    for value in bad:
        assert not accepts(made, BODY, {"value": value}) and not accepts(made, ANSWER, value), value


def test_defaults_that_json_has_are_told() -> None:
    source = KNOWN + (
        "def handler(a=1, b=[1, 'x'], c=Mode.SLOW, d: Point = Point(1.0), e=np.pi, f=b'x', g=float('nan'), h=2**80, "
        "i=-1.5, j=1e999, k='\\ud800', l={'m': None}): ..."
    )
    told = parameters(valid(document(source)))
    assert {name: one.get("default", "-") for name, one in told["properties"].items()} == {
        "a": 1, "b": [1, "x"], "c": "slow", "d": "-", "e": "-", "f": "-", "g": "-", "h": "-", "i": -1.5, "j": "-",
        "k": "-", "l": {"m": None},
    }  # fmt: skip
    assert told["required"] == []


def test_types_of_other_files_are_found() -> None:
    files = {
        "shapes.py": "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n",
        "pkg/__init__.py": "from .more import Size as Large\n",
        "pkg/more.py": "import enum\nclass Size(enum.Enum):\n    BIG = 9\n",
    }
    source = "import shapes\nfrom shapes import Point as P\nfrom pkg import Large\nfrom gone import Else\n"
    source += "class Point(TypedDict):\n    z: str\n"
    source += "def handler(a: P, b: shapes.Point, c: Large, d: Else, e: Point, f: os.path): ...\n"
    made = valid(document(source, **files))
    assert accepts(made, BODY, {"a": {"x": 1}, "b": {"x": 1}, "c": 9, "d": None, "e": {"z": ""}, "f": 0})
    assert not accepts(made, BODY, {"a": {"z": ""}, "b": {"x": 1}, "c": 9, "d": None, "e": {"z": ""}, "f": 0})
    assert {one["title"] for one in made["components"]["schemas"].values()} == {"Point", "Size", "Problem"}
    assert len(made["components"]["schemas"]) == 4


@pytest.mark.parametrize(
    ("source", "payloads"),
    [
        ("def handler(): ...", [{}]),
        ("def handler(a: int, /): ...", [3]),
        ("def handler(a: int = 1, /, b: int = 2): ...", [3, {"b": 1}, {}]),
        ("def handler(a: int, **more: str): ...", [{"a": 1, "b": "x"}]),
        ("def handler(*values, **more): ...", [{}, {"b": "x"}]),
        ("async def handler(a: int, *, b: bool): ...", [{"a": 1, "b": True}]),
    ],
)
def test_a_payload_is_what_the_runtime_takes(source: str, payloads: list[Any]) -> None:
    made = valid(document(source))
    names: dict[str, Any] = {}
    exec(source, names)
    for payload in payloads:
        assert accepts(made, BODY, payload)
        Handler(names["handler"]).arguments(json.dumps(payload).encode(), "application/json")
    assert not accepts(made, BODY, "never")


_PLAIN = "int float str bool None list dict Any bytes Mode Level Point Circle Options Tree np.ndarray pd.DataFrame Else"
_HINTS = st.recursive(
    st.sampled_from([*_PLAIN.split(), "Literal['a', 2]", "'int'", "Literal[Mode.FAST]"]),
    lambda inner: (
        inner.map("list[{}]".format)
        | inner.map("Optional[{}]".format)
        | inner.map("dict[str, {}]".format)
        | inner.map("Annotated[{}, 1]".format)
        | st.lists(inner, min_size=1, max_size=3).map(lambda several: f"tuple[{', '.join(several)}]")
        | st.lists(inner, min_size=1, max_size=3).map(lambda several: f"Union[{', '.join(several)}]")
    ),
    max_leaves=5,
)
_PARAMETER = st.tuples(_HINTS, st.sampled_from(["", " = None", " = 1", " = 'x'", " = Mode.SLOW", " = object()"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(_PARAMETER, max_size=4), _HINTS, st.sampled_from(["", ", **more", ", **more: int"]))
def test_the_schemas_accept_the_samples(made_of: list[tuple[str, str]], returns: str, more: str) -> None:
    words = ", ".join(f"p{number}: {hint}{default}" for number, (hint, default) in enumerate(made_of))
    source = f"{KNOWN}\ndef handler(*{', ' if words else ', q=1'}{words}{more}) -> {returns}: ...\n"
    signature = read(bundle(source))
    made = valid(document(source))
    assert accepts(made, BODY, samples.payload(signature))
    assert signature is not None
    if not signature.binary:
        assert accepts(made, ANSWER, samples.sample(signature.returns, signature))


HOSTILE = {
    "long": "x = 1\n" * 700_000 + "def handler(a: int): ...\n",
    "deep": "def handler(a: " + "list[" * 5000 + "int" + "]" * 5000 + "): ...\n",
    "nested": "def handler(a: " + "list[" * 150 + "int" + "]" * 150 + "): ...\n",
    "quoted": "def handler(a: " + repr("list[" * 150 + "int" + "]" * 150) + "): ...\n",
    "minus": f"def handler(a: int = {'-' * 20_000}1): ...\n",
    "wide": f"def handler(a: {' | '.join(['int'] * 700)}): ...\n",
    "unions": f"def handler(a: Union[{', '.join(f'T{number}' for number in range(3000))}]): ...\n",
    "newer": "type X = int\ndef handler[T](a: T): ...\n",
    "zero": "def handler(a: int): \x00",
    "names": f"def handler({', '.join(f'p{number}: int' for number in range(2500))}): ...\n",
    "bomb": "\n".join(
        f"@dataclass\nclass C{n}:\n" + "".join(f"    f{m}: list[C{n + 1}]\n" for m in range(12)) for n in range(100)
    )
    + "\ndef handler(a: C0): ...\n",
    "cycle": "class A(B): ...\nclass B(A): ...\n@dataclass\nclass C(A, C):\n    x: C\ndef handler(a: C): ...\n",
    "heirs": "".join(f"class A{n}({', '.join([f'A{n + 1}'] * 20)}): ...\n" for n in range(40))
    + "def handler(a: A0): ...\n",
    "bases": "@dataclass\nclass B:\n x: int\n"
    + "".join(f"class A{n}({', '.join([f'A{n + 1}'] * 20)}): ...\n" for n in range(12))
    + "class A12(B): ...\ndef handler(a: A0): ...\n",
    "lineage": "@dataclass\nclass A0:\n x0: int\n"
    + "".join(f"@dataclass\nclass A{n}(A{n - 1}):\n x{n}: int\n" for n in range(1, 500))
    + f"def handler({', '.join(f'p{n}: A{n}' for n in range(500))}): ...\n",
    "subclasses": f"@dataclass\nclass B:\n x: '{'(' * 60}{'a, ' * 2500}{')' * 60}' = [{'1, ' * 2500}]\n"
    + "".join(f"@dataclass\nclass A{n}(B): ...\n" for n in range(300))
    + f"def handler({', '.join(f'p{n}: A{n}' for n in range(300))}): ...\n",
    "enums": "class E(Enum):\n"
    + "".join(f" a{n} = {'x' * 9!r}\n" for n in range(700))
    + f"def handler(a: Literal[{', '.join(['E.a0'] * 2500)}]): ...\n",
    "defaults": f"class E(Enum):\n a = {'x' * 900!r}\n"
    + f"def handler({', '.join(f'p{n}=E.a' for n in range(2500))}): ...\n",
    "round": "from cell import handler as x, Y\ndef handler(a: Y): ...\n",
    "script": "def handler(a: Literal['</script><img src=x onerror=alert(1)>']):\n"
    "    '''<script>alert(1)</script> [x](javascript:alert(1))'''\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_source_costs_little_and_is_any_value(name: str) -> None:
    began = time.process_time()
    made = document(HOSTILE[name])
    signature = read(bundle(HOSTILE[name]))
    payload = samples.payload(signature)
    assert time.process_time() - began < 2.0  # far more than it takes; parsing all of "long" alone is several
    assert len(json.dumps(made)) < 2_000_000
    valid(made)
    if name in ("long", "deep", "newer", "zero", "minus"):
        assert signature is None and parameters(made) == {} and payload == {}


def test_what_was_deployed_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Bundle] = []

    def reading(one: Bundle, reading: Any = signatures._read) -> Signature | None:
        parsed.append(one)
        return cast("Signature | None", reading(one))

    monkeypatch.setattr(signatures, "_read", reading)
    monkeypatch.setattr(signatures, "_remembered", {})
    monkeypatch.setattr(signatures, "_REMEMBERED", 3)
    one = bundle("def handler(a): ...").model_copy(update={"digest": "one"})
    assert read(one.model_copy(update={"files": {}})) is None  # as a list has it
    names = [[each.name for each in signature.parameters] for _ in range(5) if (signature := read(one))]
    assert names == [["a"]] * 5 and len(parsed) == 2
    assert read(one.model_copy(update={"entry": "cell:other"})) is None
    for number in range(9):
        read(one.model_copy(update={"digest": str(number)}))
    assert len(signatures._remembered) == 3 and len(parsed) == 12
    for _ in range(2):
        read(bundle("def handler(b): ..."))  # nothing says what it is
    assert len(parsed) == 14


def test_words_of_the_docstring_stay_words() -> None:
    made = valid(document(HOSTILE["script"]))
    said = made["info"]["description"]
    assert "&lt;script&gt;" in said and "](" not in said and "<" not in said
    assert valid(document("def handler():\n    '\\ud800 half'\n"))["info"]["description"] == "? half"


@given(st.text(max_size=60))
def test_no_source_breaks_it(source: str) -> None:
    valid(document(source))
    valid(document(f"def handler(a: '{source}'): ..."))


def test_what_is_returned_as_bytes_is_no_json() -> None:
    content = document("def handler() -> bytes: ...")["paths"]["/"]["post"]["responses"]["200"]["content"]
    assert content == {"application/octet-stream": {"schema": {}}}


def test_a_class_is_described_as_the_runtime_answers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known = types.ModuleType("known")
    monkeypatch.setitem(sys.modules, "known", known)
    exec(KNOWN, known.__dict__)
    circle = json.loads(answer(known.Circle(1.0))[0])
    assert circle == {"x": 1.0, "y": 0.5, "radius": 3, "tags": []}
    made = valid(document(f"{KNOWN}\ndef handler() -> Circle: ...\n"))
    assert accepts(made, ANSWER, circle)
    assert accepts(valid(document(f"{KNOWN}\ndef handler() -> Level: ...\n")), ANSWER, known.Level.HIGH.value)


def test_a_class_and_a_generator_say_what_they_take_and_yield() -> None:
    made = document(
        "from collections.abc import Iterator\nclass handler:\n    '''Counts.'''\n    def start(self): ...\n"
        "    def call(self, count: int = 3) -> Iterator[float]:\n        yield 1.0\n"
    )
    content = made["paths"]["/"]["post"]["responses"]["200"]["content"]
    assert content == {"application/x-ndjson": {"schema": {"type": "number"}}}
    assert parameters(made)["properties"] == {"count": {"type": "integer", "default": 3}}
    assert made["info"]["description"] == "Counts."
    inner = "def handler():\n    def of():\n        yield 1\n    return of\n"
    assert "application/json" in document(inner)["paths"]["/"]["post"]["responses"]["200"]["content"]
    app = bundle("async def handler(scope, receive, send): ...").model_copy(update={"form": "asgi"})
    assert read(app) is None
