"""A step's own process: values that come back exactly, programs, failures, and the same step in an image."""

from __future__ import annotations

import collections
import datetime
import hashlib
import json
import math
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropewalk_core.artifacts import ArtifactStore
from ropewalk_runtime import bundle, kinds, values
from ropewalk_runtime import step as runtime
from ropewalk_runtime.exec import MEMORY_EXIT, SIGNALED_EXIT
from ropewalk_runtime.formats import Unformed
from ropewalk_runtime.frames import MAX_SAID


def attempt(folder: Path, source: str, entry: str = "f", **inputs: Any) -> tuple[int, dict[str, Any]]:
    code = folder / "code"
    digest = hashlib.sha256(source.encode()).hexdigest()
    bundle.write(code, {"files": {"cell.py": source}, "entry": f"cell:{entry}", "digest": digest})
    content = {"attempt": "r.s.1", "bundle": str(code), "arguments": {}, "store": str(folder / "store"), **inputs}
    (folder / "inputs.json").write_text(json.dumps(content))
    return run(folder)


def run(folder: Path) -> tuple[int, dict[str, Any]]:
    """Run the attempt in a child, as a zygote does."""
    child = os.fork()
    if not child:
        with (folder / "log").open("wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - pytest has put its own there
        os._exit(runtime.main(folder))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), json.loads((folder / "outputs.json").read_text())


def test_a_result_lies_in_the_store_that_the_platform_reads(tmp_path: Path) -> None:
    code, said = attempt(tmp_path, "def f(x):\n    return {'x': x}\n", arguments={"x": {"json": "[1, 2]"}})
    assert (code, said["ok"], said["attempt"]) == (0, True, "r.s.1")
    facts = said["artifacts"]["result"]
    store = ArtifactStore(tmp_path / "store")
    assert store.verify(facts["digest"]) == facts["size"]
    assert json.loads(facts["json"]) == {"x": [1, 2]}
    assert facts["type"] == "dict"


def test_a_class_of_the_cells_travels_to_another_step(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    store = str(tmp_path / "store")
    source = "class A:\n    def __init__(self):\n        self.v = 5\n\n\ndef f():\n    return A()\n"
    _, said = attempt(first, source, store=store)
    digest = said["artifacts"]["result"]["digest"]
    file = tmp_path / "store" / digest[:2] / digest
    code, said = attempt(second, "def f(a):\n    return a.v\n", store=store, arguments={"a": {"file": str(file)}})
    assert code == 0, said
    assert said["artifacts"]["result"]["json"] == "5"


CLASSES = """
import dataclasses, enum
class Mode(enum.Enum):
    FAST = 1
@dataclasses.dataclass
class Point:
    x: int
class Far(Point):
    pass
"""


def test_classes_of_the_cells_are_the_same_in_every_step_that_has_them(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    store = str(tmp_path / "store")
    _, said = attempt(first, CLASSES + "def f():\n    return [Mode.FAST, Point(1), Far(2), Far]\n", store=store)
    digest = said["artifacts"]["result"]["digest"]
    given = {"a": {"file": str(tmp_path / "store" / digest[:2] / digest)}}
    check = (
        "def f(a):\n    m, p, q, c = a\n    return [m is Mode.FAST, p == Point(1), isinstance(q, Point), c is Far]\n"
    )
    _, said = attempt(second, CLASSES + check, store=store, arguments=given)
    assert said["artifacts"]["result"]["json"] == "[true, true, true, true]"
    only = "def f(a):\n    return [a[0].name, a[1].x, isinstance(a[2], type(a[1])), type(a[2]) is a[3]]\n"
    _, said = attempt(first, only, store=store, arguments=given)
    assert said["artifacts"]["result"]["json"] == '["FAST", 1, true, true]'


@pytest.mark.parametrize(
    ("source", "error", "problem"),
    [
        ("def f():\n    raise ValueError('bad')\n", "ValueError: bad", "RW-USER-CODE"),
        ("def f():\n    raise SystemExit(3)\n", "SystemExit: 3", "RW-USER-CODE"),
        (
            "class E(Exception):\n    def __str__(self):\n        raise KeyError\ndef f():\n    raise E\n",
            "E: (its message cannot be read)",
            "RW-USER-CODE",
        ),
        (
            "import asyncio\nasync def f():\n    raise asyncio.CancelledError('x')\n",
            "CancelledError: x",
            "RW-USER-CODE",
        ),
        ("def f():\n    raise MemoryError\n", "MemoryError", "RW-OUT-OF-MEMORY"),
        ("import errno\ndef f():\n    raise OSError(errno.ENOSPC, 'no')\n", "OSError", "RW-STORAGE-FULL"),
        ("def f():\n    return (x for x in [])\n", "cannot be saved", "RW-USER-CODE"),
        ("import missing_module_xyz\ndef f():\n    pass\n", "ModuleNotFoundError", "RW-USER-CODE"),
    ],
)
def test_failures_say_what_happened(tmp_path: Path, source: str, error: str, problem: str) -> None:
    code, said = attempt(tmp_path, source)
    assert code == said["code"] == (MEMORY_EXIT if problem == "RW-OUT-OF-MEMORY" else 1)
    assert error in said["error"]
    assert said["problem"] == problem
    assert "ropewalk_runtime" not in said["traceback"] or "cannot be saved" in said["error"]


def test_async_steps_and_output(tmp_path: Path) -> None:
    source = "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    print('hello')\n    return 1\n"
    code, said = attempt(tmp_path, source, wants=["result"])
    assert code == 0
    assert said["parameters"] == {"result": "1"}
    assert (tmp_path / "log").read_text() == "hello\n"


def test_a_fan_out_needs_a_list_of_plain_values(tmp_path: Path) -> None:
    _, said = attempt(tmp_path, "def f():\n    return ['a', '{{x}}']\n", wants=["items"])
    assert "{{" not in said["parameters"]["items"]
    items = json.loads(said["parameters"]["items"])
    assert [json.loads(one["value"]) for one in items] == ["a", "{{x}}"]
    _, said = attempt(tmp_path, "def f():\n    return 3\n", wants=["items"])
    assert "needs a list" in said["error"]


def test_a_program_gets_files_and_gives_files(tmp_path: Path) -> None:
    given, wanted = tmp_path / "in.txt", tmp_path / "out" / "o.txt"
    inputs = {
        "attempt": "a",
        "command": ["/bin/sh"],
        "source": f"cat {given} > {wanted}; echo said $WORD",
        "environment": {"WORD": "it"},
        "files": [{"path": str(given), "text": "content"}],
        "output_files": {"p": {"path": str(wanted)}, "q": {"path": "/tmp/none", "default": "d"}},
        "output_artifacts": {"a": {"path": str(wanted)}, "b": {"path": "/tmp/none", "optional": True}},
        "capture": True,
        "store": str(tmp_path / "store"),
    }
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    code, said = run(tmp_path)
    assert code == 0
    assert said["parameters"] == {"p": "content", "q": "d", "result": "said it"}
    assert said["artifacts"]["a"]["digest"] == hashlib.sha256(b"content").hexdigest()
    inputs |= {"source": "exit 7"}
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    code, said = run(tmp_path)
    assert (code, said["ok"], said["code"]) == (7, False, 7)
    inputs |= {"source": "kill -SEGV $$"}
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    code, said = run(tmp_path)
    assert (code, said["ok"], said["code"]) == (SIGNALED_EXIT, False, SIGNALED_EXIT)
    inputs |= {"source": "true", "output_files": {"p": {"path": "/tmp/none"}}}
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    assert "was not written" in run(tmp_path)[1]["error"]


def test_the_same_step_in_an_image(tmp_path: Path) -> None:
    source = "def f(n, models, empty):\n    return [n, models, empty]\n"
    bundle.write(tmp_path / "bundle", {"files": {"cell.py": source}, "entry": "cell:f", "digest": "d"})
    (tmp_path / "call.json").write_text(json.dumps({"wants": ["items"], "lists": ["models", "empty"]}))
    for name, content in (("parameters/n", b'"x"'), ("inputs/models/0", b"1"), ("inputs/models/10", pickle.dumps(2))):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    child = os.fork()
    if not child:
        os._exit(runtime.in_image(tmp_path))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert values.load(tmp_path / "outputs" / "result") == ["x", [1, 2], []]
    assert len(json.loads((tmp_path / "outputs" / "items.json").read_text())) == 3
    facts = json.loads((tmp_path / "outputs" / runtime.FACTS).read_text())
    assert facts["ok"] and len(facts["artifacts"]["result"]["digest"]) == 64 and facts["peak_memory"] > 0


def test_a_step_in_an_image_tells_how_it_failed_and_where_it_ran(tmp_path: Path) -> None:
    source = "import os\ndef f(text):\n    print(os.getcwd())\n    raise ValueError(text)\n"
    bundle.write(tmp_path / "bundle", {"files": {"cell.py": source}, "entry": "cell:f", "digest": "d"})
    (tmp_path / "work").mkdir()
    call = {"wants": [], "lists": [], "members": ["text"], "folder": str(tmp_path / "work")}
    (tmp_path / "call.json").write_text(json.dumps(call))
    (tmp_path / "parameters").mkdir()
    (tmp_path / "parameters" / "text").write_text(json.dumps(json.dumps('a "quoted" \\ text'))[1:-1])
    child = os.fork()
    if not child:
        os._exit(runtime.in_image(tmp_path))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    facts = json.loads((tmp_path / "outputs" / runtime.FACTS).read_text())
    assert facts["error"] == 'ValueError: a "quoted" \\ text'
    assert "raise ValueError(text)" in facts["traceback"] and "ropewalk_runtime" not in facts["traceback"]


@given(st.recursive(st.none() | st.integers() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)))
def test_a_member_of_a_loop_comes_back_whether_it_was_escaped_or_not(value: Any) -> None:
    text = values.text_of(value)
    assert json.loads(runtime._member(text)) == value
    assert json.loads(runtime._member(json.dumps(text)[1:-1])) == value


_ZONES = st.none() | st.timezones() | st.just(datetime.UTC) | st.just(datetime.timezone(datetime.timedelta(hours=-3)))
_ALONE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**9000), 2**9000),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.text(st.characters(codec=None)),
    st.binary(),
    st.binary().map(bytearray),
    st.datetimes(timezones=_ZONES),
    st.times(),
    st.dates(),
    st.timedeltas(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.just(range(1, 9, 2)),
    st.text(st.sampled_from("ab/.")).map(Path),
    st.frozensets(st.integers(), max_size=1),
    st.sets(st.text(), max_size=1),
)
_VALUES = st.recursive(
    _ALONE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(lambda one: collections.deque(one, 5)),
        st.dictionaries(st.text() | st.integers() | st.tuples(st.dates()), inner, max_size=3),
        st.dictionaries(st.text(), inner, max_size=3).map(collections.OrderedDict),
    ),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(_VALUES)
def test_every_plain_value_comes_back_with_its_types_and_without_a_pickle(value: Any) -> None:
    content, kind = values.encode(value)
    assert kind == (values.JSON if values.is_exact(value) else kinds.VALUE)
    back = values.decode(content)
    assert repr(back) == repr(value)
    assert values.is_exact(value) or values.inexact(value, "result").startswith("result")


def test_equal_values_make_equal_files() -> None:
    value = "({'to', 'be', 'or', b'x', b'y'}, frozenset('abc'))"
    code = f"from ropewalk_runtime import values; print(values.encode({value})[0])"
    made = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        made.add(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)
    assert len(made) == 1 and b"or" in made.pop()


@pytest.mark.parametrize("old", [(1, 2), {1: {2}}, [b"x", Path("a")], 3, "text", [1.5, None]])
def test_files_of_earlier_versions_are_read(tmp_path: Path, old: Any) -> None:
    plain = [json.dumps(old).encode()] if values.is_exact(old) else []
    for content in (pickle.dumps(old), pickle.dumps(old, protocol=2), *plain):
        (tmp_path / "old").write_bytes(content)
        assert values.load(tmp_path / "old") == values.decode(content) == old


def test_a_broken_file_is_no_value(tmp_path: Path) -> None:
    content, _ = values.encode((1, b"some bytes"))
    with pytest.raises(Unformed, match="no whole value"):
        values.decode(content[:-1])


FOREIGN = "import random\n\n\ndef f():\n    return {'seed': [random.Random(1)]}\n"


def test_what_needs_a_pickle_asks_for_it_and_says_how(tmp_path: Path) -> None:
    code, said = attempt(tmp_path, FOREIGN)
    assert (code, said["problem"]) == (1, "RW-USER-CODE")
    assert said["error"].startswith("Unsavable: result['seed'][0] is of the type random.Random and cannot be saved")
    assert said["error"].endswith("allow pickles: @step(pickle=True).")
    code, said = attempt(tmp_path, FOREIGN, pickle=True)
    assert (code, said["artifacts"]["result"]["media_type"]) == (0, values.PICKLE)
    store = tmp_path / "store"
    digest = said["artifacts"]["result"]["digest"]
    assert values.load(store / digest[:2] / digest)["seed"][0].random() == random.Random(1).random()


def test_the_same_step_in_an_image_may_pickle_too(tmp_path: Path) -> None:
    bundle.write(tmp_path / "bundle", {"files": {"cell.py": FOREIGN}, "entry": "cell:f", "digest": "d"})
    for pickles in (False, True):
        (tmp_path / "call.json").write_text(json.dumps({"wants": [], "lists": [], "pickle": pickles}))
        child = os.fork()
        if not child:
            os._exit(runtime.in_image(tmp_path))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == int(not pickles)


def test_a_class_of_a_module_beside_the_notebook_is_the_persons_own(tmp_path: Path) -> None:
    files = {"cell.py": "import beside\n\ndef f():\n    return beside.A()\n", "beside.py": "class A:\n    pass\n"}
    code = tmp_path / "code"
    bundle.write(code, {"files": files, "entry": "cell:f", "digest": "d"})
    content = {"attempt": "r.s.1", "bundle": str(code), "arguments": {}, "store": str(tmp_path / "store")}
    (tmp_path / "inputs.json").write_text(json.dumps(content))
    code_, said = run(tmp_path)
    assert code_ == 0, said
    assert said["artifacts"]["result"]["media_type"] == values.PICKLE


def test_what_holds_itself_is_refused_unless_pickled() -> None:
    circle: list[Any] = [(1,)]
    circle.append(circle)
    with pytest.raises(values.Unsavable, match="holds itself"):
        values.encode(circle)
    back = values.decode(values.encode(circle, pickles=True)[0])
    assert back[1] is back


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([0.5, {"score": math.nan}], "result[1]['score'] is NaN"),
        (-math.inf, "result is -Infinity"),
        ([[1], [(2,)]], "result[1][0] is of type tuple"),
        ({1: 2}, "result has keys or text that JSON has not"),
    ],
)
def test_what_json_would_change_is_named_by_its_place(value: Any, says: str) -> None:
    assert values.inexact(value, "result") == says
    circle: list[Any] = []
    circle += [1, circle]
    assert values.inexact(circle, "result").startswith("result[1][1]")


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()))
def test_no_tag_hides_in_a_parameter(value: Any) -> None:
    text = values.text_of({"{{a}}": [value, "{{workflow.name}}", "{{{"]})
    assert "{{" not in text
    assert json.loads(text) == {"{{a}}": [value, "{{workflow.name}}", "{{{"]}


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        values.save([1], tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def with_order(folder: Path, pipe: int, source: str = "def f():\n    return 7\n") -> tuple[int, dict[str, Any]]:
    """Run an attempt whose inputs come with its order; return its exit code and what lies in its folder."""
    bundle.write(folder / "code", {"files": {"cell.py": source}, "entry": "cell:f", "digest": source})
    inputs = {"attempt": "r.s.1", "bundle": str(folder / "code"), "arguments": {}, "store": str(folder / "store")}
    child = os.fork()
    if not child:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - pytest has put its own there
        os._exit(runtime.main(folder, "", inputs, pipe))
    _, status = os.waitpid(child, 0)
    assert json.loads((folder / "inputs.json").read_text()) == inputs
    return os.waitstatus_to_exitcode(status), json.loads((folder / "outputs.json").read_text())


def test_a_short_outcome_is_said_too_and_a_long_one_only_written(tmp_path: Path) -> None:
    read, write = os.pipe2(os.O_NONBLOCK)
    code, written = with_order(tmp_path, write)
    assert code == 0 and json.loads(os.read(read, 2**16)) == written
    code, written = with_order(tmp_path, write, f"def f():\n    return {'x' * MAX_SAID!r}\n")
    assert (code, written["ok"]) == (0, True)
    with pytest.raises(BlockingIOError):
        os.read(read, 1)
    os.close(read)
    assert with_order(tmp_path, write)[0] == 0  # nobody hears it: it is written
    os.close(write)


def test_what_finds_no_room_for_its_outputs_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    read, write = os.pipe2(os.O_NONBLOCK)
    (tmp_path / "outputs.json").write_text("{}")
    monkeypatch.setattr(runtime, "write_whole", full)
    assert with_order(tmp_path, write)[0] == 1
    said = json.loads(os.read(read, 2**16))
    assert (said["ok"], said["problem"], said["attempt"]) == (False, "RW-STORAGE-FULL", "r.s.1")
    for one in (read, write):
        os.close(one)
