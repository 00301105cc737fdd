"""Hera in a notebook is set up by itself, when it is imported, and only where nobody has set it up."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

ENVIRONMENT = {"ROPEWALK_HOST": "localhost:8000", "ROPEWALK_ACCOUNT": "ada", "ROPEWALK_API": "http://127.0.0.1:8000"}
BEFORE = "import sys, json\nfrom ropewalk_kernel import hera\nhera.install()\n"
TOLD = """
from hera.shared import global_config as config
print(json.dumps([config.host, config.namespace, callable(config._token), len([1 for one in sys.meta_path if
    type(one).__module__ == 'ropewalk_kernel.hera'])]))
"""


def said(code: str, **environment: str) -> Any:
    """What a fresh interpreter prints, as JSON; Hera is imported once in a process."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_set_up_when_it_is_imported() -> None:
    assert said(BEFORE + TOLD, **ENVIRONMENT) == ["http://localhost:8000/argo/", "ada", True, 0]


def test_set_up_when_it_was_imported_before() -> None:
    assert said("import hera.shared\n" + BEFORE + TOLD, **ENVIRONMENT)[:2] == ["http://localhost:8000/argo/", "ada"]


def test_on_a_cluster_at_an_address_of_its_own() -> None:
    inside = "http://platform.ropewalk:8000"
    assert said(BEFORE + TOLD, **ENVIRONMENT, ROPEWALK_ARGO=inside)[0] == f"{inside}/argo/"


@pytest.mark.parametrize(
    ("code", "environment", "wanted"),
    [
        ("", {}, [None, None, False, 0]),
        (
            "import hera.shared\nfrom hera.shared import global_config\nglobal_config.host = 'http://mine'\n",
            ENVIRONMENT,
            ["http://mine", None, False, 0],
        ),
    ],
)
def test_what_a_person_set_stays(code: str, environment: dict[str, str], wanted: list[Any]) -> None:
    assert said(code + BEFORE + TOLD, **environment) == wanted


def test_nothing_is_imported_before() -> None:
    assert said(BEFORE + "print(json.dumps('ropewalk_core' in sys.modules or 'hera' in sys.modules))") is False
