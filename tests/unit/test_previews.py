"""Previews: what a step says of its values, in bounds, and only as text or a PNG."""

from __future__ import annotations

import base64
import json
import struct
import tracemalloc
import zlib
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.flows import Artifact, Step
from ropewalk_core.model import State, Status
from ropewalk_hub.pages.render import environment
from ropewalk_kernel import cards, pictures
from ropewalk_runtime import previews as made
from ropewalk_workflows import previews


def png(width: int = 2) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + name + data + struct.pack("!I", zlib.crc32(name + data))

    head = struct.pack("!IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    lines = zlib.compress(b"\0" * (width + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec=None)) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=40)
        | st.dictionaries(st.sampled_from(["facts", "columns", "rows", "image", "$"]) | st.text(), inner, max_size=5)
    ),
    max_leaves=60,
)


@given(_JUNK)
def test_what_a_step_says_is_kept_in_bounds_whatever_it_is(said: Any) -> None:
    kept = previews.told(said)
    assert set(kept) <= {"facts", "columns", "rows", "image"}
    assert "image" not in kept, "no junk is a picture"
    assert len(kept.get("rows", [])) <= 20 and all(len(row) <= 21 for row in kept.get("rows", []))
    json.dumps(kept, ensure_ascii=False).encode()
    shown = previews.shown({"preview": "text", "look": said})
    assert shown is not None and shown.text == "text"
    assert previews.told(kept) == kept, "what was kept is kept again"


def test_only_a_small_png_is_a_picture() -> None:
    good = base64.b64encode(png()).decode()
    assert previews.told({"image": good}) == {"image": good}
    for bad in (base64.b64encode(b"<svg onload=alert(1)>").decode(), '"><script>', good + "A" * 40_000, 7):
        assert previews.told({"image": bad}) == {}


def test_files_of_programs_have_previews(tmp_path: Path) -> None:
    def look(content: bytes) -> dict[str, Any]:
        (tmp_path / "file").write_bytes(content)
        return made.of_file(tmp_path / "file", len(content))

    assert look(b"a,b\n1,2\n") == {"rows": [["a,b"], ["1,2"]]}
    assert look("ä\n".encode() * 100_000)["rows"][:2] == [["ä"], ["ä"]], "cut in the middle of a letter"
    assert look(b"\0\1\2") == look(b"\xff\xfe\0\0") == look(b"\x93NUMPY\x01") == {}
    seen = look(png())
    assert base64.b64decode(seen["image"]) == png() and seen["facts"] == {"pixels": "2 x 1"}
    large = png() + b"x" * 40_000
    assert look(large) == {"facts": {"pixels": "2 x 1"}}, "too large to be shown"


def test_a_preview_fits_or_is_cut(tmp_path: Path) -> None:
    rows = [["x" * 60] * 20 for _ in range(20)]
    image = base64.b64encode(b"x" * 20_000).decode()
    whole = {"facts": {"rows": "1"}, "columns": ["c"] * 20, "rows": rows, "image": image}
    for most, keys in ((2**20, set(whole)), (30_000, {"facts", "columns", "rows"}), (300, {"facts"}), (1, set())):
        found = made.fitting(whole, most)
        assert set(found) == keys
        assert len(json.dumps(found)) <= max(most, 2)
    assert len(made.fitting(whole, 4096)["rows"]) == 5


@pytest.mark.parametrize(
    ("value", "words"),
    [(3, "3"), ("a" * 5000, "'aaa"), (list(range(10**6)), "[0, 1, 2"), ({1, 2}, "{1, 2}"), (b"x" * 10**6, "b'xxx")],
)
def test_words_are_few_and_soon_found(value: Any, words: str) -> None:
    assert made.words(value).startswith(words)
    assert len(made.words(value)) <= made.LONGEST


LONG_QUEUE, LONG_ARRAY = deque(range(2**20)), array("b", bytes(2**24))


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: [one], lambda one: {"a": [(1, one)]}])
@pytest.mark.parametrize(
    "large", [b"\0" * 2**24, bytearray(2**24), "x" * 2**24, list(range(2**20)), LONG_QUEUE, LONG_ARRAY]
)
def test_nothing_large_is_written_down_for_a_few_words(wrap: Callable[[Any], Any], large: Any) -> None:
    value = wrap(large)
    tracemalloc.start()
    try:
        assert 20 < len(made.words(value)) <= made.LONGEST
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_picture_that_would_unpack_to_all_memory_is_none() -> None:
    assert previews.told({"image": base64.b64encode(png(2)).decode()})["image"]
    vast = png(2).replace(b"\0\0\0\2", b"\x0f\xff\xff\xff")
    assert "image" not in previews.told({"image": base64.b64encode(vast).decode()})


def test_records_are_a_table() -> None:
    seen = made.look([{"rate": 0.1, "score": n} for n in range(100)])
    assert seen["columns"] == ["rate", "score"] and seen["rows"][1] == ["0.1", "1"] and len(seen["rows"]) == 20
    assert seen["facts"] == {"rows": "100", "columns": "2"}
    assert made.look([{"a": 1}, {"b": 2}]) == made.look([{}]) == made.look([]) == made.look(3) == {}


def test_a_value_that_cannot_be_looked_at_is_no_failure() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise KeyError

        _repr_png_ = property(lambda self: 1 / 0)

    assert made.words(Odd()).endswith("KeyError in repr>")
    assert made.look(Odd()) == {}


def hostile() -> Artifact:
    said = {"facts": {HOSTILE: HOSTILE}, "columns": [HOSTILE], "rows": [[HOSTILE]], "image": ""}
    seen = previews.shown({"preview": HOSTILE, "look": said})
    return Artifact(name=f"result{HOSTILE}", digest="d" * 64, size=3, preview=seen)


def test_a_hostile_preview_is_text_on_the_page_and_in_the_card() -> None:
    one = hostile()
    macro = environment().get_template("parts.html").make_module({"sign": str, "state": str})
    html = str(macro.preview(one))  # type: ignore[attr-defined]
    assert "<script" not in html and "<img" not in html and "&lt;script&gt;" in html
    step = Step(
        id="s",
        name=HOSTILE,
        status=Status(state=State.DONE),
        artifacts=(one.model_copy(update={"name": "result"}),),
    )
    card = pictures.made(step) + pictures.inside(one) + cards.framed(pictures.line(step), "", "").html
    assert "<script" not in card and "<img" not in card and "&lt;script&gt;" in card


def test_a_picture_is_shown() -> None:
    image = base64.b64encode(png()).decode()
    seen = previews.shown({"preview": "figure", "look": {"image": image, "facts": {"pixels": "2 x 1"}}})
    one = Artifact(name="result", digest="d" * 64, size=3, preview=seen)
    assert f'src="data:image/png;base64,{image}"' in pictures.inside(one)
    macro = environment().get_template("parts.html").make_module({"sign": str, "state": str})
    assert f'src="data:image/png;base64,{image}"' in str(macro.preview(one))  # type: ignore[attr-defined]


def test_outputs_name_files_without_their_previews() -> None:
    file = {"digest": "d", "size": 1, "look": {"rows": [["x"]]}}
    assert previews.without({"result": file, "list": [file]}) == {
        "result": {"digest": "d", "size": 1},
        "list": [{"digest": "d", "size": 1}],
    }
