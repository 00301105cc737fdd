"""Arrays and frames on their way to functions of a real gateway, host and sandbox: inside of calls, and as files."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import pickle
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ropewalk_core.local import sent
from ropewalk_core.model import Access, Bundle, FunctionSpec
from ropewalk_core.testing import ADA
from ropewalk_hub.gateway.sent import VALUES
from ropewalk_runtime import packed
from ropewalk_runtime.formats import NPY
from ropewalk_runtime.handler import CALL_TYPE
from ropewalk_runtime.packed import PACKED, Part
from tests.function_rig import Rig, running

WORK = """
import os
import numpy

def handler(what, array=None):
    if what == "about":
        return [str(array.dtype), array.shape, float(array.sum()), array.flags.writeable]
    if what == "write":
        [path] = [one.split()[-1] for one in open("/proc/self/maps") if "/values/" in one][:1]
        try:
            open(path, "r+b")
        except OSError as error:
            return [path, type(error).__name__, os.listdir(path.split("/values/")[0] + "/values")]
    if what == "make":
        return {"made": numpy.arange(array["count"]), "n": 1}
    if what == "pid":
        return os.getpid()
"""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running(limits_value=64 * 2**20, limits_values=100 * 2**20) as rig:
        await rig.functions.deploy(ADA, "ada", rig.spec(WORK, max_workers=1))
        await rig.settled()
        yield rig


def npy(numbers: bytes) -> bytes:
    """Return bytes as an array of numbers with eight each, as numpy writes it."""
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({len(numbers) // 8},), }}".encode()
    head += b" " * (63 - (10 + len(head)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + numbers


def message(value: Any, *parts: Part, inside: bytes = b"") -> bytes:
    listed, text = json.dumps([one.as_dict() for one in parts]).encode(), json.dumps(value).encode()
    return packed.MAGIC + struct.pack("!II", len(listed), len(text)) + listed + text + inside


def envelope(what: str, part: Part, inside: bytes = b"") -> bytes:
    return message({"args": [what, {"$ropewalk.part": 0}], "kwargs": {}}, part, inside=inside)


def file_of(content: bytes) -> Part:
    return Part(NPY, "numpy", len(content), hashlib.sha256(content).hexdigest())


async def ask(rig: Rig, method: str, path: str, account: str = "ada", **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {rig.token(account)}"} | more.pop("headers", {})
    return await rig.request(method, "double--fn--ada", path, headers=headers, **more)


async def call(rig: Rig, body: bytes, account: str = "ada", **headers: str) -> httpx.Response:
    return await ask(rig, "POST", "/", account, content=body, headers={"Content-Type": PACKED} | headers)


async def put(rig: Rig, content: bytes, account: str = "ada") -> httpx.Response:
    return await ask(rig, "PUT", VALUES + file_of(content).digest, account, content=content)


async def fate(rig: Rig, part: Part, account: str = "ada") -> Any:
    return (await ask(rig, "GET", f"{VALUES}{part.digest}?size={part.size}", account)).json()


async def test_an_array_inside_of_a_call_and_back(rig: Rig) -> None:
    content = npy(struct.pack("<3d", 1, 2, 3))
    answer = await call(rig, envelope("about", Part(NPY, "numpy", len(content)), content))
    assert answer.json() == ["float64", [3], 6.0, True] and answer.headers["content-type"] == CALL_TYPE
    made = await call(rig, message({"args": ["make", {"count": 4}], "kwargs": {}}))
    assert made.headers["content-type"] == PACKED
    [part] = ast.literal_eval(made.content[12 : 12 + int.from_bytes(made.content[4:8], "big")].decode())
    assert (part["type"], part["of"], made.content[-32:]) == (NPY, "numpy", struct.pack("<4q", 0, 1, 2, 3))
    plain = await ask(rig, "POST", "/", json={"what": "make", "array": {"count": 3}})
    assert plain.json() == {"made": [0, 1, 2], "n": 1}


async def test_an_array_goes_once_as_a_file_that_nobody_can_write(rig: Rig) -> None:
    content = npy(struct.pack("<2d", 1.5, 2) * 100_000)
    part = file_of(content)
    assert await fate(rig, part) == {"there": False}
    assert (await put(rig, content)).status_code == 201
    assert await fate(rig, part) == {"there": True}
    for _ in range(2):
        answer = await call(rig, envelope("about", part))
        assert answer.json() == ["float64", [200_000], 350_000.0, False]
    path, refused, seen = (await call(rig, envelope("write", part))).json()
    assert seen == ["ada"]
    assert path.endswith(part.digest) and refused in ("OSError", "PermissionError")
    assert Path(path).read_bytes() == content


async def test_nobody_names_what_another_sent(rig: Rig) -> None:
    content = npy(struct.pack("<4d", 1, 2, 3, 4))
    part = file_of(content)
    await put(rig, content)
    await rig.functions.access(ADA, "ada", "double", Access(who="shared", accounts=("bob",)))
    await rig.settled()
    assert await fate(rig, part, "bob") == {"there": False}
    refused = await call(rig, envelope("about", part), "bob")
    assert (refused.status_code, refused.json()["code"]) == (404, "RW-NOT-FOUND")
    assert (await put(rig, content, "bob")).status_code == 201
    assert (await call(rig, envelope("about", part), "bob")).json()[2] == 10.0
    for strange in ("../../ada/files/x", "/etc/passwd", "a" * 63):
        told = message({"args": ["about", {"$ropewalk.part": 0}]}, Part(NPY, "numpy", 1, strange))
        assert (await call(rig, told)).status_code == 422
        assert (await ask(rig, "GET", f"{VALUES}{strange}?size=1")).status_code in (404, 422)


async def test_only_who_may_call_may_send_and_only_signed_in(rig: Rig) -> None:
    content = npy(bytes(80))
    part = file_of(content)
    assert (await put(rig, content, "bob")).status_code == 404
    await rig.functions.access(ADA, "ada", "double", Access(who="public"))
    await rig.settled()
    nobody = await rig.request("PUT", "double--fn--ada", VALUES + part.digest, content=content)
    assert (nobody.status_code, nobody.json()["code"]) == (403, "RW-DENIED")
    nobody = await rig.request(
        "POST", "double--fn--ada", headers={"Content-Type": PACKED}, content=envelope("about", part)
    )
    assert (nobody.status_code, nobody.json()["code"]) == (403, "RW-DENIED")


async def test_what_is_too_large_names_the_limit(rig: Rig) -> None:
    large = Part(NPY, "numpy", 65 * 2**20, "a" * 64)
    said = await fate(rig, large)
    assert (said["code"], said["field"]) == ("RW-TOO-LARGE", "limits.value")
    assert str(large.size) in said["message"] and str(64 * 2**20) in said["message"] and "file" in said["hint"]
    for number in (1, 2):
        content = npy(bytes([number]) * (45 * 2**20))
        assert (await put(rig, content)).status_code == 201
    said = await fate(rig, Part(NPY, "numpy", 45 * 2**20, "b" * 64))
    assert (said["code"], said["field"]) == ("RW-STORAGE-FULL", "limits.values") and "6 hours" in said["hint"]


async def test_a_file_that_is_another_is_not_kept(rig: Rig) -> None:
    content, other = npy(bytes(80)), npy(bytes(88))
    wrong = await ask(rig, "PUT", VALUES + file_of(content).digest, content=other)
    assert (wrong.status_code, wrong.json()["field"]) == (422, "arguments")
    assert await fate(rig, file_of(content)) == await fate(rig, file_of(other)) == {"there": False}
    chunked = await ask(rig, "PUT", VALUES + file_of(content).digest, content=_chunks(content))
    assert chunked.status_code == 422


async def test_a_compressed_file_is_not_unpacked_beyond_what_it_said(rig: Rig) -> None:
    large = bytes(70 * 2**20)  # over limits.value, in 70 KB
    headers = {"Content-Encoding": "gzip"}
    refused = await ask(rig, "PUT", VALUES + "c" * 64, content=gzip.compress(large), headers=headers)
    assert (refused.status_code, refused.json()["message"]) == (422, "More came than was announced.")


async def test_small_files_count_with_what_they_cost() -> None:
    async with running(limits_values=3 * sent.LEAST) as rig:
        await rig.functions.deploy(ADA, "ada", rig.spec(WORK, max_workers=1))
        await rig.settled()
        for number in range(3):
            assert (await put(rig, npy(bytes([number] * 8)))).status_code == 201
        assert sent.weight(rig.settings, "ada") == 3 * sent.LEAST
        assert (await put(rig, npy(bytes(16)))).json()["code"] == "RW-STORAGE-FULL"


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_no_pickle_is_read_by_a_worker(rig: Rig) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mknod, (str(rig.settings.home / "accounts/ada/files/ran"),)

    hostile = pickle.dumps(Bomb())
    for kind in (NPY, "application/x-python-pickle"):
        answer = await call(rig, envelope("about", Part(kind, "numpy", len(hostile)), hostile))
        assert (answer.status_code, answer.json()["code"]) == (422, "RW-BAD-INPUT")
    assert not (rig.settings.home / "accounts/ada/files/ran").exists()


async def test_a_large_answer_comes_in_pieces_and_its_worker_lives(rig: Rig) -> None:
    pid = (await ask(rig, "POST", "/", json={"what": "pid"})).json()
    count = 5_000_000  # 40 MB, over limits.payload
    made = await call(rig, message({"args": ["make", {"count": count}], "kwargs": {}}))
    assert made.headers["content-type"] == PACKED and "content-length" not in made.headers
    assert made.content[-8:] == struct.pack("<q", count - 1) and len(made.content) > count * 8
    assert (await ask(rig, "POST", "/", json={"what": "pid"})).json() == pid


async def test_a_durable_call_keeps_its_file_until_its_end(rig: Rig) -> None:
    content = npy(struct.pack("<2d", 1, 2))
    part = file_of(content)
    wish = {"Prefer": "respond-async"}
    assert (await call(rig, envelope("about", part), **wish)).status_code == 404
    await put(rig, content)
    path = sent.store_of(rig.settings, "ada", "ada").path(part.digest)
    held = message({"args": ["about", {"$ropewalk.part": 0}], "kwargs": {}}, part)
    later = time.time() - 2 * rig.settings.limits.values_kept

    def swept() -> bool:
        os.utime(path, (later, later))
        sent.sweep(rig.settings, rig.journal)
        return not path.exists()

    slow = FunctionSpec(name="slow", bundle=Bundle(files={"c.py": SLOW}, entry="c:handler"), retries=0)
    await rig.functions.deploy(ADA, "ada", slow)
    await rig.settled()
    headers = {"Authorization": f"Bearer {rig.token()}", "Content-Type": PACKED, **wish}
    begun = await rig.request("POST", "slow--fn--ada", headers=headers, content=held)
    assert begun.status_code == 202
    assert not swept()
    (rig.settings.home / "accounts/ada/files/go").touch()
    where = f"{begun.headers['location']}/result?wait=20"
    assert (await rig.request("GET", "slow--fn--ada", where, headers=headers)).json() == 3.0
    assert swept()


SLOW = """
import os, time
def handler(what, array):
    while not os.path.exists("go"):
        time.sleep(0.02)
    return float(array.sum())
"""


@pytest.mark.slow
async def test_hundreds_of_megabytes_pass_and_the_gateway_does_not_grow() -> None:
    async with running(apart=True, limits_memory=2**30) as rig:
        await rig.functions.deploy(ADA, "ada", rig.spec(WORK, max_workers=1))
        await rig.settled()
        content = npy(bytes(8)) + bytes(0)
        await put(rig, content)
        before = _peak(rig)
        large = npy(struct.pack("<d", 1.0) * (50 * 2**20))
        part = file_of(large)
        assert (await ask(rig, "PUT", VALUES + part.digest, content=large, timeout=120)).status_code == 201
        assert (await call(rig, envelope("about", part))).json()[2] == 50 * 2**20
        made = await call(rig, message({"args": ["make", {"count": 50 * 2**20}], "kwargs": {}}))
        assert len(made.content) > 400 * 2**20
        assert _peak(rig) - before < 64 * 2**20


def _peak(rig: Rig) -> int:
    """Return the most memory that the gateway ever had, in bytes."""
    process = rig.processes["ropewalk_hub.gateway"]
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
