"""Signatures of S3 requests: the worked examples of Amazon's own documentation. And the words of a lost connection."""

from __future__ import annotations

import datetime

import httpx
import pytest

from ropewalk_core import objects
from ropewalk_core.errors import Unavailable
from ropewalk_core.objects import Keys, sign

KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
THEN = datetime.datetime(2013, 5, 24, tzinfo=datetime.UTC)
HOST = "examplebucket.s3.amazonaws.com"


def signature(method: str, path: str, content: bytes = b"", **headers: str) -> str:
    told = {"host": HOST} | {name.replace("_", "-"): value for name, value in headers.items()}
    return sign(KEYS, method, path, told, content, THEN)["authorization"].rpartition("Signature=")[2]


def test_a_part_of_an_object() -> None:
    wanted = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    assert signature("GET", "/test.txt", range="bytes=0-9") == wanted


def test_an_object_that_is_written() -> None:
    wanted = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    given = {"date": "Fri, 24 May 2013 00:00:00 GMT", "x_amz_storage_class": "REDUCED_REDUNDANCY"}
    assert signature("PUT", "/test%24file.text", b"Welcome to Amazon S3.", **given) == wanted


def test_a_query() -> None:
    wanted = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    assert signature("GET", "/?prefix=J&max-keys=2") == wanted


def test_keys_do_not_show_their_secret() -> None:
    assert KEYS.secret not in f"{KEYS} {KEYS!r}"


@pytest.mark.parametrize(("text", "said"), [("", "ConnectTimeout"), ("refused", "refused")])
def test_a_store_that_does_not_answer_is_told_with_a_reason(text: str, said: str) -> None:
    with pytest.raises(Unavailable, match=f"does not answer: {said}."), objects._as_ours():
        raise httpx.ConnectTimeout(text)
