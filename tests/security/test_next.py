"""Where a sign-in goes on to: a path on our own origin, whatever the address said."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ropewalk_hub.security import safe_next

ORIGIN = "http://localhost:8000"
PARTS = st.lists(
    st.sampled_from(
        [
            "/",
            "\\",
            "//",
            "/\\",
            "evil.test",
            "@",
            ":",
            "http:",
            "https://",
            "javascript:",
            "%2f",
            "%5c",
            "%09",
            "\t",
            "\n",
            "\r",
            "\0",
            " ",
            ".",
            "..",
            "?",
            "#",
            ";",
            "é",
            "\u2028",
            "\u3002",
            "\uff0f",
            "localhost:8000",
            "x",
            "&",
            "=",
        ]
    ),
    max_size=8,
).map("".join)


def as_browsers_do(text: str) -> str:
    """Follow a Location header as the URL standard says: strip, drop tabs and line ends, take \\ for /."""
    text = text.strip("".join(map(chr, range(0x21)))).replace("\t", "").replace("\n", "").replace("\r", "")
    head, mark, tail = text.partition("?")
    return urljoin(f"{ORIGIN}/sign-in", head.replace("\\", "/") + mark + tail)


@given(st.one_of(PARTS, st.text(max_size=40), PARTS.map(lambda text: "/" + text)))
@example("//evil.test")
@example("/\\evil.test")
@example("\\\\evil.test")
@example("/\t/evil.test")
@example("/%2f%2fevil.test")
@example("https:evil.test")
@example("/.//evil.test")
@example("///evil.test")
@example("/sign-in?next=/sign-in")
def test_any_text_stays_on_our_origin(text: str) -> None:
    result = safe_next(text)
    parts = urlsplit(as_browsers_do(result))
    assert f"{parts.scheme}://{parts.netloc}" == ORIGIN
    assert result.startswith("/") and not result.startswith("//")
    assert result.isascii() and result.isprintable()


@pytest.mark.parametrize("path", ["/", "/services/x?tab=logs#end", "/hub/user/alice/lab", "/workflows?after=a%20b&q=1"])
def test_our_own_paths_are_kept(path: str) -> None:
    assert safe_next(path) == path


@pytest.mark.parametrize("text", [None, "", "x", "http://localhost:8000/", "/" + "x" * 2000, "/sign-out", "/sign-in"])
def test_everything_else_is_the_home_page(text: str | None) -> None:
    assert safe_next(text) == "/"
