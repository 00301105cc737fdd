"""How messages travel: whole packets between our processes, length-prefixed frames between gateway and worker.

A *packet* is one JSON object on a SOCK_SEQPACKET socket, with descriptors beside it (SCM_RIGHTS); the kernel keeps its
borders. A *frame* is two lengths, a JSON header and a raw body on a stream socket. The peer of a frame may be user
code, so every length is checked before anything is allocated. Not here: what the messages mean. Rejected: pickle
(executes), HTTP between gateway and worker (three times the time of a frame).
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAX_PACKET = 120 * 1024
"""Bytes of a packet; below the kernel's default socket buffer, so a packet always fits whole."""
MAX_SAID = 48 * 1024
"""Characters of an outcome that a step says on a pipe; as text in a packet they take at most twice as many."""
MAX_HEADER = 4 * 2**20
"""Bytes of a frame's header; it may hold a call's log and a traceback."""
MAX_BODY = 256 * 2**20
"""Bytes of a frame's body that a reader accepts unless it was told less."""
MAX_DEPTH = 100
"""How deep objects and lists of a message may lie in one another, so that whoever shows or sends one can."""
_HEAD = struct.Struct("!II")


class FrameError(Exception):
    """The peer broke the protocol, or a message is over its limit."""


def packet(message: Mapping[str, Any]) -> bytes:
    """Return a message as it travels. Raises `FrameError` when it is too long."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_PACKET:
        raise FrameError(f"A message of {len(data)} bytes is over the limit of {MAX_PACKET}.")
    return data


def send_packet(sock: socket.socket, message: Mapping[str, Any] | bytes, descriptors: Sequence[int] = ()) -> None:
    """Send one message, or what `packet` made of it.

    Raises `FrameError` when it is too long, `BlockingIOError` when the buffer is full.
    """
    data = message if isinstance(message, bytes) else packet(message)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive_packet(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next packet and its descriptors, or None at the end. The caller closes the descriptors."""
    space = socket.CMSG_SPACE(8 * 4)
    data, ancillary, flags, _ = sock.recvmsg(MAX_PACKET, space, socket.MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(raw[: len(raw) - len(raw) % numbers.itemsize])
            descriptors.extend(numbers)
    if not data:
        _close_all(descriptors)
        return None
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise FrameError("A message was cut off.")
        return read_object(data), descriptors
    except FrameError:
        _close_all(descriptors)
        raise


def pack(header: Mapping[str, Any], body: bytes = b"") -> bytes:
    """Return a frame ready to send."""
    head = json.dumps(header, separators=(",", ":")).encode()
    if len(head) > MAX_HEADER or len(body) > MAX_BODY:
        raise FrameError("A frame is over its limit.")
    return _HEAD.pack(len(head), len(body)) + head + body


def read_frame(sock: socket.socket, *, max_body: int = MAX_BODY) -> tuple[dict[str, Any], bytes] | None:
    """Return the next frame of a blocking socket, or None at a clean end."""
    first = _exactly(sock, _HEAD.size, may_end=True)
    if not first:
        return None
    head, body = _lengths(first, max_body)
    return read_object(_exactly(sock, head)), _exactly(sock, body)


def leading(data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the length and the header of each complete frame at the beginning of some bytes."""
    while len(data) >= _HEAD.size:
        head, body = _lengths(data[: _HEAD.size], MAX_BODY)
        size = _HEAD.size + head + body
        if len(data) < size:
            return
        yield size, read_object(data[_HEAD.size : _HEAD.size + head])
        data = data[size:]


class Unpacker:
    """Turns pieces of a stream into frames, for readers with an event loop.

    Parameters
    ----------
    max_body
        Bytes of a body that are accepted.
    """

    def __init__(self, max_body: int = MAX_BODY) -> None:
        self._data = bytearray()
        self._max_body = max_body

    def feed(self, data: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Yield every frame that is complete with these bytes."""
        self._data += data
        while len(self._data) >= _HEAD.size:
            head, body = _lengths(bytes(self._data[: _HEAD.size]), self._max_body)
            end = _HEAD.size + head + body
            if len(self._data) < end:
                return
            header = read_object(bytes(self._data[_HEAD.size : _HEAD.size + head]))
            content = bytes(self._data[_HEAD.size + head : end])
            del self._data[:end]
            yield header, content


def read_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object that a peer sent. Raises `FrameError` if it is none, or lies too deep in itself."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"A message is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise FrameError("A message is not an object.")
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(found) > MAX_DEPTH:
        raise FrameError(f"A message lies deeper in itself than {MAX_DEPTH}.")
    return found


def _depth(value: Any) -> int:
    """Return how deep a value's lists and objects lie in one another, at most one more than is allowed."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        inner = [one for one in level if isinstance(one, list | dict)]
        level = [each for one in inner for each in (one.values() if isinstance(one, dict) else one)]
        depth += bool(inner)
    return depth


def _lengths(data: bytes, max_body: int) -> tuple[int, int]:
    head, body = _HEAD.unpack(data)
    if head > MAX_HEADER or body > max_body:
        raise FrameError(f"A frame announces {head} and {body} bytes, over its limit of {max_body}.")
    return head, body


def _exactly(sock: socket.socket, size: int, *, may_end: bool = False) -> bytes:
    data = bytearray(size)
    view, have = memoryview(data), 0
    while have < size:
        got = sock.recv_into(view[have:])
        if not got:
            if may_end and not have:
                return b""
            raise FrameError("The stream ended inside a frame.")
        have += got
    return bytes(data)


def _close_all(descriptors: Sequence[int]) -> None:
    for one in descriptors:
        os.close(one)
