"""Where a people's address is: what to connect to, what to ask for, and which host to name. Pure.

Names under ``localhost`` do not resolve in every program, so such an address is the loopback with the name as its host.
"""

from __future__ import annotations

import functools
from urllib.parse import urlsplit

from ropewalk_kernel.posts import Place


@functools.lru_cache(64)
def where(address: str) -> tuple[Place, str, str]:
    """Return where to connect to, what to ask for, and which host to name, for a people's address."""
    parts = urlsplit(address)
    name, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    host = "127.0.0.1" if name == "localhost" or name.endswith(".localhost") else name
    return Place(host, port, secure), parts.path or "/", parts.netloc
