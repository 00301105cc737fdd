"""What crosses the gateway's socket about durable calls; bytes travel as base64. Not here: what is done with it."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from ropewalk_core.model import DurableCall, Noun


class _Wire(Noun):
    """What crosses the gateway's socket; bytes travel as base64."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class Wish(_Wire):
    """A call that somebody asked for."""

    owner: str
    function: str
    caller: str
    payload: bytes
    content_type: str = ""
    query: str = ""
    key: str = ""
    trigger: str = ""
    chain: int = 0
    traceparent: str = ""
    tracestate: str = ""


class Accepted(_Wire):
    """What became of a wish: a call that is on disk, or a problem."""

    call: DurableCall | None = None
    problem: dict[str, Any] | None = None


class Work(_Wire):
    """An attempt for the gateway to carry."""

    id: str
    attempt: int
    owner: str
    function: str
    caller: str
    payload: bytes
    content_type: str = ""
    query: str = ""
    traceparent: str = ""
    tracestate: str = ""


class WorkPage(_Wire):
    """Attempts to carry, and calls to let go of: they were canceled, or are nobody's any more."""

    work: tuple[Work, ...] = ()
    stop: tuple[str, ...] = ()


class Report(_Wire):
    """What became of an attempt: a result, or a problem."""

    id: str
    attempt: int
    owner: str
    call: str = ""
    revision: str = ""
    content_type: str = ""
    body: bytes = b""
    problem: dict[str, Any] | None = None
