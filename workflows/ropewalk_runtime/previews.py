"""What a value looks like, in at most 32 KiB: a few words, facts, the corner of a table, a small picture. Pure.

It is made where the value is, by the account's own code, and is shown by others as text: who shows it checks it and
escapes it. Only a corner of a large value is looked at. Pictures are PNG; nothing else is ever an image on a page. A
value that cannot be looked at has no preview, and that is no failure. Not here: writing values (``values``). Rejected:
HTML of the libraries' own, which would be somebody's markup on the platform's pages; SVG, which can hold scripts.
"""

from __future__ import annotations

import base64
import io
import json
import reprlib
import struct
import sys
import zlib
from array import array
from collections import deque
from typing import Any

from ropewalk_runtime import formats

MOST = 32 * 1024
"""Bytes of a preview as JSON."""
LONGEST = 400
ROWS = COLUMNS = 20
_CELL = 60
_EDGES = (160, 96, 64)
"""Pixels along the longer side of a picture that is made of an array, the first that makes it small enough."""
_MANY, _LETTERS = 1000, 100
"""From how many members on only some are shown; so many letters count as one."""
_PNG = b"\x89PNG\r\n\x1a\n"


class _Bounded(reprlib.Repr):
    """Shows no more than the beginning of bytes, as of text."""

    def repr_bytes(self, value: bytes, _level: int) -> str:
        return repr(value[:LONGEST])

    repr_bytearray = repr_bytes


_SHORT = _Bounded()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = _SHORT.maxfrozenset = _SHORT.maxdeque = 20
_SHORT.maxstring = _SHORT.maxother = LONGEST


def words(value: Any) -> str:
    """Return a value in at most `LONGEST` letters."""
    frame = formats.library(value)
    if frame and frame != "numpy":
        rows, columns = _shape(value)
        return f"data frame, {rows} x {columns}"
    try:
        text = _repr(value)
    except Exception as error:  # noqa: BLE001 - a person's __repr__ may raise anything; the value is fine
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.").removeprefix("__main__.")
        text = f"<{name}: {type(error).__name__} in repr>"
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _repr(value: Any) -> str:
    """Return a value's repr, of a large one its beginning: a copy of it in letters may find no room."""
    return repr(value) if _is_small(value) else _SHORT.repr(value)


def _is_small(value: Any) -> bool:
    """Say whether Python's own containers, text and bytes have few members and letters, at all depths together."""
    left, more = _MANY, [value]
    while more and left >= 0:
        one = more.pop()
        if isinstance(one, str | bytes | bytearray):
            left -= len(one) // _LETTERS
        elif isinstance(one, dict | list | tuple | set | frozenset | deque | array):
            left -= len(one)
            if left >= 0:
                more += [*one.keys(), *one.values()] if isinstance(one, dict) else one
    return left >= 0


def look(value: Any) -> dict[str, Any]:
    """Return what may be shown of a value beside its words; nothing where they say it all.

    Returns
    -------
    dict
        Any of ``facts`` (name: text), ``columns`` and ``rows`` (lists of texts), and ``image`` (a PNG as base64).
    """
    try:
        return fitting(_looked(value))
    except Exception:  # noqa: BLE001 - libraries and persons' classes may raise anything; the value is fine
        return {}


def of_file(path: Any, size: int) -> dict[str, Any]:
    """Return what may be shown of a program's file: a small picture, or the first lines of a text."""
    with open(path, "rb") as file:
        first = file.read(MOST if size <= MOST else LONGEST * 4)
    if first.startswith(_PNG):
        return fitting({"facts": _facts_of_png(first), **({"image": _text(first)} if size <= MOST else {})})
    try:
        lines = first.decode("utf-8", "strict" if size <= len(first) else "ignore").splitlines()
    except UnicodeDecodeError:
        return {}
    return fitting({"rows": [[line[: _CELL * 2]] for line in lines[:ROWS]]}) if "\0" not in "".join(lines) else {}


def fitting(found: dict[str, Any], most: int = MOST) -> dict[str, Any]:
    """Return a preview of at most so many bytes: without its picture, then with fewer rows, then without any."""
    for without in ("", "image", "half", "rows"):
        if without == "half" and "rows" in found:
            found = {**found, "rows": [row[:8] for row in found["rows"][:5]], "columns": found.get("columns", [])[:8]}
        elif without == "rows":
            found = {key: one for key, one in found.items() if key not in ("rows", "columns")}
        elif without:
            found = {key: one for key, one in found.items() if key != without}
        if len(json.dumps(found)) <= most:
            return found
    return {}


def _looked(value: Any) -> dict[str, Any]:
    library = formats.library(value)
    if library == "numpy":
        return _array(value)
    if library:
        return _frame(value, library)
    kind = type(value)
    top = kind.__module__.partition(".")[0]
    if top == "pandas" and kind.__name__ == "Series":
        return _frame(value.iloc[:ROWS].to_frame(), "pandas", len(value)) | {"facts": _series(value)}
    if top == "torch" and hasattr(value, "dtype"):
        return {"facts": {"shape": _by(value.shape), "type": str(value.dtype).removeprefix("torch.")}}
    if top == "matplotlib" and hasattr(value, "savefig"):
        drawn = io.BytesIO()
        value.savefig(drawn, format="png", dpi=50)
        return _image(drawn.getvalue())
    if kind is bytes:
        return {"facts": _facts_of_png(value), **_image(value)} if value.startswith(_PNG) else {}
    if kind is list and value and all(type(one) is dict for one in value[:ROWS]):
        return _records(value)
    own = getattr(kind, "_repr_png_", None)
    if own is not None and top not in ("builtins", "__main__"):
        drawn_ = own(value)
        return _image(drawn_) if isinstance(drawn_, bytes) and drawn_.startswith(_PNG) else {}
    return {}


def _array(value: Any) -> dict[str, Any]:
    facts = {"shape": _by(value.shape), "type": str(value.dtype)}
    pixels = value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (3, 4))
    if pixels and value.dtype == "uint8" and min(value.shape[:2]) >= 8:
        return {"facts": facts, "image": _text(_small_png(value))}
    if value.ndim not in (1, 2) or value.dtype.names is not None or not value.size:
        return {"facts": facts}
    corner = value[:ROWS].reshape(-1, 1) if value.ndim == 1 else value[:ROWS, :COLUMNS]
    columns = [] if value.ndim == 1 else [str(at) for at in range(corner.shape[1])]
    return {"facts": facts, "columns": columns, "rows": [[_cell(one) for one in row] for row in corner.tolist()]}


def _frame(value: Any, library: str, rows: int | None = None) -> dict[str, Any]:
    height, width = _shape(value)
    facts = {"rows": f"{height if rows is None else rows:,}", "columns": f"{width:,}"}
    if library == "pandas":
        corner = value.iloc[:ROWS, :COLUMNS]
        names, index = [_cell(one) for one in corner.columns.tolist()], corner.index.tolist()
        columns = [corner.iloc[:, at].tolist() for at in range(corner.shape[1])]
        listed = [[_cell(index[at]), *(_cell(one[at]) for one in columns)] for at in range(len(index))]
        return {"facts": facts, "columns": ["", *names], "rows": listed}
    corner = value.slice(0, ROWS)
    names = [str(one) for one in (corner.columns if library == "polars" else corner.column_names)][:COLUMNS]
    held = [
        corner.get_column(one).to_list() if library == "polars" else corner.column(one).to_pylist() for one in names
    ]
    listed = [[_cell(one[at]) for one in held] for at in range(min(height, ROWS))]
    return {"facts": facts, "columns": [_cell(one) for one in names], "rows": listed}


def _series(value: Any) -> dict[str, str]:
    return {"rows": f"{len(value):,}", "type": str(value.dtype)}


def _records(value: list[dict[Any, Any]]) -> dict[str, Any]:
    """Return a list of dictionaries as a table, if they have the same few keys."""
    names = list(value[0])
    if not names or any(list(one) != names for one in value[:ROWS]):
        return {}
    listed = [[_cell(one[name]) for name in names[:COLUMNS]] for one in value[:ROWS]]
    facts = {"rows": f"{len(value):,}", "columns": f"{len(names):,}"}
    return {"facts": facts, "columns": [_cell(one) for one in names[:COLUMNS]], "rows": listed}


def _shape(value: Any) -> tuple[int, int]:
    return int(value.shape[0]), int(value.shape[1])


def _by(shape: Any) -> str:
    return " x ".join(map(str, shape)) or "one"


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else f"{value:.6g}" if type(value) is float else _SHORT.repr(value)
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def _image(data: bytes) -> dict[str, str]:
    """Return a picture that is small enough to be kept; of a larger one nothing is copied."""
    return {"image": _text(data)} if len(data) <= MOST else {}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _facts_of_png(data: bytes) -> dict[str, str]:
    width, height = struct.unpack("!II", data[16:24])
    return {"pixels": f"{width} x {height}"}


def _small_png(pixels: Any) -> bytes:
    """Return an array as a picture that is small in bytes too, where it can be."""
    found = b""
    for edge in _EDGES:
        step = max(1, -(-max(pixels.shape[:2]) // edge))
        if len(found := _png(pixels[::step, ::step])) < MOST * 5 // 8:
            break
    return found


def _png(pixels: Any) -> bytes:
    """Return an array of bytes (rows, columns, and perhaps red, green, blue, opacity) as a PNG."""
    numpy = sys.modules["numpy"]
    height, width = pixels.shape[:2]
    kind = {1: 0, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    rows = numpy.ascontiguousarray(pixels).reshape(height, -1)
    lines = numpy.concatenate([numpy.zeros((height, 1), "uint8"), rows], axis=1).tobytes()

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + name + data + struct.pack("!I", zlib.crc32(name + data))

    head = struct.pack("!IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return _PNG + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
