"""numpy's scalars and arrays of objects, and what pandas makes, as plain values and arrays. Pure.

``take`` says what such a value consists of: lists, texts and arrays of numbers, which others write; ``give`` puts it
together again. So a frame needs no pyarrow to travel, and a series or an index travels at all. No library is imported
here before a value is there that is its own. Not here: bytes (``kinds``), Arrow (``formats``, which comes first where
pyarrow is installed). Rejected: CSV, which knows no types.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ropewalk_runtime.formats import Unformed, needed
from ropewalk_runtime.tree import name_of

_HINT = "Convert it first, as in frame[name] = frame[name].astype(str), or install pyarrow: %pip install pyarrow."


def take(value: Any) -> tuple[str, Any] | None:
    """Return the name of a value's kind and what it consists of; None for a value that is none of these.

    Raises
    ------
    Unformed
        If part of it has no such form.
    """
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    if library == "numpy":
        return _of_numpy(value)
    return _of_pandas(value, kind.__name__) if library == "pandas" else None


def give(name: str, inside: Any) -> Any:
    """Return the value that `take` took apart.

    Raises
    ------
    Unformed
        If the library lacks, or a later version wrote it.
    """
    if name not in _MAKERS:
        raise Unformed(
            f"A value of the kind {name[:100]!r} cannot be read.", hint="A later Ropewalk wrote it: renew this one."
        )
    return _MAKERS[name](inside)


def _of_numpy(value: Any) -> tuple[str, Any] | None:
    numpy = sys.modules["numpy"]
    if isinstance(value, numpy.generic) and not value.dtype.hasobject and value.dtype.names is None:
        return "numpy.scalar", numpy.asarray(value)
    if name_of(type(value)) == "numpy.ndarray" and value.dtype == object:
        return "numpy.objects", {"shape": list(value.shape), "values": value.reshape(-1).tolist()}
    return None


def _of_pandas(value: Any, name: str) -> tuple[str, Any] | None:
    pandas = sys.modules["pandas"]
    if name == "DataFrame":
        return "pandas.DataFrame", _frame(value)
    if name == "Series":
        facts = {"name": value.name, "index": _index(value.index), "values": _column(value)}
        return "pandas.Series", facts
    if isinstance(value, pandas.Index):
        return "pandas.Index", _index(value)
    if value is pandas.NaT or value is pandas.NA:
        return "pandas.nothing", "NaT" if value is pandas.NaT else "NA"
    if name == "Timestamp" and (value.tz is None or getattr(value.tz, "key", None)):
        return "pandas.Timestamp", [value.value, value.unit, getattr(value.tz, "key", None)]
    return ("pandas.Timedelta", [value.value, value.unit]) if name == "Timedelta" else None


def _frame(value: Any) -> dict[str, Any]:
    """Return a frame's parts: one array where all columns are of one type of numbers, else a list of columns."""
    numpy = sys.modules["numpy"]
    types = set(value.dtypes)
    plain = len(types) == 1 and all(isinstance(one, numpy.dtype) and not one.hasobject for one in types)
    facts = {"columns": _index(value.columns), "index": _index(value.index)}
    if plain:
        return {**facts, "block": value.to_numpy()}
    return {**facts, "data": [_column(value.iloc[:, at]) for at in range(value.shape[1])]}


def _column(value: Any) -> dict[str, Any]:
    """Return the values of a series or an index, and how they are kept."""
    numpy, pandas = sys.modules["numpy"], sys.modules["pandas"]
    dtype, held = value.dtype, value.array
    if isinstance(dtype, numpy.dtype):
        return {"as": "objects", "of": list(value)} if dtype.hasobject else {"as": "numbers", "of": value.to_numpy()}
    if isinstance(dtype, pandas.StringDtype):
        texts = held.to_numpy(dtype=object, na_value=None).tolist()
        return {"as": "text", "of": texts, "nan": dtype.na_value is not pandas.NA}
    if isinstance(dtype, pandas.CategoricalDtype):
        facts = {"codes": numpy.asarray(held.codes), "categories": _index(dtype.categories)}
        return {"as": "categories", "of": facts, "ordered": bool(dtype.ordered)}
    if isinstance(dtype, pandas.DatetimeTZDtype) and pandas.DatetimeTZDtype(dtype.unit, str(dtype.tz)) == dtype:
        return {"as": "moments", "of": held.tz_convert("UTC").tz_localize(None).to_numpy(), "zone": str(dtype.tz)}
    masked = {"IntegerArray", "FloatingArray", "BooleanArray"}
    if type(held).__name__ in masked:
        missing = held.isna()
        filled = held.to_numpy(dtype=dtype.numpy_dtype, na_value=0)
        return {"as": type(held).__name__, "of": filled, "missing": numpy.asarray(missing)}
    raise Unformed(f"A column is of the type {dtype}, which is no type of numpy's.", hint=_HINT)


def _index(value: Any) -> dict[str, Any]:
    pandas = sys.modules["pandas"]
    if isinstance(value, pandas.RangeIndex):
        return {"as": "range", "of": [value.start, value.stop, value.step], "name": value.name}
    if isinstance(value, pandas.MultiIndex):
        codes = [sys.modules["numpy"].asarray(one) for one in value.codes]
        return {"as": "levels", "of": [_index(one) for one in value.levels], "codes": codes, "name": list(value.names)}
    return {**_column(value), "name": value.name, "every": getattr(value, "freqstr", None)}


# Together again


def _objects(values: list[Any]) -> Any:
    """Return an array of objects; numpy would look into lists for more dimensions."""
    found = needed("numpy", "an array").empty(len(values), object)
    for at, one in enumerate(values):
        found[at] = one
    return found


def _values(facts: dict[str, Any]) -> tuple[Any, Any]:
    """Return the values of a column, and their type where pandas would guess it."""
    pandas = needed("pandas", "a data frame")
    how, inside = facts["as"], facts["of"]
    if how == "objects":
        return _objects(inside), object
    if how == "text":
        na = sys.modules["numpy"].nan if facts["nan"] else pandas.NA
        return _objects(inside), pandas.StringDtype(na_value=na)
    if how == "categories":
        categories = _indexed(inside["categories"])
        return pandas.Categorical.from_codes(inside["codes"], categories, ordered=facts["ordered"]), None
    if how == "moments":
        return pandas.DatetimeIndex(inside).tz_localize("UTC").tz_convert(facts["zone"]).array, None
    if how == "numbers":
        return inside, None
    return getattr(pandas.arrays, how)(inside, facts["missing"]), None


def _indexed(facts: dict[str, Any]) -> Any:
    pandas = needed("pandas", "a data frame")
    if facts["as"] == "range":
        return pandas.RangeIndex(*facts["of"], name=facts["name"])
    if facts["as"] == "levels":
        levels = [_indexed(one) for one in facts["of"]]
        return pandas.MultiIndex(levels, facts["codes"], names=facts["name"], verify_integrity=False)
    values, dtype = _values(facts)
    found = pandas.Index(values, dtype=dtype, name=facts["name"], copy=False)
    if facts["every"]:
        found.freq = facts["every"]
    return found


def _series(facts: dict[str, Any], index: Any, name: Any = None) -> Any:
    values, dtype = _values(facts)
    return needed("pandas", "a data frame").Series(values, index=index, dtype=dtype, name=name, copy=False)


def _framed(facts: dict[str, Any]) -> Any:
    pandas = needed("pandas", "a data frame")
    index, columns = _indexed(facts["index"]), _indexed(facts["columns"])
    if "block" in facts:
        return pandas.DataFrame(facts["block"], index=index, columns=columns, copy=False)
    members = {at: _series(one, index) for at, one in enumerate(facts["data"])}
    found = pandas.DataFrame(members, index=index, copy=False)
    found.columns = columns
    return found


def _timestamp(facts: list[Any]) -> Any:
    pandas, (value, unit, zone) = needed("pandas", "a time"), facts
    found = pandas.Timestamp(value, unit="ns", tz="UTC" if zone else None).as_unit(unit)
    return found.tz_convert(zone) if zone else found


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "numpy.scalar": lambda inside: inside[()],
    "numpy.objects": lambda inside: _objects(inside["values"]).reshape(inside["shape"]),
    "pandas.DataFrame": _framed,
    "pandas.Series": lambda inside: _series(inside["values"], _indexed(inside["index"]), inside["name"]),
    "pandas.Index": _indexed,
    "pandas.nothing": lambda inside: getattr(needed("pandas", "a value"), inside),
    "pandas.Timestamp": _timestamp,
    "pandas.Timedelta": lambda inside: needed("pandas", "a span").Timedelta(inside[0], unit="ns").as_unit(inside[1]),
}
