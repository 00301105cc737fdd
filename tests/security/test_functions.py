"""Attacks from inside a function: on a sibling, on what earlier calls left, on the gateway, on other accounts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import NotFound
from ropewalk_core.testing import ADA
from tests.function_rig import Rig, running

PROBE = """
import os, signal, socket, subprocess, sys, tempfile

def handler(code: str):
    scope = {}
    exec(code, scope)
    return scope.get("result")
"""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        await rig.functions.deploy(ADA, "ada", rig.spec(PROBE, "victim"))
        await rig.functions.deploy(ADA, "ada", rig.spec(PROBE, "attacker"))
        yield rig


async def ask(rig: Rig, function: str, code: str) -> Any:
    answer = await rig.call(json.dumps({"code": code}).encode(), function=function)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_sibling_worker_cannot_be_seen_or_touched(rig: Rig) -> None:
    await ask(rig, "victim", "open('/tmp/canary', 'w').write('secret'); open('/dev/shm/canary', 'w').write('secret')")
    seen = await ask(rig, "attacker", "import os; result = sorted(p for p in os.listdir('/proc') if p.isdigit())")
    assert seen == ["1"]  # itself, and nobody else
    left = await ask(rig, "attacker", "import os; result = os.listdir('/tmp') + os.listdir('/dev/shm')")
    assert (
        "canary" not in left
    )  # names of folders on the way to its own things may be there, where those lie below /tmp
    killed = """
import os
result = 0
for pid in range(2, 4000):
    try:
        os.kill(pid, 9)
        result += 1
    except ProcessLookupError:
        pass
"""
    assert await ask(rig, "attacker", killed) == 0
    assert (await ask(rig, "victim", "result = open('/tmp/canary').read()")) == "secret"


async def test_a_worker_has_no_power_left(rig: Rig) -> None:
    facts = await ask(rig, "attacker", "result = open('/proc/self/status').read()")
    lines = dict(line.split(":\t", 1) for line in facts.splitlines() if ":\t" in line)
    assert int(lines["CapEff"], 16) == int(lines["CapPrm"], 16) == 0 and lines["NoNewPrivs"] == "1"
    escape = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
result = [libc.unshare(0x10000000), libc.mount(b'proc', b'/proc', b'proc', 0, None), libc.umount2(b'/proc', 2)]
"""
    assert await ask(rig, "attacker", escape) == [-1, -1, -1]


async def test_nothing_of_the_platform_is_within_reach(rig: Rig) -> None:
    home, bob = str(rig.settings.home), str(rig.settings.home / "accounts" / "bob")
    code = f"""
import os
result = []
for path in ({home + "/journal.db"!r}, {home + "/run"!r}, {home + "/run/host.sock"!r}, {bob!r}):
    result.append(os.path.exists(path))
result.append(os.listdir({home + "/accounts"!r}))
result.append(sorted(name for name in os.environ if "TOKEN" in name or "ROPEWALK_HOME" in name))
"""
    assert await ask(rig, "attacker", code) == [False, False, False, False, ["ada"], []]


async def test_descriptors_of_a_worker_are_its_own(rig: Rig) -> None:
    code = """
import os
result = []
for name in os.listdir('/proc/self/fd'):
    try:
        result.append(os.readlink('/proc/self/fd/' + name))
    except OSError:
        pass
"""
    targets = await ask(rig, "attacker", code)
    assert sum(one.startswith("socket:") for one in targets) == 1  # the gateway's, for its own calls
    assert not [one for one in targets if "journal" in one or "memfd:bundle" in one]


async def test_a_worker_that_lies_to_the_gateway_harms_only_itself(rig: Rig) -> None:
    """User code may write any bytes into its socket: lengths, numbers, headers, types."""
    lies = """
import os, socket, struct, json
for name in os.listdir('/proc/self/fd'):
    try:
        if not os.readlink('/proc/self/fd/' + name).startswith('socket:'):
            continue
    except OSError:
        continue
    peer = socket.socket(fileno=os.dup(int(name)))
    head = json.dumps({"id": 999, "status": "x"}).encode()
    peer.sendall(struct.pack('!II', len(head), 0) + head)
    peer.sendall({lie})
result = 1
"""
    for lie in ("struct.pack('!II', 5, 2**31)", "b'\\x00' * 64", "struct.pack('!II', 4, 0) + b'null'"):
        answer = await rig.call(json.dumps({"code": lies.replace("{lie}", lie)}).encode(), function="attacker")
        assert answer.status_code in (200, 500, 503)
    assert await ask(rig, "attacker", "result = 7") == 7
    assert await ask(rig, "victim", "result = 7") == 7


async def test_a_content_type_of_the_workers_choice_is_not_html(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec("def handler():\n    return b'<script>1</script>'\n", "page"))
    answer = await rig.call(b"", function="page")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_credentials_do_not_reach_user_code(rig: Rig) -> None:
    code = """
import sys
result, frame = [], sys._getframe()
while frame is not None:
    result += [one for one in frame.f_locals.values() if isinstance(one, dict) and 'caller' in one]
    frame = frame.f_back
"""
    headers = {
        "Authorization": f"Bearer {rig.token()}",
        "Cookie": "ropewalk-door=x",
        "Content-Type": "application/json",
    }
    answer = await rig.request(
        "POST", "attacker--fn--ada", headers=headers, content=json.dumps({"code": code}).encode()
    )
    assert answer.status_code == 200 and rig.token()[:20] not in answer.text and "ropewalk-door" not in answer.text
    assert answer.json()[0]["caller"] == "ada"


async def test_an_account_that_is_none_gets_no_sandbox(rig: Rig) -> None:
    from ropewalk_core.local.host_client import StepOrder

    with pytest.raises(NotFound):
        await rig.client.run_step(StepOrder("x", "nobody", kind="command", argv=("true",)))


async def test_the_environment_is_the_accounts_own(rig: Rig) -> None:
    prefix = await ask(rig, "attacker", "import sys; result = sys.prefix")
    assert Path(prefix) == rig.settings.home / "accounts" / "ada" / "environment"
