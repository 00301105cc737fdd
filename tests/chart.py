"""Writes what the chart takes from the code, roles, their bounds and the schema of `settings`, and docs/chart.md.

Run it as ``python -m tests.chart``. The schema itself is the chart's `values.schema.json`; only its part for `settings`
is made here, from the dataclasses of `ropewalk_core.settings`. Tests compare all four files with what it would write.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ropewalk_core.kube.bounds import bounds
from ropewalk_core.kube.kinds import ROLE, Object
from ropewalk_core.kube.roles import ASKING_RULES, REQUEST_RULES, placing_rules
from ropewalk_core.kube.tenancy import INSTALLATION, cluster_roles
from ropewalk_core.settings import Cluster, Settings
from tests.reference import words

CHART = Path(__file__).resolve().parent.parent / "charts" / "ropewalk"
SCHEMA = CHART / "values.schema.json"
ROLES = CHART / "files" / "roles.yaml"
BOUNDS = CHART / "files" / "bounds.yaml"
PAGE = CHART.parent.parent / "docs" / "chart.md"
PREFIX, SPACE = "PREFIX", "SPACE"
"""Stand in these files for the installation's prefix and its namespace."""
FIXED = {
    "backend",
    "home",
    "folder",
    "journal",
    "door.bind",
    "cluster.context",
    "cluster.images",
    "cluster.kubeconfig",
    "cluster.namespace",
    "cluster.prefix",
    "cluster.secrets",
}
"""Settings that the chart itself decides; they are no values."""
_ROLES_HEAD = (
    "# Written by `python -m tests.chart` from hub/ropewalk_core/kube/roles.py; PREFIX is replaced by the chart.\n"
)
_BOUNDS_HEAD = (
    "# Written by `python -m tests.chart` from hub/ropewalk_core/kube/bounds.py; the chart replaces PREFIX and SPACE.\n"
)
_PAGE_HEAD = """# The chart's values

Everything that `charts/ropewalk` lets you choose, with its default. An unknown name or a value of the wrong type is
refused by name. No value is a secret: those are made at random at the first installation and kept ever after.

This page is written by `python -m tests.chart` from `charts/ropewalk/values.schema.json`.

"""


def roles() -> str:
    """Return the file of roles."""
    own = {"tenancy": REQUEST_RULES, "platform": ASKING_RULES, "hub": placing_rules(PREFIX)}
    made = cluster_roles(dataclasses.replace(Cluster(), prefix=PREFIX))
    made += [ROLE.of({"metadata": {"name": name}, "rules": rules}) for name, rules in sorted(own.items())]
    return _file(_ROLES_HEAD, made)


def bounded() -> str:
    """Return the file of admission policies."""
    return _file(_BOUNDS_HEAD, bounds(dataclasses.replace(Cluster(), prefix=PREFIX, namespace=SPACE)))


def _file(head: str, made: list[Object]) -> str:
    labels = {INSTALLATION: PREFIX, "app.kubernetes.io/name": "ropewalk"}
    ours = [{**one, "metadata": {**one["metadata"], "labels": labels}} for one in made]
    return head + "".join(f"---\n{yaml.dump(one, sort_keys=True, Dumper=_Plain, width=110)}" for one in ours)


class _Plain(yaml.SafeDumper):
    """Writes lists that occur twice in full."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write no anchors."""
        return True


def settings_schema(cls: Any = Settings, group: str = "") -> dict[str, Any]:
    """Return the schema of one group of settings."""
    hints, documented = typing.get_type_hints(cls), words(cls)
    properties = {}
    for one in sorted(dataclasses.fields(cls), key=lambda it: it.name):
        name, hint = f"{group}{one.name}", hints[one.name]
        if name in FIXED:
            continue
        if dataclasses.is_dataclass(hint):
            properties[one.name] = settings_schema(hint, f"{one.name}.")
        else:
            form = {"pattern": one.metadata["pattern"]} if "pattern" in one.metadata else {}
            properties[one.name] = {**_type(hint), **form, "description": documented[one.name].replace("&lt;", "<")}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _type(hint: Any) -> dict[str, Any]:
    plain = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string"}
    if hint in plain:
        return {"type": plain[hint]}
    if hint == tuple[str, ...]:
        return {"type": "array", "items": {"type": "string"}}
    if typing.get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": {"type": "string"}}
    raise TypeError(f"{hint} has no schema yet")


def schema() -> dict[str, Any]:
    """Return the whole schema, its part for `settings` made anew."""
    found: dict[str, Any] = json.loads(SCHEMA.read_text())
    explained = found["properties"]["settings"]["description"]
    found["properties"]["settings"] = {"description": explained, **settings_schema()}
    return found


def written(found: dict[str, Any]) -> str:
    """Return a schema as its file has it."""
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def rows(properties: dict[str, Any], defaults: Any, prefix: str = "") -> Iterator[str]:
    """Yield a line for every value."""
    for name, one in properties.items():
        if prefix == "" and name == "settings":
            yield f"- **`settings`** {one['description']}"
            continue
        value = defaults.get(name) if isinstance(defaults, dict) else None
        if one.get("properties") and one.get("description"):
            yield f"- **`{prefix}{name}`** {one['description']}"
        if one.get("properties"):
            yield from rows(one["properties"], value or {}, f"{prefix}{name}.")
        else:
            default = f"`{json.dumps(value)}`" if value not in (None, "", [], {}) else "empty"
            choice = f" One of {', '.join(f'`{it}`' for it in one['enum'])}." if "enum" in one else ""
            yield f"- **`{prefix}{name}`** ({default}) {one.get('description', '')}{choice}"


def page() -> str:
    """Return docs/chart.md."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    return _PAGE_HEAD + "\n".join(rows(schema()["properties"], defaults)) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(written(schema()))
    ROLES.write_text(roles())
    BOUNDS.write_text(bounded())
    PAGE.write_text(page())
