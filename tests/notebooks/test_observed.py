"""What a call prints appears under its cell while it goes on, and metrics are read at the platform's own door."""

from __future__ import annotations

import httpx
import pytest

from tests.platform_rig import House

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TALK = """%%function
def talk(seconds: float) -> str:
    import time

    print("begun")
    time.sleep(seconds)
    return "over"
"""


def test_a_long_call_prints_under_its_cell_and_a_quick_one_does_not(house: House) -> None:
    kernel = house.kernel()
    kernel.run(TALK)
    assert "begun" in kernel.run("talk(4.0)")
    assert "begun" not in kernel.run("talk(0.0)")
    kernel.run("talk.remove()")


def test_metrics_are_read_at_the_door(house: House) -> None:
    address = f"http://localhost:{house.port}/metrics"
    token = (house.home / "secrets" / "scrape-token").read_text()
    assert httpx.get(address, trust_env=False).status_code == 401
    answer = httpx.get(address, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert "ropewalk_gateway_up 1.0" in answer.text and "ropewalk_calls_total" in answer.text
