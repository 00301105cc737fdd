"""Requirements in a notebook: said beside the function, built with a log under the cell, not needed in the notebook."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ropewalk_core.errors import BadCode
from ropewalk_core.model import FunctionSpec
from ropewalk_kernel import absent
from tests.kernel.conftest import Notebook
from tests.kernel.fake import FakePlatform

BLOCK = "# /// script\n# dependencies = ['numpy>=2']\n# requires-python = '>=3.9'\n# ///\n"


def deployed(platform: FakePlatform, name: str = "double") -> FunctionSpec:
    return platform.functions[name].revision.spec


def test_the_line_the_block_and_the_decorator_say_the_same(platform: FakePlatform, notebook: Notebook) -> None:
    said = notebook.run("%%function -r pandas==2.2 -r 'Scikit_Learn >= 1.5'\ndef double(x):\n    return x\n")
    assert notebook.outcome.success, notebook.errors
    assert deployed(platform).requirements == ("pandas==2.2", "scikit-learn>=1.5")
    assert "environment of double: ready" in said and "installing pandas==2.2" in said
    notebook.run(f"%%function\n{BLOCK}def double(x):\n    return x\n")
    assert (deployed(platform).requirements, deployed(platform).requires_python) == (("numpy>=2",), ">=3.9")
    notebook.run(f"%%function -r pandas --requires-python >=3.10\n{BLOCK}def double(x):\n    return x\n")
    assert (deployed(platform).requirements, deployed(platform).requires_python) == (("numpy>=2", "pandas"), ">=3.10")
    notebook.run("import ropewalk\n@ropewalk.function(requirements=['pandas'])\ndef half(x):\n    return x\n")
    assert deployed(platform, "half").requirements == ("pandas",)
    notebook.run(f"{BLOCK}@ropewalk.function(requirements='polars')\ndef third(x):\n    return x\n")
    assert deployed(platform, "third").requirements == ("numpy>=2", "polars")
    notebook.run(f"%%function -r rich\n{BLOCK}class Model:\n    def call(self, x):\n        return x\n")
    assert deployed(platform, "model").requirements == ("numpy>=2", "rich")
    notebook.run(f"%%function count -r rich\n#!/usr/bin/env python3\n{BLOCK}print(1)\n")
    assert deployed(platform, "count").requirements == ("numpy>=2", "rich")
    notebook.run("%%function\ndef double(x):\n    return x\n")
    assert deployed(platform).requirements == ()


def test_what_is_there_already_shows_no_log(platform: FakePlatform, notebook: Notebook) -> None:
    cell = "%%function -r pandas\ndef double(x):\n    return x\n"
    assert "environment of double" in notebook.run(cell)
    again = notebook.run(cell)
    assert "environment of double" not in again and "unchanged" in again


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-r nothing", "cannot be met"),
        ("-r requirements.txt", "is a file"),
        ("-r pandas=2", "no requirement"),
        ("--requires-python never", "no versions"),
    ],
)
def test_what_cannot_be_met_is_explained(platform: FakePlatform, notebook: Notebook, line: str, said: str) -> None:
    shown = notebook.run(f"%%function {line}\ndef double(x):\n    return x\n")
    assert said in notebook.errors[0] and "Next: " in notebook.errors[0] and not platform.functions
    assert ("not built" in shown) == (line == "-r nothing")


def test_what_only_the_function_has_need_not_be_here(platform: FakePlatform, notebook: Notebook) -> None:
    cell = (
        "%%function -r ropeless\n"
        "import ropeless\nimport ropeless.deep as deep\nfrom ropeless.other import Base, tool\n"
        "class Model(Base):\n    pass\n"
        "def double(x: ropeless.Table) -> deep.Row:\n    return tool(Model(), ropeless.twice(x), deep.inner.thing)\n"
    )
    notebook.run(cell)
    assert notebook.outcome.success, notebook.errors
    text = deployed(platform).bundle.files["ropewalk_cells.py"]
    for line in ("import ropeless\n", "import ropeless.deep as deep\n", "from ropeless.other import Base", "tool"):
        assert line in text
    assert "ropeless" in deployed(platform).bundle.imports
    assert not [name for name in sys.modules if name.startswith("ropeless")]
    notebook.run("double.local(1)")
    assert "%pip install ropeless" in str(notebook.outcome.error_in_exec)
    notebook.run("import ropeless")
    assert isinstance(notebook.outcome.error_in_exec, ModuleNotFoundError)
    notebook.run("%%function\n\nimport ropeless\ndef double(x):\n    return x\n")
    told = notebook.outcome.error_in_exec
    assert isinstance(told, BadCode) and told.field == "cell line 3"
    assert told.message == "The cell needs the package ropeless, which is not installed."
    assert "%pip install ropeless" in told.hint and "%%function -r ropeless" in told.hint


@pytest.mark.parametrize("cell", ["import rope_user, ropeless", "import ropeless, rope_user"])
def test_a_library_of_the_notebook_does_not_find_what_is_not_here(
    platform: FakePlatform, notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str
) -> None:
    """As pandas asks for pyarrow and its version: it would be broken until the notebook ends."""
    text = "try:\n    import ropeless\n    has = ropeless.__version__\nexcept ImportError:\n    has = False\n"
    (tmp_path / "rope_user.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    notebook.run(f"%%function -r ropeless\n{cell}\ndef double(x):\n    return ropeless.twice(x)\n")
    assert notebook.outcome.success, notebook.errors
    notebook.run("import rope_user\nhas = rope_user.has")
    assert notebook.value("has") is False
    monkeypatch.delitem(sys.modules, "rope_user")


def test_libraries_keep_their_own_optional_imports(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    with absent.standing_in("import ropeless\nimport json", __file__):
        import ropeless  # type: ignore[import-not-found]

        assert ropeless.anything.deep.er is ropeless.anything.deep.er
        with pytest.raises(ModuleNotFoundError):
            import ropemore  # type: ignore[import-not-found]  # noqa: F401
        with pytest.raises(ModuleNotFoundError):
            import json.nothing  # type: ignore[import-not-found]  # noqa: F401
        with pytest.raises(ModuleNotFoundError, match="only in the function's environment"):
            ropeless.call(1)
    with pytest.raises(ModuleNotFoundError):
        import ropeless


def test_revisions_say_what_they_ran_with(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run("%%function\ndef double(x):\n    return x\n")
    notebook.run("%%function -r pandas\ndef double(x):\n    return x\n")
    said = notebook.run("double.versions()")
    assert "requirements" in said and "0 required" in said
    assert '+requirements: ["pandas"]' in repr(notebook.value("double").diff())
