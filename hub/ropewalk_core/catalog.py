"""The catalogue of service templates: charts with a values schema and, where they run locally, a `local.yaml`.

A template is a folder of ``charts/services``: ``Chart.yaml`` (what it is), ``values.schema.json`` (what may be asked;
closed), ``local.yaml`` (how it runs on one machine) and ``templates/`` (how it runs on a cluster). Values are checked
here, once, for every surface. It must not start anything. Properties marked ``"x-ropewalk": "kube"`` say how a cluster
runs it and are left out of forms. Rejected: templates as Python classes (people bring charts), and a shell line in
``local.yaml``: a command is a list, and a value is always one whole word of it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field
from pydantic import ValidationError as Misfit

from ropewalk_core.errors import BadValues, Internal, NotFound
from ropewalk_core.model import Template
from ropewalk_core.names import is_name
from ropewalk_core.placement import Size
from ropewalk_core.wrong import wrong

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_.]*)\}")
_BUILT_IN = frozenset({"python", "base", "port", "host", "origin"})
_PATHS = ("file", "folder")
_KUBE = "kube"


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Choice(_Closed):
    """Words that a command has only when a value is true, or only when it is not."""

    when: str
    then: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()


class Readiness(_Closed):
    """How the platform finds out that a service answers."""

    path: str = Field(default="/", pattern=r"^/")
    seconds: float = Field(default=60.0, gt=0, le=600, description="After this long without an answer it has failed")
    usual: float = Field(default=5.0, gt=0, description="How long it takes as a rule; shown while people wait")


class Local(_Closed):
    """How a template runs in a sandbox on one machine: the model of ``local.yaml``.

    Words may hold ``{python}`` (the account's interpreter), ``{base}`` (the environment below it), ``{port}``,
    ``{host}``, ``{origin}`` and the names of
    values. A value of format ``file`` or ``folder`` becomes an absolute path inside the person's files.
    """

    command: tuple[str | Choice, ...] = Field(min_length=1)
    port: int = Field(ge=1024, le=65535)
    readiness: Readiness = Readiness()
    environment: dict[str, str] = Field(default_factory=dict)
    folders: tuple[str, ...] = Field(default=(), description="Values whose folder is made when it is missing")
    websockets: bool = False
    memory: Size = 2 * 2**30

    def words(self) -> Iterator[str]:
        """Yield every word that may hold a placeholder."""
        for one in self.command:
            yield from (one,) if isinstance(one, str) else (*one.then, *one.otherwise)
        yield from self.environment.values()


@dataclass(frozen=True)
class Entry:
    """A loaded template."""

    template: Template
    local: Local | None
    folder: Path


def argv(local: Local, values: Mapping[str, Any], builtins: Mapping[str, str]) -> list[str]:
    """Return the command of checked values; every word of ``local.yaml`` becomes exactly one word."""
    known = _known(values, builtins)
    words: list[str] = []
    for one in local.command:
        chosen = (one,) if isinstance(one, str) else one.then if values.get(one.when) else one.otherwise
        words += [_fill(word, known) for word in chosen]
    return words


def environment(local: Local, values: Mapping[str, Any], builtins: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that ``local.yaml`` sets, filled with checked values."""
    known = _known(values, builtins)
    return {name: _fill(word, known) for name, word in local.environment.items()}


def check_path(text: str, field: str, title: str = "") -> PurePosixPath:
    """Return a relative path inside a person's files, or raise `BadValues`; empty means the files themselves.

    The message calls the field by its title.
    """
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\0" in text:
        raise BadValues(f"'{title or field}' must be a path inside your files, not {text[:80]!r}.", field=field)
    return path


class Catalog:
    """The templates under one or more folders; a later folder wins over an earlier one.

    Parameters
    ----------
    folders
        Folders that hold one folder per template; None takes those that come with Ropewalk.

    Raises
    ------
    Internal
        If a template is broken; the message names its file.
    """

    def __init__(self, *folders: Path) -> None:
        self._entries = {
            path.parent.name: _load(path.parent)
            for folder in (folders or (shipped(),))
            for path in sorted(folder.glob("*/Chart.yaml"))
        }

    def list(self) -> tuple[Template, ...]:
        """Return every template by name."""
        return tuple(self._entries[name].template for name in sorted(self._entries))

    def get(self, name: str) -> Entry:
        """Return one template, or raise `NotFound`."""
        if name not in self._entries:
            known = ", ".join(sorted(self._entries)) or "none"
            raise NotFound(f"There is no template {name[:60]!r}.", field="template", hint=f"There is: {known}.")
        return self._entries[name]

    def check(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values with defaults filled in.

        Raises
        ------
        NotFound
            If there is no such template.
        BadValues
            If a value breaks the schema; ``field`` names it, ``details["fields"]`` has a sentence for each wrong one.
        """
        entry = self.get(name)
        chosen = entry.template.defaults | dict(values)
        problems = _problems(entry.template.values_schema, chosen)
        if problems:
            field, sentence = next(iter(problems.items()))
            raise BadValues(sentence, field=field, details={"fields": problems})
        return chosen


def shipped() -> Path:
    """Return the folder of the templates that come with Ropewalk: in the package, or in the checkout."""
    packaged = Path(__file__).with_name("charts") / "services"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "charts" / "services"


def _known(values: Mapping[str, Any], builtins: Mapping[str, str]) -> dict[str, str]:
    texts = {key: str(one).lower() if isinstance(one, bool) else str(one) for key, one in values.items()}
    return texts | dict(builtins)


def _fill(word: str, known: Mapping[str, str]) -> str:
    """Replace placeholders in one pass, so that text inside a value is never taken for a placeholder."""
    return _PLACEHOLDER.sub(lambda match: known[match[1]], word)


def _problems(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for error in sorted(_validator(json.dumps(schema)).iter_errors(values), key=lambda one: [str(p) for p in one.path]):
        field = _field(error)
        found.setdefault(field, _sentence(error, field, schema))
    for field, one in schema.get("properties", {}).items():
        if field not in found and one.get("format") in _PATHS and isinstance(values.get(field), str):
            try:
                check_path(values[field], field, str(one.get("title", "")))
            except BadValues as problem:
                found[field] = problem.message
    return found


@functools.lru_cache(maxsize=64)
def _validator(schema: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator  # a tenth of the platform's start; the first form can wait for it

    return Draft202012Validator(json.loads(schema))


def _field(error: ValidationError) -> str:
    path = [str(part) for part in error.absolute_path]
    given: Any = error.instance
    wanted: Any = error.validator_value
    schema: Any = error.schema
    if error.validator == "required":
        missing = [name for name in wanted if name not in given]
        return ".".join([*path, *missing[:1]])
    if error.validator == "additionalProperties":
        extra = sorted(set(given) - set(schema.get("properties", {})))
        return ".".join([*path, *extra[:1]])
    return ".".join(path) or "values"


def _sentence(error: ValidationError, field: str, schema: Mapping[str, Any]) -> str:
    """Return what is wrong with one value, in plain words."""
    limit: Any = error.validator_value
    own: Any = error.schema
    title = schema.get("properties", {}).get(field, {}).get("title", field)
    shown = repr(error.instance)[:60]
    sentences = {
        "required": f"'{title}' is missing.",
        "additionalProperties": f"This template has no value named '{field}'.",
        "type": f"'{title}' must be {_type_words(limit)}, not {shown}.",
        "enum": f"'{title}' must be one of {', '.join(map(str, limit)) if isinstance(limit, list) else limit}.",
        "minimum": f"'{title}' must be {limit} or more, not {shown}.",
        "maximum": f"'{title}' must be {limit} or less, not {shown}.",
        "minLength": f"'{title}' must not be empty.",
        "maxLength": f"'{title}' must have at most {limit} characters.",
        "pattern": f"'{title}' cannot be {shown}. {own.get('x-pattern-words', '')}".strip(),
    }
    return sentences.get(str(error.validator), f"'{title}' is wrong: {error.message[:200]}.")


def _type_words(kind: Any) -> str:
    words = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
    return " or ".join(words.get(one, str(one)) for one in (kind if isinstance(kind, list) else [kind]))


def _load(folder: Path) -> Entry:
    chart = _read(folder / "Chart.yaml")
    schema = _local_schema(_read(folder / "values.schema.json"))
    local = _read_local(folder, schema)
    notes = chart.get("annotations", {})
    if chart.get("name") != folder.name or not is_name(folder.name):
        raise Internal(f"{folder / 'Chart.yaml'}: the chart must be named as its folder.")
    if schema.get("additionalProperties") is not False:
        raise Internal(f"{folder / 'values.schema.json'}: additionalProperties must be false.")
    template = Template(
        name=folder.name,
        title=str(notes.get("ropewalk/title", folder.name)),
        description=str(chart.get("description", "")),
        version=str(chart.get("version", "")),
        local=local is not None,
        icon=str(chart.get("icon", "")),
        tags=tuple(chart.get("keywords", ())),
        values_schema=schema,
        defaults={
            name: one["default"] for name, one in schema.get("properties", {}).items() if one.get("default") is not None
        },
    )
    return Entry(template, local, folder)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Internal(f"{path} cannot be read: {error}.") from error
    if not isinstance(tree, dict):
        raise Internal(f"{path} must hold a mapping.")
    return tree


def _local_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without what only a cluster needs."""
    properties = {name: one for name, one in schema.get("properties", {}).items() if one.get("x-ropewalk") != _KUBE}
    required = [name for name in schema.get("required", ()) if name in properties]
    kept = {key: one for key, one in schema.items() if not key.startswith("$")}
    return kept | {"properties": properties} | ({"required": required} if required else {})


def _read_local(folder: Path, schema: dict[str, Any]) -> Local | None:
    path = folder / "local.yaml"
    if not path.is_file():
        return None
    try:
        local = Local.model_validate(_read(path))
    except Misfit as error:
        raise Internal(f"{path}: {wrong(error.errors(), whole='file').message}") from error
    properties = schema.get("properties", {})
    for word in local.words():
        for name in _PLACEHOLDER.findall(word):
            if name not in _BUILT_IN and name not in properties:
                raise Internal(f"{path}: '{word}' names '{name}', which is not in the values schema.")
        _refuse_option(path, word, properties)
    for name in (*(one.when for one in local.command if isinstance(one, Choice)), *local.folders):
        if name not in properties:
            raise Internal(f"{path}: '{name}' is not in the values schema.")
    return local


def _refuse_option(path: Path, word: str, properties: dict[str, Any]) -> None:
    """Refuse a word that free text could turn into an option: ``{name}`` alone or first must be safe by its schema."""
    match = _PLACEHOLDER.match(word)
    one = properties.get(match[1], {}) if match else {}
    if one.get("type") == "string" and one.get("format") not in _PATHS and "enum" not in one:
        raise Internal(f"{path}: '{word}' starts with free text, which could be an option; write --option={word}.")
