"""What a function takes and returns, read from its captured source as JSON Schema. Pure.

One reading for the samples (``samples``), the document for programs (``openapi``) and the form of the dashboard. What
the source does not say plainly is any value, and never an error; however hostile it is, a few thousand hints are read.
Not here: finding and parsing (``sources``), and how a payload becomes arguments (``ropewalk_runtime.handler``, which
checks plain annotations only). Rejected: asking a worker for ``inspect``'s answer (to look at a page would start one),
and reading hints with a library (it would have to run them).
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ropewalk_core.model import Bundle
from ropewalk_core.sources import Sources, doc, inside, literal, word

Schema = dict[str, Any]
REF = "#/components/schemas/"
"""What a reference to a named type starts with; it is where OpenAPI keeps them."""
_SIMPLE: dict[str, Schema] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "None": {"type": "null"},
    "complex": {"examples": [1.0]},
    "bytes": {"examples": ["text"]},
    "DataFrame": {"examples": [[{"column": 1.0}]]},
}
_SIMPLE |= {key: {"examples": [[1.0, 2.0]]} for key in ("ndarray", "NDArray", "ArrayLike", "Series", "Tensor")}
_OBJECTS = frozenset({"dict", "Dict", "Mapping", "MutableMapping", "defaultdict", "OrderedDict"})
_TUPLES = frozenset({"tuple", "Tuple"})
_LISTS = _TUPLES | {"list", "List", "set", "Set", "frozenset", "FrozenSet", "Sequence", "Iterable", "Collection"}
_LISTS |= {"Iterator", "Generator"}
_YIELDING = frozenset({"Iterator", "Iterable", "Generator", "AsyncIterator", "AsyncIterable", "AsyncGenerator"})
_FIRST = frozenset({"Annotated", "Final", "Required", "NotRequired"})
_BINARY = frozenset({"bytes", "bytearray", "memoryview"})
_ENUMS = frozenset({"Enum", "IntEnum", "StrEnum"})
_DEEPEST = 10
_NODES = 2000
"""Hints that are read; a source of that length holds more only to be a nuisance."""
_UNION = 20
_REMEMBERED = 256
_remembered: dict[tuple[str, str], Signature | None] = {}


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Parameters
    ----------
    schema
        What it takes, with its ``default`` where that can be said.
    required
        Whether a call must give it.
    bare
        Whether it has no name from outside.
    """

    name: str
    schema: Schema
    required: bool = True
    bare: bool = False


@dataclass(frozen=True)
class Signature:
    """A function from outside.

    Parameters
    ----------
    parameters
        In the order of the source, without ``*`` and ``**``.
    more
        What each further named value may be, if there may be any.
    returns
        What it answers.
    binary
        Whether it answers bytes, which go as they are.
    doc
        Its docstring.
    streams
        Whether it yields; ``returns`` is then what each part is.
    types
        The named types that the schemas refer to.
    """

    parameters: tuple[Parameter, ...] = ()
    more: Schema | None = None
    returns: Schema = field(default_factory=dict)
    binary: bool = False
    doc: str = ""
    streams: bool = False
    types: dict[str, Schema] = field(default_factory=dict)

    def named(self) -> Schema | None:
        """Return the schema of the object that gives the arguments by name; None if they cannot be given so."""
        if any(one.bare and one.required for one in self.parameters):
            return None
        shown = [one for one in self.parameters if not one.bare]
        return {
            "type": "object",
            "properties": {one.name: one.schema for one in shown},
            "required": [one.name for one in shown if one.required],
            "additionalProperties": False if self.more is None else self.more,
        }

    def payload(self) -> Schema:
        """Return the schema of a payload; a value without a name is the payload itself."""
        bare = [one for one in self.parameters if one.bare]
        alone = not any(one.required for one in self.parameters if one is not self.parameters[0])
        choices = [self.named(), bare[0].schema if bare and alone else None]
        kept = [one for one in choices if one is not None]
        return {"anyOf": kept} if len(kept) > 1 else kept[0] if kept else {}

    def resolve(self, schema: Schema) -> Schema:
        """Return the schema that a reference stands for, with what is said beside it."""
        if "$ref" not in schema:
            return schema
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return self.types.get(str(schema["$ref"]).removeprefix(REF), {}) | beside


def read(bundle: Bundle) -> Signature | None:
    """Return the signature of a bundle's entry point; None when its source does not say, as that of an app.

    Of a bundle with a digest, which backends make, it is read once and remembered: nobody may change what it holds.
    """
    if bundle.form != "python":
        return None
    if not bundle.digest or not bundle.files:  # a summary has its whole bundle's digest
        return _read(bundle)
    key = bundle.digest, bundle.entry
    if key in _remembered:
        return _remembered[key]
    signature = _read(bundle)
    if len(_remembered) >= _REMEMBERED:
        del _remembered[next(iter(_remembered))]
    _remembered[key] = signature
    return signature


def _read(bundle: Bundle) -> Signature | None:
    module, _, name = bundle.entry.partition(":")
    sources = Sources(bundle.files)
    known = sources.module(module)
    if name in known.functions:
        return _Reader(sources).signature(known.functions[name], module)
    if name in known.classes and (method := answering(known.classes[name])):
        return _Reader(sources).signature(method, module, of=known.classes[name])
    return None


def answering(made: ast.ClassDef) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the method by which an object of a class answers calls: ``call``, else ``__call__``."""
    methods = {one.name: one for one in made.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    return methods.get("call") or methods.get("__call__")


class _Reader:
    """Reads one bundle; counts what it has read."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._nodes = _NODES
        self._keys: dict[tuple[str, str], str] = {}
        self._types: dict[str, Schema] = {}
        # Each class is read once: hostile ones inherit from one another, or are named, thousands of times.
        self._told: dict[tuple[str, str], Schema] = {}
        self._having: dict[tuple[str, str], bool] = {}
        self._enums: dict[tuple[str, str], dict[str, Any] | None] = {}

    def signature(
        self, found: ast.FunctionDef | ast.AsyncFunctionDef, where: str, of: ast.ClassDef | None = None
    ) -> Signature:
        """Return the signature of a definition, or of a method of a class."""
        args = found.args
        bare = {id(one) for one in args.posonlyargs}
        named = [*args.posonlyargs, *args.args][1 if of else 0 :]
        defaults: list[ast.expr | None] = [None] * (len(named) - len(args.defaults))
        pairs = zip([*named, *args.kwonlyargs], [*defaults, *args.defaults, *args.kw_defaults], strict=True)
        parameters = tuple(
            Parameter(
                one.arg,
                self.hint(one.annotation, where) | self._default(default, where),
                default is None,
                id(one) in bare,
            )
            for one, default in pairs
        )
        more = self.hint(args.kwarg.annotation, where) if args.kwarg else None
        streams = yields(found)
        returning = _yielded(found.returns) if streams else found.returns
        binary = returning is not None and word(returning) in _BINARY
        returns = {} if binary else self.hint(returning, where)
        words = doc(found) or (doc(of) if of else "")
        return Signature(parameters, more, returns, binary, words, streams, self._types)

    def hint(self, hint: ast.expr | None, where: str, depth: int = 0) -> Schema:
        """Return the schema of a hint that stands in a module."""
        self._nodes -= 1
        if hint is None or depth > _DEEPEST or self._nodes < 0:
            return {}
        if isinstance(hint, ast.Constant):
            return self._constant(hint.value, where, depth)
        if isinstance(hint, ast.BinOp):
            return self._union(_members(hint), where, depth) if isinstance(hint.op, ast.BitOr) else {}
        if found := self._sources.find(hint, where):
            return self._named(*found, depth)
        inner = inside(hint)
        name = word(hint.value if isinstance(hint, ast.Subscript) else hint)
        if name == "Literal" and inner:
            return self._literal(inner, where)
        if name in ("Optional", "Union") and inner:
            members = [*inner, ast.Constant(None)] if name == "Optional" else inner
            return self._union(members, where, depth)
        if name in _FIRST and inner:
            return self.hint(inner[0], where, depth + 1)
        return self._container(name, inner, where, depth)

    def _constant(self, value: Any, where: str, depth: int) -> Schema:
        if isinstance(value, str):
            return self.hint(self._sources.quoted(value), where, depth + 1)
        return dict(_SIMPLE["None"]) if value is None else {}

    def _container(self, name: str, inner: Sequence[ast.expr], where: str, depth: int) -> Schema:
        if name in _LISTS:
            if name in _TUPLES and inner and word(inner[-1]) != "...":
                items = [self.hint(one, where, depth + 1) for one in inner]
                return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
            return {"type": "array"} | _said("items", self.hint(inner[0] if inner else None, where, depth + 1))
        if name in _OBJECTS:
            of = self.hint(inner[-1] if inner else None, where, depth + 1)
            return {"type": "object"} | _said("additionalProperties", of)
        return dict(_SIMPLE.get(name, {}))

    def _union(self, members: Sequence[ast.expr], where: str, depth: int) -> Schema:
        if len(members) > _UNION:
            return {}
        schemas: list[Schema] = []
        for one in members:
            schema = self.hint(one, where, depth + 1)
            if set(schema) <= {"examples"}:
                return schema  # whatever else there may be, any value does
            if schema not in schemas:
                schemas.append(schema)
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}

    def _literal(self, options: Sequence[ast.expr], where: str) -> Schema:
        values = [self._value(one, where) for one in options]
        if all(found for found, _ in values):
            return {"enum": [value for _, value in values]}
        texts = all(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in options)
        return {"type": "string"} if texts else {}

    def _value(self, one: ast.expr, where: str) -> tuple[bool, Any]:
        """Say whether an expression has a value in JSON, and which; a member of an Enum has."""
        if isinstance(one, ast.Attribute) and (found := self._sources.find(one.value, where)):
            self._nodes -= 1
            if self._nodes < 0:
                return False, None
            members = self._members_of(*found) or {}
            return one.attr in members, members.get(one.attr)
        return literal(one)

    def _default(self, default: ast.expr | None, where: str) -> Schema:
        found, value = self._value(default, where) if default is not None else (False, None)
        return {"default": value} if found else {}

    # Classes of the bundle

    def _named(self, made: ast.ClassDef, where: str, depth: int) -> Schema:
        """Return a reference to a dataclass, a TypedDict or an Enum; of any other class, any value."""
        key = self._keys.get((where, made.name))
        if key is None:
            members = self._members_of(made, where)
            if members is None and not self._has_fields(made, where):
                return {}
            plain = made.name.isascii() and made.name not in self._types  # what a key of OpenAPI may be
            key = self._keys[where, made.name] = made.name if plain else f"Type-{len(self._types) + 1}"
            schema = self._types[key] = {"title": made.name}
            if members is not None:
                schema["enum"] = list(members.values())
            else:
                schema |= self._fields(made, where, depth)
        return {"$ref": REF + key}

    def _members_of(self, made: ast.ClassDef, where: str) -> dict[str, Any] | None:
        """Return the values of an Enum by their names; None of another class, and if one has no form in JSON."""
        key = (where, made.name)
        if key not in self._enums:
            self._enums[key] = _members_of(made)
        return self._enums[key]

    def _has_fields(self, made: ast.ClassDef, where: str, depth: int = 0) -> bool:
        key = (where, made.name)
        if key not in self._having:
            self._having[key] = False  # what a class says that inherits from itself
            decorators = [one.func if isinstance(one, ast.Call) else one for one in made.decorator_list]
            words = {word(one) for one in (*decorators, *made.bases)}
            bases = [self._sources.find(one, where) for one in made.bases] if depth < _DEEPEST else []
            self._having[key] = bool(words & {"dataclass", "TypedDict"}) or any(
                self._has_fields(*one, depth + 1) for one in bases if one
            )
        return self._having[key]

    def _fields(self, made: ast.ClassDef, where: str, depth: int) -> Schema:
        """Return the fields of a dataclass or a TypedDict, with those that it inherits."""
        key = (where, made.name)
        if key in self._told:
            return self._told[key]
        properties: dict[str, Schema] = {}
        required: dict[str, bool] = {}
        self._told[key] = {"type": "object", "properties": properties, "required": []}
        for base in made.bases if depth < _DEEPEST else ():
            if (found := self._sources.find(base, where)) and self._has_fields(*found):
                above = self._fields(*found, depth + 1)
                self._nodes -= len(above["properties"])
                if self._nodes < 0:
                    break
                properties |= above["properties"]
                required |= {name: name in above["required"] for name in above["properties"]}
        total = not any(one.arg == "total" and literal(one.value) == (True, False) for one in made.keywords)
        for one in made.body:
            if not isinstance(one, ast.AnnAssign) or not isinstance(one.target, ast.Name):
                continue
            kind = word(one.annotation.value if isinstance(one.annotation, ast.Subscript) else one.annotation)
            if kind in ("ClassVar", "KW_ONLY", "InitVar"):
                continue
            default, given = _field_default(one.value)
            properties[one.target.id] = self.hint(one.annotation, where, depth + 1) | self._default(default, where)
            required[one.target.id] = not given and (total or kind == "Required") and kind != "NotRequired"
        self._told[key]["required"] = [name for name in properties if required.get(name)]
        return self._told[key]


def yields(found: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Say whether a definition is a generator's: what is defined inside of it does not count."""
    waiting: list[ast.AST] = list(found.body)
    while waiting:
        one = waiting.pop()
        if isinstance(one, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(one))
    return False


def _yielded(hint: ast.expr | None) -> ast.expr | None:
    """Return the hint of what a generator yields, from its own."""
    if isinstance(hint, ast.Subscript) and word(hint.value) in _YIELDING:
        return next(iter(inside(hint)), None)
    return None


def _members_of(made: ast.ClassDef) -> dict[str, Any] | None:
    words = {word(base) for base in made.bases}
    if not words & _ENUMS:
        return None
    members: dict[str, Any] = {}
    for one in made.body:
        if not isinstance(one, ast.Assign) or not isinstance(one.targets[0], ast.Name):
            continue
        name = one.targets[0].id
        if name.startswith("_"):
            continue
        if isinstance(one.value, ast.Call) and word(one.value.func) == "auto":
            members[name] = name.lower() if "StrEnum" in words else len(members) + 1
            continue
        found, members[name] = literal(one.value)
        if not found:
            return None
    return members or None


def _field_default(value: ast.expr | None) -> tuple[ast.expr | None, bool]:
    """Return the default of a field if it is written down, and whether there is one."""
    if not (isinstance(value, ast.Call) and word(value.func) == "field"):
        return value, value is not None
    said = {one.arg: one.value for one in value.keywords}
    return said.get("default"), bool(said.keys() & {"default", "default_factory"})


def _said(key: str, schema: Schema) -> Schema:
    return {key: schema} if schema else {}


def _members(hint: ast.BinOp) -> list[ast.expr]:
    """Return the members of ``a | b | c``, without recursion: a source may have thousands."""
    found: list[ast.expr] = []
    left: ast.expr = hint
    while isinstance(left, ast.BinOp) and len(found) <= _UNION:
        found.insert(0, left.right)
        left = left.left
    return [left, *found]
