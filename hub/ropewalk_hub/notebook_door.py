"""Lets a notebook in a pod use the addresses of functions and services when people's host is ``localhost``.

On a cluster that is looked at through a forwarded port, `digits--fn--ada.localhost` means the person's own machine in
their browser and the pod itself in their notebook. So the pod listens there too and passes connections on to the
gateway, which asks who comes as always. With a host name of their own, names lead to the gateway by themselves, and
this is not started. Not here: HTTP. Rejected: another address inside notebooks, because then a cell that is copied
from one place to the other does not work.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from functools import partial

from ropewalk_runtime.forward import relay

log = logging.getLogger("ropewalk.notebook")


def listeners(port: int) -> list[socket.socket]:
    """Return listening sockets on both loopbacks, on the one where there is no IPv6."""
    found = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            found.append(socket.create_server((address, port), family=family))
        except OSError as error:
            log.info("nothing listens on %s port %d: %s", address, port, error.strerror)
    return found


def lead(sockets: list[socket.socket], host: str, port: int) -> None:
    """Pass connections to these sockets on to an address, in a thread that ends with the process."""
    threading.Thread(target=lambda: asyncio.run(_serve(sockets, host, port)), name="people's door", daemon=True).start()


async def _serve(sockets: list[socket.socket], host: str, port: int) -> None:
    servers = [await asyncio.start_server(partial(relay, host=host, port=port), sock=one) for one in sockets]
    await asyncio.gather(*(one.serve_forever() for one in servers))
