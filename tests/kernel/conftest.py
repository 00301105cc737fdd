"""A shell and a platform for each test."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from ropewalk_core import sync
from ropewalk_core.client import Client, FixedToken
from ropewalk_core.client.wire import Wire
from ropewalk_kernel import calls, live
from ropewalk_runtime import own
from tests.kernel.fake import FakePlatform


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePlatform]:
    """A platform in memory, and the process's client connected to it."""
    fake = FakePlatform()
    monkeypatch.setattr(calls, "spawn", fake.spawn)  # which goes to the gateway

    async def connect() -> Client:
        transport = httpx.ASGITransport(app=fake.serve)
        wire = Wire(
            "http://platform", FixedToken("token"), account="ada", transport=transport, patience=0.5, reading=20
        )
        return Client(wire)

    portal = sync.portal()
    portal.client = sync.wait(connect())
    yield fake
    live.freeze()
    sync.wait(portal.client.close())
    portal.client = None


class Notebook:
    """A real IPython shell in which cells run; ``shown`` are the displays of the last cell."""

    def __init__(self) -> None:
        self.shell: Any = InteractiveShell.instance()
        self.shell.extension_manager.load_extension("ropewalk_kernel")
        self.updates: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.shell._showtraceback = lambda kind, error, lines: self.errors.append("\n".join(lines))
        recorder = self

        class Recorder(DisplayPublisher):
            def publish(self, data: dict[str, Any], metadata: Any = None, **more: Any) -> None:
                recorder.updates.append(data)

        self.shell.display_pub = Recorder(parent=self.shell)

    def run(self, cell: str) -> str:
        """Run a cell and return the text of all that it printed and displayed."""
        self.errors.clear()
        self.updates.clear()
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            self.outcome = self.shell.run_cell(cell, store_history=True)
        return "\n".join([printed.getvalue(), *(one.get("text/plain", "") for one in self.updates)])

    def value(self, name: str) -> Any:
        return self.shell.user_ns[name]


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """A fresh shell with our extension, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setattr(own, "_registered", {})  # serialisers travel with all code that is captured afterwards
    InteractiveShell.clear_instance()
    yield Notebook()
    InteractiveShell.instance().history_manager.end_session()
    InteractiveShell.clear_instance()
    assert os.getcwd()
