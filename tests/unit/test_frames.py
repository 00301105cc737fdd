"""Frames and packets: any split of a stream gives the same frames; nothing that a peer sends breaks the reader."""

from __future__ import annotations

import json
import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_runtime.frames import (
    MAX_DEPTH,
    MAX_HEADER,
    MAX_PACKET,
    FrameError,
    Unpacker,
    pack,
    read_frame,
    read_object,
    receive_packet,
    send_packet,
)

headers = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=20), st.none()), max_size=4)
frames = st.lists(st.tuples(headers, st.binary(max_size=200)), max_size=6)


@given(frames, st.lists(st.integers(min_value=1, max_value=64), min_size=1))
def test_any_split_gives_the_same_frames(sent: list[tuple[dict[str, object], bytes]], sizes: list[int]) -> None:
    stream = b"".join(pack(*frame) for frame in sent)
    unpacker, seen, at, turn = Unpacker(), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        seen += unpacker.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert seen == sent


@given(st.binary(max_size=300), frames, st.lists(st.integers(min_value=1, max_value=64), min_size=1))
def test_garbage_is_refused_or_waited_for(
    data: bytes, before: list[tuple[dict[str, object], bytes]], sizes: list[int]
) -> None:
    stream = b"".join(pack(*frame) for frame in before) + data
    unpacker, seen, at, turn = Unpacker(1000), list[object](), 0, 0
    try:
        while at < len(stream):
            size = sizes[turn % len(sizes)]
            for header, body in unpacker.feed(stream[at : at + size]):
                assert isinstance(header, dict) and len(body) <= 1000
                seen.append((header, body))
            assert len(unpacker._data) <= 8 + MAX_HEADER + 1000
            at, turn = at + size, turn + 1
    except FrameError:
        pass
    assert seen[: len(before)] == before


def nested(depth: int) -> bytes:
    """Return an object in which lists and objects lie so deep, itself included."""
    inner = b"[" * (depth // 2) + b"]" * (depth // 2)
    for _ in range(depth - depth // 2):
        inner = b'{"a":%b}' % (inner or b"1")
    return inner


@given(st.integers(1, 3 * MAX_DEPTH))
def test_what_is_taken_can_be_shown_and_sent_again(depth: int) -> None:
    if depth > MAX_DEPTH:
        with pytest.raises(FrameError):
            read_object(nested(depth))
    else:
        found = read_object(nested(depth))
        assert read_object(json.dumps(found).encode()) == found and str(found)


@pytest.mark.parametrize(
    "data",
    [
        nested(100_000),
        b'{"a":' * 700_000,
        b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"a":' + b"9" * 100_000 + b"}",
        b"[]",
        b"null",
        b"",
        b'{"a":"' + b"\xff" + b'"}',
    ],
    ids=["deep", "unclosed", "just below Python's limit", "digits", "list", "null", "nothing", "no text"],
)
def test_an_object_that_nobody_could_pass_on_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        read_object(data)


def test_brackets_in_a_log_are_no_depth() -> None:
    log = "[{" * 100_000
    assert read_object(json.dumps({"logs": log, "rows": [[1]] * 10_000}).encode())["logs"] == log


def test_a_header_over_the_limit_is_refused_before_it_arrives() -> None:
    with pytest.raises(FrameError):
        list(Unpacker(10).feed(struct.pack("!II", MAX_HEADER + 1, 0)))


def test_a_body_over_the_limit_is_refused_before_it_arrives() -> None:
    with pytest.raises(FrameError):
        list(Unpacker(10).feed(struct.pack("!II", 2, 11)))


def test_a_blocking_reader_tells_an_end_from_a_cut() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(pack({"a": 1}, b"xy"))
        assert read_frame(right) == ({"a": 1}, b"xy")
        left.sendall(b"\0\0")
        left.shutdown(socket.SHUT_WR)
        with pytest.raises(FrameError):
            read_frame(right)
    left, right = socket.socketpair()
    with right:
        left.close()
        assert read_frame(right) is None


def test_packets_carry_descriptors_and_close_what_they_refuse() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        read, write = os.pipe()
        send_packet(left, {"op": "x"}, [write])
        os.close(write)
        packet = receive_packet(right)
        assert packet is not None and packet[0] == {"op": "x"} and len(packet[1]) == 1
        os.write(packet[1][0], b"through")
        os.close(packet[1][0])
        assert os.read(read, 20) == b"through"
        with pytest.raises(FrameError):
            send_packet(left, {"op": "x" * MAX_PACKET})
        for nonsense in (b"not json", nested(20_000), b"[1]"):
            left.sendmsg([nonsense], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", read))])
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(FrameError):
                receive_packet(right)
            assert len(os.listdir("/proc/self/fd")) == before
        os.close(read)
