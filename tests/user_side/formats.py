"""Checks of ``ropewalk_runtime.formats``, ``packed`` and ``returned`` with the real libraries."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pandas

from ropewalk_runtime import formats, handler, packed, parts, returned
from ropewalk_runtime.formats import ARROW, NPY, Unformed
from ropewalk_runtime.handler import CALL_TYPE, BadAnswer, BadPayload, Handler
from ropewalk_runtime.packed import PACKED, Packing, Part

RAN = Path(tempfile.mkdtemp()) / "ran"
NEEDS = {
    "check_frames_come_back_as_they_were": ("pyarrow",),
    "check_a_frame_is_given_out_without_a_copy": ("pyarrow",),
    "check_a_mapped_frame_is_not_copied": ("pyarrow",),
    "check_polars": ("pyarrow", "polars"),
    "check_no_arrow_stream_runs_code": ("pyarrow",),
    "check_broken_arrow_is_one_failure": ("pyarrow",),
    "check_columns_without_an_arrow_form_are_named": ("pyarrow",),
    "check_an_answer_with_a_frame_for_who_asks": ("pyarrow",),
}


class Bomb:
    """Writes a file when somebody unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mknod, (str(RAN),)


def raises(kind: type[Exception], act: Callable[[], Any]) -> Any:
    """Return what an act raised, which must be of the kind."""
    try:
        act()
    except kind as error:
        return error
    raise AssertionError(f"it did not raise {kind.__name__}")


def there_and_back(value: Any, *, mapped: bool = False) -> Any:
    data = memoryview(b"".join(formats.pieces(value)))
    return formats.read(formats.type_of(value), formats.library(value), data, mapped=mapped)


def without(name: str, act: Callable[[], Any]) -> Any:
    """Return what an act gives where a package is not installed."""
    loaded = {key: sys.modules.pop(key) for key in list(sys.modules) if key.partition(".")[0] == name}

    class Absent:
        def find_spec(self, fullname: str, *_: Any) -> None:
            if fullname.partition(".")[0] == name:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Absent())  # type: ignore[arg-type]
    try:
        return act()
    finally:
        del sys.meta_path[0]
        for key in [key for key in sys.modules if key.partition(".")[0] == name]:
            del sys.modules[key]
        sys.modules.update(loaded)


def check_arrays_come_back_as_they_were() -> None:
    base = numpy.arange(24).reshape(4, 6)
    named = numpy.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")])
    several = [base, base.T, base[::2, 1::2], base.astype(">f4"), numpy.ones(()), numpy.zeros((3, 0, 2)), named]
    several += [numpy.array(["ä", "bc"]), numpy.array(["2026-11-22"], dtype="datetime64[D]"), named[::-1]]
    several += [numpy.array([True, False]), numpy.array([1 + 2j]), numpy.array([b"a\0b"], dtype="S5")]
    several += [numpy.float16([numpy.nan])]
    for one in several:
        for mapped in (False, True):
            back = there_and_back(one, mapped=mapped)
            assert back.dtype == one.dtype and back.shape == one.shape, (one, back)
            assert back.tobytes() == one.tobytes(), (one, back)
            assert back.size == 0 or back.flags.writeable is not mapped


def check_what_is_written_is_npy() -> None:
    for one in (numpy.arange(6).reshape(2, 3), numpy.arange(6).reshape(2, 3).T):
        assert (numpy.load(io.BytesIO(b"".join(formats.pieces(one))), allow_pickle=False) == one).all()
        written = io.BytesIO()
        numpy.save(written, one)
        assert (formats.read(NPY, "", written.getbuffer()) == one).all()


def check_only_frames_and_arrays_are_such() -> None:
    class Mine(numpy.ndarray):
        pass

    for one in (1, "x", [1], numpy.float64(1), numpy.array([object()]), numpy.ma.array([1]), pandas.Series([1])):
        assert formats.library(one) == ""
    assert formats.library(numpy.arange(2).view(Mine)) == ""
    assert (formats.library(numpy.arange(2)), formats.library(pandas.DataFrame())) == ("numpy", "pandas")


def check_no_array_is_unpickled() -> None:
    file = io.BytesIO()
    numpy.save(file, numpy.array([Bomb()], dtype=object), allow_pickle=True)
    assert "never unpickled" in str(raises(Unformed, lambda: formats.read(NPY, "numpy", file.getbuffer())))
    hostile = pickle.dumps(Bomb())
    for data in (hostile, b"\x93NUMPY\x01\x00" + hostile, b"\x93NUMPY" + hostile):
        raises(Unformed, lambda data=data: formats.read(NPY, "numpy", memoryview(data)))
    raises(Unformed, lambda: formats.read("application/x-python-pickle", "", memoryview(hostile)))
    assert not RAN.exists()


def check_broken_arrays_are_one_failure() -> None:
    whole = b"".join(formats.pieces(numpy.arange(10)))
    for end in range(len(whole)):
        raises(Unformed, lambda end=end: formats.read(NPY, "", memoryview(whole[:end])))
    raises(Unformed, lambda: formats.read(NPY, "", memoryview(whole + b"x")))
    for shape in ("(-1,)", "(1000000000000, 1000000000000)", "(True,)", "10", "('a',)"):
        head = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        data = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(80)
        raises(Unformed, lambda data=data: formats.read(NPY, "", memoryview(data)))


def check_what_an_array_says_of_itself_is_one_failure_and_takes_no_memory() -> None:
    deep, open_ended = "(" + "-" * 5000 + "1,)", "(1,"
    much, nothing = "(1000000000000000000,)", "(1000000000000000000, 0)"
    cases = [("<f8", deep), ("<f8", open_ended), ("<U0", much), ("|V0", much), ("<f8", nothing)]
    for kind, shape in [*cases, ("<f8", f"(0, {2**70})"), ("<f8", f"({'0,' * 70})")]:
        head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        data = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
        raises(Unformed, lambda data=data: formats.read(NPY, "", memoryview(data)))


def check_frames_come_back_as_they_were() -> None:
    import pyarrow

    frame = pandas.DataFrame(
        {"a": [1, 2, 3], "b": [0.5, None, 2.5], "c": ["x", None, "ä"], "d": pandas.Categorical(["p", "q", "p"])},
        index=pandas.date_range("2026-11-22", periods=3, tz="Europe/Madrid", name="day"),
    )
    for one in (frame, frame[:0], frame.reset_index(drop=True), pandas.DataFrame(), pandas.DataFrame({1: [2]})):
        for mapped in (False, True):
            pandas.testing.assert_frame_equal(there_and_back(one, mapped=mapped), one, check_freq=False)
    table = pyarrow.table({"a": [1, 2], "b": [[1], [2, 3]]})
    assert there_and_back(table).equals(table) and formats.library(table) == "pyarrow"


def check_polars() -> None:
    import polars

    frame = polars.DataFrame({"a": [1, 2], "b": ["x", None]})
    assert there_and_back(frame).equals(frame)
    assert handler.plain(frame) == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]


def check_a_frame_is_given_out_without_a_copy() -> None:
    import pyarrow

    numbers = numpy.arange(4_000_000, dtype="f8")
    before = pyarrow.total_allocated_bytes()
    seen = 0
    for piece in formats.pieces(pyarrow.table({"a": numbers})):
        seen += len(piece)
        assert len(piece) <= formats.PIECE
        assert pyarrow.total_allocated_bytes() - before < numbers.nbytes / 4
    assert seen > numbers.nbytes


def check_a_mapped_frame_is_not_copied() -> None:
    frame = pandas.DataFrame({"a": numpy.arange(100_000), "b": numpy.arange(100_000, dtype="f8")})
    path = RAN.with_name("frame")
    path.write_bytes(b"".join(formats.pieces(frame)))
    data = packed.mapped(path)
    back = formats.read(ARROW, "pandas", data, mapped=True)
    whole = numpy.frombuffer(data, "u1")
    for name in frame:
        assert numpy.shares_memory(back[name].to_numpy(), whole), name
    pandas.testing.assert_frame_equal(back, frame)


def check_no_arrow_stream_runs_code() -> None:
    import pyarrow

    made = []

    class Own(pyarrow.ExtensionType):
        def __init__(self) -> None:
            super().__init__(pyarrow.int64(), "tests.own")

        def __arrow_ext_serialize__(self) -> bytes:
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, *_: Any) -> Own:
            made.append(1)
            return cls()

    pyarrow.register_extension_type(Own())
    hostile = [
        {b"ARROW:extension:name": b"tests.own", b"ARROW:extension:metadata": b""},
        {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Bomb())},
    ]
    for metadata in hostile:
        for field in (
            pyarrow.field("a", pyarrow.int64(), metadata=metadata),
            pyarrow.field("a", pyarrow.struct([pyarrow.field("b", pyarrow.int64(), metadata=metadata)])),
        ):
            sink = io.BytesIO()
            schema = pyarrow.schema([field])
            with pyarrow.ipc.new_stream(sink, schema):
                made.clear()
            error = raises(Unformed, lambda sink=sink: formats.read(ARROW, "pyarrow", sink.getbuffer()))
            assert "not Arrow's own" in str(error)
    assert not made and not RAN.exists()
    own = pyarrow.table({"a": pyarrow.ExtensionArray.from_storage(Own(), pyarrow.array([1]))})
    assert "'a' is of the type tests.own" in str(raises(Unformed, lambda: b"".join(formats.pieces(own))))


def check_broken_arrow_is_one_failure() -> None:
    import pyarrow

    whole = bytearray(b"".join(formats.pieces(pandas.DataFrame({"a": ["xyz", "ü"], "b": [1, 2]}))))
    for end in range(0, len(whole) - 8, 3):
        raises(Unformed, lambda end=end: formats.read(ARROW, "", memoryview(whole[:end])))
    offsets = pyarrow.py_buffer(numpy.array([0, 2**30, 3], dtype="i4"))
    text = pyarrow.StringArray.from_buffers(2, offsets, pyarrow.py_buffer(b"abc"))
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, pyarrow.schema([("a", pyarrow.string())])) as stream:
        stream.write_batch(pyarrow.record_batch([text], names=["a"]))
    raises(Unformed, lambda: formats.read(ARROW, "pyarrow", sink.getbuffer()))


def check_columns_without_an_arrow_form_are_named() -> None:
    frame = pandas.DataFrame({"mixed": [1, "x"]})
    error = raises(Unformed, lambda: b"".join(formats.pieces(frame)))
    assert "mixed" in str(error) and "one type" in error.hint
    frame = pandas.DataFrame({"p": pandas.period_range("2026-01", periods=2, freq="M")})
    error = raises(Unformed, lambda: b"".join(formats.pieces(frame)))
    assert "'p' is of the type pandas.period" in str(error) and "astype(str)" in error.hint
    frame = pandas.DataFrame({"a": [1]}, index=pandas.period_range("2026", periods=1, freq="M"))
    error = raises(Unformed, lambda: b"".join(formats.pieces(frame)))
    assert error.hint == "Convert it first, as in frame.index = frame.index.astype(str)."
    error = raises(Unformed, lambda: b"".join(formats.pieces(pandas.DataFrame({"a": [2**70]}))))
    assert "OverflowError" in str(error)


def check_what_lacks_is_named_with_the_line_that_brings_it() -> None:
    frame = pandas.DataFrame({"a": [1]})
    error = without("pyarrow", lambda: raises(Unformed, lambda: b"".join(formats.pieces(frame))))
    assert error.lacks.distribution == "pyarrow"
    said = without(
        "pyarrow", lambda: raises(BadAnswer, lambda: returned.answered(frame, content_type=CALL_TYPE, limit=9))
    )
    assert "pyarrow" in str(said) and "%pip install pyarrow" in said.hint and "%%function -r pyarrow" in said.hint
    asked = json.dumps([Part(ARROW, "pandas", 0).as_dict()]).encode()
    text = b'{"args":[{"$ropewalk.part":0}]}'
    body = packed.MAGIC + len(asked).to_bytes(4, "big") + len(text).to_bytes(4, "big") + asked + text
    answering = Handler(lambda frame: None)
    refused = without("pyarrow", lambda: raises(BadPayload, lambda: answering.arguments(body, PACKED)))
    assert "The function has it not" in str(refused) and "%pip install pyarrow" in refused.hint
    array = b"".join(formats.pieces(numpy.arange(3)))
    refused = without("numpy", lambda: raises(BadPayload, lambda: answering.arguments(array, NPY)))
    assert "An array travels with the package numpy" in str(refused)


def check_json_for_everybody_else() -> None:
    frame, array = pandas.DataFrame({"a": [1, 2]}), numpy.arange(3)
    for kind in ("", "application/json", "text/plain"):
        assert returned.answered(frame, content_type=kind, limit=99) == (b'[{"a":1},{"a":2}]', "application/json")
        assert returned.answered(array, content_type=kind, limit=99) == (b"[0,1,2]", "application/json")
    said = returned.answered(array, accept=f"text/html, {NPY};q=1", limit=999)
    assert isinstance(said, tuple) and said[1] == NPY and (formats.read(NPY, "", memoryview(said[0])) == array).all()


def check_an_answer_with_a_frame_for_who_asks() -> None:
    frame = pandas.DataFrame({"a": [1, 2]})
    said = returned.answered(frame, accept=ARROW, limit=9999)
    assert isinstance(said, tuple) and said[1] == ARROW
    pandas.testing.assert_frame_equal(formats.read(ARROW, "", memoryview(said[0])), frame)
    body, kind = returned.one({"frame": frame, "array": numpy.arange(2)})
    back = packed.read(memoryview(body), {})
    assert kind == PACKED and sorted(back) == ["array", "frame"]
    pandas.testing.assert_frame_equal(back["frame"], frame)
    [arguments] = [Handler(lambda frame: None).arguments(said[0], ARROW)]
    pandas.testing.assert_frame_equal(arguments.args[0], frame)


def check_arrays_anywhere_in_an_answer() -> None:
    value = {"x": [numpy.arange(3), {"y": numpy.eye(2)}], "n": numpy.int64(5), "f": float("nan"), "s": "$ropewalk.part"}
    body, kind = returned.one(value)
    back = packed.read(memoryview(body), {})
    assert kind == PACKED and (back["x"][0] == numpy.arange(3)).all() and (back["x"][1]["y"] == numpy.eye(2)).all()
    assert back["n"] == 5 and back["f"] != back["f"] and back["s"] == "$ropewalk.part"
    assert "is ours" in str(raises(BadAnswer, lambda: returned.one([numpy.arange(1), {"$ropewalk.part": 0}])))
    assert returned.one({"$ropewalk.part": 0})[1] == CALL_TYPE
    line = parts.encode(parts.PARTS_TYPE, numpy.arange(3), 999)
    what, inner = parts.read(line)
    assert what == "packed" and (packed.read(memoryview(inner), {}) == numpy.arange(3)).all()


def check_a_large_answer_leaves_in_pieces() -> None:
    array = numpy.arange(1_000_000)
    said = returned.answered([array], content_type=CALL_TYPE, limit=2**20)
    assert isinstance(said, returned.Large) and said.type == PACKED
    pieces = [bytes(one) for one in said.pieces]
    assert max(map(len, pieces)) <= formats.PIECE
    assert (packed.read(memoryview(b"".join(pieces)), {})[0] == array).all()


def check_a_list_is_what_a_parameter_says() -> None:
    def annotated(x: list[float], y: Any) -> None: ...

    packing = Packing()
    text = json.dumps({"args": [packing.take(numpy.arange(2.0)), packing.take(numpy.arange(2))], "kwargs": {}})
    bound = Handler(annotated).arguments(b"".join(packing.pieces(text)), PACKED)
    assert bound.arguments["x"] == [0.0, 1.0] and (bound.arguments["y"] == numpy.arange(2)).all()


def check_files_are_named_by_who_passes_a_message_on() -> None:
    array = numpy.arange(5)
    path = RAN.with_name("array")
    path.write_bytes(b"".join(formats.pieces(array)))
    digest, part = "a" * 64, None
    part = Part(NPY, "numpy", path.stat().st_size, digest)
    packing = Packing(lambda *_: part)
    body = b"".join(packing.pieces(json.dumps([packing.take(array)])))
    assert packed.files(body) == [digest] and packing.size == 0
    [back] = packed.read(memoryview(body), {digest: str(path)})
    assert (back == array).all() and not back.flags.writeable
    for named in ({}, {"b" * 64: str(path)}, {digest: "/nowhere"}, {digest: "/etc/passwd"}):
        raises(Unformed, lambda named=named: packed.read(memoryview(body), named))


def check_a_frame_too_many_is_refused_before_it_is_sent_ahead() -> None:
    asked = []
    packing = Packing(lambda *_: asked.append(1))
    many = [numpy.arange(1)] * (packed.MOST_PARTS + 5)
    error = raises(Unformed, lambda: [packing.take(one) for one in many])
    assert "more than the 1000" in str(error) and len(asked) == packed.MOST_PARTS
    assert "more than the 1000" in str(raises(BadAnswer, lambda: returned.one(many)))


def check_broken_messages_are_one_failure() -> None:
    body = returned.one([numpy.arange(3), "x"])[0]
    for end in range(len(body)):
        raises(Unformed, lambda end=end: packed.read(memoryview(body[:end]), {}))
        assert packed.files(body[:end]) == []
    raises(Unformed, lambda: packed.read(memoryview(body + b"x"), {}))
    for number in ("1", "-1", "true", '"0"', "null"):
        raises(
            Unformed,
            lambda number=number: packed.read(memoryview(body.replace(b'part":0', f'part":{number}'.encode())), {}),
        )
