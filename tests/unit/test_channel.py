"""A packet socket in an event loop: what is too long is refused at once, and takes nobody else's messages along."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

from ropewalk_core.errors import TooLarge, Unavailable
from ropewalk_core.local.channel import Channel
from ropewalk_runtime.frames import MAX_PACKET, receive_packet


def pair(closed: list[str]) -> tuple[Channel, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours, lambda *_: None, lambda: closed.append("closed")), theirs


async def test_a_message_that_is_too_long_is_refused_also_while_others_wait() -> None:
    closed: list[str] = []
    channel, theirs = pair(closed)
    sent = 0
    while not channel._outgoing:
        channel.send({"number": sent, "filling": "x" * 10_000})
        sent += 1
    read, write = os.pipe()
    with pytest.raises(TooLarge):
        channel.send({"filling": "x" * MAX_PACKET}, [write])
    assert channel.is_open and not closed and os.read(read, 1) == b""  # its descriptor is closed
    os.close(read)
    channel.send({"number": sent})
    theirs.setblocking(False)
    numbers: list[Any] = []
    async with asyncio.timeout(5):
        while len(numbers) <= sent:
            try:
                received = receive_packet(theirs)
            except BlockingIOError:
                await asyncio.sleep(0.001)
                continue
            assert received is not None
            numbers.append(received[0]["number"])
    assert numbers == list(range(sent + 1))
    channel.close()
    theirs.close()


async def test_nonsense_ends_a_channel_and_what_is_sent_then_closes_its_descriptors() -> None:
    closed: list[str] = []
    channel, theirs = pair(closed)
    theirs.send(b"[" * 50_000)
    async with asyncio.timeout(5):
        while not closed:  # noqa: ASYNC110 - the other end tells nobody
            await asyncio.sleep(0.001)
    read, write = os.pipe()
    with pytest.raises(Unavailable):
        channel.send({"op": "x"}, [write])
    assert os.read(read, 1) == b""
    os.close(read)
    theirs.close()
