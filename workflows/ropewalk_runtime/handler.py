"""From a request to a Python call, and from its result to an answer. Pure; no socket, no process.

How a payload becomes arguments (documented for people in the README of functions and tested by properties):

* `application/vnd.ropewalk.call+json` holds ``{"args": [...], "kwargs": {...}}``: what the Python callable sends.
* `application/vnd.ropewalk.packed` is the same with data frames and arrays beside it (``packed``); a parameter that is
  annotated as a list gets them as lists.
* An Arrow stream or an npy array (``formats``) is the one positional argument.
* A JSON object whose keys are names of parameters gives keyword arguments: what people write with curl.
* Any other JSON value, and an object that has no parameter's name among its keys, is the one positional argument.
* No body: the query's variables, converted where a parameter says int, float or bool.
* ``text/*`` is one str, any other type one bytes argument.
* `application/vnd.ropewalk.trigger+json` is what a trigger tells: parameters that are named like its fields get them,
  one called ``event`` gets all of it, and so does the only one of another name. Whoever takes nothing is told nothing.

An answer to Python holds frames and arrays as such; to everybody else they are lists, unless ``Accept`` names Arrow or
npy and the answer is one.

NaN and Infinity: JSON has none. Between Python and Python (`CALL_TYPE`, there and back) they travel as they are, in the
spelling of Python's own `json`; for everybody else they are refused by their place, in a payload as in an answer. What
pandas marks as missing (``NA``, ``NaT``) is no number and is null in both.

Not here: reading frames (``worker``). Rejected: passing a request object to every handler (a plain function is what
people have), guessing numpy arrays from lists (the handler converts what it wants), and null for NaN (a broken model
would look like an empty answer).
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import inspect
import json
import math
import os
import re
import sys
import traceback
import types
import typing
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from ropewalk_runtime import formats, missing, packed
from ropewalk_runtime.formats import ARROW, NPY, Unformed
from ropewalk_runtime.packed import PACKED

CALL_TYPE = "application/vnd.ropewalk.call+json"
TRIGGER_TYPE = "application/vnd.ropewalk.trigger+json"
_EVENT = "event"
_RUNTIME = os.path.dirname(os.path.abspath(__file__)) + os.sep
_SIMPLE: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    str: (str,),
    bool: (bool,),
    list: (list,),
    dict: (dict,),
}
_MISSING = frozenset({"NaTType", "NAType"})
_OVERFLOWS = re.compile(rb"[eE]\+?\d{3}|\d{200}")
"""What a number that Python reads as Infinity must have; only then a payload is walked through."""
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


class BadPayload(Exception):
    """The payload does not fit the handler. ``field`` names what is wrong."""

    def __init__(self, message: str, *, field: str = "payload", hint: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.hint = hint


class BadAnswer(Exception):
    """The handler returned something that cannot cross as JSON. ``field`` is the place inside the answer."""

    def __init__(self, message: str, *, field: str = "answer", hint: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.hint = hint or "Return lists, dicts, numbers, text or arrays."


class TooLong(Exception):
    """The answer is longer than the gateway takes."""


class Handler:
    """A callable and what is known of its parameters.

    Parameters
    ----------
    function
        What the bundle's entry point names.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.signature = inspect.signature(function)
        parameters = self.signature.parameters.values()
        named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self._in_order = [one.name for one in named]
        self._keywords = frozenset(self._in_order)
        self._takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
        self._required = [one.name for one in parameters if one.default is one.empty and one.kind not in several]
        self.is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        try:
            self._hints = typing.get_type_hints(function)
        except (NameError, TypeError, AttributeError, SyntaxError):  # words, or what only a type checker could resolve
            self._hints = {}
        bases = {one.name: _base(self._hints.get(one.name)) for one in parameters if one.kind not in several}
        self._checked = {name: base for name, base in bases.items() if base in _SIMPLE}

    @property
    def parameters(self) -> list[dict[str, Any]]:
        """The parameters in words, for forms and error messages."""
        return [
            {"name": one.name, "required": one.default is one.empty, "type": self._type_name(one.name)}
            for one in self.signature.parameters.values()
            if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        ]

    def arguments(
        self, body: bytes, content_type: str, query: str = "", files: Mapping[str, str] | None = None
    ) -> inspect.BoundArguments:
        """Return the arguments for a payload, or raise `BadPayload` that names the field.

        ``files`` says where those lie that the payload may name, by digest.
        """
        kind = content_type.split(";")[0].strip().lower()
        if not body and kind != CALL_TYPE:
            return self._bind((), self._from_query(query))
        if kind == CALL_TYPE:
            return self._bind(*_envelope(_parse(body)))
        if kind in (PACKED, ARROW, NPY):
            return self._bind(*_with_parts(body, kind, files or {}))
        if kind == TRIGGER_TYPE:
            return self._from_trigger(_parse(body))
        if kind in ("", "application/json", "application/x-www-form-urlencoded") or kind.endswith("+json"):
            return self._from_json(_parse(body, strict=True))
        return self._bind((_text(body),) if kind.startswith("text/") else (body,), {})

    def _from_json(self, value: Any) -> inspect.BoundArguments:
        if not isinstance(value, dict):
            return self._bind((value,), {})
        if self._takes_any or not value or len(self._required) > 1 or not self._keywords.isdisjoint(value):
            return self._bind((), value)
        return self._bind((value,), {})

    def _from_trigger(self, told: Any) -> inspect.BoundArguments:
        if not isinstance(told, dict):
            return self._bind((told,), {})
        if self._takes_any:
            return self._bind((), told)
        given = {name: told[name] for name in self._in_order if name in told}
        if _EVENT in self._keywords:
            given[_EVENT] = told
        return self._bind((), given) if given or not self._required else self._bind((told,), {})

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError:
            raise self._misfit(args, kwargs) from None
        for name, value in bound.arguments.items():
            if self._checked.get(name) is list and formats.library(value):
                bound.arguments[name] = value = plain(value)  # who wants a list gets one, as from everybody else
            self._check(name, value)
        return bound

    def _misfit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BadPayload:
        """Say what does not fit; `inspect` says it only in programmers' words."""
        names = ", ".join(self._in_order) or "no parameters"
        hint = f"The function takes: {names}."
        unknown = [name for name in kwargs if name not in self._keywords]
        if unknown:
            return BadPayload(f"The function has no parameter '{unknown[0][:60]}'.", field=unknown[0][:60], hint=hint)
        missing = [name for name in self._required[len(args) :] if name not in kwargs]
        if missing:
            return BadPayload(f"The value for '{missing[0]}' is missing.", field=missing[0], hint=hint)
        if not self._keywords:
            return BadPayload("The function takes no arguments.", hint="Send an empty body.")
        return BadPayload("There are more values than the function takes, or one was given twice.", hint=hint)

    def _check(self, name: str, value: Any) -> None:
        """Hold plain annotations only: a str where an int is wanted is the caller's mistake, not the handler's."""
        base = self._checked.get(name)
        if base is None:
            return
        fits = isinstance(value, _SIMPLE[base]) and (base is bool or not isinstance(value, bool))
        if not fits:
            message = f"The value for '{name}' must be {_WORDS[base]}, not {_describe(value)}."
            raise BadPayload(message, field=name, hint=f"Send {_WORDS[base]} for '{name}'.")

    def _from_query(self, query: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, text in urllib.parse.parse_qsl(query, keep_blank_values=True):
            hint: Any = self._hints.get(name)
            if hint not in (int, float, bool):
                values[name] = text
                continue
            try:
                values[name] = {"true": True, "false": False}[text.lower()] if hint is bool else hint(text)
                if isinstance(values[name], float) and not math.isfinite(values[name]):
                    raise ValueError
            except (KeyError, ValueError):
                raise BadPayload(f"The value for '{name}' must be {_WORDS[hint]}.", field=name) from None
        return values

    def _type_name(self, name: str) -> str:
        hint = self._hints.get(name)
        return hint.__name__ if isinstance(hint, type) else "" if hint is None else str(hint).replace("typing.", "")


def _base(hint: Any) -> Any:
    """Return the type behind an annotation, None where it cannot be looked up."""
    base = typing.get_origin(hint) or hint
    return base if isinstance(base, type) else None


def answer(value: Any, *, content_type: str = "", limit: int = sys.maxsize) -> tuple[bytes, str]:
    """Return the body and content type for a result; bytes and bytearrays go as they are.

    Parameters
    ----------
    value
        What the handler returned.
    content_type
        Of the call: one in Python's envelope is answered in the same spelling.
    limit
        Bytes that an answer may have.

    Raises
    ------
    BadAnswer
        If it has no JSON form; ``field`` is the place.
    TooLong
        If it is over the limit.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        body, kind = bytes(value), "application/octet-stream"
    else:
        exact = content_type.split(";")[0].strip().lower() == CALL_TYPE
        body, kind = _json(value, exact), CALL_TYPE if exact else "application/json"
    if len(body) > limit:
        raise TooLong(f"The answer is {len(body)} bytes, over the limit of {limit}.")
    return body, kind


def _json(value: Any, exact: bool) -> bytes:
    try:
        return json.dumps(value, allow_nan=exact, separators=(",", ":")).encode()
    except (TypeError, ValueError):
        pass  # not plain JSON yet: convert what we know, or say what it is
    try:
        simple = plain(value)
        if not exact and (found := not_finite(simple, "answer")):
            place, number = found
            hint = "Return a number or None there; of a data frame: frame.astype(object).where(frame.notna(), None)."
            raise BadAnswer(f"{place} is {number}, which JSON does not have.", field=place, hint=hint)
        return json.dumps(simple, allow_nan=exact, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadAnswer(f"The answer cannot be sent as JSON: {error}") from None


def not_finite(value: Any, place: str) -> tuple[str, str] | None:
    """Return where the first NaN or Infinity of plain JSON is, as Python reaches it, and which of the two it is."""
    stack = [(place, value)]
    while stack:
        place, one = stack.pop()
        if isinstance(one, float) and not math.isfinite(one):
            return place, "NaN" if math.isnan(one) else "Infinity" if one > 0 else "-Infinity"
        if isinstance(one, dict):
            stack += [(f"{place}[{json.dumps(key)}]", inner) for key, inner in reversed(one.items())]
        elif isinstance(one, list):
            stack += [(f"{place}[{number}]", inner) for number, inner in reversed(list(enumerate(one)))]
    return None


def plain(value: Any, part: Callable[[Any], Any] | None = None) -> Any:
    """Return a value as JSON can hold it: numpy, pandas, dataclasses, pydantic models, sets, dates.

    ``part`` returns what stands for a value that travels beside the JSON, None for any other.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return plain(value.value) if isinstance(value, enum.Enum) else _bare(value)
    if isinstance(value, Mapping):
        return {_key(key): plain(one, part) for key, one in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(one, part) for one in value), key=repr)
    if isinstance(value, (list, tuple, types.GeneratorType, range)):
        return [plain(one, part) for one in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({one.name: getattr(value, one.name) for one in dataclasses.fields(value)}, part)
    if type(value).__name__ in _MISSING and type(value).__module__.startswith("pandas."):
        return None
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, decimal.Decimal, os.PathLike)):
        return str(value)
    if isinstance(value, enum.Enum):
        return plain(value.value, part)
    if part is not None and (stands := part(value)) is not None:
        return stands
    return _foreign(value)


def _bare(value: Any) -> Any:
    """Return numpy's own floats as Python's: another version of numpy must not change how they are written."""
    return float(value) if isinstance(value, float) else value


def problem(code: str, message: str, *, hint: str = "", field: str | None = None, **details: Any) -> dict[str, Any]:
    """Return an error as it crosses to the gateway; the codes are those of ``ropewalk_core.errors``.

    Messages and fields are cut: they may quote what people sent, and a frame's header has a limit.
    """
    field = field[:200] if field else field
    return {"code": code, "message": message[:2000], "hint": hint[:500] or None, "field": field, "details": details}


def user_line(error: BaseException) -> tuple[str, int] | None:
    """Return file and line of the innermost frame that belongs to neither the runtime nor an installed package."""
    if isinstance(error, SyntaxError) and error.lineno:
        return error.filename or "", error.lineno
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        ours = frame.filename.startswith((_RUNTIME, sys.base_prefix + os.sep, "<frozen"))
        if not ours and "site-packages" not in frame.filename and frame.lineno:
            return frame.filename, frame.lineno
    return None


def _foreign(value: Any) -> Any:
    """Convert what numpy, pandas and pydantic bring, without importing them."""
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if (library := formats.library(value)) in ("polars", "pyarrow"):
        return plain(value.to_dicts() if library == "polars" else value.to_pylist())
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return plain(value.to_dict(orient="records"))
    for method in ("tolist", "to_list", "item", "isoformat"):
        convert = getattr(value, method, None)
        if callable(convert):
            return plain(convert())
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    raise TypeError(f"it is or holds a value of type {kind}.")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    converted = plain(key)
    return converted if isinstance(converted, str) else json.dumps(converted)


def _parse(body: bytes, *, strict: bool = False) -> Any:
    strange: list[str] = []

    def constant(text: str) -> float:
        strange.append(text)
        return float(text)

    try:
        value = json.loads(body, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadPayload(f"The payload is not JSON{where}.", hint="Send JSON, or set its Content-Type.") from None
    if strict and (strange or _OVERFLOWS.search(body)) and (found := not_finite(value, "payload")):
        place, number = found
        raise BadPayload(f"{place} is {number}, which JSON does not have.", field=place, hint="Send a number or null.")
    return value


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise BadPayload("The payload is not UTF-8 text.", hint="Send it as application/octet-stream.") from None


def _envelope(value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(value, dict) and set(value) <= {"args", "kwargs"}:
        args, kwargs = value.get("args", []), value.get("kwargs", {})
        if isinstance(args, list) and isinstance(kwargs, dict):
            return tuple(args), kwargs
    raise BadPayload(f'A payload of type {CALL_TYPE} must be {{"args": [...], "kwargs": {{...}}}}.')


def _with_parts(body: bytes, kind: str, files: Mapping[str, str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        if kind == PACKED:
            return _envelope(packed.read(memoryview(body), files))
        return (formats.read(kind, "", memoryview(body)),), {}
    except Unformed as error:
        said = f"The payload cannot be read: {error}" if error.lacks is None else f"{error} The function has it not."
        raise BadPayload(said, hint=missing.fix(error.lacks) if error.lacks else error.hint) from None


def _describe(value: Any) -> str:
    if value is None:
        return "null"
    for kind in (bool, int, float, str, list, dict):
        if isinstance(value, kind):
            return _WORDS[kind]
    return type(value).__name__
