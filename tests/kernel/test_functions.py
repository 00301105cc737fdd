"""%%function and the handles of functions."""

from __future__ import annotations

import copy
import pickle
import time
from pathlib import Path

import pytest

from ropewalk_core.errors import BadCode, BadInput, BadName, NotFound
from ropewalk_core.figures import Cell
from ropewalk_core.model import Access
from ropewalk_kernel.functions import FunctionHandle, functions
from ropewalk_kernel.sharing import Borrowed
from tests.kernel.conftest import Notebook
from tests.kernel.fake import FakePlatform

WORKFLOW = (
    "import ropewalk\n@ropewalk.step\ndef one(n):\n    return n\n@ropewalk.workflow\ndef gone(n):\n    return one(n)\n"
)
DOUBLE = "%%function --memory 512Mi --timeout 5\nFACTOR = 2\n\ndef double(x: int) -> int:\n    return FACTOR * x\n"


def test_a_cell_becomes_a_function(platform: FakePlatform, notebook: Notebook) -> None:
    said = notebook.run(DOUBLE)
    assert "function double: deployed, revision 1" in said
    spec = platform.functions["double"].revision.spec
    assert spec.placement.memory == 512 * 2**20
    assert spec.timeout == 5
    assert "FACTOR = 2" in spec.bundle.files["ropewalk_cells.py"]
    handle = notebook.value("double")
    assert isinstance(handle, FunctionHandle)
    assert handle.local(4) == 8
    assert handle.url == "http://double--fn--ada.localhost:8001/"


def test_what_travels_is_shown_before_it_is_sent(
    platform: FakePlatform, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("sums.py").write_text("def one():\n    return 1\n")
    monkeypatch.syspath_prepend(".")
    notebook.run(f"import json\nNAMES = {['x' * 30] * 3}\nfrom sums import one\ndef scale(x):\n    return one() * x\n")
    said = notebook.run("%%function\nFACTOR = 2\ndef double(x):\n    return json.dumps([scale(x), FACTOR, NAMES])\n")
    line = "captured: double; helpers scale (cell [1]); values FACTOR = 2, NAMES = ['"
    assert line in said, (said, notebook.errors)
    assert "... (102 characters); files sums.py; imports json" in said
    assert said.index("captured:") < said.index("function double: deployed")
    assert "captured" not in notebook.run("%%function\ndef alone(x):\n    return x\n")
    assert "captured" not in notebook.run("%%function shout\n#!/bin/sh\ntrue\n")


def test_the_same_cell_again_is_unchanged(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    assert "double: unchanged, revision 1" in notebook.run(DOUBLE)
    assert "deployed, revision 2" in notebook.run(DOUBLE.replace("2 ", "3 ").replace("= 2", "= 3"))


def test_the_lines_of_a_traceback_are_the_lines_of_the_cell(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    origin = platform.functions["double"].revision.spec.bundle.origin
    assert [place.rpartition(":")[2] for place in origin.values()] == ["4"]


def test_a_traceback_names_the_cell_that_defines_the_function(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run("1")
    for prompt in (2, 3):  # the same text again is another cell
        platform.functions.clear()
        notebook.run(DOUBLE)
        assert notebook.outcome.execution_count == prompt
        origin = platform.functions["double"].revision.spec.bundle.origin
        assert list(origin.values()) == [f"cell [{prompt}]:4"]


def test_figures_and_costs_are_drawn_and_told(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    assert "No calls." in notebook.run("double.figures()")
    cell = Cell(calls=3, errors=1, cpu=0.5, gb_seconds=2.0)
    cell.took(0.012)
    platform.counted.add(time.time(), cell, time.time())
    said = notebook.run("found = double.figures('day')\nfound")
    assert "in the last day, by quarter of an hour: 3 calls, 1 failed, p50 12 ms" in said
    found = notebook.value("found")
    assert (found.total.calls, len(found.bars)) == (3, 96) and "<svg" in found._repr_mimebundle_()["text/html"]
    for asked in ("double.costs()", "ropewalk.functions.costs()"):
        assert "0.500 s" in notebook.run(f"import ropewalk\n{asked}")
    with pytest.raises(BadInput):
        notebook.value("double").figures("week")


def test_the_decorator_takes_the_same_options(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(
        "import ropewalk\n@ropewalk.function(memory='1Gi')\ndef half(x):\n    return x / 2\n"
        "@ropewalk.function\ndef third(x):\n    return x / 3\n"
    )
    assert notebook.errors == []
    assert platform.functions["half"].revision.spec.placement.memory == 2**30
    assert "import ropewalk" not in platform.functions["third"].revision.spec.bundle.files["ropewalk_cells.py"]


def test_a_function_comes_back_by_name(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    assert functions.get("double").info().revision.number == 1
    assert [one.name for one in functions.list()] == ["double"]
    assert functions._ipython_key_completions_() == ["double"]
    assert "double" in notebook.run("%functions")
    assert pickle.loads(pickle.dumps(functions.get("double"))).name == "double"
    with pytest.raises(NotFound):
        functions.get("nothing")
    with pytest.raises(BadInput, match="not in this kernel"):
        functions.get("double").local(1)


def test_curl_takes_a_fresh_token(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    command = functions.get("double").curl(x="it's")
    assert '-H "Authorization: Bearer $(ropewalk token)"' in command
    assert command.endswith("http://double--fn--ada.localhost:8001/")
    assert """'{"x": "it'"'"'s"}'""" in command
    assert """-d '{"x": 1}'""" in functions.get("double").curl()


def test_a_function_describes_itself(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    told = notebook.value("double").openapi()
    assert told == functions.get("double").openapi() and told["info"]["title"] == "double"
    body = told["paths"]["/"]["post"]["requestBody"]["content"]["application/json"]
    assert list(body["schema"]["properties"]) == ["x"] and body["example"] == {"x": 1}


def test_revisions_are_listed_compared_and_come_back(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    notebook.run(DOUBLE.replace("FACTOR = 2", "FACTOR = 3"))
    notebook.run(DOUBLE.replace("FACTOR = 2", "FACTOR = 3").replace("--timeout 5", "--timeout 9"))
    said = notebook.run("double.versions()").partition("Out[4]: \n")[2]
    rows = [line.split() for line in said.splitlines()]
    assert rows[0] == ["revision", "deployed", "changed", "environment", "id"]
    assert [row[0] for row in rows[1:]] == ["3", "2", "1"] and rows[1][1] == "(current)"
    assert ["timeout" in rows[1], "code" in rows[2], "first" in rows[3]] == [True] * 3
    versions = notebook.value("double").versions()
    assert [one.number for one in versions] == [3, 2, 1] and len(versions) == 3
    assert "<table>" in versions._repr_mimebundle_()["text/html"]

    double = notebook.value("double")
    assert repr(double.diff()) == ("--- revision 2\n+++ revision 3\n@@ options @@\n-timeout: 5.0\n+timeout: 9.0")
    assert "-FACTOR = 2\n+FACTOR = 3" in repr(double.diff(1)) and "+timeout: 9.0" in repr(double.diff(1))
    assert "timeout" not in repr(double.diff(1, 2)) and "nothing differs" in repr(double.diff(2, 2))
    shown = double.diff(1)._repr_mimebundle_()["text/html"]
    assert '<span class="rw-bad">-FACTOR = 2</span>' in shown and '<span class="rw-good">+FACTOR = 3</span>' in shown

    assert "function double: revision 4 is what revision 1 was" in notebook.run("double.rollback(1)")
    assert double.versions().current == 4 and "same as 1" in repr(double.versions())
    assert "FACTOR = 2" in platform.functions["double"].revision.spec.bundle.files["ropewalk_cells.py"]
    assert "function double: is already what revision 1 was" in notebook.run("double.rollback(1)")
    assert "revision 5 is what revision 3 was" in notebook.run("double.rollback()")
    notebook.run("double.rollback(77)")
    assert "RW-NOT-FOUND There is no revision 77 of 'double'." in notebook.errors[0]


def test_calls_are_split_between_revisions(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    notebook.run(DOUBLE.replace("FACTOR = 2", "FACTOR = 3"))
    assert "the latest revision takes all calls" in notebook.run("double.traffic()")
    said = "Of 100 calls revision 1 takes 90, revision 2 takes 10."
    assert said in notebook.run("double.traffic({1: 90, 2: 10})")
    card = notebook.run(DOUBLE.replace("FACTOR = 2", "FACTOR = 4"))
    assert "revision 2 takes 10, revision 3, the latest, takes none." in card  # a deploy says what a split does to it
    assert "revision 4 is what revision 1 was, and takes all calls" in notebook.run("double.rollback(1)")
    traffic = platform.functions["double"].traffic
    assert (traffic.latest, [(one.number, one.weight) for one in traffic.shares]) == (100, [(1, 0), (2, 0)])
    for cell, why in (("double.traffic({1: 90})", "add up to 90"), ("double.traffic({9: 100})", "no revision 9")):
        notebook.run(cell)
        assert why in notebook.errors[0]


def test_a_revision_is_called_at_its_own_address(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    notebook.run(DOUBLE.replace("FACTOR = 2", "FACTOR = 3"))
    double = notebook.value("double")
    first = double.at(1)
    assert first.url == "http://r1--double--fn--ada.localhost:8001/" and first.url in first.curl(1)
    assert platform.functions["double"].traffic.latest == 100  # nothing else was changed by that
    assert double.url == "http://double--fn--ada.localhost:8001/"
    assert "revision 1" in repr(first) and pickle.loads(pickle.dumps(first)).url == first.url
    notebook.run("double.traffic({1: 100})")
    double.at(2)
    traffic = platform.functions["double"].traffic
    assert (traffic.latest, [(one.number, one.weight) for one in traffic.shares]) == (0, [(1, 100), (2, 0)])
    notebook.run("double.traffic({'latest': 100})")
    with pytest.raises(NotFound, match="no address of its own"):
        FunctionHandle("double", number=1).url  # noqa: B018
    with pytest.raises(NotFound):
        double.at(9)


def test_who_may_call_is_chosen_and_said(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    assert "Only you can call it, with a token." in notebook.run("double.access()")
    assert "so can 'bob' and 'eve'" in notebook.run("double.access(['eve', 'bob'])")
    assert "Anybody can call it, without signing in." in notebook.run("double.access('public')")
    said = notebook.run(DOUBLE.replace("FACTOR = 2", "FACTOR = 3"))
    assert "Anybody can call it, without signing in." in said  # said at every deploy, and kept by it
    notebook.run("double.access(origins=['https://example.org'])")
    access = platform.functions["double"].access
    assert (access.who, access.origins) == ("public", ("https://example.org",))
    notebook.run("double.access('private')")
    assert platform.functions["double"].access.origins == ("https://example.org",)
    notebook.run("double.access(origins=[])")
    assert platform.functions["double"].access == Access()


def test_who_may_call_is_an_option_of_a_deploy(platform: FakePlatform, notebook: Notebook) -> None:
    said = notebook.run(DOUBLE.replace("--timeout 5", "--access bob,eve --origins https://example.org"))
    assert "function double: deployed, revision 1" in said and "so can 'bob' and 'eve'" in said
    assert platform.functions["double"].access.accounts == ("bob", "eve")
    notebook.run(DOUBLE)
    assert platform.functions["double"].access.accounts == ("bob", "eve")  # what is not said stays
    notebook.run("import ropewalk\n@ropewalk.function(access='public', name='open')\ndef one(x):\n    return x\n")
    assert platform.functions["open"].access.who == "public"
    notebook.run("@ropewalk.function(access=['Not A Name'])\ndef other(x):\n    return x\n")
    assert "no account's name" in notebook.errors[0] and "other" not in platform.functions
    notebook.run(DOUBLE.replace("FACTOR = 2", "FACTOR = 3").replace("--timeout 5", "--access nosuch"))
    assert "not all that you asked for was done. There is no account 'nosuch'." in notebook.errors[-1]
    assert "The function double: deployed, revision" in notebook.errors[-1]


def test_a_key_is_not_left_in_the_notebook(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    assert "No keys" in notebook.run("double.keys()")
    shown = notebook.run("key = double.add_key('web', calls=5, seconds=60)\nkey")
    key = notebook.value("key")
    assert key.text.startswith("rwk-0000000000-") and key.text not in shown and "5 calls in 60 s" in shown
    assert key.text not in repr(key) and key.text not in str(key._repr_mimebundle_())
    listed = notebook.run("double.keys()")
    keys = notebook.value("double").keys()
    assert "web" in listed and key.text not in listed and [one.id for one in keys] == [key.id]
    notebook.run("double.revoke_key(key.id)")
    assert not platform.made


def test_the_first_revision_has_none_before_it(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    for cell in ("double.rollback()", "double.diff()"):
        notebook.run(cell)
        [said] = notebook.errors
        assert "There is no revision before 1." in said and "Next: Deploy a change first" in said


def test_what_people_wrote_stays_text_in_a_difference(platform: FakePlatform, notebook: Notebook) -> None:
    for text in ("<script>", "<img src=x>"):
        notebook.run(DOUBLE + f"    return '{text}'\n")
    shown = notebook.value("double").diff()._repr_mimebundle_()["text/html"]
    assert "<script>" not in shown and "<img" not in shown and "&lt;img src=x&gt;" in shown


def test_remove(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(DOUBLE)
    assert "function double: removed" in notebook.run("double.remove()")
    assert "No functions yet" in notebook.run("%functions")


@pytest.mark.parametrize(
    ("cell", "says", "where"),
    [
        ("%%function\nx = 1", "defines no function", "cell"),
        ("%%function other\ndef one(): pass", "RW-BAD-INPUT The cell defines no function 'other'.", "name"),
        ("%%function Bad_Name\ndef one(): pass", "RW-BAD-NAME The cell defines no function 'Bad_Name', and", "name"),
        (
            "%%function Bad_Name\ndef one(): pass",
            "It defines one. For another name on the platform write --as bad-name.",
            "name",
        ),
        ("%%function --as Bad_Name\ndef one(): pass", "RW-BAD-NAME The name 'Bad_Name'", "name"),
        ("%%function --timeout soon\ndef one(): pass", "Invalid float value", "--timeout"),
        ("%%function --timeout 0\ndef one(): pass", "'timeout' must be more than 0", "timeout"),
        ("%%function --nonsense 1\ndef one(): pass", "Unrecognized arguments", "%%function"),
        ("%%function --as 'one\ndef one(): pass", "No closing quotation", "%%function"),
    ],
)
def test_wrong_use_is_one_sentence(
    platform: FakePlatform, notebook: Notebook, cell: str, says: str, where: str
) -> None:
    notebook.run(cell)
    [said] = notebook.errors
    assert says in said and f"Where: {where}" in said and "RW-BAD-" in said and "Next: " in said
    assert not platform.functions


def test_a_cell_that_does_not_compile_names_its_line(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run("%%function\ndef one():\n    return 1 +\n")
    assert "RW-BAD-CODE" in notebook.errors[0]
    assert "Where: cell line 3" in notebook.errors[0]


def test_a_working_folder_that_was_removed_is_named(
    platform: FakePlatform, notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.run(WORKFLOW)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for cell in ("gone.submit(n=1)", "import ropewalk; ropewalk.submit(gone, n=1)", DOUBLE):
        notebook.run(cell)
        [said] = notebook.errors
        assert f"RW-NOT-FOUND The folder {gone} in which this notebook works was removed." in said
        assert 'os.chdir(os.path.expanduser("~"))' in said
        assert "ropewalk_" not in said and "FileNotFoundError" not in said
    gone.mkdir()  # another folder of the same name
    notebook.run("gone.submit(n=1)")
    [said] = notebook.errors
    step = said.partition("run the cell again: ")[2].partition("\n")[0]
    notebook.run(step)
    notebook.run("gone.submit(n=1)")
    assert notebook.errors == []


def test_a_cell_shows_one_card(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run("import ropewalk")
    notebook.run("def half(x): return x / 2")
    for cell, name in (
        ("ropewalk.services.launch('site', folder='pages')", "site"),
        ("found = ropewalk.functions.deploy(half)\nfound", "half"),
        (WORKFLOW + "gone.submit(n=1)", "gone"),
    ):
        said = notebook.run(cell)
        assert notebook.outcome.success
        assert len(notebook.updates) == 1 and name in said
    assert "half" in notebook.run("found")
    assert len(notebook.updates) == 1


def test_what_no_machine_has_is_refused_at_once(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run("%%function --arch arm64\ndef one(): pass")
    text = notebook.errors[0]
    assert "RW-UNSATISFIABLE" in text
    assert "arch arm64" in text
    assert "arch amd64, 2 cores" in text
    assert "Next: Change or leave out arch" in text
    assert not platform.functions


def test_unknown_options_and_names_are_named(platform: FakePlatform) -> None:
    def one() -> None:
        return None

    with pytest.raises(BadInput, match="no option 'gpu'"):
        functions.deploy(one, gpu=1)
    with pytest.raises(BadInput) as caught:
        functions.deploy(one, timeout=-1)
    assert caught.value.field == "timeout"
    with pytest.raises(BadName):
        functions.deploy(one, "Not A Name")


def test_a_class_is_deployed_like_a_function(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run(
        "%%function\nBASE = 10\nclass Model:\n    def start(self):\n        self.base = BASE\n"
        "    def call(self, x: int) -> int:\n        self.base += x\n        return self.base\n"
    )
    spec = platform.functions["model"].revision.spec
    assert spec.bundle.entry == "ropewalk_cells:Model" and "BASE = 10" in spec.bundle.files["ropewalk_cells.py"]
    handle = notebook.value("Model")
    assert (handle.local(1), handle.local(1)) == (11, 12)
    assert "Model(x=1)" not in handle.curl() and '{"x": 1}' in handle.curl()


def test_a_cell_that_makes_an_app_travels_whole(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run("GREETING = 'hello'\ndef polite(name):\n    return GREETING + name\n")
    said = notebook.run(
        "%%function --form asgi --as greeter\nimport json\nfrom starlette.applications import Starlette\n"
        "LIMIT = 3\napp = Starlette()\ndef greet(name):\n    return json.dumps(polite(name)[:LIMIT])\n"
    )
    assert "function greeter: deployed" in said, notebook.errors
    bundle = platform.functions["greeter"].revision.spec.bundle
    assert (bundle.form, bundle.entry) == ("asgi", "ropewalk_cells:app")
    text = bundle.files["ropewalk_cells.py"]
    assert text.count("GREETING = 'hello'") == 1 and text.count("app = Starlette()") == 1
    assert "def polite" in text and {"json", "starlette"} <= set(bundle.imports)
    made: dict[str, object] = {}
    exec(compile(text, "cells", "exec"), made)
    assert callable(made["app"])


def test_an_app_is_known_by_its_parameters(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run("%%function\nasync def raw(scope, receive, send):\n    pass\n")
    assert platform.functions["raw"].revision.spec.bundle.form == "asgi"
    notebook.run("import ropewalk\n@ropewalk.function(form='asgi')\ndef made():\n    return None\n")
    assert platform.functions["made"].revision.spec.bundle.form == "asgi"
    notebook.run("ropewalk.functions.deploy(lambda: 1, 'x', form='wsgi')")
    assert "There is no form 'wsgi'" in notebook.errors[-1]


def test_a_program_is_brought_by_a_cell_or_a_file(platform: FakePlatform, notebook: Notebook) -> None:
    said = notebook.run("%%function shout --memory 64Mi\n#!/bin/sh\ntr a-z A-Z\n")
    assert "function shout: deployed" in said, notebook.errors
    spec = platform.functions["shout"].revision.spec
    assert spec.bundle.files == {"program": "#!/bin/sh\ntr a-z A-Z\n"} and spec.bundle.form == "program"
    assert spec.placement.memory == 64 * 2**20 and notebook.value("shout").name == "shout"
    notebook.run("%%function --as my-server --form server\n#!/usr/bin/env python3\nprint(1)\n")
    assert platform.functions["my-server"].revision.spec.bundle.form == "server"
    assert notebook.value("my_server").name == "my-server"
    notebook.run("%%function\n#!/bin/sh\ntrue\n")
    assert "A program needs a name" in notebook.errors[-1]
    Path("count.sh").write_text("wc -l\n")
    functions.program("count.sh", "count")
    assert platform.functions["count"].revision.spec.bundle.files == {"program": "wc -l\n"}
    with pytest.raises(BadInput, match=r"no file 'cuont\.sh' in"):
        functions.program("cuont.sh", "count")
    functions.program("wc -c", "chars")
    assert platform.functions["chars"].revision.spec.bundle.files == {"program": "wc -c\n"}


def test_the_hub_token_travels_in_no_program(platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "0123456789abcdef")
    with pytest.raises(BadCode, match="hub token"):
        functions.program("curl -H 'Authorization: token 0123456789abcdef' http://hub", "spy")
    assert not platform.functions


def test_somebody_elses_function_says_what_you_have_of_it(platform: FakePlatform, notebook: Notebook) -> None:
    notebook.run("%%function\ndef double(x: int) -> int:\n    return 2 * x\n")
    borrowed = Borrowed(platform.functions["double"])
    with pytest.raises(AttributeError, match=r"double\(x\) or await double.aio\(x\); 'map' is its owner's"):
        borrowed.map([1])
    assert not hasattr(borrowed, "_repr_html_") and copy.copy(borrowed).name == "double"
