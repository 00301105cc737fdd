"""Small relays on loopback in a thread of their own: one ends TLS as a proxy in front would, one is `ssh -L`."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Front:
    """Relays between loopback addresses.

    Parameters
    ----------
    loop
        The loop that runs in the thread.
    context
        The TLS side.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext) -> None:
        self._loop = loop
        self._context = context
        self._servers: list[asyncio.Server] = []

    def listen(self, address: str, port: int, *, to: int, tls: bool = False) -> int:
        """Relay a port (0: a free one) to another on 127.0.0.1; return it."""

        async def start() -> int:
            async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await _relay(reader, writer, to)

            server = await asyncio.start_server(relay, address, port, ssl=self._context if tls else None)
            self._servers.append(server)
            return int(server.sockets[0].getsockname()[1])

        return asyncio.run_coroutine_threadsafe(start(), self._loop).result(10)

    def close(self) -> None:
        """Listen no more."""

        async def end() -> None:
            for server in self._servers:
                server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Front]:
    """Run relays until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    front = Front(loop, _context(folder))
    try:
        yield front
    finally:
        front.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    try:
        behind, to_behind = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        writer.close()
        return
    pumps = [asyncio.create_task(_pump(reader, to_behind)), asyncio.create_task(_pump(behind, writer))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        writer.close()
        to_behind.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()


def _context(folder: Path) -> ssl.SSLContext:
    """Return a TLS server with a certificate that nobody signed but itself; the browser is told to take it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hemp.test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("hemp.test"), x509.DNSName("*.hemp.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.2"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "front.pem"
    path.touch(mode=0o600)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
