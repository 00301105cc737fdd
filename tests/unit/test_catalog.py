"""The catalogue: values judged by their schema, words kept whole, charts that match their local twin."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ropewalk_core.catalog import Catalog, Choice, Local, argv, check_path, shipped
from ropewalk_core.errors import BadValues, Internal, NotFound

CATALOG = Catalog()
BUILTINS = {
    "python": "/env/bin/python",
    "base": "/base",
    "port": "8080",
    "host": "a--b.localhost:1",
    "origin": "http://o",
}
FOLDERS = sorted(path.parent for path in shipped().glob("*/Chart.yaml"))


def test_what_comes_with_ropewalk_runs_locally() -> None:
    names = [one.name for one in CATALOG.list()]
    assert names == sorted(names) and {"voila", "tensorboard", "editor", "site"} <= set(names)
    assert all(one.local and one.title and one.description for one in CATALOG.list())


@pytest.mark.parametrize(
    ("template", "values", "field", "words"),
    [
        ("voila", {}, "notebook", "'Notebook' is missing"),
        ("voila", {"notebook": ""}, "notebook", "must not be empty"),
        ("voila", {"notebook": "a.txt"}, "notebook", "ends in .ipynb"),
        ("voila", {"notebook": 7}, "notebook", "must be text, not 7"),
        ("voila", {"notebook": "../a.ipynb"}, "notebook", "inside your files"),
        ("voila", {"notebook": "a.ipynb", "theme": "pink"}, "theme", "one of light, dark"),
        ("voila", {"notebook": "a.ipynb", "show_code": "yes"}, "show_code", "true or false"),
        ("tensorboard", {"reload_seconds": "5"}, "reload_seconds", "a whole number, not '5'"),
        ("tensorboard", {"reload_seconds": 0}, "reload_seconds", "1 or more"),
        ("tensorboard", {"folder": "/etc"}, "folder", "inside your files"),
        ("tensorboard", {"image": {"repository": "x", "tag": "y"}}, "image", "no value named 'image'"),
        ("site", {"folder": "a\0b"}, "folder", "inside your files"),
    ],
)
def test_a_wrong_value_is_named(template: str, values: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(BadValues) as caught:
        CATALOG.check(template, values)
    assert caught.value.field == field
    assert words in caught.value.message
    assert caught.value.details["fields"][field] == caught.value.message


def test_every_wrong_value_is_named_at_once() -> None:
    with pytest.raises(BadValues) as caught:
        CATALOG.check("voila", {"theme": 1, "show_code": 2, "more": 3})
    assert set(caught.value.details["fields"]) == {"notebook", "theme", "show_code", "more"}


def test_defaults_are_filled_in() -> None:
    assert CATALOG.check("tensorboard", {}) == {"folder": "logs", "reload_seconds": 5}
    with pytest.raises(NotFound, match="There is no template"):
        CATALOG.check("nothing", {})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=5
)


@given(
    st.sampled_from([one.name for one in CATALOG.list()]),
    st.dictionaries(st.text() | st.sampled_from(["folder", "notebook", "theme"]), values),
)
def test_any_values_are_taken_or_refused_by_name(template: str, given_values: dict[str, Any]) -> None:
    try:
        checked = CATALOG.check(template, given_values)
    except BadValues as error:
        assert error.field is not None and error.message
        return
    assert checked.keys() >= given_values.keys()
    local = CATALOG.get(template).local
    assert local is not None
    words = argv(local, checked, BUILTINS)
    assert words[0] == BUILTINS["python"] and all(isinstance(word, str) for word in words)


@given(st.text())
def test_a_value_stays_one_word_and_is_never_a_placeholder(text: str) -> None:
    local = Local(command=("{python}", "--x={word}"), port=8080)
    assert argv(local, {"word": text}, BUILTINS) == ["/env/bin/python", f"--x={text}"]


@given(st.text())
def test_a_path_stays_inside(text: str) -> None:
    try:
        path = check_path(text, "folder")
    except BadValues:
        return
    assert not path.is_absolute() and ".." not in path.parts


def test_choices_follow_their_value() -> None:
    local = Local(command=("run", Choice(when="on", then=("--yes",), otherwise=("--no", "x"))), port=8080)
    assert argv(local, {"on": True}, {}) == ["run", "--yes"]
    assert argv(local, {"on": False}, {}) == argv(local, {}, {}) == ["run", "--no", "x"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("local.yaml", "{python}", "{word}"), "starts with free text"),
        (("local.yaml", "{python}", "{nothing}"), "not in the values schema"),
        (("local.yaml", "port: 8080", "port: 80"), "port"),
        (("local.yaml", "port: 8080", "port: 8080\nshell: true"), "shell"),
        (("local.yaml", "port: 8080", "port: 8080\nfolders: [nothing]"), "not in the values schema"),
        (("values.schema.json", '"additionalProperties": false', '"additionalProperties": true'), "must be false"),
        (("values.schema.json", "{", "["), "cannot be read"),
        (("Chart.yaml", "name: one", "name: two"), "named as its folder"),
    ],
)
def test_a_broken_template_is_refused_by_file(tmp_path: Path, change: tuple[str, str, str], words: str) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "Chart.yaml").write_text("name: one\nversion: 1.0.0\n")
    schema = {"type": "object", "additionalProperties": False, "properties": {"word": {"type": "string"}}}
    (folder / "values.schema.json").write_text(json.dumps(schema))
    (folder / "local.yaml").write_text('command: ["{python}", "--x={word}"]\nport: 8080\n')
    assert Catalog(tmp_path).get("one").local
    name, old, new = change
    (folder / name).write_text((folder / name).read_text().replace(old, new, 1))
    with pytest.raises(Internal, match=re.escape(words)) as caught:
        Catalog(tmp_path)
    assert str(folder) in caught.value.message


def test_a_chart_without_a_local_part_needs_a_cluster(tmp_path: Path) -> None:
    shutil.copytree(shipped() / "site", tmp_path / "site")
    (tmp_path / "site" / "local.yaml").unlink()
    assert not Catalog(tmp_path).get("site").template.local


# The cluster's side; what Helm makes of it is compared in tests/kube/test_charts.py.


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda one: one.name)
def test_charts_values_keep_the_whole_schema(folder: Path) -> None:
    schema = json.loads((folder / "values.schema.json").read_text())
    given_values = yaml.safe_load((folder / "values.yaml").read_text())
    assert set(given_values) == set(schema["properties"])
    Draft202012Validator.check_schema(schema)
    defaults = {name: one["default"] for name, one in schema["properties"].items() if "default" in one}
    assert {name: given_values[name] for name in defaults} == defaults
    local = CATALOG.get(folder.name).local
    assert local is not None
    named = {name for word in local.words() for name in re.findall(r"\{([a-z_.]+)\}", word)} - set(BUILTINS)
    named |= {one.when for one in local.command if isinstance(one, Choice)} | set(local.folders)
    here = {name for name, one in schema["properties"].items() if one.get("x-ropewalk") != "kube"}
    assert named == here  # each value that a form asks for does something, and none is missing
    validator = Draft202012Validator(schema)
    assert not list(validator.iter_errors(given_values))
    template = CATALOG.get(folder.name).template
    mine = {name: value for name, value in given_values.items() if name in template.values_schema["properties"]}
    assert CATALOG.check(folder.name, mine) == mine
    used = set(re.findall(r"\.Values\.([a-zA-Z_]+)", "".join(one.read_text() for one in folder.glob("templates/*"))))
    assert used <= set(given_values) and used >= set(mine)
