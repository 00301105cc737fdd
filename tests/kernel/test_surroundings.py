"""Limits, variables and secrets in a notebook: the same words for cell and decorator, and values that nobody sees."""

from __future__ import annotations

import pytest

from ropewalk_core.errors import BadInput
from ropewalk_kernel.functions import functions
from ropewalk_kernel.stored import secrets
from tests.kernel.conftest import Notebook
from tests.kernel.fake import FakePlatform

BODY = "def double(x: int) -> int:\n    return 2 * x\n"
LINE = "--cpu-time 3 --min-workers 1 --files read --environment MODE=fast --environment 'SAID=a b' --secret TOKEN"
WORDS = (
    "cpu_time=3, min_workers=1, files='read', environment={'MODE': 'fast', 'SAID': 'a b'}, secrets=['TOKEN'],"
    " scratch='64Mi'"
)


@pytest.mark.parametrize(
    "cell", [f"%%function {LINE} --scratch 64Mi\n{BODY}", f"import ropewalk\n@ropewalk.function({WORDS})\n{BODY}"]
)
def test_a_cell_and_a_decorator_take_the_same_words(platform: FakePlatform, notebook: Notebook, cell: str) -> None:
    said = notebook.run(cell)
    assert not notebook.errors and "1 kept worker, files read-only" in said
    spec = platform.functions["double"].revision.spec
    assert (spec.cpu_time, spec.min_workers, spec.files, spec.secrets) == (3, 1, "read", ("TOKEN",))
    assert spec.environment == {"MODE": "fast", "SAID": "a b"} and spec.placement.scratch == 64 * 2**20


def test_a_variable_without_a_value_is_refused_before_anything_is_sent(platform: FakePlatform) -> None:
    def double(x: int) -> int:
        return 2 * x

    with pytest.raises(BadInput) as caught:
        functions.deploy(double, environment=["MODE"])
    assert caught.value.field == "environment" and not platform.functions


def test_a_secret_is_asked_for_and_never_shown(
    platform: FakePlatform, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "ropewalk.secrets.set" in repr(secrets.list())
    monkeypatch.setattr("getpass.getpass", lambda _asked: "open sesame")
    said = notebook.run("import ropewalk\nropewalk.secrets.set('TOKEN')")
    assert not notebook.errors and "open sesame" not in said
    assert platform.values == {"TOKEN": "open sesame"}
    assert "TOKEN" in repr(secrets.list()) and len(secrets.list()) == 1
    secrets.remove("TOKEN")
    assert not platform.stored
