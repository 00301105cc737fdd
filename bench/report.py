"""How every bench reports: one JSON object with ``rows``, or the same as a table.

Not here: measuring (but for who begins). An interval holds the median of the ratio, or of our own figure where there is
no peer, with 95 % confidence, and is made of the samples' order alone. A target is text such as ``<= 1.7``; ``met``
compares the ratio with it where there is a peer, else our own figure, and is true where there is no target.
"""

from __future__ import annotations

import json
import math
import operator
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_COMPARE = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Row:
    """One figure. ``against`` is the peer's name and its figure in the same unit."""

    name: str
    ours: float
    unit: str
    against: tuple[str, float] | None = None
    target: str | None = None
    interval: tuple[float, float] | None = None
    samples: int = 1

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's."""
        return self.ours / self.against[1] if self.against and self.against[1] else None

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        if self.target is None:
            return True
        sign, value = self.target.split()[:2]
        figure = self.ours if self.ratio is None else self.ratio
        return bool(_COMPARE[sign](figure, float(value)))

    def as_json(self) -> dict[str, Any]:
        """Return the row in the project's published form."""
        body = asdict(self) | {"ratio": self.ratio and round(self.ratio, 3), "met": self.met}
        body["ours"] = round(self.ours, 3)
        body["against"] = self.against and {"name": self.against[0], "value": round(self.against[1], 3)}
        body["interval"] = self.interval and [round(one, 3) for one in self.interval]
        return body


def in_turn(ours: Callable[[], float], theirs: Callable[[], float], rounds: int) -> list[tuple[float, float]]:
    """Return as many pairs of samples, ours and the peer's; each begins every other pair."""
    pairs = []
    for turn in range(rounds):
        if turn % 2:
            peer = theirs()
            pairs.append((ours(), peer))
        else:
            pairs.append((ours(), theirs()))
    return pairs


def paired(name: str, unit: str, peer: str, pairs: Sequence[tuple[float, float]], target: str | None = None) -> Row:
    """Return the row of samples taken in turn, ours and the peer's; its ratio is the one of the medians."""
    ours, theirs = (middle(side) for side in zip(*pairs, strict=True))
    ratios = [one / other for one, other in pairs]
    return Row(name, ours, unit, (peer, theirs), target, interval(ratios), len(pairs))


def alone(name: str, unit: str, samples: Sequence[float], target: str | None = None) -> Row:
    """Return the row of samples that have no peer."""
    return Row(name, middle(samples), unit, None, target, interval(samples), len(samples))


def interval(samples: Sequence[float]) -> tuple[float, float] | None:
    """Return between which samples the median lies with 95 % confidence; None where there are fewer than six."""
    count = len(samples)
    tail, low = 0.5**count, 0  # the probability that at most `low` samples lie below the median
    if tail > 0.025:
        return None
    while tail + (more := math.comb(count, low + 1) * 0.5**count) <= 0.025:
        tail, low = tail + more, low + 1
    ordered = sorted(samples)
    return ordered[low], ordered[-low - 1]


def middle(samples: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(samples)


def publish(rows: Sequence[Row], *, as_json: bool) -> None:
    """Write the rows to standard output."""
    if as_json:
        sys.stdout.write(json.dumps({"rows": [row.as_json() for row in rows]}, indent=2) + "\n")
        return
    for row in rows:
        against = f"{row.against[0]} {row.against[1]:.2f}" if row.against else ""
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
        verdict = "" if row.target is None else f"{row.target} {'met' if row.met else 'MISSED'}"
        between = f"{row.interval[0]:.2f}-{row.interval[1]:.2f} of {row.samples}" if row.interval else ""
        figures = f"{row.ours:>9.2f} {row.unit:<5} {against:<46} {ratio:>7} {between:<20}"
        sys.stdout.write(f"{row.name:<58} {figures} {verdict}\n")
