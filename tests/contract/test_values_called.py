"""A kernel with numpy and pandas, as a process of its own, calls functions with arrays and frames."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

from ropewalk_core.model import Bundle, FunctionSpec
from ropewalk_core.settings import Environments
from ropewalk_core.testing import ADA
from tests.function_rig import Rig, running

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Environments().base / "bin" / "python"
MEAN = """
import io, json, os, pickle, struct
import numpy

class Bomb:
    def __reduce__(self):
        return os.mknod, (PATH,)

def message(kind, data, text='{"$ropewalk.part":0}'):
    parts = json.dumps([{"type": kind, "of": "numpy", "size": len(data)}]).encode()
    return b"RWP1" + struct.pack("!II", len(parts), len(text)) + parts + text.encode() + data

def npy():
    file = io.BytesIO()
    numpy.save(file, numpy.array([Bomb()], dtype=object), allow_pickle=True)
    return file.getvalue()

async def app(scope, receive, send):
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    hostile = pickle.dumps(Bomb())
    answer = {
        b"npy": message("application/x-npy", npy()),
        b"pickle": message("application/x-python-pickle", hostile),
        b"bare": hostile,
        b"nonsense": b"RWP1" + bytes(100),
        b"deep": message("application/x-npy", npy(), "[" * 100_000),
    }[[one for one in (b"npy", b"pickle", b"bare", b"nonsense", b"deep") if one in body][0]]
    kind = (b"content-type", b"application/vnd.ropewalk.packed")
    await send({"type": "http.response.start", "status": 200, "headers": [kind]})
    await send({"type": "http.response.body", "body": answer})
"""
SOURCES = {
    "mean": MEAN,
    "echo": "def handler(value):\n    return value\n",
    "awaited": "async def handler(value):\n    return value\n",
    "threaded": "def handler(value):\n    return value\n",
    "total": "def handler(values: list):\n    return [type(values).__name__, sum(values)]\n",
    "made": "def handler(what):\n    import pandas\n    return pandas.DataFrame({'a': [1]})\n",
    "several": "import numpy\ndef handler(count):\n    for one in range(count):\n        yield numpy.arange(one + 1)\n",
}


async def check(rig: Rig, *names: str) -> None:
    """Have a kernel run checks of ``tests.user_side.caller``."""
    functions = {}
    for one, source in SOURCES.items():
        source = source.replace("PATH", repr(str(rig.settings.home / "ran")))
        form = "asgi" if "def app" in source else "python"
        bundle = Bundle(files={"cell.py": source}, entry=f"cell:{'app' if form == 'asgi' else 'handler'}", form=form)
        spec = FunctionSpec(name=one, bundle=bundle, max_workers=2, concurrency=2 if one == "threaded" else 1)
        functions[one] = (await rig.functions.deploy(ADA, "ada", spec)).model_dump(mode="json")
    await rig.settled()
    asked = json.dumps({"token": rig.token(), "functions": functions, "checks": names})
    argv = [str(PYTHON), "-m", "tests.user_side.caller"]
    done = await asyncio.to_thread(
        subprocess.run, argv, cwd=ROOT, input=asked, capture_output=True, text=True, timeout=55
    )
    assert done.returncode == 0, done.stderr


async def test_a_kernel_calls_with_arrays_and_frames() -> None:
    checks = ["arrays", "side_by_side", "once", "durable", "lists", "too_large", "yielded", "hostile", "by_hand"]
    checks += ["frames", "long_texts"] if _has("pyarrow") else ["no_arrow_there"]
    async with running(limits_value=60 * 2**20) as rig:
        await check(rig, *checks)
        assert not (rig.settings.home / "ran").exists()


def _has(name: str) -> bool:
    """Say whether a package is in the user's environment, and so in the sandbox of a function."""
    return any(PYTHON.parents[1].glob(f"lib/python*/site-packages/{name}/__init__.py"))
