"""What tests of notebooks begin with: a platform whose first person has a notebook open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.function_rig import needs_sandbox
from tests.platform_rig import House, ended


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    needs_sandbox()
    with ended(House()) as one:
        one.sign_up(one.up()["first"])
        one.start_notebook()
        yield one
