"""The few pages shown on people's hosts, where nothing of the dashboard is served. There is no script.

Whoever writes a body escapes what is variable. Not here: the dashboard's pages. Rejected: templates from the platform
(the gateway must answer while the platform is away).
"""

from __future__ import annotations

from html import escape

from ropewalk_core.errors import RopewalkError, help_address

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto;padding:0 1.5rem;overflow-wrap:anywhere}"
    "h1{font-size:1.4rem;margin:0 0 .5rem}p{margin:.5rem 0}code{font-size:.85rem;opacity:.7}"
    "a.button{display:inline-block;padding:.5rem 1rem;border:1px solid;border-radius:.4rem;text-decoration:none}"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def document(title: str, body: str, *, refresh: bool = False) -> str:
    """Return a page; with ``refresh`` it loads itself again every second."""
    again = '<meta http-equiv="refresh" content="1">' if refresh else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"{again}<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{body}</main></body></html>"
    )


def failure(error: RopewalkError, home: str, *links: tuple[str, str]) -> str:
    """Return the page of an error: what is wrong, what to do, further links (address and words) and the code."""
    facts = error.problem()
    ways = [*links, (home, "Go to your dashboard")]
    body = f"<h1>{escape(str(facts['message']))}</h1><p>{escape(str(facts['hint']))}</p>"
    body += "".join(f'<p><a href="{escape(address)}">{escape(words)}</a></p>' for address, words in ways)
    body += f'<p><a href="{escape(help_address(home, error.code))}"><code>{escape(error.code)}</code></a></p>'
    return document("Ropewalk", body)
