"""The few pages that the gateway itself shows on people's hosts. Everything variable is escaped.

Not here: how such a page looks (``bare``), and the dashboard.
"""

from __future__ import annotations

from html import escape

from aiohttp import web

from ropewalk_core.errors import RopewalkError
from ropewalk_hub import bare


def failed(error: RopewalkError, home: str) -> web.Response:
    """Return the page of an error."""
    return _answer(bare.failure(error, home), error.status)


def waiting(name: str, home: str) -> web.Response:
    """Return the page shown while a service starts; it looks again every second."""
    body = (
        f"<h1>{escape(name)} is starting</h1><p>This page opens it as soon as it is ready. The first start can take a "
        f'minute.</p><p><a href="{escape(home)}">See its log on your dashboard</a></p>'
    )
    response = _page(f"{name} is starting", body, 503, refresh=True)
    response.headers["Retry-After"] = "1"
    return response


def confirm_call(name: str, path: str) -> web.Response:
    """Return the page that asks before a link from elsewhere calls a function with the person's sign-in."""
    body = (
        f"<h1>Call {escape(name)}?</h1><p>You came here from another page. Opening this address runs your function.</p>"
        f'<p><a class="button" href="{escape(path)}">Call it</a></p>'
    )
    return _page(f"Call {name}?", body, 200)


def _page(title: str, body: str, status: int, *, refresh: bool = False) -> web.Response:
    return _answer(bare.document(title, body, refresh=refresh), status)


def _answer(text: str, status: int) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers=bare.HEADERS)
