"""Settings: every source, every type, every refusal; and that each is documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core import settings
from ropewalk_core.errors import BadInput
from tests import reference


def test_every_setting_is_documented_under_its_field() -> None:
    assert [f"{group}.{name}" for group, name, _, words in reference.fields() if len(words) < 15] == []


def test_every_setting_is_read_by_somebody() -> None:
    sources = [
        one for part in ("hub", "workflows", "extensions") for one in (reference.PAGE.parents[1] / part).rglob("*.py")
    ]
    code = "".join(one.read_text() for one in sources if one.name != "settings.py")
    own = Path(settings.__file__).read_text()  # where the door's are put together
    names = {name for _, name, _, _ in reference.fields()}
    assert [one for one in sorted(names) if not re.search(rf"\.{one}\b", code + own)] == []


def test_the_page_is_current() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run python -m tests.reference"


def test_the_order_of_sources(tmp_path: Path) -> None:
    assert settings.load(tmp_path, environ={}).door.port == 8000
    (tmp_path / "ropewalk.toml").write_text("[door]\nport = 9000\nhost = 'rope.test'\n")
    assert settings.load(tmp_path, environ={}).door.port == 9000
    environ = {"ROPEWALK_DOOR_PORT": "9100"}
    loaded = settings.load(tmp_path, environ=environ)
    assert (loaded.door.port, loaded.door.host) == (9100, "rope.test")
    chosen = settings.load(tmp_path, environ=environ, door_port=9200, door_host=None)
    assert (chosen.door.port, chosen.door.people_port, chosen.door.origin) == (9200, 9201, "http://rope.test:9200")


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("ACCOUNTS_SIGN_UP", "false", lambda one: one.accounts.sign_up is False),
        ("ACCOUNTS_SESSION", "60.5", lambda one: one.accounts.session == 60.5),
        ("LIMITS_STEPS", "2", lambda one: one.limits.steps == 2),
        ("CLUSTER_TOLERATED", "gpu,big", lambda one: one.cluster.tolerated == ("gpu", "big")),
        ("FOLDER", "/tmp", lambda one: one.folder == Path("/tmp").resolve()),
        ("API", "http://elsewhere", lambda one: one == one),
    ],
)
def test_text_from_the_environment_has_the_fields_type(tmp_path: Path, name: str, text: str, read: Any) -> None:
    assert read(settings.load(tmp_path, environ={f"ROPEWALK_{name}": text}))


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("[door]\nport = 'many'\n", "door.port"),
        ("[door]\nprot = 1\n", "door_prot"),
        ("[door]\nhost = 'http://one'\n", "door.host"),
        ("[door]\npeople_host = 'one..two'\n", "door.people_host"),
        ("[door]\nscheme = 'ftp'\n", "door.scheme"),
        ("colour = 'red'\n", "colour"),
        ("[accounts]\nsign_up = 'perhaps'\n", "accounts.sign_up"),
        ("[environments]\nimages = 3\n", "environments.images"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, content: str, field: str) -> None:
    (tmp_path / "ropewalk.toml").write_text(content)
    with pytest.raises(BadInput) as caught:
        settings.load(tmp_path, environ={})
    assert caught.value.field == field


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "ropewalk.toml").write_text("[door\n")
    with pytest.raises(BadInput, match=r"ropewalk\.toml"):
        settings.load(tmp_path, environ={})


def test_what_children_inherit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    environment = settings.child_environment({"A": "b"})
    assert "SECRET" not in environment and environment["A"] == "b" and "PATH" in environment
