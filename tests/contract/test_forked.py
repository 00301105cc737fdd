"""What a worker that was forked from a zygote has for itself: chance, descriptors, loops, locks and threads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import Bundle, FunctionSpec
from ropewalk_core.testing import ADA
from tests.function_rig import Rig, running

PROBE = """
import time
def handler(code: str, pause: float = 0.0):
    scope = {}
    exec(code, scope)
    time.sleep(pause)
    return scope.get("result")
"""
CHANCE = """
import os, random, secrets, ssl, tempfile, uuid
result = [random.random(), secrets.token_hex(8), ssl.RAND_bytes(8).hex(), str(uuid.uuid4()), os.urandom(8).hex()]
result.append(tempfile.mktemp())
try:
    import numpy
    result += [float(numpy.random.rand()), float(numpy.random.default_rng().random())]
except ImportError:
    pass
hello = ssl.MemoryBIO()
try:
    ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="here").do_handshake()
except ssl.SSLWantReadError:
    result.append(hello.read()[11:43].hex())
"""
LOUD = """
import threading, time
beats = []
def beat():
    while True:
        beats.append(time.monotonic())
        time.sleep(0.01)
threading.Thread(target=beat, daemon=True).start()
"""
KEEPING = """
import asyncio, atexit, logging, os, random, socket, threading
file = open("/etc/passwd")
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
lock, log, local = threading.RLock(), logging.getLogger("keeping"), threading.local()
log.addHandler(logging.StreamHandler())
chance, pid = random.Random(), os.getpid()
atexit.register(lambda: open(os.path.expanduser("~/said-goodbye"), "a").write("bye\\n"))
"""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        yield rig


def probe(*imports: str, **changes: Any) -> FunctionSpec:
    """Return a function that runs what it is given, in a worker whose zygote has imported these."""
    bundle = Bundle(files={"cell.py": PROBE}, entry="cell:handler", imports=imports)
    return FunctionSpec(name="double", bundle=bundle, **changes)


async def ask(rig: Rig, code: str, pause: float = 0.0) -> Any:
    answer = await rig.call(json.dumps({"code": code, "pause": pause}).encode())
    assert answer.status_code == 200, answer.text
    return answer.json()


async def installed(rig: Rig, **modules: str) -> AccountPaths:
    """Put modules into Ada's environment, as `%pip install` does."""
    await rig.functions.deploy(ADA, "ada", probe())  # makes the environment
    paths = AccountPaths(rig.settings.home, "ada")
    [folder] = paths.environment.glob("lib/python*/site-packages")
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
        (folder / f"{name}.py").chmod(0o644)
    return paths


async def test_no_two_workers_have_the_same_chance(rig: Rig) -> None:
    imports = ("random", "secrets", "ssl", "uuid", "tempfile", "numpy")
    await rig.functions.deploy(ADA, "ada", probe(*imports, max_workers=3))
    drawn = await asyncio.gather(*(ask(rig, CHANCE, 0.5) for _ in range(3)))  # at a time, so in three workers
    assert len({len(one) for one in drawn}) == 1 and len(drawn[0]) >= 7
    for column in zip(*drawn, strict=True):
        assert len(set(column)) == 3, column


async def test_what_a_module_opened_in_the_zygote_is_not_in_the_worker(rig: Rig) -> None:
    await installed(rig, keeping=KEEPING)
    await rig.functions.deploy(ADA, "ada", probe("keeping", max_workers=2))
    seen = """
import os, sys
result = {"loaded": "keeping" in sys.modules, "mine": sys.modules["keeping"].pid == os.getpid(), "open": []}
for name in os.listdir("/proc/self/fd"):
    try:
        result["open"].append(os.readlink("/proc/self/fd/" + name))
    except OSError:
        pass
"""
    found = await ask(rig, seen)
    assert found["loaded"] and not found["mine"]  # it came from the zygote
    assert sum(one.startswith("socket:") for one in found["open"]) == 1  # the gateway's
    assert not [one for one in found["open"] if "passwd" in one or "eventpoll" in one]


async def test_loops_locks_and_logs_of_the_zygote_stop_nothing(rig: Rig) -> None:
    await installed(rig, keeping=KEEPING)
    await rig.functions.deploy(ADA, "ada", probe("keeping", "asyncio", "logging", "threading"))
    code = """
import asyncio, logging, keeping
async def work():
    await asyncio.sleep(0.01)
    return 7
result = [asyncio.run(work())]
"""
    assert await ask(rig, code) == [7]
    old = "import asyncio, keeping\nasync def work():\n    await asyncio.sleep(0.01)\n    return 8\n"
    old += "loop = asyncio.get_event_loop()\nresult = [loop is keeping.loop, loop.run_until_complete(work())]\n"
    await rig.functions.deploy(ADA, "ada", probe("keeping", "asyncio", timeout=59))  # a worker that ran no loop yet
    assert await ask(rig, old) == [False, 8]
    locks = "import keeping, threading\nresult = [keeping.lock.acquire(timeout=1), threading.active_count()]\n"
    assert await ask(rig, locks) == [True, 1]
    logged = "import logging, keeping\nkeeping.log.warning('from the module')\nlogging.warning('from the root')\n"
    assert await ask(rig, logged) is None
    async with asyncio.timeout(10):
        while True:
            logs = "".join(one.logs for one in (await rig.functions.calls(ADA, "ada", "double")).items)
            if "from the module" in logs and "from the root" in logs:
                break
            await asyncio.sleep(0.05)


async def test_what_a_module_registered_for_the_end_is_not_run_by_each_worker(rig: Rig) -> None:
    paths = await installed(rig, keeping=KEEPING)
    await rig.functions.deploy(ADA, "ada", probe("keeping", idle=0.0, max_workers=2))
    for _ in range(2):
        assert await ask(rig, "import sys\nresult = 'keeping' in sys.modules") is True
    await asyncio.sleep(2.5)  # they were idle, and have ended
    await rig.client.end_account("ada")
    assert not (paths.files / "said-goodbye").exists()


async def test_a_module_that_starts_a_thread_is_imported_by_the_worker_itself(rig: Rig) -> None:
    """A fork would leave the thread behind."""
    await installed(rig, loud=LOUD)
    await rig.functions.deploy(ADA, "ada", probe("loud"))
    first = await ask(rig, "import loud, time\ntime.sleep(0.1)\nresult = len(loud.beats)")
    assert first > 1
    assert await ask(rig, "import loud, time\ntime.sleep(0.1)\nresult = len(loud.beats)") > first


async def test_a_thread_that_the_code_starts_runs_on_between_calls(rig: Rig) -> None:
    source = LOUD + "\ndef handler():\n    return len(beats)\n"
    await rig.functions.deploy(ADA, "ada", rig.spec(source))
    first = (await rig.call(b"")).json()
    await asyncio.sleep(0.2)
    assert (await rig.call(b"")).json() > first


async def test_a_worker_outlives_who_closes_the_pipe_that_it_writes_to(rig: Rig) -> None:
    code = """
import os, subprocess
child = subprocess.Popen(["true"], stdin=subprocess.PIPE)
child.wait()
try:
    child.stdin.write(b"x" * 1_000_000)
    child.stdin.flush()
    result = ["", os.getpid()]
except BrokenPipeError as error:
    result = [type(error).__name__, os.getpid()]
    child.stdin = None
"""
    await rig.functions.deploy(ADA, "ada", probe())
    assert (await ask(rig, code))[0] == "BrokenPipeError"
    answer = await rig.call(json.dumps({"code": "result = 7"}).encode())
    assert (answer.json(), answer.headers["x-ropewalk-start"]) == (7, "warm")
    told = (
        "import subprocess\nresult = subprocess.run('yes | head -n 1', shell=True, capture_output=True).stdout.decode()"
    )
    assert await ask(rig, told) == "y\n"  # `yes` was ended by the pipe, as everywhere


@pytest.mark.parametrize("cpu", [1, 2])
async def test_numeric_libraries_take_the_cores_of_the_placement(rig: Rig, cpu: int) -> None:
    code = """
import os
try:
    import numpy, threadpoolctl
    big = numpy.ones((600, 600))
    big @ big
    result = [one["num_threads"] for one in threadpoolctl.threadpool_info()]
except ImportError:
    result = None
"""
    await rig.functions.deploy(ADA, "ada", probe("numpy", placement={"cpu": cpu}))
    found = await ask(rig, code)
    if found is None:
        pytest.skip("numpy and threadpoolctl are not in the accounts' base environment")
    assert set(found) == {cpu}
    assert await ask(rig, "import os\nresult = os.environ['OMP_NUM_THREADS']") == str(cpu)


async def test_a_figure_a_bar_and_a_frame_work_inside(rig: Rig) -> None:
    code = """
import io, sys
result = {}
try:
    import pandas
    result["pandas"] = int(pandas.DataFrame({"a": [1, 2]})["a"].sum())
except ImportError:
    pass
try:
    import matplotlib.pyplot as pyplot
    pyplot.plot([1, 2]), pyplot.savefig(data := io.BytesIO())
    result["matplotlib"] = data.getvalue()[1:4].decode()
except ImportError:
    pass
try:
    import tqdm
    result["tqdm"] = sum(tqdm.tqdm(range(4)))
except ImportError:
    pass
"""
    await rig.functions.deploy(ADA, "ada", probe("pandas", "matplotlib", "tqdm", placement={"memory": "1Gi"}))
    found = await ask(rig, code)
    if not found:
        pytest.skip("none of them is in the accounts' base environment")
    assert found == {key: {"pandas": 3, "matplotlib": "PNG", "tqdm": 6}[key] for key in found}
