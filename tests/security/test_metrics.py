"""Metrics: for who has the scrape token or is an administrator, of bounded size, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ropewalk_core.figures import Cell
from ropewalk_core.model import Call, CallReport, State
from tests.identity.stage import Stage, make


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = make(tmp_path / "home")
    made.add("alice", administrator=True)
    made.add("bob")
    yield made
    await made.close()


def report(stage: Stage, functions: int = 1) -> CallReport:
    cell = Cell(calls=5, errors=2, left=1, cold=1, unkept=3, cpu=0.5, gb_seconds=2.0)
    for seconds in (0.002, 0.002, 0.3, 7000.0):
        cell.took(seconds)
    minute = int(stage.clock.wall() // 60)
    failed = Call(
        id="c", function="f0", owner="bob", revision="r", started=1.0, state=State.FAILED, code="RW-USER-CODE"
    )
    cells = tuple(("bob", f"f{number}", minute, cell.packed()) for number in range(functions))
    return CallReport(calls=(failed,), cells=cells, state={"workers": 2, "running": 1, "waiting": 4, "other": 9})


async def scraped(stage: Stage) -> dict[tuple[str, str], float]:
    token = {"Authorization": f"Bearer {stage.platform.scrape_token}"}
    answer = await stage.machine().get("/metrics", headers=token)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation
        for sample in family.samples:
            assert set(sample.labels) <= {"outcome", "code", "le"}
            found[sample.name, ",".join(sample.labels.values())] = sample.value
    return found


async def test_platform_and_gateway_are_read_at_one_address(stage: Stage) -> None:
    before = await scraped(stage)
    assert before["ropewalk_gateway_up", ""] == 0 and before["ropewalk_calls_total", "done"] == 0
    assert before["ropewalk_accounts", ""] == 2 and before["process_resident_memory_bytes", ""] > 0
    stage.platform.feed.record_calls(report(stage))
    found = await scraped(stage)
    outcomes = {one: found["ropewalk_calls_total", one] for one in ("done", "failed", "left")}
    assert outcomes == {"done": 2, "failed": 2, "left": 1}
    assert found["ropewalk_cold_starts_total", ""] == 1 and found["ropewalk_calls_unrecorded_total", ""] == 3
    assert (found["ropewalk_call_cpu_seconds_total", ""], found["ropewalk_call_gb_seconds_total", ""]) == (0.5, 2.0)
    assert found["ropewalk_call_failures_total", "RW-USER-CODE"] == 1
    gauges = ("up", "workers", "calls_running", "calls_waiting")
    assert [found[f"ropewalk_gateway_{one}", ""] for one in gauges] == [1, 2, 1, 4]
    buckets = [value for (name, _), value in found.items() if name == "ropewalk_call_seconds_bucket"]
    assert buckets == sorted(buckets) and buckets[-1] == found["ropewalk_call_seconds_count", ""] == 4
    assert found["ropewalk_call_seconds_bucket", "0.0032"] == 2
    assert found["ropewalk_call_seconds_sum", ""] == pytest.approx(7000.304)
    stage.clock.advance(60)
    assert (await scraped(stage))["ropewalk_gateway_up", ""] == 0


async def test_it_takes_no_more_space_however_many_functions_there_are(stage: Stage) -> None:
    stage.platform.feed.record_calls(report(stage))
    few = await scraped(stage)
    stage.platform.feed.record_calls(report(stage, functions=500))
    assert (await scraped(stage)).keys() == few.keys()


async def test_administrators_read_it_and_nobody_else(stage: Stage) -> None:
    assert (await (await stage.signed_in("alice")).get("/metrics")).status_code == 200
    assert (await (await stage.signed_in("bob")).get("/metrics")).status_code == 403
    for token in ("", "x", "é", stage.platform.scrape_token[:-1], stage.platform.scrape_token + "0"):
        headers = {"Authorization": f"Bearer {token}".encode("latin-1")}
        answer = await stage.machine().get("/metrics", headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 401 and "ropewalk_" not in answer.text
    assert (await stage.machine().get("/metrics")).status_code == 401
    basic = {"Authorization": f"Basic {stage.platform.scrape_token}"}
    assert (await stage.machine().get("/metrics", headers=basic)).status_code == 401


async def test_the_token_lies_where_the_homes_owner_alone_reads(stage: Stage) -> None:
    path = stage.platform.settings.secrets / "scrape-token"
    assert path.read_text() == stage.platform.scrape_token and len(stage.platform.scrape_token) == 64
    assert path.stat().st_mode & 0o777 == 0o600


async def test_it_is_asked_by_an_internal_address_too_and_the_token_opens_nothing_else(stage: Stage) -> None:
    token = {"Authorization": f"Bearer {stage.platform.scrape_token}"}
    inside = {**token, "Host": "127.0.0.1:5000"}
    assert (await stage.machine().get("/metrics", headers=inside)).status_code == 200
    for path in ("/api/v1/me", "/api/v1/accounts", "/oidc/userinfo", "/people"):
        assert (await stage.machine().get(path, headers=token)).status_code == 401
