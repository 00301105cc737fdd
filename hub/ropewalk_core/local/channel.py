"""A packet socket in an event loop: whole JSON messages with descriptors, in order, never blocking the loop.

Used by the zygote host and by its clients. Not here: what the messages mean, and connecting again (``host_client``).
Rejected: asyncio's streams, which cannot carry descriptors.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ropewalk_core.errors import TooLarge, Unavailable
from ropewalk_runtime.frames import MAX_PACKET, FrameError, packet, receive_packet, send_packet

Packet = tuple[bytes, list[int]]


class Channel:
    """One end of a packet socket.

    Parameters
    ----------
    sock
        The socket; the channel owns it from now on.
    on_packet
        Called for each message; it owns the descriptors.
    on_close
        Called once when the other side is gone.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_packet: Callable[[dict[str, Any], list[int]], None],
        on_close: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._on_packet = on_packet
        self._on_close = on_close
        self._outgoing: deque[Packet] = deque()
        self._loop = asyncio.get_running_loop()
        self._open = True
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._open

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a message; the channel closes the descriptors, whatever happens.

        Raises
        ------
        Unavailable
            If the other side is gone.
        TooLarge
            If the message is longer than a packet.
        """
        owned = list(descriptors)
        if not self._open:
            _close_all(owned)
            raise Unavailable("The process that runs functions and steps is away.")
        try:
            made = (packet(message), owned)
        except FrameError as error:  # now, and not when its turn has come: nobody could be told then
            _close_all(owned)
            limit = f"The order is longer than {MAX_PACKET} bytes."
            raise TooLarge(limit, hint="Pass large values as files, not as arguments or variables.") from error
        if self._outgoing:
            self._outgoing.append(made)
            return
        try:
            self._transmit(made)
        except BlockingIOError:
            self._outgoing.append(made)
            self._loop.add_writer(self._sock.fileno(), self._writable)
        except OSError as error:
            _close_all(owned)
            self._lost()
            raise Unavailable("The process that runs functions and steps is away.") from error

    def close(self) -> None:
        """Close without a call of ``on_close``."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            for _, descriptors in self._outgoing:
                _close_all(descriptors)
            self._outgoing.clear()

    def _transmit(self, made: Packet) -> None:
        send_packet(self._sock, *made)
        _close_all(made[1])

    def _writable(self) -> None:
        while self._outgoing:
            try:
                self._transmit(self._outgoing[0])
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            self._outgoing.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        for _ in range(64):  # then let others have the loop
            if not self._open:
                return
            try:
                received = receive_packet(self._sock)
            except BlockingIOError:
                return
            except (OSError, FrameError):
                received = None
            if received is None:
                self._lost()
                return
            self._on_packet(*received)

    def _lost(self) -> None:
        if self._open:
            self.close()
            self._on_close()


def _close_all(descriptors: list[int]) -> None:
    for one in descriptors:
        os.close(one)
    descriptors.clear()
