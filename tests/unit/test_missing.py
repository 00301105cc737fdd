"""A missing import: what the package is called, and the line that brings it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ropewalk_hub.gateway.functions import hide_traceback
from ropewalk_hub.gateway.link import worker_error
from ropewalk_runtime import failing, missing


def raised(source: str) -> BaseException:
    try:
        exec(compile(source, "cell [1]", "exec"), {})
    except BaseException as error:
        return error
    raise AssertionError("it did not fail")


@pytest.mark.parametrize(
    ("module", "package"),
    [("cv2", "opencv-python-headless"), ("no_such_thing.inner", "no-such-thing"), ("fitz", "pymupdf")],
)
def test_the_package_is_named(module: str, package: str) -> None:
    found = missing.package(raised(f"import {module}"))
    assert found is not None and found.distribution == package and package in found.said


@pytest.mark.parametrize(
    "source",
    [
        "import json.nothing",
        "1 / 0",
        "from json import nothing",
        "raise ModuleNotFoundError('x')",
        "import tomli_x as x\n",
    ],
)
def test_what_is_no_missing_package_is_left_alone(source: str) -> None:
    found = missing.package(raised(source))
    assert (found is None) == ("tomli_x" not in source)


def test_the_fix_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = missing.Package("sklearn", "scikit-learn")
    own = missing.fix(lacking)
    assert "%pip install scikit-learn" in own and "%%function -r scikit-learn" in own
    (tmp_path / "lock.txt").write_text("")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    assert missing.fix(lacking) == "Add it to the function's requirements: %%function -r scikit-learn"
    assert "Leave the import out" in missing.fix(missing.Package("ropewalk", "ropewalk"))


def test_a_call_and_a_deploy_say_the_same() -> None:
    error = raised("x = 1\nimport cv2")
    call, deploy = failing.failed(error), failing.bad_code(error)
    assert call["field"] == deploy["field"] == "cell line 2" and call["hint"] == deploy["hint"]
    assert call["code"] == "RW-USER-CODE" and "cv2 (the package opencv-python-headless)" in call["message"]
    assert "No module named" in call["details"]["error"] and "import cv2" not in call["message"]


def test_the_names_are_names() -> None:
    assert all(name.isidentifier() and other == other.lower() for name, other in missing.DISTRIBUTIONS.items())


def test_a_stranger_is_not_told_what_the_owner_lacks_and_where() -> None:
    header = {"error": failing.failed(raised("import cv2"))}
    known = worker_error(header, 2**30)
    assert known is not None and "cv2" in hide_traceback(known, "ada", "ada").message
    told = hide_traceback(known, "", "ada").problem()
    assert told["message"] == "The function raised ModuleNotFoundError." and told["field"] is None
    assert "cv2" not in str(told) and "pip" not in str(told)
