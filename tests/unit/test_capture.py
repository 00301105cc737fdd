"""Capture: what travels with a function, what is refused, and whose lines a traceback shows."""

from __future__ import annotations

import linecache
import subprocess
import sys
import textwrap
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropewalk_core.errors import BadCode
from ropewalk_core.model import Bundle
from ropewalk_runtime import bundle as bundles
from ropewalk_workflows.capture import capture
from ropewalk_workflows.capture import values as literals


class Notebook:
    """Cells run one after another in one namespace, as a kernel runs them."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
        self.numbers: dict[str, int] = {}
        self.compile = types.SimpleNamespace(_filename_map=self.numbers)

    def run(self, text: str) -> None:
        text = textwrap.dedent(text)
        name = f"/tmp/kernel_cells/{id(self)}-{len(self.numbers) + 1}.py"
        self.numbers[name] = len(self.numbers) + 1
        linecache.cache[name] = (len(text), 0.0, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), self.names)

    def capture(self, name: str, root: Path) -> Bundle:
        return capture(self.names[name], shell=self, modules_root=root)


@pytest.fixture
def notebook() -> Any:
    book = Notebook()
    yield book
    for name in book.numbers:
        linecache.cache.pop(name, None)


def run(bundle: Bundle, folder: Path, arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the bundle's entry in a fresh Python."""
    bundles.write(folder, bundle.model_dump())
    code = f"""
        import sys
        sys.path.insert(0, {str(Path(bundles.__file__).parents[1])!r})
        from ropewalk_runtime import bundle
        function = bundle.load({str(folder)!r})
        try:
            print(function({arguments}))
        except Exception as error:
            print(bundle.user_traceback(error))
    """
    return subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )


def test_helpers_imports_and_constants_of_other_cells_travel(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run(
        "import math\nimport os.path as osp\nfrom dataclasses import dataclass\nFACTOR = 2.5\nTABLE = {'a': [1, (2,)]}"
    )
    notebook.run("@dataclass\nclass Point:\n    x: float\n    y: float = FACTOR\n")
    notebook.run("def norm(p):\n    return math.hypot(p.x, p.y)\n")
    notebook.run(
        "unused = open\n\ndef area(x):\n    p = Point(x)\n    return norm(p), TABLE['a'], osp.join('a', 'b')\n"
    )
    result = run(notebook.capture("area", tmp_path), tmp_path / "b", "3.0")
    assert "(3.905" in result.stdout, result.stderr
    assert "[1, (2,)], 'a/b')" in result.stdout


def test_what_a_zygote_may_have_ready_is_named_whole_but_not_what_travels(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "helpers_of_mine_9"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "maths.py").write_text("def halve(x):\n    return x / 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    notebook.run("import email.mime.text\nimport math\nfrom xml.dom.minidom import Document")
    notebook.run("from helpers_of_mine_9.maths import halve\nfrom helpers_of_mine_9 import maths")
    notebook.run("def f(x):\n    return halve(x), maths, math.pi, Document, email.mime.text.MIMEText\n")
    found = notebook.capture("f", tmp_path).imports
    assert {"xml", "xml.dom.minidom", "math", "email", "email.mime.text", "helpers_of_mine_9"} <= set(found)
    assert not [one for one in found if one.startswith("helpers_of_mine_9.")]
    for name in [name for name in sys.modules if name.startswith("helpers_of_mine_9")]:
        del sys.modules[name]


def test_a_traceback_names_the_cells_own_lines(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("def inner(x):\n    # a comment\n    return 1 / x  # boom\n")
    notebook.run("import math\n\n\ndef outer(x):\n    math.sqrt(4)\n    return inner(x)\n")
    text = run(notebook.capture("outer", tmp_path), tmp_path / "b", "0").stdout
    assert 'File "cell [2]", line 6, in outer\n    return inner(x)' in text
    assert 'File "cell [1]", line 3, in inner\n    return 1 / x  # boom' in text
    assert "ropewalk_runtime" not in text


def test_a_traceback_names_modules_as_they_lie_beside_the_notebook(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "helpers_of_mine_8"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "maths.py").write_text("def divide(x):\n    return 1 / x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    notebook.run("from helpers_of_mine_8.maths import divide\ndef f(x):\n    return divide(x)\n")
    text = run(notebook.capture("f", tmp_path), tmp_path / "b", "0").stdout
    assert 'File "helpers_of_mine_8/maths.py", line 2, in divide\n    return 1 / x' in text
    assert str(tmp_path) not in text
    for name in [name for name in sys.modules if name.startswith("helpers_of_mine_8")]:
        del sys.modules[name]


def test_many_workers_write_the_same_bundle_at_once(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    files = {f"part{index}.py": "x = 1\n" * 2000 for index in range(5)} | {"cell.py": "def f():\n    return 7\n"}
    facts = {"files": files, "entry": "cell:f", "imports": [], "digest": "d"}

    def work(number: int) -> None:
        for _ in range(3):
            bundles.write(target, {**facts, "origin": {"cell.py:1": f"cell [{number}]:1"}})
            assert bundles.read(target)["entry"] == "cell:f"

    bundles.write(target, {**facts, "digest": "older"})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert bundles.load(target, install=False)() == 7
    assert [one.name for one in tmp_path.iterdir()] == ["bundle"]


def test_running_the_same_cells_again_gives_the_same_digest(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("import json\nlimit = 3\ndef f(x):\n    return json.dumps(x)[:limit]\n")
    first = notebook.capture("f", tmp_path)
    notebook.run("pass")
    notebook.run("import json\nlimit = 3\ndef f(x):\n    return json.dumps(x)[:limit]\n")
    second = notebook.capture("f", tmp_path)
    assert first.digest == second.digest
    assert first.origin != second.origin
    notebook.run("limit = 4")
    assert notebook.capture("f", tmp_path).digest != first.digest


def test_the_newest_definition_of_a_class_is_taken(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("class A:\n    value = 1\n")
    notebook.run("class A:\n    value = 2\n")
    notebook.run("def f():\n    return A.value\n")
    assert run(notebook.capture("f", tmp_path), tmp_path / "b", "").stdout.strip() == "2"


def test_base_classes_and_decorators_come_first(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("import functools")
    notebook.run(
        "def twice(f):\n    @functools.wraps(f)\n    def inner(*a):\n        return 2 * f(*a)\n    return inner\n"
    )
    notebook.run("class Zebra:\n    def stripes(self):\n        return 3\nclass Apple(Zebra):\n    pass\n")
    notebook.run("@twice\ndef f(x):\n    return x + Apple().stripes()\n")
    assert run(notebook.capture("f", tmp_path), tmp_path / "b", "1").stdout.strip() == "8"


def test_aliases_lambdas_recursion_and_closures(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("def fact(n):\n    return 1 if n < 2 else n * fact(n - 1)\nother = fact\nadd = lambda a, b: a + b\n")
    notebook.run("def make(k):\n    def inner(n):\n        return add(other(n), k)\n    return inner\nf = make(7)\n")
    assert run(notebook.capture("f", tmp_path), tmp_path / "b", "4").stdout.strip() == "31"


def test_modules_beside_the_notebook_travel_by_source(notebook: Notebook, tmp_path: Path, monkeypatch: Any) -> None:
    root = tmp_path / "work"
    (root / "beside_pkg").mkdir(parents=True)
    (root / "beside_one.py").write_text("import beside_two\ndef go(x):\n    return beside_two.plus(x)\n")
    (root / "beside_two.py").write_text("def plus(x):\n    return x + 1\n")
    (root / "beside_pkg/__init__.py").write_text("from .inner import minus\n")
    (root / "beside_pkg/inner.py").write_text("def minus(x):\n    return x - 10\n")
    monkeypatch.syspath_prepend(str(root))
    notebook.run("import beside_one\nfrom beside_pkg import minus\ndef f(x):\n    return minus(beside_one.go(x))\n")
    bundle = notebook.capture("f", root)
    assert set(bundle.files) == {
        "ropewalk_cells.py",
        "beside_one.py",
        "beside_two.py",
        "beside_pkg/__init__.py",
        "beside_pkg/inner.py",
    }
    assert run(bundle, tmp_path / "b", "1").stdout.strip() == "-8"


def test_submodules_reached_by_attribute_are_imported(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("import xml.dom.minidom\nimport os\ndef f():\n    return xml.dom.minidom.__name__ + os.path.sep\n")
    assert run(notebook.capture("f", tmp_path), tmp_path / "b", "").stdout.strip() == "xml.dom.minidom/"


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("import io\nthing = io.StringIO()", "open file"),
        ("import sqlite3\nthing = sqlite3.connect(':memory:')", "live"),
        ("thing = (x for x in [1])", "generator"),
        ("thing = object()", "only small plain values"),
        ("thing = 'x' * 30_000", "too much"),
        ("", "is not defined"),
    ],
)
def test_what_cannot_travel_is_refused_with_its_line(notebook: Notebook, tmp_path: Path, cell: str, words: str) -> None:
    notebook.run(cell)
    notebook.run("def f(x):\n    y = x\n    return thing\n")
    with pytest.raises(BadCode, match="thing") as caught:
        notebook.capture("f", tmp_path)
    assert words in caught.value.message
    assert caught.value.field == "cell [2], line 3"
    if words == "live":
        notebook.names["thing"].close()


def test_the_hub_token_never_travels(notebook: Notebook, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "0123456789abcdef")
    notebook.run("config = {'t': ['0123456789abcdef']}\ndef f():\n    return config\n")
    with pytest.raises(BadCode, match="hub token"):
        notebook.capture("f", tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PASSWORD", "hunter2"),
        ("db_password", "x y"),
        ("API_TOKEN", "ab12" * 6),
        ("service_api_key", "0a" * 10),
        ("note", "ghp_" + "a1" * 18),
        ("note", ".".join(["eyJ" + "a" * 12] * 2 + ["b" * 20])),
        ("note", "-----BEGIN RSA " + "PRIVATE KEY-----"),
    ],
)
def test_what_looks_like_a_secret_does_not_travel(notebook: Notebook, tmp_path: Path, name: str, value: str) -> None:
    notebook.names[name] = value
    notebook.run(f"def f():\n    return {name}\n")
    with pytest.raises(BadCode) as caught:
        notebook.capture("f", tmp_path)
    assert "secrets.set(" in caught.value.hint and value not in f"{caught.value} {caught.value.hint}"
    notebook.run(f"def g():\n    return {value!r}\n")
    if name == "note":  # whatever its name
        with pytest.raises(BadCode, match="contains a"):
            notebook.capture("g", tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pad_token", "[PAD]"),
        ("TOKEN", "a-word-without-digits"),
        ("tokens", 512),
        ("secrets_file", "a.txt"),
        ("password", ""),
    ],
)
def test_what_only_sounds_like_one_travels(notebook: Notebook, tmp_path: Path, name: str, value: object) -> None:
    notebook.names[name] = value
    notebook.run(f"def f():\n    return {name}\n")
    assert repr(value) in "".join(notebook.capture("f", tmp_path).files.values())


def test_a_local_module_that_does_not_compile_is_named(notebook: Notebook, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "beside_bad.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    notebook.run("import beside_bad\ndef f():\n    return beside_bad.x\n")
    (tmp_path / "beside_bad.py").write_text("x = 1\ndef broken(:\n")
    with pytest.raises(BadCode) as caught:
        notebook.capture("f", tmp_path)
    assert caught.value.field == "beside_bad.py, line 2"


def test_a_bundle_never_writes_outside_its_folder(tmp_path: Path) -> None:
    for name in ("../x.py", "/x.py", "a/../../x.py"):
        with pytest.raises(ValueError, match="inside a bundle"):
            bundles.write(tmp_path / "b", {"files": {name: ""}, "entry": "a:b", "digest": "1"})
    assert not (tmp_path / "b").exists()


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(_PLAIN)
def test_a_plain_value_comes_back_from_its_text(value: Any) -> None:
    text, why, _ = literals.literal(value)
    assert not why
    back = eval(text, {})
    assert back == value
    assert type(back) is type(value)


def test_our_decorator_is_left_out_also_when_its_name_means_something_else_by_now(
    notebook: Notebook, tmp_path: Path
) -> None:
    notebook.run("from ropewalk_workflows.dag import step\nimport ropewalk_workflows.dag as rw")
    notebook.run("@step(retries=2)\ndef train(x): return x\n\n@rw.step\ndef test(x): return x")
    notebook.run("for step in range(3): pass\ndel rw")
    assert notebook.capture("train", tmp_path).files == {"ropewalk_cells.py": "def train(x): return x\n"}
    assert notebook.capture("test", tmp_path).files == {"ropewalk_cells.py": "def test(x): return x\n"}


def test_a_decorator_of_the_person_travels(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("""
        import functools
        def twice(f):
            @functools.wraps(f)
            def both(*args): return 2 * f(*args)
            return both
        FIVE = 5
        @twice
        def add(x): return x + FIVE
    """)
    bundle = notebook.capture("add", tmp_path)
    assert run(bundle, tmp_path / "bundle", "1").stdout == "12\n"


def test_a_text_of_many_lines_in_an_indented_function_stays_as_it_is(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run(
        "if True:\n    def query():\n        return '''SELECT\n  1\nFROM t'''\n    def fails(): return 1 / 0\n"
    )
    bundle = notebook.capture("query", tmp_path)
    assert run(bundle, tmp_path / "bundle", "").stdout == "SELECT\n  1\nFROM t\n"
    failed = run(notebook.capture("fails", tmp_path), tmp_path / "other", "")
    assert 'File "cell [1]", line 6' in failed.stdout + failed.stderr


def test_types_and_named_tuples_made_by_a_statement_travel(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("""
        from collections import namedtuple
        from typing import Optional, TypeVar
        T = TypeVar("T")
        Maybe = Optional[T]
        Pair = namedtuple("Pair", "left right")
        def pair(x: T, y: Maybe = None) -> list[T]: return list(Pair(x, y))
    """)
    assert run(notebook.capture("pair", tmp_path), tmp_path / "bundle", "1").stdout == "[1, None]\n"


def test_what_is_no_function_is_refused(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run(
        "import functools\ndef f(x): return x\ng = functools.partial(f, 1)\nclass A:\n  def m(self): pass\nh = A().m"
    )
    for name, kind in (("g", "partial"), ("h", "method")):
        with pytest.raises(BadCode, match=f"{kind} is not a function"):
            notebook.capture(name, tmp_path)


def test_modules_in_a_folder_without_init_travel_by_source(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plain_sources_7"
    folder.mkdir()
    (folder / "first.py").write_text("from .second import two\nfrom plain_sources_7 import third\n")
    (folder / "second.py").write_text("two = 2\n")
    (folder / "third.py").write_text("")
    (folder / "unused.py").write_text("this does not compile")
    monkeypatch.syspath_prepend(str(tmp_path))
    notebook.run("from plain_sources_7.first import two\ndef f(): return two")
    files = notebook.capture("f", tmp_path).files
    assert set(files) - {"ropewalk_cells.py"} == {f"plain_sources_7/{one}.py" for one in ("first", "second", "third")}
    for name in [name for name in sys.modules if name.startswith("plain_sources_7")]:
        del sys.modules[name]
