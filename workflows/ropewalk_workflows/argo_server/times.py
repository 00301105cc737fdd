"""Times as Kubernetes writes them. Pure."""

from __future__ import annotations

import datetime


def stamp(seconds: float | None) -> str | None:
    """Return Unix time as a text of whole seconds; nothing for nothing."""
    if not seconds:
        return None
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
