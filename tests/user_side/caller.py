"""A kernel that calls functions of a real gateway with real arrays and frames: ``python -m tests.user_side.caller``.

Reads ``{"token": ..., "functions": {name: Function}, "checks": [...]}`` from its standard input. A check takes those
functions that its parameters name.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from typing import Any

import numpy
import pandas

from ropewalk_core import sync
from ropewalk_core.client import Client, FixedToken
from ropewalk_core.client.wire import Wire
from ropewalk_core.errors import BadInput, RopewalkError, TooLarge, UserCodeFailed
from ropewalk_core.model import Function
from ropewalk_kernel import bar, calls
from ropewalk_kernel.functions import FunctionHandle
from ropewalk_runtime.handler import CALL_TYPE

LARGE = 300_000
"""Numbers in an array that goes as a file."""


class Deployed(FunctionHandle):
    """A handle of a function that there is no REST to ask for."""

    def __init__(self, function: Function) -> None:
        super().__init__(function.name)
        self._seen = function

    def info(self) -> Function:
        assert self._seen is not None
        return self._seen


def main() -> None:
    """Run the checks that were asked for."""
    asked = json.load(sys.stdin)

    async def connect() -> Client:
        return Client(Wire("http://nobody", FixedToken(asked["token"]), account="ada"))

    sync.portal().client = sync.wait(connect())
    functions = {name: Deployed(Function.model_validate(one)) for name, one in asked["functions"].items()}
    for name in asked["checks"]:
        check = globals()[name]
        check(*(functions[one] for one in inspect.signature(check).parameters))


def raised(act: Any) -> RopewalkError:
    """Return what an act raised."""
    try:
        act()
    except RopewalkError as error:
        return error
    raise AssertionError("nothing was raised")


def arrays(echo: Deployed) -> None:
    """Arrays are what they were, inside of a call and as files, by every way of calling."""
    for size in (3, LARGE, 6_000_000):
        array = numpy.arange(size, dtype="f8").reshape(-1, 3)
        for back in (echo(array), asyncio.run(echo.aio(array))):
            assert back.dtype == array.dtype and back.shape == array.shape and (back == array).all()
    back = echo({"x": [numpy.arange(LARGE), 1], "nan": float("nan")})
    assert (back["x"][0] == numpy.arange(LARGE)).all() and back["x"][1] == 1 and back["nan"] != back["nan"]
    many = echo([numpy.full(100_000, number) for number in range(60)])  # 48 MB of small ones
    assert [int(one[-1]) for one in many] == list(range(60))
    several = [numpy.full(LARGE, number) for number in range(4)]
    assert [int(one[0]) for one in echo.map(several, progress=False)] == [0, 1, 2, 3]
    assert echo([1, "x", None]) == [1, "x", None] and echo("") == "" and echo(None) is None


def side_by_side(awaited: Deployed, threaded: Deployed) -> None:
    """Large answers leave coroutines and threads in pieces too."""
    array = numpy.arange(LARGE)
    for function in (awaited, threaded):
        assert all((one == array).all() for one in function.map([array] * 3, workers=2, progress=False))


def once(echo: Deployed) -> None:
    """The same array is sent once, and that is shown with its size."""
    drawn: list[str] = []
    bar.Bar._draw = lambda self, picture: drawn.append(picture.text)  # type: ignore[method-assign]
    array = numpy.ones(2_000_000)
    for _ in range(2):
        assert echo(array).sum() == 2_000_000
    list(echo.map([array] * 3))
    sending = [one for one in drawn if "an argument" in one]
    assert sending and all("15.3 MiB" in one and "echo" in one for one in sending), drawn
    assert sum("was sent" in one for one in sending) == 1


def durable(echo: Deployed) -> None:
    """A durable call takes what no journal would; its small arguments lie in the call."""
    for array in (numpy.arange(3), numpy.arange(LARGE)):
        assert echo.spawn(array).id.startswith("echo.")


def lists(total: Deployed) -> None:
    """A parameter that is annotated as a list gets one."""
    assert total(numpy.arange(4)) == ["list", 6]


def too_large(echo: Deployed) -> None:
    """What is too large names the limit, the size and what to do, and nothing of it is sent."""
    error = raised(lambda: echo(numpy.zeros(70_000_000, dtype="u1")))
    assert isinstance(error, TooLarge) and error.field == "limits.value", error
    assert "70000128" in error.message and str(60 * 2**20) in error.message and "file" in error.hint


def hostile(mean: Deployed) -> None:
    """Nothing of an answer is unpickled, whatever it says that it is."""
    for kind in ("npy", "pickle", "bare", "nonsense", "deep"):
        error = raised(lambda kind=kind: mean(kind))
        assert isinstance(error, BadInput) and error.field == "answer", (kind, error)


def frames(echo: Deployed) -> None:
    """Frames are what they were; in a loop over a generator too."""
    frame = pandas.DataFrame({"a": range(LARGE), "b": 0.5, "c": "x"})
    for one in (frame[:5], frame):
        pandas.testing.assert_frame_equal(echo(one), one)
    pandas.testing.assert_frame_equal(echo({"deep": [frame]})["deep"][0], frame)


def long_texts(echo: Deployed) -> None:
    """A short frame may be a large one."""
    frame = pandas.DataFrame({"text": pandas.Series(["x" * 100_000] * 500, dtype=object)})
    assert frame.memory_usage().sum() < 10_000
    pandas.testing.assert_frame_equal(echo(frame), frame, check_dtype=False)


def no_arrow_there(echo: Deployed, made: Deployed) -> None:
    """Where pyarrow lacks, the error names it and the line that brings it."""
    error = raised(lambda: made("frame"))
    assert isinstance(error, UserCodeFailed) and "pyarrow" in error.message, error
    assert "%pip install pyarrow" in error.hint and "%%function -r pyarrow" in error.hint
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        error = raised(lambda: echo(pandas.DataFrame({"a": [1]})))
        assert isinstance(error, BadInput) and "pyarrow" in error.message and "%pip install pyarrow" in error.hint, (
            error
        )


def yielded(several: Deployed) -> None:
    """What is yielded may be arrays."""
    assert [one.tolist() for one in several(3)] == [[0], [0, 1], [0, 1, 2]]
    assert "make no list" in str(raised(lambda: list(several.map([2], progress=False))))


def by_hand(echo: Deployed) -> None:
    """The envelope without parts is the same JSON as ever."""
    assert calls.envelope(sync.client(), echo.url, [1], {}) == b'{"args": [1], "kwargs": {}}'
    assert calls.CALL_TYPE == CALL_TYPE


if __name__ == "__main__":
    main()
