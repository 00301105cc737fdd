"""A call that fits a function, made from its signature: what samples show and "Try it" starts with. Pure.

Only what a call must give is sampled; a parameter without annotation gets 1. Not here: reading the source
(``signatures``), and how a payload becomes arguments (``ropewalk_runtime.handler``). Rejected: the payload of the
latest call, which may hold anything.
"""

from __future__ import annotations

from typing import Any

from ropewalk_core.signatures import Schema, Signature

_PLAIN: dict[str, Any] = {"integer": 1, "number": 1.0, "string": "text", "boolean": True, "null": None}
_DEEPEST = 10
_MOST = 1000
"""Values in one sample; types that hold one another could ask for any number."""


def arguments(signature: Signature | None) -> dict[str, Any]:
    """Return a value for each parameter that a call must give, by name; empty when the source does not say."""
    given = signature.parameters if signature else ()
    return {one.name: sample(one.schema, signature) for one in given if one.required}


def payload(signature: Signature | None) -> Any:
    """Return the same call as the JSON value of a payload."""
    values = arguments(signature)
    if len(values) == 1 and _bare(signature) & values.keys():
        return next(iter(values.values()))  # it has no name from outside
    return values


def python(signature: Signature | None, name: str) -> str:
    """Return the same call as Python writes it."""
    bare = _bare(signature)
    words = [repr(value) if key in bare else f"{key}={value!r}" for key, value in arguments(signature).items()]
    return f"{name}({', '.join(words)})"


def sample(schema: Schema, signature: Signature | None) -> Any:
    """Return a value that a schema of a signature accepts."""
    return _Sampler(signature or Signature()).value(schema, 0)


def _bare(signature: Signature | None) -> set[str]:
    return {one.name for one in signature.parameters if one.bare} if signature else set()


class _Sampler:
    def __init__(self, signature: Signature) -> None:
        self._signature, self._left = signature, _MOST

    def value(self, schema: Schema, depth: int) -> Any:
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            return 1
        schema = self._signature.resolve(schema)
        for key in ("examples", "enum"):
            if key in schema:
                return schema[key][0]
        if "anyOf" in schema:
            return self.value(next(one for one in schema["anyOf"] if one != {"type": "null"}), depth + 1)
        if schema.get("type") == "array":
            items = schema.get("prefixItems", [schema.get("items", {})])
            return [self.value(one, depth + 1) for one in items]
        if schema.get("type") == "object":
            return self._object(schema, depth + 1)
        return _PLAIN.get(str(schema.get("type")), 1)

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        if "properties" not in schema:
            return {"key": self.value(schema.get("additionalProperties", {}), depth)}
        return {name: self.value(schema["properties"][name], depth) for name in schema["required"]}
