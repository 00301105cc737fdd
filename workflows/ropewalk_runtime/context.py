"""What a handler may know of the call it runs in: its identifier, who calls, and the trace it belongs to.

The person's code asks `current_call`, which ``ropewalk`` gives on; an SDK of theirs continues the trace from its
`CallContext.carrier`. Threads that they start know nothing of it, as with any context variable. Not here: reading the
headers (``trace``). Rejected: setting environment variables, which calls side by side would share.
"""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk_runtime.printed import current


@dataclass(frozen=True)
class CallContext:
    """The call that runs here.

    Parameters
    ----------
    id
        Its identifier, as its record and ``X-Ropewalk-Call`` have it.
    caller
        The account that calls, ``key:`` and a key's identifier, or nothing.
    traceparent, tracestate
        The trace context of its caller (W3C Trace Context), empty if there is none.
    """

    id: str
    caller: str = ""
    traceparent: str = ""
    tracestate: str = ""

    def carrier(self) -> dict[str, str]:
        """Return the trace context as a propagator of OpenTelemetry takes it.

        Examples
        --------
        >>> from opentelemetry.propagate import extract
        >>> context = extract(ropewalk.current_call().carrier())
        """
        found = {"traceparent": self.traceparent, "tracestate": self.tracestate}
        return {name: value for name, value in found.items() if value}


def current_call() -> CallContext | None:
    """Return the call that runs here; None outside of calls, such as in a notebook or while the code loads.

    Examples
    --------
    >>> import ropewalk
    >>> def handler(x):
    ...     call = ropewalk.current_call()
    ...     return call.id if call else "at home"
    """
    log = current.get()
    if log is None:
        return None
    said = {name: str(log.head.get(name, "")) for name in ("caller", "traceparent", "tracestate")}
    return CallContext(str(log.head.get("call", "")), **said)
