"""Quantities: amounts as Kubernetes writes them (``500m``, ``1.5Gi``, ``2e3``), exactly. Pure."""

from __future__ import annotations

import re
from fractions import Fraction

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([KMGTPE]i|[numkMGTPE]))?")
_SUFFIXES = {
    **{one: Fraction(10) ** power for one, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)},
    **{f"{one}i": Fraction(1024) ** power for power, one in enumerate("KMGTPE", 1)},
}


def parse(text: object) -> Fraction:
    """Return the amount.

    Raises
    ------
    ValueError
        If the text is no quantity.
    """
    match = _FORM.fullmatch(str(text).strip())
    if match is None or isinstance(text, bool):
        raise ValueError(f"{text!r} is not a quantity")
    return Fraction(match[1]) * (Fraction(f"1{match[2]}") if match[2] else _SUFFIXES.get(match[3] or "", Fraction(1)))


def equal(one: object, other: object) -> bool:
    """Whether two quantities are the same amount, however they are written."""
    try:
        return parse(one) == parse(other)
    except ValueError:
        return one == other


def cores(amount: float) -> str:
    """Return cores as Kubernetes writes them, in thousandths; what is less than one thousandth is one."""
    thousandths = max(1, round(amount * 1000))
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"
