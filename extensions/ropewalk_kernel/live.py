"""A card that follows its object while it lives, and then stays as a picture.

A background thread asks every half second and redraws only on a change, so the card moves while the kernel is free as
well as while it waits. The last drawing is an ordinary output: it survives the kernel and lies in the saved notebook.
Not here: what is drawn, and buttons (``actions``). Rejected: a widget over comms, which a saved notebook and
`nbconvert --execute` lose.
"""

from __future__ import annotations

import contextvars
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from IPython import display as screen
from IPython import get_ipython

from ropewalk_core.errors import RopewalkError
from ropewalk_kernel.cards import Picture

_display: Any = screen.display
T = TypeVar("T")
EVERY = 0.5
_SLOWEST = 5.0
_GIVE_UP = 300.0
_SHARE = 5.0
"""How many times as long as it took to ask and draw is waited until the next time."""
_LOOKS = 3
"""Of so many looks the shortest counts: the first ones are long where steps begin on the same processors."""


_following: weakref.WeakKeyDictionary[threading.Thread, threading.Event] = weakref.WeakKeyDictionary()


def pause_after(took: Iterable[float]) -> float:
    """Return how long to wait for the next look, in seconds, when the latest ones took so long."""
    return min(max(EVERY, _SHARE * min(took)), _SLOWEST)  # thousands of steps take their time


def freeze() -> None:
    """Leave every card as it is now; when this returns, none asks the platform any more."""
    for thread, ended in list(_following.items()):
        ended.set()
        thread.join(timeout=30)


def show(picture: Picture) -> None:
    """Show a picture once, where there is a place to show it."""
    if get_ipython() is not None:
        _display(picture)


def cell() -> int | None:
    """Return a number that the running cell shares with no other; None outside of a notebook."""
    return getattr(get_ipython(), "execution_count", None)


class Card(Generic[T]):
    """One live card.

    Parameters
    ----------
    fetch
        Returns the object as it is now.
    draw
        Returns its picture.
    over
        Says whether nothing more will happen to it.
    beside
        Is called with the object when the card has been put under a cell; puts there what belongs to it.
    """

    def __init__(
        self,
        fetch: Callable[[], T],
        draw: Callable[[T], Picture],
        over: Callable[[T], bool],
        beside: Callable[[T], None] | None = None,
    ) -> None:
        self._beside = beside
        self._fetch, self._draw, self._over = fetch, draw, over
        self._lock = threading.Lock()
        self._handle: Any = None
        self._shown = Picture("", "")
        self._ended = threading.Event()
        self._cell: int | None = None

    def open(self, value: T) -> None:
        """Show the card under the running cell and follow the object until it is over."""
        if get_ipython() is None:
            return
        self._cell = cell()
        self._shown = self._draw(value)
        self._handle = _display(self._shown, display_id=True)
        if self._beside is not None:
            self._beside(value)
        if self._over(value):
            self._ended.set()
            return
        self._start()

    def again(self, value: T) -> None:
        """Follow an object on that was over and goes on; used by whoever made it go on."""
        over, self._ended = self._ended.is_set(), threading.Event()
        self._redraw(value)
        if over:
            self._start()

    def _start(self) -> None:
        context = contextvars.copy_context()  # it knows which cell's output this card is
        thread = threading.Thread(
            target=context.run, args=(self._follow, self._ended), name="ropewalk-card", daemon=True
        )
        _following[thread] = self._ended
        thread.start()

    def here(self) -> bool:
        """Say whether the card lies under the running cell, whose value then needs no second one."""
        return self._cell is not None and self._cell == cell()

    def settle(self, value: T) -> None:
        """Draw this value now; used by whoever waits, so that the last state is there before its cell ends."""
        if self._over(value):
            self._ended.set()
        self._redraw(value)

    def _follow(self, ended: threading.Event) -> None:
        pause, failing, took = EVERY, time.monotonic(), deque([0.0], maxlen=_LOOKS)
        while not ended.wait(pause):
            asked = time.monotonic()
            try:
                value = self._fetch()
                if not ended.is_set():
                    self.settle(value)
            except RopewalkError:
                # The platform restarts, or the laptop slept: the card keeps its last state and asks less often.
                pause = min(pause * 2, _SLOWEST)
                if time.monotonic() - failing > _GIVE_UP:
                    return
                continue
            failing = time.monotonic()
            took.append(failing - asked)
            pause = pause_after(took)

    def _redraw(self, value: T) -> None:
        with self._lock:
            picture = self._draw(value)
            if self._handle is not None and picture != self._shown:
                self._shown = picture
                self._handle.update(picture)
