"""HTTP/1.1, as much as a function's server needs: requests in, answers out. Standard library only.

The peers are our gateway, Knative's proxies and whoever else lives in the account's namespace. Lengths are checked
before anything is read. Not here: what a request means (``serve``). Rejected: ``http.server`` (a thread for each
connection, and the server must fork), and a web framework (imported at each cold start).
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

_LONGEST_HEAD = 64 * 1024
_LONGEST_VALUE = 1024
_MOST_TRAILERS = 100
_LENGTH = re.compile(r"\d{1,15}")
_CHUNK = re.compile(rb"[0-9A-Fa-f]{1,8}")
_LINES = re.compile(r"[\r\n\0]")
"""What some readers take for the end of a line."""
_END = "\r\n"
_ONCE = ("content-length", "transfer-encoding")
_WORDS = {200: "OK", 400: "Bad Request", 413: "Content Too Large", 422: "Unprocessable Content"}
_WORDS |= {429: "Too Many Requests", 431: "Request Header Fields Too Large", 500: "Internal Server Error"}
_WORDS |= {503: "Service Unavailable", 504: "Gateway Timeout"}


class BadRequest(Exception):
    """The request cannot be read on; the connection ends after the answer."""

    def __init__(self, message: str, status: int = 400, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.field = status, field


@dataclass(frozen=True)
class Request:
    """A whole request; names of headers are in small letters."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep: bool


async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, longest: int) -> Request | None:
    """Return the next request, or None at the end of the connection.

    Raises
    ------
    BadRequest
        If it is none, or longer than ``longest`` bytes.
    """
    head = await _head(reader)
    if head is None:
        return None
    first, *lines = head.split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequest("This is no HTTP/1.1 request.")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip() or not name or _LINES.search(line):
            raise BadRequest("A header cannot be read.")
        if name.lower() in _ONCE and name.lower() in headers:
            raise BadRequest("The request says twice how long it is.")
        headers[name.lower()] = value.strip()
    body = await _body(reader, writer, headers, longest)
    wish = headers.get("connection", "").lower()
    keep = wish != "close" if parts[2] == "HTTP/1.1" else wish == "keep-alive"
    return Request(parts[0], parts[1], headers, body, keep)


def octets(text: str) -> bytes:
    """Return a header's bytes as they came to the gateway, which reads them as UTF-8 and keeps what is none."""
    return text.encode("utf-8", "surrogateescape")


def came(value: str) -> str:
    """Return a header of a request that was read here as the gateway would have read it."""
    return value.encode("latin-1").decode("utf-8", "surrogateescape")


def words(data: bytes) -> str:
    """Return a header's text: the gateway sends it as UTF-8, which most are; others are taken for Latin-1."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


async def respond(writer: asyncio.StreamWriter, status: int, kind: str, body: bytes, *, keep: bool) -> None:
    """Send an answer, in one piece where it is small, because halves wait for each other's acknowledgement."""
    head = f"HTTP/1.1 {status} {_WORDS.get(status, 'Unknown')}\r\nContent-Type: {_line_of(kind)}\r\n"
    head += f"Content-Length: {len(body)}\r\n{'' if keep else 'Connection: close' + _END}\r\n"
    writer.write(head.encode("latin-1", "replace") + body)
    await writer.drain()


async def begin(writer: asyncio.StreamWriter, status: int, kind: str, *, keep: bool) -> None:
    """Send the head of an answer whose body follows in parts, each by `send`, up to `finish`."""
    head = f"HTTP/1.1 {status} {_WORDS.get(status, 'Unknown')}\r\nContent-Type: {_line_of(kind)}\r\n"
    head += f"Transfer-Encoding: chunked\r\n{'' if keep else 'Connection: close' + _END}\r\n"
    writer.write(head.encode("latin-1", "replace"))
    await writer.drain()


async def send(writer: asyncio.StreamWriter, part: bytes) -> None:
    """Send a part of an answer's body, once the other side takes it."""
    if part:
        writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        await writer.drain()


async def finish(writer: asyncio.StreamWriter) -> None:
    """End an answer; one that is not ended counts as broken off."""
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def _line_of(text: str) -> str:
    """Return what a worker says stands in a header, or what it is otherwise: no word of it may end the line."""
    return text if text.isprintable() and len(text) <= _LONGEST_VALUE else "application/octet-stream"


async def _head(reader: asyncio.StreamReader) -> str | None:
    try:
        data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise BadRequest("The request did not arrive whole.") from error
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest("The request's headers are too long.", 431) from error
    if len(data) > _LONGEST_HEAD:
        raise BadRequest("The request's headers are too long.", 431)
    return data.decode("latin-1")[:-4]


async def _body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str], longest: int
) -> bytes:
    coding, length = headers.get("transfer-encoding", "").lower(), headers.get("content-length", "0")
    if coding and (coding != "chunked" or "content-length" in headers):
        raise BadRequest("The request's body is in a form that is not known here.")
    if not _LENGTH.fullmatch(length):
        raise BadRequest("The request's length cannot be read.")
    if int(length) > longest:
        raise _too_large(longest)
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        return await _chunks(reader, longest) if coding else await reader.readexactly(int(length))
    except asyncio.IncompleteReadError as error:
        raise BadRequest("The request did not arrive whole.") from error


async def _chunks(reader: asyncio.StreamReader, longest: int) -> bytes:
    body = bytearray()
    while True:
        size = (await _line(reader)).partition(b";")[0].strip()
        if not _CHUNK.fullmatch(size):
            raise BadRequest("A piece of the request cannot be read.")
        if not (count := int(size, 16)):
            break
        if len(body) + count > longest:
            raise _too_large(longest)
        body += await reader.readexactly(count)
        if await reader.readexactly(2) != b"\r\n":
            raise BadRequest("A piece of the request cannot be read.")
    for _ in range(_MOST_TRAILERS):  # what follows the last piece says nothing that is needed
        if not await _line(reader):
            return bytes(body)
    raise BadRequest("Too much follows the request's last piece.")


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return (await reader.readuntil(b"\r\n"))[:-2]
    except asyncio.LimitOverrunError as error:
        raise BadRequest("A piece of the request cannot be read.") from error


def _too_large(longest: int) -> BadRequest:
    return BadRequest(f"The payload is larger than {longest} bytes.", 413, "limits.payload")
