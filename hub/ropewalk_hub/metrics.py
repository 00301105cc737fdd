"""What a monitoring system reads: the platform and the gateway at one address, in Prometheus' text format 0.0.4.

Whoever asks shows the scrape token of the home, or is an administrator. There is no label for a function or a person:
their number has no bound here, and figures of each are its owner's. The gateway tells its part with its reports, so a
gauge of it is at most a few seconds old. Not here: counting. Rejected: an address on the gateway too, which strangers
reach, and the library's own registry, which is filled by whatever is imported.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator

from fastapi import APIRouter, Depends, Request
from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import HTTPConnection
from starlette.responses import Response

from ropewalk_core import figures
from ropewalk_core.called import CallBook
from ropewalk_core.figures import Cell
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import administrator, signed

router = APIRouter(include_in_schema=False)
PATIENCE = 15.0
"""Seconds of silence after which the gateway counts as away."""
_GATEWAY = {
    "workers": ("workers", "Workers of functions that run or start"),
    "running": ("calls_running", "Calls that workers have now"),
    "waiting": ("calls_waiting", "Calls that wait for a worker now"),
}


async def scraping(connection: HTTPConnection) -> None:
    """Let in who has the scrape token, or is an administrator."""
    platform: Platform = connection.app.state.platform
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), platform.scrape_token.encode()):
        await administrator(await signed(connection))


@router.get("/metrics", dependencies=[Depends(scraping)])
async def metrics(request: Request) -> Response:
    """Return everything that is counted."""
    text = generate_latest(Told(request.app.state.platform))
    return Response(text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"})


class Told(Collector):
    """A collector of what a platform knows.

    Parameters
    ----------
    platform
        Whose numbers they are.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        platform = self._platform
        book = platform.backend.traffic.called
        yield from _calls(book)
        yield from _gateway(book, platform.clock.steady())
        routes = platform.backend.traffic.functions()
        yield GaugeMetricFamily("ropewalk_functions", "Functions of all accounts", value=len(routes))
        active = sum(rule.active for rule in platform.issuer.accounts.rules().values())
        yield GaugeMetricFamily("ropewalk_accounts", "Accounts that may sign in", value=active)
        yield CounterMetricFamily("ropewalk_journal_events", "Events in the journal", value=platform.journal.cursor)
        yield from ProcessCollector(registry=None).collect()


def _calls(book: CallBook) -> Iterable[Metric]:
    total, failures = book.total, dict(book.errors)
    outcomes = {"failed": total.errors, "left": total.left}
    calls = CounterMetricFamily("ropewalk_calls", "Calls of functions that ended", labels=["outcome"])
    for outcome, count in {"done": total.calls - sum(outcomes.values()), **outcomes}.items():
        calls.add_metric([outcome], count)
    failed = CounterMetricFamily("ropewalk_call_failures", "Recorded calls that failed", labels=["code"])
    for code in sorted(failures):
        failed.add_metric([code], failures[code])
    plain = {
        "ropewalk_cold_starts": ("Calls for which a worker was started", total.cold),
        "ropewalk_calls_unrecorded": ("Calls without a record, because more came than are kept", total.unkept),
        "ropewalk_call_cpu_seconds": ("CPU seconds that calls cost", total.cpu),
        "ropewalk_call_gb_seconds": ("Seconds times 2^30 bytes of memory set aside for calls", total.gb_seconds),
    }
    return [calls, failed, _times(total), *(CounterMetricFamily(name, *told) for name, told in plain.items())]


def _times(total: Cell) -> HistogramMetricFamily:
    """Return the times of calls, a bucket for each doubling."""
    buckets: list[tuple[str, float]] = []
    counted = 0
    for number in range(figures.BUCKETS + 1):
        counted += total.times.get(number, 0)
        if number % figures.PER_DOUBLING == 0 and number < figures.BUCKETS:
            buckets.append((f"{figures.upper(number):g}", counted))
    buckets.append(("+Inf", counted))
    words = "Seconds from a call's coming in to its end, of calls that a worker had"
    return HistogramMetricFamily("ropewalk_call_seconds", words, buckets=buckets, sum_value=total.seconds)


def _gateway(book: CallBook, now: float) -> Iterable[Metric]:
    up = now - book.seen < PATIENCE
    yield GaugeMetricFamily("ropewalk_gateway_up", "Whether the gateway was heard of lately", value=int(up))
    for told, (name, words) in _GATEWAY.items():
        yield GaugeMetricFamily(f"ropewalk_gateway_{name}", words, value=book.state.get(told, 0) if up else 0)
