"""What a call prints while it goes on, under the cell that waits for it.

A call that is answered within a second costs nothing. After that its record is looked for: it carries the name of this
kernel, which waits for one call at a time. Not here: the call (``calls``). Rejected: an identifier that each call
brings along (every request would look another way to the gateway, which reads them by their likeness).
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from ropewalk_core.client import Client
from ropewalk_core.errors import RopewalkError
from ropewalk_core.model import Call
from ropewalk_kernel import live

T = TypeVar("T")
AGENT = f"ropewalk-kernel/{secrets.token_hex(6)}"
"""What this kernel calls itself when it waits for a call."""
LONG = 1.0
"""Seconds after which a call is worth a look."""
_LATEST, _AGAIN = 10, 1.0
_TAIL = 2.0
"""Seconds that the last lines have to come after the answer."""


def follower(function: str) -> Follower | None:
    """Return what follows a call of one's own function; None outside of a notebook, where nobody looks."""
    if live.cell() is None:
        return None
    context = contextvars.copy_context()  # it knows which cell's output this is
    return Follower(function, lambda text: context.run(_write, text))


class Follower:
    """Shows what one call prints.

    Parameters
    ----------
    function
        The name of the person's function.
    write
        Takes text.
    """

    def __init__(self, function: str, write: Callable[[str], None]) -> None:
        self._function, self._write = function, write
        self._found_it = False

    async def beside(self, client: Client, asking: Coroutine[Any, Any, T]) -> T:
        """Return what is asked for, and show what is printed meanwhile; to cancel this cancels the call."""
        call = asyncio.ensure_future(asking)
        showing: asyncio.Task[None] | None = None
        try:
            if not (await asyncio.wait([call], timeout=LONG))[0]:
                showing = asyncio.create_task(self._show(client))
                await asyncio.wait([call])
                if self._found_it:
                    await asyncio.wait([showing], timeout=_TAIL)
            return await call
        finally:
            for one in (call, showing):
                if one is not None:
                    one.cancel()

    async def _show(self, client: Client) -> None:
        with suppress(RopewalkError):  # the answer says whatever is wrong
            call = await self._found(client)
            self._found_it = True
            async for line in client.functions.logs(self._function, call=call.id, follow=True):
                self._write(f"{line.text}\n")

    async def _found(self, client: Client) -> Call:
        """Return the record of the call, once there is one: the gateway tells of it after a second."""
        while True:
            for one in (await client.functions.calls(self._function, limit=_LATEST)).items:
                if one.agent == AGENT and one.ended is None:
                    return one
            await asyncio.sleep(_AGAIN)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
