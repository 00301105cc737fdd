"""The few files a page loads: our style sheet, our script, the icon, and htmx from the locked packages.

Addresses carry a digest of the content, so a browser may keep a file for ever. It must not serve anything that is not
in its table. Rejected: a mounted folder (it would answer for whatever lies there), and a copy of htmx in the
repository.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Depends, Request, Response

from ropewalk_core.errors import NotFound
from ropewalk_hub import node
from ropewalk_hub.security import Public

router = APIRouter(include_in_schema=False)
_HERE = Path(__file__).with_name("static")
_FILES: dict[str, tuple[str, Path]] = {
    "style.css": ("text/css; charset=utf-8", _HERE / "style.css"),
    "app.js": ("text/javascript; charset=utf-8", _HERE / "app.js"),
    "starting.js": ("text/javascript; charset=utf-8", _HERE / "starting.js"),
    "icon.svg": ("image/svg+xml", _HERE / "icon.svg"),
    "htmx.js": ("text/javascript; charset=utf-8", node.packages() / "htmx.org" / "dist" / "htmx.min.js"),
}


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    digest: str


@functools.lru_cache(maxsize=len(_FILES))
def _load(name: str) -> _File | None:
    media_type, path = _FILES[name]
    if not path.is_file():
        return None
    content = path.read_bytes()
    return _File(content, media_type, hashlib.sha256(content).hexdigest()[:12])


def address(name: str) -> str:
    """Return the address of a static file; empty when this installation lacks it, so that the page leaves it out."""
    found = _load(name)
    return f"/static/{name}?v={found.digest}" if found else ""


@router.get("/static/{name}", dependencies=[Depends(Public("style, script and icon hold nobody's data"))])
async def file(request: Request, name: str) -> Response:
    """Answer one static file."""
    found = _load(name) if name in _FILES else None
    if found is None:
        raise NotFound(f"There is no file {name[:60]!r}.", field="name")
    headers = {
        "ETag": f'"{found.digest}"',
        "Cache-Control": "public, max-age=31536000, immutable" if request.query_params.get("v") else "no-cache",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)
