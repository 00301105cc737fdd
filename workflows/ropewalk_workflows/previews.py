"""Previews that steps told, for people: only known facts in known types, in bounds. Pure.

A step runs a person's code, so what it says is a stranger's word: it is cut, and what shows it escapes it. Not here:
making one (``ropewalk_runtime.previews``), pages and cards.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from ropewalk_core.flows import Preview
from ropewalk_runtime.previews import LONGEST, MOST

_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_PIXELS = 4_000_000
_FACTS, _ROWS, _COLUMNS, _CELL = 12, 20, 21, 120


def told(said: Any) -> dict[str, Any]:
    """Return what of a preview may be kept: nothing of what is no preview."""
    if not isinstance(said, dict):
        return {}
    facts = said.get("facts")
    pairs = list(facts.items())[:_FACTS] if isinstance(facts, dict) else []
    found: dict[str, Any] = {
        "facts": {_sound(key): _sound(one) for key, one in pairs if isinstance(key, str) and isinstance(one, str)},
        "columns": _cells(said.get("columns")),
        "rows": [_cells(one) for one in _listed(said.get("rows"))[:_ROWS]],
        "image": _image(said.get("image")),
    }
    return {key: one for key, one in found.items() if one}


def shown(reference: Mapping[str, Any]) -> Preview | None:
    """Return the preview of a file that a step wrote, if it told of any."""
    text, seen = str(reference.get("preview") or ""), reference.get("look")
    if not text and not seen:
        return None
    return Preview(text=_sound(text, LONGEST), **told(seen))


def without(files: Any) -> Any:
    """Return references as they are named in outputs, where a preview would be there a second time."""
    if isinstance(files, list):
        return [without(one) for one in files]
    if not isinstance(files, dict):
        return files
    return {key: without(one) for key, one in files.items() if not (key == "look" and "digest" in files)}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _cells(value: Any) -> list[str]:
    return [_sound(one) if isinstance(one, str) else "" for one in _listed(value)[:_COLUMNS]]


def _sound(text: str, most: int = _CELL) -> str:
    """Return text that can be kept: half of a surrogate pair, which JSON can carry, is no character."""
    return text[:most].encode("utf-8", "replace").decode()


def _image(value: Any) -> str:
    """Return a picture as it came if it is a PNG of a bounded size, else nothing."""
    if not isinstance(value, str) or len(value) > MOST:
        return ""
    try:
        content = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return png(content, MOST)


def png(content: bytes, most: int) -> str:
    """Return a picture in base64, or nothing if it is no PNG, of more bytes than ``most``, or of too many pixels."""
    if len(content) > most or not content.startswith(_PNG) or not 0 < _pixels(content) <= _MOST_PIXELS:
        return ""
    return base64.b64encode(content).decode()


def _pixels(png: bytes) -> int:
    """Return how many pixels a PNG says that it has: a few bytes can unpack to all of a browser's memory."""
    return int.from_bytes(png[16:20]) * int.from_bytes(png[20:24])
