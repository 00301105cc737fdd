"""A function as an OpenAPI 3.1 document: for tools that make clients, forms and tests. Pure.

Not here: reading the source (``signatures``), and the platform's own interface, which the web framework describes.
Rejected: several payload types (text, bytes, query); JSON by name is what the other tools can write.
"""

from __future__ import annotations

import html
import inspect
from typing import Any

from ropewalk_core import access, samples
from ropewalk_core.callkeys import HEADER
from ropewalk_core.errors import (
    BadInput,
    Internal,
    Limited,
    NotFound,
    OutOfMemory,
    RopewalkError,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UserCodeFailed,
    documented,
)
from ropewalk_core.model import Function
from ropewalk_core.signatures import REF, Schema, Signature, read
from ropewalk_runtime.bundle import RAW
from ropewalk_runtime.parts import NDJSON

_ERRORS: tuple[type[RopewalkError], ...] = (
    *(Unauthenticated, NotFound, TooLarge, BadInput, Limited),
    *(UserCodeFailed, OutOfMemory, Internal, Unavailable, TimedOut),
)
_PROBLEM = "ropewalk.Problem"
"""A name that no class of the person's can have."""

_LATER = [
    {
        "name": name,
        "in": "header",
        "description": words,
        "schema": {"type": "string"} | more,
    }
    for name, words, more in (
        ("Prefer", "Have it carried out later, as a durable call; for the owner alone", {"enum": ["respond-async"]}),
        ("Idempotency-Key", "The same key again is the same durable call", {"maxLength": 200}),
    )
]
_ACCEPTED = {
    "description": "A durable call that is on disk; GET its Location and Location/result",
    "headers": {"Location": {"schema": {"type": "string"}}},
    "content": {"application/json": {"schema": {"type": "object"}}},
}


def describe(function: Function) -> dict[str, Any]:
    """Return the document of a function as it is deployed now."""
    known = read(function.revision.spec.bundle)
    signature = known or Signature()
    words = plain(signature.doc)
    said = {"schema": signature.payload(), "example": samples.payload(known)} if known else {"schema": {}}
    operation: dict[str, Any] = {
        "operationId": function.name,
        "summary": words.partition("\n")[0][:200] or f"Call {function.name}",
        "requestBody": {
            "description": "An object gives the arguments by name."
            if known
            else "Its source does not say what it takes.",
            "required": any(one.required for one in signature.parameters),
            "content": {"application/json": said},
        },
        "responses": {"200": _answer(signature)} | _failures(),
    }
    if function.revision.spec.bundle.form in RAW:
        operation["responses"]["200"] = {"description": "What it answers", "content": {"*/*": {"schema": {}}}}
    else:
        operation["parameters"] = _LATER
        operation["responses"]["202"] = _ACCEPTED
    return {
        "openapi": "3.1.0",
        "info": {"title": function.name, "version": str(function.revision.number)}
        | ({"description": words} if words else {}),
        "servers": [{"url": function.address.rstrip("/")}],
        "security": [{"token": []}, {"key": []}, *([{}] if function.access.who == "public" else [])],
        "paths": {"/": {"post": operation}},
        "components": {
            "schemas": signature.types | {_PROBLEM: _problem()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": f"{access.said(function.access)} `ropewalk token` makes one for ten minutes.",
                },
                "key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": HEADER,
                    "description": "A key that the function's owner made; each has a quota.",
                },
            },
        },
    }


def plain(text: str) -> str:
    """Return a person's words for a place that is read as CommonMark: neither tags nor links in them."""
    return html.escape(text, quote=False).replace("](", "]\\(")


def _answer(signature: Signature) -> dict[str, Any]:
    text = signature.streams and signature.returns.get("type") == "string"
    plain_kind = NDJSON if signature.streams and not text else "text/plain" if text else "application/json"
    kind = "application/octet-stream" if signature.binary else plain_kind
    said = "What it yields, each part as it comes" if signature.streams else "What it returned"
    return {"description": said, "content": {kind: {"schema": signature.returns}}}


def _failures() -> dict[str, Any]:
    """Return the answers that are no success, by status, with the codes that each may have."""
    statuses: dict[str, list[type[RopewalkError]]] = {}
    for one in _ERRORS:
        statuses.setdefault(str(one.status), []).append(one)
    content = {"application/problem+json": {"schema": {"$ref": REF + _PROBLEM}}}
    return {
        status: {"description": "\n\n".join(f"`{one.code}`: {_meaning(one)}" for one in kinds), "content": content}
        for status, kinds in statuses.items()
    }


def _meaning(kind: type[RopewalkError]) -> str:
    return inspect.cleandoc(kind.__doc__ or "").replace("\n", " ")


def _problem() -> Schema:
    text = {"type": "string"}
    return {
        "title": "Problem",
        "type": "object",
        "properties": {
            "type": text | {"description": "The address that explains the code"},
            "code": {"enum": [one.code for one in documented()]},
            "message": text,
            "hint": text | {"description": "What to do next"},
            "field": {"type": ["string", "null"], "description": "The parameter it is about"},
            "details": {"type": "object"},
        },
        "required": ["code", "message", "hint"],
    }
