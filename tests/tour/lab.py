"""JupyterLab as a person uses it: open a notebook, Shift-Enter cell by cell, answer the debugger, restart, save.

Not here: what the cells must say (`promises`). Reads the page only, no kernel connection of its own.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import nbformat
from playwright.sync_api import Locator, Page, TimeoutError, WebSocket

_CELLS = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell"

_HAS_CURSOR = """(cell) => cell.classList.contains("jp-mod-active")
    && document.activeElement.closest(".jp-Notebook") !== null && !document.activeElement.closest(".jp-Stdin")"""

_DEAF = 4.0
"""Seconds after which a person presses again: JupyterLab drops a key that comes while it connects to the kernel."""


class CellFailed(AssertionError):
    """A cell raised where the tour does not expect it, or did not finish."""


class Lab:
    """One notebook open in JupyterLab.

    Parameters
    ----------
    page
        The browser's page, at the notebook's address.
    source
        The notebook as it lies in the repository; says which cells exist.
    """

    def __init__(self, page: Page, source: nbformat.NotebookNode) -> None:
        self.page, self.source = page, source
        self._kernel_spoke = False
        page.on("websocket", self._listen)

    def _listen(self, socket: WebSocket) -> None:
        """Notice that the kernel answered: what is run before, JupyterLab may drop."""

        def heard(_: object) -> None:
            self._kernel_spoke = True

        if "/channels" in socket.url:
            socket.on("framereceived", heard)

    def ready(self, seconds: float = 90) -> None:
        """Wait until the notebook is there and its kernel is idle."""
        self.page.locator(_CELLS).first.wait_for(timeout=seconds * 1000)
        self._kernel_idle(seconds)

    def cell(self, index: int) -> Locator:
        """Return a cell of the page."""
        return self.page.locator(f'{_CELLS}[data-windowed-list-index="{index}"]')

    def select(self, index: int) -> None:
        """Put the notebook's cursor on a cell, in command mode."""
        target = self.cell(index)
        for _try in range(40):
            if target.count():
                break
            self.page.keyboard.press("ArrowDown")
        target.scroll_into_view_if_needed()
        target.locator(".jp-InputPrompt").first.click()
        self.page.keyboard.press("Escape")

    def run(
        self, index: int, *, seconds: float = 120, typed: Sequence[str] = (), watch: Callable[[], None] | None = None
    ) -> float:
        """Press Shift-Enter on the cell under the cursor, wait for its end, and return the seconds it took.

        ``typed`` are the lines that the person types when the cell asks (the debugger does). ``watch`` is called while
        the cell runs.
        """
        cell, started = self.cell(index), time.monotonic()
        answers = list(typed)
        if not cell.count() or not cell.evaluate(_HAS_CURSOR):
            self.select(index)
        if self.source.cells[index].cell_type != "code":
            last = index == len(self.source.cells) - 1  # there Shift-Enter would add an empty cell
            self.page.keyboard.press("Control+Enter" if last else "Shift+Enter")
            return 0.0
        # A cell that ran before, in a kernel that restarted, may get the number that it shows already.
        cell.locator(".jp-InputArea-prompt").first.evaluate("(prompt) => { prompt.textContent = '[ ]:'; }")
        self.page.keyboard.press("Shift+Enter")
        pressed = started
        while time.monotonic() - started < seconds:
            if answers and self._answer(cell, answers[0]):
                del answers[0]
            if watch:
                watch()
            prompt = self._prompt(cell)
            if prompt not in ("", "[*]:", "[ ]:"):
                return time.monotonic() - started
            if prompt != "[*]:" and time.monotonic() - pressed > _DEAF:
                self.select(index)
                self.page.keyboard.press("Shift+Enter")
                pressed = time.monotonic()
            time.sleep(0.05)
        raise CellFailed(f"cell {index} did not finish within {seconds:g} s; it shows: {self.output(index)[-800:]}")

    def _answer(self, cell: Locator, line: str) -> bool:
        """Type a line where the cell asks for one; say whether it asked."""
        boxes = cell.locator(".jp-Stdin-input")
        if not boxes.count() or not boxes.last.is_enabled():
            return False
        boxes.last.focus()
        self.page.keyboard.type(line)
        self.page.keyboard.press("Enter")
        self.page.wait_for_timeout(400)
        return True

    def _prompt(self, cell: Locator) -> str:
        found = cell.locator(".jp-InputArea-prompt").first
        return (found.text_content() or "").strip() if found.count() else ""

    def output(self, index: int) -> str:
        """Return the text that the person sees under a cell."""
        found = self.cell(index).locator(".jp-OutputArea-output")
        return "\n".join(found.all_inner_texts()) if found.count() else ""

    def restart(self, seconds: float = 60) -> None:
        """Restart the kernel through the menu and confirm."""
        self.page.get_by_role("menuitem", name="Kernel", exact=True).click()
        self.page.locator('.lm-Menu-item[data-command="kernelmenu:restart"]').click()
        # JupyterLab says "idle" for a moment longer; a cell that is run then still meets the old kernel.
        with self.page.expect_response(
            lambda one: one.url.partition("?")[0].endswith("/restart"), timeout=seconds * 1000
        ):
            self.page.locator(".jp-Dialog button.jp-mod-accept").click()
        self.page.locator(".jp-Dialog").wait_for(state="detached")
        self._kernel_idle(seconds)

    def save(self) -> None:
        """Save with Ctrl-S and wait until nothing is unsaved."""
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("Control+S")
        dirty = self.page.locator(".jp-NotebookPanel .jp-mod-dirty, .lm-DockPanel-tabBar .jp-mod-dirty")
        end = time.monotonic() + 20
        while dirty.count() and time.monotonic() < end:
            time.sleep(0.1)

    def failed(self, index: int) -> bool:
        """Say whether the cell ended with an error."""
        red = self.cell(index).locator('[data-mime-type="application/vnd.jupyter.stderr"]')
        return any(re.search(r"Traceback \(most recent|\bRW-[A-Z-]+ |UsageError", one) for one in red.all_inner_texts())

    def saved(self, address: str) -> nbformat.NotebookNode:
        """Return the notebook as the Contents API has it, asked from the page itself."""
        status, text = ask(self.page, f"{address}?content=1")
        if status != 200:
            raise CellFailed(f"the Contents API answers {status} for {address}")
        content: dict[str, Any] = json.loads(text)["content"]
        return nbformat.from_dict(content)

    def _kernel_idle(self, seconds: float) -> None:
        """Wait until the kernel is idle and nothing covers the notebook, twice in a row."""
        status = self.page.locator(".jp-NotebookPanel .jp-Notebook-ExecutionIndicator").first
        end, quiet, shown = time.monotonic() + seconds, 0, ""
        while time.monotonic() < end:
            shown = str(status.get_attribute("data-status")) if status.count() else "no indicator"
            covered = self.dismiss()
            quiet = quiet + 1 if shown == "idle" and self._kernel_spoke and not covered else 0
            if quiet == 2:
                return
            time.sleep(0.2)
        heard = "it spoke" if self._kernel_spoke else "it never spoke"
        raise CellFailed(f"the kernel was not ready within {seconds:g} s: {shown}, {heard}, covered: {covered}")

    def dismiss(self) -> bool:
        """Close what JupyterLab may ask a newcomer (news, which kernel); say whether anything covers the notebook."""
        for button in (".jp-Dialog button.jp-mod-accept", ".Toastify__close-button"):
            found = self.page.locator(button)
            if found.count():
                with contextlib.suppress(TimeoutError):  # it closed by itself
                    found.first.click(timeout=1000)
                return True
        return self.page.locator(".jp-NotebookPanel .jp-Spinner").filter(visible=True).count() > 0


def ask(page: Page, address: str) -> tuple[int, str]:
    """Return status and text of an address of the page's own origin, asked as JupyterLab's own script asks."""
    script = """async (address) => {
        const token = /(?:^|; )_xsrf=([^;]*)/.exec(document.cookie);
        const headers = token ? {"X-XSRFToken": token[1]} : {};
        const answer = await fetch(address, {redirect: "manual", headers});
        return [answer.status, await answer.text()];
    }"""
    status, text = page.evaluate(script, address)
    return int(status), str(text)
