"""Checks of what steps write, ``ropewalk_runtime.values`` and ``kinds``, with the real libraries."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy
import pandas
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from ropewalk_runtime import formats, kinds, previews, values
from ropewalk_runtime.values import PICKLE, Unsavable
from tests.user_side.formats import raises, without

NEEDS = {
    "check_frames_are_arrow_where_pyarrow_is": ("pyarrow",),
    "check_frames_of_polars_and_pyarrow": ("pyarrow", "polars"),
    "check_tensors": ("torch",),
    "check_previews_of_polars_and_pyarrow": ("pyarrow", "polars"),
}
FOLDER = Path(tempfile.mkdtemp())


def there_and_back(value: Any) -> tuple[Any, str]:
    """Return a value as the next step reads it, and its media type; the file holds no pickle."""
    saved = values.save(value, FOLDER)
    path = FOLDER / saved.digest[:2] / saved.digest
    content, media_type = values.encode(value)
    assert media_type == saved.media_type
    assert type(values.decode(content)) is type(value), "a notebook reads what a step reads"
    return values.load(path), saved.media_type


def same(one: Any, other: Any) -> bool:
    if isinstance(one, numpy.ndarray):
        return one.dtype == other.dtype and numpy.array_equal(one, other, equal_nan=one.dtype.kind in "fM")
    return bool(one.equals(other)) if isinstance(one, pandas.DataFrame | pandas.Series) else one == other


def check_arrays_are_files_of_their_own() -> None:
    for one in (
        numpy.arange(12.0).reshape(3, 4),
        numpy.asfortranarray(numpy.arange(12).reshape(3, 4)),
        numpy.array(["a", "bcd"]),
        numpy.array(["2020-01-01", "NaT"], "datetime64[us]"),
        numpy.zeros((0, 3)),
        numpy.array(5),
        numpy.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    ):
        back, media_type = there_and_back(one)
        assert media_type == formats.NPY and same(one, back) and back.shape == one.shape, one
        content, _ = values.encode(one)
        assert same(numpy.load(io.BytesIO(content)), one), "numpy alone reads it"


def check_an_array_takes_no_memory_and_may_be_changed() -> None:
    saved = values.save(numpy.zeros(1000), FOLDER)
    path = FOLDER / saved.digest[:2] / saved.digest
    back = values.load(path)
    back += 1
    assert back.sum() == 1000 and values.load(path).sum() == 0, "what one step changes no other sees"
    assert not back.flags.owndata


def check_scalars_and_objects_of_numpy() -> None:
    for one in (numpy.float64(0.1), numpy.int8(3), numpy.bool_(True), numpy.datetime64("2020-01-01", "D")):
        back, _ = there_and_back(one)
        assert type(back) is type(one) and back == one
    mixed = numpy.array([["a", None], [(1, 2), [3]]], object)
    back, _ = there_and_back(mixed)
    assert back.dtype == object and back.shape == (2, 2) and back.tolist() == mixed.tolist()


def check_several_things_at_once() -> None:
    learn, labels = numpy.ones((4, 2)), numpy.array([0.0, 1, 0, 1])
    model = LinearRegression().fit(learn, labels)
    value = {"parts": (learn, labels, learn), "model": model, 3: {"x", "y"}, "score": numpy.float64(0.5)}
    back, media_type = there_and_back(value)
    assert media_type == kinds.VALUE
    assert list(back) == list(value) and back[3] == {"x", "y"}
    assert type(back["parts"]) is tuple and same(back["parts"][1], labels)
    assert back["parts"][0] is back["parts"][2], "the same array is one part"
    assert (back["model"].predict(learn) == model.predict(learn)).all()
    assert back["parts"][0].ctypes.data % 64 == 0, "parts are used as they lie"


def frames() -> list[Any]:
    days = pandas.date_range("2024-03-30", periods=3, freq="D", tz="Europe/Athens")
    mixed = pandas.DataFrame(
        {
            "n": [1, 2, 3],
            "x": [1.5, numpy.nan, 3.0],
            "text": ["a", None, "ä"],
            "kind": pandas.Categorical(["u", "v", "u"], categories=["v", "u"], ordered=True),
            "whole": pandas.array([1, None, 3], dtype="Int64"),
            "yes": pandas.array([True, None, False], dtype="boolean"),
            "part": pandas.array([0.5, None, 1.5], dtype="Float32"),
            "day": days,
            "span": pandas.to_timedelta([1, 2, 3], unit="s"),
        }
    )
    levels = pandas.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["u", None])
    return [
        mixed,
        mixed.set_index("text"),
        mixed.set_index(levels),
        mixed.iloc[:0],
        mixed[[]],
        pandas.DataFrame(numpy.arange(6.0).reshape(2, 3), columns=[("a", 1), ("a", 2), ("b", 1)]),
        pandas.DataFrame({"a": [1], 2: ["x"]}),
        pandas.DataFrame([[1, "x"]], columns=["same", "same"]),
        pandas.DataFrame({"x": range(3)}, index=days),
    ]


def check_frames_travel_without_pyarrow() -> None:
    for one in frames():
        back, media_type = without("pyarrow", lambda one=one: there_and_back(one))
        assert media_type == kinds.VALUE
        pandas.testing.assert_frame_equal(back, one)
    objects = pandas.DataFrame({"o": pandas.Series([(1, 2), None, "x"], dtype=object)})
    pandas.testing.assert_frame_equal(without("pyarrow", lambda: there_and_back(objects))[0], objects)
    numbers = without("pyarrow", lambda: there_and_back(pandas.DataFrame({"a": [1.0, 2.0]})))[0]
    numbers.iloc[0, 0] = 7.0
    assert numbers.iloc[0, 0] == 7.0, "a frame may be changed"


def check_series_and_indexes() -> None:
    for frame in frames():
        for name in range(frame.shape[1]):
            one = frame.iloc[:, name]
            back, _ = there_and_back(one)
            pandas.testing.assert_series_equal(back, one)
        back, _ = there_and_back(frame.index)
        pandas.testing.assert_index_equal(back, frame.index)
        assert getattr(back, "freq", None) == getattr(frame.index, "freq", None)
    for one in (
        pandas.Timestamp("2024-03-31 04:30", tz="Europe/Athens"),
        pandas.Timestamp("2024-01-01").as_unit("s"),
        pandas.Timedelta("3h"),
    ):
        back, _ = there_and_back(one)
        assert (back, type(back), back.unit) == (one, type(one), one.unit)
        assert getattr(back, "tz", None) == getattr(one, "tz", None)
    back, _ = there_and_back((pandas.NaT, pandas.NA))
    assert back[0] is pandas.NaT and back[1] is pandas.NA


def check_a_column_without_a_form_is_named() -> None:
    frame = pandas.DataFrame({"p": pandas.period_range("2020-01", periods=2, freq="M")})
    error = raises(Unsavable, lambda: without("pyarrow", lambda: values.encode({"frame": frame})))
    assert "value['frame'] is of the type pandas" in str(error) and "period[M]" in str(error)
    assert "pyarrow" in error.hint and "@step(pickle=True)" in error.hint
    assert values.encode(frame, pickles=True)[1] == PICKLE


def check_frames_are_arrow_where_pyarrow_is() -> None:
    frame = frames()[0]
    back, media_type = there_and_back(frame)
    assert media_type == formats.ARROW
    pandas.testing.assert_frame_equal(back, frame)
    odd = pandas.DataFrame({"o": pandas.Series([(1, 2), None, "x"], dtype=object)})
    back, media_type = there_and_back(odd)
    assert media_type == kinds.VALUE, "what has no Arrow form is written by columns"
    pandas.testing.assert_frame_equal(back, odd)


def check_frames_of_polars_and_pyarrow() -> None:
    import polars
    import pyarrow

    frame, table = polars.DataFrame({"a": [1, None], "t": ["x", "y"]}), pyarrow.table({"a": [1, 2]})
    back, _ = there_and_back([frame, table])
    assert back[0].equals(frame) and back[1].equals(table)
    assert type(there_and_back(frame)[0]) is polars.DataFrame
    error = raises(Unsavable, lambda: without("pyarrow", lambda: values.encode(frame)))
    assert "%pip install pyarrow" in error.hint


def check_estimators_with_code_of_the_notebook() -> None:
    module = types.ModuleType("__main__")
    sys.modules["__main__"], kept = module, sys.modules["__main__"]
    try:

        class Twice(TransformerMixin, BaseEstimator):
            def fit(self, x: Any, y: Any = None) -> Any:
                return self

            def transform(self, x: Any) -> Any:
                return x * 2

        Twice.__module__, Twice.__qualname__ = "__main__", "Twice"
        module.Twice = Twice  # type: ignore[attr-defined]
        for own in (Twice(), FunctionTransformer(lambda x: x * 2)):
            pipe = make_pipeline(own, StandardScaler()).fit(numpy.ones((2, 2)))
            content, media_type = values.encode(pipe)
            assert media_type == PICKLE, "cloudpickle alone writes these"
            assert values.decode(content).transform(numpy.ones((2, 2))).sum() == 0
    finally:
        sys.modules["__main__"] = kept


def check_data_sets_and_sparse_matrices() -> None:
    from scipy.sparse import csr_array, csr_matrix
    from sklearn.datasets import load_iris
    from sklearn.model_selection import KFold

    for one in (load_iris(), csr_array([[0, 1.0]]), csr_matrix([[0, 1.0]]), KFold(3)):
        back, media_type = there_and_back(one)
        assert media_type == kinds.VALUE and type(back) is type(one)
    assert (there_and_back(csr_array([[0, 1.0]]))[0].toarray() == [[0, 1]]).all()


def check_other_objects_of_libraries_ask() -> None:
    error = raises(Unsavable, lambda: values.encode([1, numpy.random.default_rng()], "fit.rng"))
    assert str(error).startswith("fit.rng[1] is of the type numpy.random._generator.Generator and cannot be saved")
    assert values.encode(numpy.random.default_rng(), pickles=True)[1] == PICKLE


def check_tensors() -> None:
    import torch

    for one in (
        torch.arange(6.0).reshape(2, 3),
        torch.tensor(3),
        torch.zeros(0, 4),
        torch.tensor([True, False]),
        torch.ones(2, dtype=torch.bfloat16, requires_grad=True),
        torch.arange(6).reshape(2, 3).T,
    ):
        back, media_type = there_and_back(one)
        assert media_type == "application/vnd.safetensors"
        assert torch.equal(back, one) and back.dtype == one.dtype and back.requires_grad == one.requires_grad
    layer = torch.nn.Linear(2, 1)
    back, _ = there_and_back({"state": layer.state_dict(), "bias": layer.bias})
    torch.nn.Linear(2, 1).load_state_dict(back["state"])
    assert type(back["bias"]) is torch.nn.Parameter


def check_what_lies_beyond_the_limit_of_memory_is_mapped_all_the_same() -> None:
    saved = values.save(numpy.zeros(2**20), FOLDER)
    path = FOLDER / saved.digest[:2] / saved.digest
    child = os.fork()
    if not child:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (2**20, 2**20))
        back = values.load(path)
        os._exit(0 if back.sum() == 0 and not back.flags.writeable else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def check_previews() -> None:
    seen = previews.look(numpy.arange(6.0).reshape(2, 3))
    assert seen["facts"] == {"shape": "2 x 3", "type": "float64"}
    assert seen["columns"] == ["0", "1", "2"] and seen["rows"] == [["0", "1", "2"], ["3", "4", "5"]]
    frame = frames()[0]
    seen = previews.look(frame)
    assert seen["facts"] == {"rows": "3", "columns": "9"} and seen["columns"][:3] == ["", "n", "x"]
    assert seen["rows"][0][:4] == ["0", "1", "1.5", "a"]
    assert previews.words(frame) == "data frame, 3 x 9"
    seen = previews.look(frame["x"])
    assert seen["facts"] == {"rows": "3", "type": "float64"} and len(seen["rows"]) == 3
    for shape in ((300, 200), (300, 200, 3), (16, 16, 4)):
        seen = previews.look(numpy.zeros(shape, "uint8"))
        assert base64.b64decode(seen["image"]).startswith(b"\x89PNG"), shape
    noise = numpy.random.default_rng(1).integers(0, 255, (500, 500, 4)).astype("uint8")
    assert previews.look(noise)["image"] and len(json.dumps(previews.look(noise))) <= previews.MOST
    for other in (numpy.zeros((3, 0)), numpy.zeros(2, [("a", "i4")]), numpy.array(5), numpy.zeros((2, 2, 2))):
        assert "image" not in previews.look(other) and previews.look(other)["facts"]


def check_previews_of_polars_and_pyarrow() -> None:
    import polars
    import pyarrow

    for one in (polars.DataFrame({"a": [1, 2], "t": ["x", "y"]}), pyarrow.table({"a": [1, 2], "t": ["x", "y"]})):
        seen = previews.look(one)
        assert seen["columns"] == ["a", "t"] and seen["rows"] == [["1", "x"], ["2", "y"]]
        assert previews.words(one) == "data frame, 2 x 2"
