"""The plain request of a program: POST / with a token and a small payload, told from everything else by its bytes.

Almost every call of a function is one of these, and looks the same each time. `read` takes only what two readers cannot
understand differently: one spelling of the first line, listed headers, each once, in visible ASCII, and a length. What
it does not take is nothing wrong; aiohttp reads it (``front``). Pure. Not here: who calls, and what is answered.
Rejected: reading all of HTTP a second time, and ``httptools`` with a method for each header (it costs more than this,
because a whole head is compared with the one before).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ropewalk_core.names import PeopleHost, parse_host
from ropewalk_runtime.trace import Trace
from ropewalk_runtime.trace import read as trace_of

BEGIN = b"POST / HTTP/1.1\r\n"
END = b"\r\n\r\n"
LONGEST_HEAD = 8 * 2**10
LONGEST_BODY = 64 * 2**10
LONGEST_AGENT = 100
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([!-~](?:[\t -~]*[!-~])?)?[\t ]*")
_NEEDED = frozenset({b"host", b"content-length", b"authorization"})
_SILENT = frozenset({b"user-agent", b"accept-encoding", b"accept-language"})
"""What programs send and functions are not told."""
_TAKEN = _NEEDED | _SILENT | {b"content-type", b"accept", b"connection", b"traceparent", b"tracestate"}
_TOLD = (b"content-type", b"accept", b"user-agent", b"traceparent", b"tracestate")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,5}")


@dataclass(frozen=True)
class Plain:
    """What a plain request says; ``length`` is its payload's, in bytes."""

    host: PeopleHost
    token: str
    type: str
    accept: str
    length: int
    trace: Trace | None = None
    agent: str = ""


def read(head: bytes, people: str) -> Plain | None:
    """Return what a head says, or None if it is not plain.

    Parameters
    ----------
    head
        From the first line up to the empty line, that included.
    people
        The name under which the hosts of functions are.
    """
    if not head.startswith(BEGIN) or not head.endswith(END):
        return None
    found: dict[bytes, bytes] = {}
    for line in head[len(BEGIN) : -len(END)].split(b"\r\n"):
        parts = _HEADER.fullmatch(line)
        name = parts[1].lower() if parts else b""
        if parts is None or name in found or name not in _TAKEN:
            return None
        found[name] = parts[2] or b""
    if not found.keys() >= _NEEDED or found.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    host = parse_host(found[b"host"].decode(), people)
    kind, _, token = found[b"authorization"].partition(b" ")
    length = int(found[b"content-length"]) if _LENGTH.fullmatch(found[b"content-length"]) else LONGEST_BODY + 1
    if host is None or host.kind != "function" or kind.lower() != b"bearer" or length > LONGEST_BODY:
        return None
    given, wanted, agent, parent, state = (found.get(one, b"").decode() for one in _TOLD)
    trace = trace_of([parent], [state]) if parent else None
    return Plain(host, token.strip().decode(), given, wanted, length, trace, agent[:LONGEST_AGENT])
