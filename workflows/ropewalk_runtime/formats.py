"""Data frames and arrays as bytes that any program reads and none can run: Arrow IPC streams and npy. Pure.

numpy, pyarrow, pandas and polars are imported when a value needs them and never before; where one is not installed, the
error names it. What is read may come from a stranger: an array never holds pickled objects, an Arrow stream no types of
somebody's own (libraries build those from bytes as they like, by pickle too), and every offset in it is looked at
before anything follows it. Not here: where bytes lie, and what holds several values (``packed``). Rejected: pickle,
which runs code; Parquet (it must be decoded before it can be used, where Arrow is mapped as it lies).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import math
import sys
from collections.abc import Iterator
from typing import Any

from ropewalk_runtime.missing import Package

ARROW = "application/vnd.apache.arrow.stream"
NPY = "application/x-npy"
PIECE = 2**20
"""Bytes in which a value is given out."""
_SHORT = 8 * 2**20
_FRAMES = {("pandas", "DataFrame"): "pandas", ("polars", "DataFrame"): "polars", ("pyarrow", "Table"): "pyarrow"}
_ARRAYS = {("numpy", "ndarray"): "numpy", ("numpy", "memmap"): "numpy"}
_BEGIN, _EXTENSION = b"\xff\xff\xff\xff", b"ARROW:extension:"
_SAFE = (14, 0, 1)
"""Earlier versions of pyarrow ran code that lies in an Arrow stream (CVE-2023-47248)."""


class Unformed(Exception):
    """A value cannot be written, or bytes cannot be read; ``lacks`` is the package that is missing, if that is why."""

    def __init__(self, message: str, *, hint: str = "", lacks: Package | None = None) -> None:
        super().__init__(message)
        self.hint, self.lacks = hint, lacks


def library(value: Any) -> str:
    """Return the library whose frame or array a value is; nothing where JSON must say it.

    An array of Python objects has no bytes of its own.
    """
    kind = type(value)
    known = (kind.__module__.partition(".")[0], kind.__name__)
    if known in _FRAMES:
        return _FRAMES[known]
    return _ARRAYS[known] if known in _ARRAYS and not value.dtype.hasobject else ""


def about(value: Any) -> int:
    """Return roughly how many bytes a frame or an array is, at little cost: only in short ones text is counted."""
    if library(value) == "pandas":
        shallow = int(value.memory_usage().sum())
        return shallow if shallow > _SHORT else int(value.memory_usage(deep=True).sum())
    return int(value.estimated_size() if library(value) == "polars" else value.nbytes)


def type_of(value: Any) -> str:
    """Return the content type of a frame or an array."""
    return NPY if library(value) == "numpy" else ARROW


def pieces(value: Any) -> Iterator[memoryview]:
    """Yield a frame or an array as bytes, without a copy of the whole where its memory can be given out as it lies.

    Raises
    ------
    Unformed
        If it has no such form; the message says what is in the way, or names the package that lacks.
    """
    for data in _npy(value) if library(value) == "numpy" else _arrow(value):
        view = memoryview(data).cast("B")
        for start in range(0, len(view), PIECE):
            yield view[start : start + PIECE]


def read(kind: str, of: str, data: memoryview, *, mapped: bool = False) -> Any:
    """Return the frame or the array in some bytes, whoever wrote them.

    Parameters
    ----------
    kind
        Its content type, `ARROW` or `NPY`.
    of
        The library whose it was: ``pandas``, ``polars``, ``pyarrow`` or ``numpy``. Nothing means `pandas` for Arrow.
    data
        Its bytes.
    mapped
        Whether they are a file's, of which no copy in memory is made where that is possible: it is read-only then.

    Raises
    ------
    Unformed
        If they are none, or the package lacks.
    """
    if kind == NPY:
        return _array(data, mapped)
    if kind != ARROW:
        raise Unformed(f"A value of the type {kind[:100]!r} cannot be read.", hint="Arrow and npy are.")
    table = _table(data)
    if of in ("", "pandas"):
        needed("pandas", "a data frame")
        return _checked(lambda: table.to_pandas(split_blocks=mapped))
    if of == "polars":
        return _checked(lambda: needed("polars", "a polars data frame").from_arrow(table))
    return table


def needed(name: str, what: str) -> Any:
    """Return a module.

    Raises
    ------
    Unformed
        If it is not installed.
    """
    try:
        importlib.invalidate_caches()  # it may have been installed a moment ago
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name:
            raise
        raise Unformed(
            f"{what[:1].upper()}{what[1:]} travels with the package {name}.", lacks=Package(name, name)
        ) from None


def installed(name: str) -> bool:
    """Say whether a package could be imported, without doing so."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False


# Arrays


def _npy(value: Any) -> Iterator[Any]:
    numpy = sys.modules["numpy"]  # it is an array, so the module is there
    plain = numpy.asarray(value)  # of a memmap too
    plain = plain if plain.flags.c_contiguous or plain.flags.f_contiguous else numpy.ascontiguousarray(plain)
    head = io.BytesIO()
    facts = numpy.lib.format.header_data_from_array_1_0(plain)
    try:
        numpy.lib.format.write_array_header_2_0(head, facts)
    except UnicodeEncodeError:
        raise Unformed("The array's fields have names that npy cannot hold.", hint="Name them in ASCII.") from None
    yield head.getvalue()
    rows = plain if plain.flags.c_contiguous else plain.T
    if rows.nbytes:
        yield rows.reshape(-1).view(numpy.uint8)


def _array(data: memoryview, mapped: bool) -> Any:
    numpy = needed("numpy", "an array")
    shape, by_columns, dtype, start = _checked(lambda: _head(numpy, data))
    if dtype.hasobject:
        raise Unformed("The array holds Python objects, which are never unpickled.", hint="Send numbers or text.")
    count = math.prod(shape)
    size = count * dtype.itemsize
    if min(shape, default=0) < 0 or len(data) - start != size:
        raise Unformed(f"The array says that it is {size} bytes, and {len(data) - start} came.")
    if math.prod(one or 1 for one in shape) * (dtype.itemsize or 1) > max(size, _SHORT):  # it becomes lists, perhaps
        raise Unformed(f"The array has the shape {shape} and nothing in it.")
    if not size:
        return _checked(lambda: numpy.empty(shape, dtype))
    flat = numpy.frombuffer(data, dtype, count, start)
    return _checked(lambda: (flat if mapped else flat.copy()).reshape(shape, order="F" if by_columns else "C"))


def _head(numpy: Any, data: memoryview) -> tuple[tuple[int, ...], bool, Any, int]:
    """Return the shape of an array, whether it lies by columns, its type and where its numbers begin."""
    head = io.BytesIO(data[: min(len(data), 2**16)])
    form = numpy.lib.format
    version = form.read_magic(head)
    if version not in ((1, 0), (2, 0)):
        raise Unformed(f"Arrays of npy's version {version[0]}.{version[1]} are not read.", hint="Write 1.0 or 2.0.")
    read_header = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
    try:
        shape, by_columns, dtype = read_header(head)
    except MemoryError:  # how Python's parser, which numpy asks, refuses what lies too deep in itself
        raise Unformed("This is no array in npy's form.") from None
    return shape, by_columns, dtype, head.tell()


# Frames


class _Sink:
    """A file for pyarrow that keeps what is written, without a copy where that lends its memory."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[Any] = []

    def write(self, data: Any) -> int:
        if size := memoryview(data).nbytes:
            self._pieces.append(data)
        return size

    def flush(self) -> None: ...

    def take(self) -> list[Any]:
        found, self._pieces = self._pieces, []
        return found


def _arrow(value: Any) -> Iterator[Any]:
    pyarrow, table = _pyarrow("a data frame"), _as_table(value)
    for field in table.schema:
        if own := _own_type(pyarrow, field.type):
            place = "frame.index" if field.name.startswith("__index_level_") else f"frame[{field.name!r}]"
            raise Unformed(
                f"The column {field.name!r} is of the type {own}, which is not Arrow's own.",
                hint=f"Convert it first, as in {place} = {place}.astype(str).",
            )
    sink = _Sink()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        yield from sink.take()
        for batch in table.to_batches() or [_empty(pyarrow, table)]:
            stream.write_batch(batch)
            yield from sink.take()
    yield from sink.take()


def _empty(pyarrow: Any, table: Any) -> Any:
    """Return a batch without rows, with which the categories of columns travel all the same."""
    columns = [one.combine_chunks() for one in table.columns]
    return pyarrow.RecordBatch.from_arrays(columns, schema=table.schema)


def _as_table(value: Any) -> Any:
    whose = library(value)
    if whose == "pyarrow":
        return value
    if whose == "polars":
        return _checked(value.to_arrow)
    pyarrow = _pyarrow("a data frame")
    try:
        return pyarrow.Table.from_pandas(value)
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError, NotImplementedError) as error:
        hint = "Give each column a name of its own and values of one type, such as frame['a'] = frame['a'].astype(str)."
        raise Unformed(f"The data frame has no Arrow form: {_said(error)}", hint=hint) from None


def _own_type(pyarrow: Any, kind: Any) -> str:
    """Return the name of the first type in a type that is somebody's own, or nothing."""
    if isinstance(kind, pyarrow.BaseExtensionType):
        return str(kind.extension_name)
    inner = [kind.field(at).type for at in range(kind.num_fields)]
    inner += [kind.value_type] if pyarrow.types.is_dictionary(kind) else []
    return next((found for one in inner if (found := _own_type(pyarrow, one))), "")


def _table(data: memoryview) -> Any:
    pyarrow = _pyarrow("a data frame")
    _refuse_own_types(data)

    def whole() -> Any:
        with pyarrow.ipc.open_stream(pyarrow.py_buffer(data)) as stream:
            table = stream.read_all()
        table.validate(full=True)
        return table

    return _checked(whole)


def _refuse_own_types(data: memoryview) -> None:
    """Refuse a stream whose first message, the schema, names any type that is not Arrow's own.

    It is looked for in the bytes: to have pyarrow read them would make such a type already.
    """
    size = int.from_bytes(data[4:8], "little") if data[:4] == _BEGIN else 0
    if not 0 < size <= len(data) - 8:
        raise Unformed("This is no Arrow IPC stream.", hint="Write it with pyarrow.ipc.new_stream, not new_file.")
    if _EXTENSION in bytes(data[8 : 8 + size]):
        raise Unformed(
            "The data has columns of types that are not Arrow's own.", hint="Convert them before it is sent."
        )


@functools.cache
def _version(pyarrow: Any) -> tuple[int, ...]:
    return tuple(int(one) for one in pyarrow.__version__.split(".")[:3] if one.isdecimal())


def _pyarrow(what: str) -> Any:
    pyarrow = needed("pyarrow", what)
    importlib.import_module("pyarrow.ipc")
    if _version(pyarrow) < _SAFE:
        least = ".".join(map(str, _SAFE))
        raise Unformed(
            f"pyarrow {pyarrow.__version__} runs code that lies in data; {least} does not.",
            lacks=Package("pyarrow", f"'pyarrow>={least}'"),
        )
    return pyarrow


def _checked(make: Any) -> Any:
    """Return what is made of bytes; whatever a library says of wrong ones is one failure."""
    try:
        return make()
    except (MemoryError, Unformed):
        raise
    except Exception as error:  # noqa: BLE001 - each library has failures of its own, and all mean the same here
        raise Unformed(f"The data cannot be read: {_said(error)}") from None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
