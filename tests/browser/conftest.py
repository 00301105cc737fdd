"""One Chromium and one platform per name for all tests of this folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import front as fronts
from tests.browser.front import Front
from tests.browser.rig import DOORS, NAMES, World, world
from tests.tour import stage


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Start Chromium; where it is missing, say which package brings it, and fail where nothing may be missing."""
    try:
        stage.chromium()
    except stage.Missing as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))
    with stage.browser(NAMES) as browser:
        yield browser


@pytest.fixture(scope="package")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Return the relays."""
    with fronts.running(tmp_path_factory.mktemp("front")) as one:
        yield one


@pytest.fixture(scope="package")
def worlds(chromium: Browser, front: Front, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, World]]:
    """Return the platforms that tests have asked for so far."""
    with contextlib.ExitStack() as stack:

        class Worlds(dict[str, World]):
            def __missing__(self, which: str) -> World:
                self[which] = stack.enter_context(world(which, chromium, front))
                return self[which]

        yield Worlds()


@pytest.fixture(params=list(DOORS))
def everywhere(request: pytest.FixtureRequest, worlds: dict[str, World]) -> World:
    """Return the platform at each of the names."""
    return worlds[request.param]


@pytest.fixture(params=["http", "https"])
def same_site(request: pytest.FixtureRequest, worlds: dict[str, World]) -> World:
    """Return the platform where people's pages are of its own site."""
    return worlds[request.param]


@pytest.fixture
def here(worlds: dict[str, World]) -> World:
    """Return the platform at the name that newcomers use."""
    return worlds["localhost"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder; starting a platform takes its time."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(180))
