"""The people's door inside a notebook's pod: what connects to the loopback reaches the gateway, both ways."""

from __future__ import annotations

import socket
import threading

from ropewalk_hub import notebook_door
from tests.ports import free_port


def test_connections_to_the_loopback_reach_the_gateway() -> None:
    def answer() -> None:
        for _ in sockets:
            connection, _ = gateway.accept()
            with connection, connection.makefile("rwb") as stream:
                stream.write(stream.readline()[::-1])

    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as gateway:
        sockets = notebook_door.listeners(port)
        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        notebook_door.lead(sockets, "127.0.0.1", gateway.getsockname()[1])
        for one in sockets:
            with socket.create_connection(one.getsockname()[:2], timeout=10) as client:
                client.sendall(b"ada\n")
                assert client.makefile("rb").read() == b"\nada"
        answering.join(10)


def test_a_port_that_is_taken_stops_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        found = notebook_door.listeners(other.getsockname()[1])
        for one in found:
            one.close()
    assert all(one.family is socket.AF_INET6 for one in found)
