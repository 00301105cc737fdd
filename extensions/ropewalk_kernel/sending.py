"""Large data frames and arrays on their way to a function: once, as files, with a line of progress under the cell.

A value is read twice, for its digest and to be sent, so that it needs neither memory nor disk of its own. Whether the
function has it already is asked first, by digest; what that says may also be that it shall lie inside the call, or that
it is too large. This waits in the thread of who calls. Not here: where it lies then (the gateway), and its form
(``formats``). Rejected: a temporary file (two gigabytes more on the disk, or in memory where /tmp is), and sending in
the event loop of all calls.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import time
import weakref
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import httpx

from ropewalk_core import sync
from ropewalk_core.client import Client
from ropewalk_core.client.wire import problem_of
from ropewalk_core.errors import Limited, Unavailable
from ropewalk_kernel.bar import SendingBar
from ropewalk_kernel.places import where
from ropewalk_runtime import formats
from ropewalk_runtime.packed import Part

LEAST = 2**20
"""Bytes from which a frame or an array goes ahead as a file."""
DURABLE = 64 * 2**10
"""The same for durable calls, whose arguments are kept in the journal."""
_TOGETHER = 8
"""Times that many bytes are as much as lies inside a call together."""
SHOWN = 8 * 2**20
"""Bytes from which the line of progress is shown."""
VALUES = "/_ropewalk/values/"
_PATIENCE = 120.0
_CROWDED = 600.0
"""Seconds in which there must be room for one more that is on its way."""


class Sender:
    """Sends what is large of the arguments of a function's calls.

    Parameters
    ----------
    client
        Who calls.
    address
        The function's.
    least
        Bytes from which a value goes as a file.
    shown
        Whether to show a line of progress.
    remembers
        Whether a value that was sent is known again without a look at its content: for the calls of one ``map``.
    """

    def __init__(
        self, client: Client, address: str, *, least: int = LEAST, shown: bool = True, remembers: bool = False
    ) -> None:
        self._client, self._address, self._least, self._shown = client, address, least, shown
        self._sent: dict[int, tuple[weakref.ref[Any], Part]] | None = {} if remembers else None

    def __call__(self, value: Any, inside: int) -> Part | None:
        """Return a value's part once it is where the function finds it; None if it shall lie inside the call.

        ``inside`` are the bytes that lie there already.

        Raises
        ------
        TooLarge
            If it is over a limit, which is named.
        RopewalkError
            What the platform refused with, or `Unavailable`.
        """
        size = formats.about(value)
        if size < self._least and inside + size <= _TOGETHER * self._least:
            return None
        if (known := self._known(value)) is not None:
            return known
        part = _measured(value)
        if not _patiently(lambda: self._placed(value, part)):
            return None
        if self._sent is not None:
            self._sent[id(value)] = weakref.ref(value), part
        return part

    def _known(self, value: Any) -> Part | None:
        held, part = (self._sent or {}).get(id(value), (None, None))
        return part if held is not None and held() is value else None

    def _placed(self, value: Any, part: Part) -> bool:
        """Have a value where the function finds it; False if it shall lie inside the call."""
        said = self._asked(part)
        if not said.get("there") and not said.get("inside"):
            self._send(value, part)
        return not said.get("inside")

    def _asked(self, part: Part) -> dict[str, Any]:
        """Return what becomes of such a file."""
        with _Exchange(self._client, self._address) as exchange:
            query = urlencode({"size": part.size})
            exchange.begin("GET", f"{VALUES}{part.digest}?{query}", {})
            found = json.loads(exchange.end())
            return found if isinstance(found, dict) else {}

    def _send(self, value: Any, part: Part) -> None:
        name = where(self._address)[2].partition(".")[0].partition("--fn--")[0]
        bar = SendingBar(name, part.size, shown=self._shown and part.size >= SHOWN)
        sent = 0
        try:
            with _Exchange(self._client, self._address) as exchange:
                exchange.begin("PUT", f"{VALUES}{part.digest}", {"Content-Length": str(part.size)})
                for piece in formats.pieces(value):
                    exchange.send(piece)
                    sent += len(piece)
                    bar.show(sent)
                exchange.end()
        finally:
            bar.end(sent, over=sent == part.size)


class _Exchange:
    """One request whose body is sent in pieces, and its answer; it waits in the calling thread."""

    def __init__(self, client: Client, address: str) -> None:
        place, _, self._host = where(address)
        self._token = sync.wait(client.token("functions"))
        self._line: http.client.HTTPConnection
        if place.secure:
            context = ssl.create_default_context()
            self._line = http.client.HTTPSConnection(place.host, place.port, timeout=_PATIENCE, context=context)
        else:
            self._line = http.client.HTTPConnection(place.host, place.port, timeout=_PATIENCE)
        self._broken: OSError | None = None

    def __enter__(self) -> _Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    def begin(self, method: str, target: str, headers: dict[str, str]) -> None:
        try:
            self._line.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            named = {"Host": self._host, "Authorization": f"Bearer {self._token.text}", **headers}
            for name, value in named.items():
                self._line.putheader(name, value)
            self._line.endheaders()
        except OSError as error:
            raise _away(error) from error

    def send(self, piece: memoryview) -> None:
        if self._broken is None:
            try:
                self._line.send(piece)
            except OSError as error:  # it was refused in the middle; the answer says why
                self._broken = error

    def end(self) -> bytes:
        """Return the answer's body, or raise what it says."""
        try:
            answer = self._line.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise _away(self._broken or error) from error
        if answer.status >= 400:
            raise problem_of(answer.status, body, httpx.Headers(answer.getheaders()))
        return body


def _patiently(act: Callable[[], bool]) -> bool:
    """Do it again for a while when too much is on its way already."""
    end = time.monotonic() + _CROWDED
    while True:
        try:
            return act()
        except Limited as error:
            if time.monotonic() + error.retry_after > end:
                raise
            time.sleep(error.retry_after)


def _measured(value: Any) -> Part:
    """Return the digest and the size of a value's bytes."""
    seen, size = hashlib.sha256(), 0
    for piece in formats.pieces(value):
        seen.update(piece)
        size += len(piece)
    return Part(formats.type_of(value), formats.library(value), size, seen.hexdigest())


def _away(error: Exception) -> Unavailable:
    return Unavailable(f"The function's address does not take the data ({type(error).__name__}).")
