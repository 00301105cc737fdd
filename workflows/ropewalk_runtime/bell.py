"""What the gateway says of a call while the person's code has the only thread: heard by a signal, answered there.

Not here: what is done about it (``serving``). Rejected: a thread that listens (it would wait for the interpreter's lock
and could not raise in the call, and a person's code that forks would find it gone).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from ropewalk_runtime.failing import CallerLeft
from ropewalk_runtime.frames import leading
from ropewalk_runtime.printed import CallLog, Output

_READ = 256 * 2**10
_F_SETOWN_EX, _F_OWNER_TID = 15, 0


class Ringing(Protocol):
    """A call that is told of."""

    id: Any
    log: CallLog
    left: bool
    exposed: bool
    pending: bool
    wanted: bool

    def heed(self, head: dict[str, Any]) -> None:
        """Take what the gateway says of it."""

    def said(self) -> bytes:
        """Return the frame that tells what was printed since the last one."""


class Bell:
    """Interrupts the call in the main thread when the gateway says something of it, or is gone itself.

    That its caller left ends it where it stands; what it printed is told when somebody looks. The kernel signals what
    arrives while a call runs; between calls it is silent, so that a call costs no signal. While the person's code runs
    nobody else uses the socket, so what came is read and answered here; otherwise it is only looked at.
    """

    def __init__(self, sock: socket.socket, output: Output) -> None:
        self._sock, self._output = sock, output
        self._call: Ringing | None = None
        self._aside = self._ringing = self._again = False
        flags = fcntl.fcntl(sock, fcntl.F_GETFL)
        self._loud, self._silent = flags | os.O_ASYNC, flags & ~os.O_ASYNC
        signal.signal(signal.SIGIO, self.ring)
        fcntl.fcntl(sock, _F_SETOWN_EX, struct.pack("ii", _F_OWNER_TID, threading.get_native_id()))

    def listen(self, call: Ringing) -> None:
        """Listen for the sake of a call; the kernel is silent about what came before."""
        self._call = call
        fcntl.fcntl(self._sock, fcntl.F_SETFL, self._loud)
        self.ring()

    def rest(self) -> None:
        """Listen no more."""
        self._call = None
        fcntl.fcntl(self._sock, fcntl.F_SETFL, self._silent)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the socket to somebody who reads a frame, of which the rest is no frame; then look what came since."""
        self._aside = True
        try:
            yield
        finally:
            self._aside = False
        self.ring()

    def ring(self, *_: object) -> None:
        """Look at what came. Raises `CallerLeft` in the person's code once."""
        call = self._call
        if call is None or call.left or self._aside:
            return
        if self._ringing:  # another signal, in the middle of this
            self._again = True
            return
        self._ringing = self._again = True
        try:
            while self._again:
                self._again = False
                self._hear(call)
        finally:
            self._ringing = False
        if call.left and call.exposed:
            raise CallerLeft

    def _hear(self, call: Ringing) -> None:
        try:
            data = self._sock.recv(_READ, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return
        call.left = call.left or not data  # once left it stays so, whatever comes while that is being heard
        call.pending = bool(data) and not call.exposed
        if not call.exposed:
            said = (head for _, head in leading(data) if head.get("id") == call.id)
            call.left = call.left or any(head.get("op") == "cancel" for head in said)
            return
        self._take(call, data)
        if call.wanted:
            if beside := self._output.look():
                call.log.write(beside)
            with contextlib.suppress(OSError):  # the gateway is gone, which is heard of next
                self._sock.sendall(call.said())

    def _take(self, call: Ringing, data: bytes) -> None:
        """Read the frames that are whole and of calls that run."""
        for size, head in leading(data):
            if "op" not in head:
                return
            while size:
                size -= len(self._sock.recv(size))
            if head.get("id") == call.id:
                call.heed(head)
