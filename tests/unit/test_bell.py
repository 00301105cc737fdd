"""What is said of a call while the person's code has the only thread."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from ropewalk_runtime.bell import Bell
from ropewalk_runtime.failing import CallerLeft
from ropewalk_runtime.frames import pack
from ropewalk_runtime.printed import Output
from ropewalk_runtime.serving import Call


class Silent:
    """Prints nothing beside Python's own streams."""

    def look(self) -> str:
        return ""


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, Bell]]:
    handler = signal.getsignal(signal.SIGIO)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, Bell(theirs, cast(Output, Silent()))
    signal.signal(signal.SIGIO, handler)


@pytest.mark.parametrize("exposed", [True, False])
def test_what_comes_while_it_is_heard_that_the_caller_left_takes_nothing_back(
    line: tuple[socket.socket, Bell], exposed: bool
) -> None:
    ours, bell = line

    class Interrupted(Call):
        """Is told more, with another signal, in the very moment in which it takes what was said first."""

        def heed(self, head: dict[str, Any]) -> None:
            if head["op"] == "cancel":
                ours.sendall(pack({"op": "more", "id": 1, "bytes": 10}))
                bell.ring()
            super().heed(head)

    call = Interrupted({"id": 1})
    call.begin()
    call.exposed = exposed
    bell.listen(call)
    if exposed:
        with pytest.raises(CallerLeft):
            ours.sendall(pack({"op": "cancel", "id": 1}))
            bell.ring()
    else:
        ours.sendall(pack({"op": "cancel", "id": 1}))
        ours.sendall(pack({"op": "more", "id": 1, "bytes": 10}))
        bell.ring()
    assert call.left
    bell.rest()
