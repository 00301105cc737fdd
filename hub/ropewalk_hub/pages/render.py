"""Turns a template and values into a page. The one Jinja environment of the platform.

Autoescape is on for everything, so what people write stays text; templates use no ``safe`` filter (a test looks). It
must not know any noun. Scripts and styles come from ``/static`` only, because the content security policy allows
nothing inline. Rejected: rendering in the browser (first paint would wait for a bundle), and a build step.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ropewalk_core import plots
from ropewalk_core.errors import RopewalkError
from ropewalk_hub.pages import static, words

_TEMPLATES = Path(__file__).with_name("templates")
SECTIONS = (
    ("/", "Home", "home"),
    ("/notebooks", "Notebooks", "notebook"),
    ("/services", "Services", "service"),
    ("/functions", "Functions", "function"),
    ("/workflows", "Workflows", "workflow"),
)


@functools.lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the Jinja environment with our filters."""
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(
        ago=words.ago,
        exact=words.exact,
        size=words.size,
        duration=words.duration,
        pretty=words.pretty,
        brief=words.brief,
        plural=words.plural,
        ticked=words.ticked,
        span=plots.span,
        sentence=plots.said,
        busiest=plots.busiest,
        longest=words.longest,
        drawn_calls=words.drawn_calls,
        drawn_times=words.drawn_times,
    )
    made.globals.update(state=words.state, sign=words.sign, asset=static.address, sections=SECTIONS)
    return made


def render(request: Request, template: str, /, *, status_code: int = 200, **context: Any) -> HTMLResponse:
    """Return a page.

    Parameters
    ----------
    request
        The request; a signed-in person is shown when ``request.state.actor`` or ``actor`` in the context is set.
    template
        A file name in ``templates/``; it extends ``base.html``.
    status_code
        The HTTP status.
    context
        What the template shows. Everything is escaped.
    """
    values = {
        "actor": getattr(request.state, "actor", None),
        "cursor": getattr(request.state, "cursor", ""),
        "path": request.url.path,
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "now": time.time(),
    } | context
    body = environment().get_template(template).render(values)
    return HTMLResponse(body, status_code=status_code, headers={"Cache-Control": "no-store"})


def render_error(request: Request, error: RopewalkError, **context: Any) -> HTMLResponse:
    """Return the page of a failure: what is wrong, what to do next, and the code."""
    return render(request, "error.html", status_code=error.status, problem=error.problem(), **context)
