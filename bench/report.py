"""How every bench reports: one JSON object with ``rows``, or the same as a table.

Not here: measuring. A target is text such as ``<= 1.7``; ``met`` compares the ratio with it where there is a peer, else
our own figure, and is true where there is no target.
"""

from __future__ import annotations

import json
import operator
import statistics
import sys
from collections.abc import Sequence
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
        return body


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
        sys.stdout.write(f"{row.name:<58} {row.ours:>9.2f} {row.unit:<5} {against:<46} {ratio:>7} {verdict}\n")
