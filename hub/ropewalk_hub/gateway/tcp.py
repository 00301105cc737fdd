"""Connections into a cluster, on which a machine that vanished without a word is noticed.

Nothing on such a connection says that the other side is gone: a call sent on one that was kept would wait for its whole
time, one that waits for its answer too. Not here: HTTP. Rejected: no kept connections (each call would pay for one).
"""

from __future__ import annotations

import socket

from aiohttp import AddrInfoType

_IDLE, _BETWEEN, _TIMES = 10, 5, 3
"""Seconds of silence before the other side is asked whether it is there, between that, and how often."""


def watched(address: AddrInfoType) -> socket.socket:
    """Return a socket whose other side is asked whether it is there while nothing is under way."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, _IDLE), (socket.TCP_KEEPINTVL, _BETWEEN), (socket.TCP_KEEPCNT, _TIMES)):
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def prompt(address: AddrInfoType) -> socket.socket:
    """Return a watched socket on which what was sent must be acknowledged soon.

    It is for little: who is not read from for long is taken for lost as well, and a function that is being started, or
    has a queue, leaves a large payload unread for longer.
    """
    made = watched(address)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * (_IDLE + _TIMES * _BETWEEN))
    return made
