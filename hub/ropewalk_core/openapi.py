"""A function as an OpenAPI 3.1 document: for tools that make clients, forms and tests. Pure.

Not here: reading the source (``signatures``), and the platform's own interface, which the web framework describes.
Rejected: several payload types (text, bytes, query); JSON by name is what the other tools can write.
"""

from __future__ import annotations

import html
import inspect
from typing import Any

from ropewalk_core import samples
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

_ERRORS: tuple[type[RopewalkError], ...] = (
    *(Unauthenticated, NotFound, TooLarge, BadInput, Limited),
    *(UserCodeFailed, OutOfMemory, Internal, Unavailable, TimedOut),
)
_PROBLEM = "ropewalk.Problem"
"""A name that no class of the person's can have."""


def describe(function: Function) -> dict[str, Any]:
    """Return the document of a function as it is deployed now."""
    known = read(function.revision.spec.bundle)
    signature = known or Signature()
    words = plain(signature.doc)
    said = {"schema": signature.payload(), "example": samples.payload(known)} if known else {"schema": {}}
    operation = {
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
    return {
        "openapi": "3.1.0",
        "info": {"title": function.name, "version": str(function.revision.number)}
        | ({"description": words} if words else {}),
        "servers": [{"url": function.address.rstrip("/")}],
        "security": [{"token": []}],
        "paths": {"/": {"post": operation}},
        "components": {
            "schemas": signature.types | {_PROBLEM: _problem()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The owner's, from `ropewalk token`; it is good for ten minutes.",
                }
            },
        },
    }


def plain(text: str) -> str:
    """Return a person's words for a place that is read as CommonMark: neither tags nor links in them."""
    return html.escape(text, quote=False).replace("](", "]\\(")


def _answer(signature: Signature) -> dict[str, Any]:
    kind = "application/octet-stream" if signature.binary else "application/json"
    return {"description": "What it returned", "content": {kind: {"schema": signature.returns}}}


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
