"""The whole way with a real JupyterHub behind its real proxy: in, out, thrown out, and the issuer away."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ropewalk_core.errors import Unauthenticated
from ropewalk_hub import jupyterhub_config, notebook_sockets
from ropewalk_hub.hub_client import HubClient
from ropewalk_hub.secrets_store import Secret, SecretsStore
from tests.identity.real_hub import PROXY, REFRESH_AGE, RealHub, running
from tests.identity.stage import PASSWORD

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(not PROXY.exists(), reason="the hub's proxy is not installed; `make setup` does it"),
]


@pytest.fixture(scope="module")
def hub() -> Iterator[RealHub]:
    with running() as one:
        yield one


async def first(hub: RealHub, browser: httpx.AsyncClient) -> None:
    """Come in as alice, the first administrator."""
    link = await hub.first_link()
    if link is None:
        await sign_in(browser)
        return
    made = await browser.post(link, data={"account": "alice", "password": PASSWORD})
    assert made.status_code == 200 and made.url.path == "/"


async def sign_in(browser: httpx.AsyncClient, password: str = PASSWORD) -> None:
    answer = await browser.post("/sign-in", data={"account": "alice", "password": password, "next": "/account"})
    assert answer.url.path == "/account", answer.text


async def signed_in_at_hub(browser: httpx.AsyncClient) -> bool:
    answer = await browser.get("/hub/home")  # sends to the dashboard whoever is signed in at the hub
    return any(one.url.path == "/hub/home" and one.headers["location"].endswith("/notebooks") for one in answer.history)


async def until(look: Callable[[], Awaitable[bool]], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not await look():  # noqa: ASYNC110  # what is looked at is another process
            await asyncio.sleep(0.3)


async def until_out(browser: httpx.AsyncClient, seconds: float) -> None:
    async def out() -> bool:
        return not await signed_in_at_hub(browser)

    await until(out, seconds)


async def test_people_come_in_and_go_out(hub: RealHub) -> None:
    async with hub.browser() as browser, hub.browser() as other:
        # Anonymous: the hub sends to our sign-in.
        assert (await browser.get("/hub/token")).url.path == "/sign-in"
        await first(hub, browser)
        assert await signed_in_at_hub(browser)
        cookies = {cookie.name: cookie for cookie in browser.cookies.jar}
        for name in ("ropewalk-session", "jupyterhub-hub-login", "ropewalk-id"):
            assert not cookies[name].domain_specified, name  # host-only
            assert cookies[name].has_nonstandard_attr("HttpOnly")
        assert cookies["ropewalk-id"].path == cookies["jupyterhub-hub-login"].path == "/hub/"

        # The hub's own forms keep their own guard.
        assert (await browser.post("/hub/spawn", data={})).status_code == 403
        lure = {"iss": hub.origin, "error": "x", "error_description": "Call 555 now"}
        refused = await browser.get("/hub/oauth_callback", params=lure)
        assert refused.status_code == 400 and "555" not in refused.text  # the words of a link are nobody's heading
        for path in ("/hub/spawn", "/hub/spawn/alice", "/hub/spawn/alice/?next=/user/alice"):
            assert (await browser.get(path)).url.path == "/notebooks"  # a page with a button; nothing has started

        # Out here is out there; the other browser stays.
        await sign_in(other)
        assert await signed_in_at_hub(other)
        out = await browser.post("/sign-out")
        assert out.url.path == "/sign-in" and "signed-out" in out.url.query.decode()
        assert not await signed_in_at_hub(browser)
        assert "jupyterhub-hub-login" not in browser.cookies
        assert await signed_in_at_hub(other)

        # A password change throws the other one out of the hub.
        await sign_in(browser)
        for old, new in ((PASSWORD, "another rope entirely"), ("another rope entirely", PASSWORD)):
            change = {"old": old, "password": new}
            assert (await browser.post("/account/password", data=change)).status_code == 200
        await until_out(other, REFRESH_AGE + 10)
        assert "ropewalk_administrator" not in hub.log("hub") and PASSWORD not in hub.log("hub")
        assert PASSWORD not in hub.log("platform")

        # Signing out at the hub signs out here.
        assert await signed_in_at_hub(browser)
        for other_page in ("same-site", "cross-site"):
            asked = await browser.get("/hub/logout", headers={"Sec-Fetch-Site": other_page})
            assert asked.url.path == "/sign-out" and await signed_in_at_hub(browser)
        assert (await browser.get("/hub/logout")).url.path == "/sign-in"
        assert (await browser.get("/account")).status_code == 401


async def test_the_hubs_own_pages_are_ours(hub: RealHub) -> None:
    async with hub.browser() as browser:
        await first(hub, browser)
        assert (await browser.get("/hub/home")).url.path == "/notebooks"  # "Hub Control Panel" of JupyterLab
        assert (await browser.get("/hub/token")).url.path == "/notebooks"
        assert (await browser.get("/hub/admin")).url.path == "/people"
        xsrf = {"X-XSRFToken": browser.cookies.get("_xsrf", path="/hub/") or ""}
        person = (await browser.get("/hub/api/user", headers=xsrf)).json()
        assert person["name"] == "alice"
        assert not [one for one in person["scopes"] if "tokens" in one]  # one would outlive every sign-out
        for path, status, words in (
            ("/hub/user/alice/lab", 424, "Your notebook is not running"),
            ("/hub/nothing", 404, "There is no such page."),
            ("/hub/oauth_callback", 400, "answered by somebody else"),
        ):
            answer = await browser.get(path)
            assert (answer.status_code, answer.url.path) == (status, path)
            assert words in answer.text and 'href="/notebooks"' in answer.text and "bootstrap" not in answer.text
            [style] = re.findall(r'<link rel="stylesheet" href="([^"]+)"', answer.text)
            assert (await browser.get(style)).headers["content-type"].startswith("text/css")
        assert 'href="/help/errors#RW-NOT-FOUND"' in (await browser.get("/hub/nothing")).text


async def test_the_hub_goes_on_while_the_issuer_is_away(hub: RealHub) -> None:
    async with hub.browser() as browser:
        await first(hub, browser)
        assert await signed_in_at_hub(browser)
        hub.end("platform", 9)
        await asyncio.sleep(REFRESH_AGE + 0.5)  # past the hub's own memory: it asks now
        assert await signed_in_at_hub(browser)
        hub.start("platform")

        async def back() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return (await browser.get("/account")).status_code == 200
            return False

        await until(back, 30)
        assert await signed_in_at_hub(browser)


async def test_the_platform_is_no_administrators_door(hub: RealHub, tmp_path: Path) -> None:
    async with hub.browser() as browser:
        await first(hub, browser)
        assert await signed_in_at_hub(browser)
        xsrf = {"X-XSRFToken": browser.cookies.get("_xsrf", path="/hub/") or ""}
        assert (await browser.get("/hub/api/users", headers=xsrf)).status_code == 403
        assert (await browser.get("/hub/admin")).url.path == "/people"  # where our administrators work
        ours = HubClient(
            hub.where.hub_url, SecretsStore(hub.settings).text(Secret.PLATFORM_TOKEN), host=hub.settings.door.host
        )
        model = await ours.user("alice")
        assert model is not None and model["admin"] is False
        assert await ours.user("nobody") is None
        with pytest.raises(Unauthenticated):  # the hub knows us, so it is this token that is wrong
            await ours.whose("0" * 32)
        await ours.ensure_user("bob")
        await ours.ensure_user("bob")
        assert {one["name"] for one in await ours.users()} == {"alice", "bob"}
        await ours.stop("bob")
        await ours.end_browser_tokens("bob")
        await ours.close()


def test_ends_come_within_the_minute() -> None:
    # A browser's notebook believes the hub for one time, and the hub the issuer for the other.
    assert jupyterhub_config.REFRESH_AGE + jupyterhub_config.NOTEBOOK_CACHE < 60
    assert jupyterhub_config.REFRESH_AGE + notebook_sockets.EVERY < 60  # and so does what is open
