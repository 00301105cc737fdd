"""Ports of the loopback that a program is given: one that is free, and whether anything listens there yet.

Each worker loads this, so it imports little. Not here: what is asked there, or passed on. Standard library only.
"""

from __future__ import annotations

import asyncio
import socket


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def listens(port: int) -> bool:
    """Say whether anything listens on a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
