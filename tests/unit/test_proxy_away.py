"""While a part of the platform is away, the proxy says so in the platform's own words."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import httpx
import pytest

from ropewalk_hub import node
from tests.ports import free_port


@pytest.mark.skipif(not node.packages().is_dir(), reason="the hub's proxy is not installed; `make setup` does it")
def test_a_part_that_is_away_is_named_in_plain_words(tmp_path: Path) -> None:
    folder, door, api, away = node.find(), free_port(), free_port(), free_port()
    assert folder is not None, "run make setup"
    script = Path(node.__file__).with_name("proxy.mjs")
    told = [str(tmp_path / "routes.json"), f"127.0.0.1:{api}", f"http://127.0.0.1:{away}", "localhost"]
    argv = [str(folder / "node"), str(script), str(node.proxy_script()), *told, f"127.0.0.1:{door}"]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        answer = _asked(f"http://127.0.0.1:{door}/", process)
    finally:
        process.kill()
        process.wait()
    assert answer.status_code == 503
    assert "does not answer" in answer.text and "RW-UNAVAILABLE" in answer.text and "proxy" not in answer.text.lower()


def _asked(url: str, process: subprocess.Popen[bytes]) -> httpx.Response:
    """Ask the proxy as soon as it listens."""
    end = time.monotonic() + 50
    while True:
        try:
            return httpx.get(url, headers={"Host": "localhost"}, trust_env=False, timeout=20)
        except httpx.TransportError:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
