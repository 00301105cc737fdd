"""Free ports for the platforms that tests start, away from those that the kernel hands out to outgoing connections.

A port that was bound to 0 and closed again may be some connection's before the platform binds it. Here the range is
one that the kernel gives to nobody; two test runs at once still differ by chance.
"""

from __future__ import annotations

import contextlib
import random
import socket

_RANGE = range(10_000, 32_000)


def free_port() -> int:
    """Return a port N such that N and N+1 are free on both loopbacks."""
    for _try in range(200):
        port = random.choice(_RANGE)  # no secret
        if all(_is_free(one) for one in (port, port + 1)):
            return port
    raise RuntimeError("no two free ports in a row")


def _is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError), socket.socket(family) as none:
            none.bind((address, 0))  # a machine may have no IPv6 loopback
            with socket.socket(family) as probe:
                try:
                    probe.bind((address, port))
                except OSError:
                    return False
    return True
