"""Run the gateway: listen on the people's port, on both loopbacks when the door is on loopback."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket

import uvloop

from ropewalk_core import settings as settings_module
from ropewalk_core.settings import Settings, read_environment
from ropewalk_hub.addresses import listening
from ropewalk_hub.gateway.app import Gateway
from ropewalk_hub.gateway.front import Front

log = logging.getLogger("ropewalk.gateway")


def listeners(settings: Settings) -> list[socket.socket]:
    """Return the listening sockets: those the supervisor holds for us, or our own."""
    given = read_environment("ROPEWALK_SOCKETS")
    if given:
        return [socket.socket(fileno=int(one)) for one in given.split(",")]
    found = []
    addresses = [listening(settings)]
    addresses += ["::1"] if addresses == ["127.0.0.1"] else []
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((address, settings.door.people_port))
        except OSError as error:
            sock.close()
            if address == "::1" and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue  # this machine has no IPv6, so nobody else can hold its loopback either
            raise
        sock.listen(512)
        found.append(sock)
    return found


async def serve(settings: Settings, sockets: list[socket.socket], stop: asyncio.Event) -> None:
    """Serve until told to stop."""
    front = Front(Gateway(settings))
    try:
        await front.start(sockets)
        log.info("listening on port %d", settings.door.people_port)
        await stop.wait()
    finally:
        await front.close()


async def _main() -> None:
    settings = settings_module.load()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, listeners(settings), stop)


def main() -> None:
    """Run the gateway until it is told to end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    uvloop.run(_main())


if __name__ == "__main__":
    main()
