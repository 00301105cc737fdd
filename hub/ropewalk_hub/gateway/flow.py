"""An answer in parts on its way from a worker to its caller, with its record; and what becomes of a call that is left.

Not here: HTTP (``app``), workers (``pool``, ``remote``), what the parts are (``ropewalk_runtime.parts``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ropewalk_core.errors import RopewalkError, TimedOut
from ropewalk_runtime.parts import tail
from ropewalk_runtime.streams import Exchange

GRACE = 5.0
"""Seconds that a call whose caller left has for its own end, before its worker is ended."""
LEFT_STATUS = 499
"""What the record of a call has as its status when its caller left; no caller sees it."""
Left = Callable[[str, "dict[str, Any] | None"], None]
"""Is told what became of a call whose caller left, with the header of its last frame if there was one."""


class Noted(Protocol):
    """Where it is noted what happens to a call."""

    sent: int
    """Bytes of its answer that were passed on."""
    exchange: Exchange | None
    """Where it can be asked what the call has printed so far."""

    def began(self, worker: str, cold: bool, accelerator: str = "") -> None:
        """Note which worker has it, if anybody knows, whether that was started for it, and its accelerator."""


class Flow(Protocol):
    """Where the parts of one answer come from."""

    until: float
    """When the call must be over, in the event loop's time."""

    @property
    def last(self) -> dict[str, Any] | None:
        """The header that ended it."""

    async def next(self) -> bytes | None:
        """Return what came, None after the end. Raises `RopewalkError` if the rest will not come."""

    def leave(self, left: Left) -> None:
        """Have the call ended, because nobody reads on."""


class Streamed:
    """One answer in parts for the front.

    Parameters
    ----------
    flow
        Where the parts come from.
    kind
        Their content type.
    formed
        Whether they are a handler's values, whose end can be told in the same form; others only break off.
    judge
        Keeps the record of a call that is over, and returns the failure as the caller may see it.
    left
        Keeps the record of one that was left.
    note
        Where its bytes are counted.
    """

    def __init__(
        self,
        flow: Flow,
        kind: str,
        formed: bool,
        judge: Callable[[dict[str, Any], RopewalkError | None], dict[str, Any] | None],
        left: Left,
        note: Noted | None = None,
    ) -> None:
        self._flow, self._kind, self._formed, self._judge, self._left = flow, kind, formed, judge, left
        self._note = note
        self._over = False
        self.whole = False
        self.failure: dict[str, Any] | None = None
        """Why it is not all that was to come, by our own word, once `next` has said so: parts may say anything."""

    @property
    def until(self) -> float:
        """When it must have been read, in the event loop's time."""
        return self._flow.until

    async def next(self) -> bytes | None:
        """Return the next bytes, None after the last; `whole` then says whether the answer is."""
        if self._over:
            return None
        failure = None
        try:
            data = await self._flow.next()
        except RopewalkError as error:
            data, failure = None, error
        if data is not None:
            if self._note is not None:
                self._note.sent += len(data)
            return data
        said = self.failure = self._end(failure)
        if not self._formed:
            self.whole = said is None
            return None
        data, self.whole = tail(self._kind, said)
        return data or None

    def late(self) -> None:
        """Note that the caller did not read it in time."""
        if not self._over:
            self._flow.leave(lambda _said, _last: None)
            self._end(TimedOut("The answer was not read in the time that a call may take.", field="timeout"))

    def close(self) -> None:
        """Note that nobody reads on; nothing happens after the end."""
        if not self._over:
            self._over = True
            self._flow.leave(self._left)

    def _end(self, failure: RopewalkError | None) -> dict[str, Any] | None:
        self._over = True
        return self._judge(self._flow.last or {}, failure)
