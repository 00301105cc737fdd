"""What a function is limited to and finds around it, on its page: the same facts as at the prompt, as plain text."""

from __future__ import annotations

import httpx

from tests.pages.stage import Stage, furnish
from tests.pages.test_pages import ask


async def test_a_functions_page_shows_limits_variables_and_names_of_secrets(
    stage: Stage, browser: httpx.AsyncClient
) -> None:
    furnish(stage.things)
    assert "Variables" not in (await ask(browser, "/functions/digits")).words
    function = stage.things.functions["digits"]
    changed = {
        "cpu_time": 20,
        "min_workers": 2,
        "files": "read",
        "secrets": ("TOKEN",),
        "environment": {"A": "<b>x</b>"},
    }
    spec = function.revision.spec.model_copy(update=changed)
    revision = function.revision.model_copy(update={"spec": spec})
    stage.things.functions["digits"] = function.model_copy(update={"revision": revision})
    words = (await ask(browser, "/functions/digits")).words
    for said in (
        "20 s of processor time",
        "2 of them kept while nobody calls",
        "A=<b>x</b>",
        "TOKEN",
        "only read yours",
    ):
        assert said in words, said
