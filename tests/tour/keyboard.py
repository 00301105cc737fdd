"""A person without a mouse: Tab until the wanted control has the focus, then type or press Enter."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

_FOCUSED = "(element) => element === document.activeElement"


class Unreachable(AssertionError):
    """A control cannot be reached with the keyboard."""


def reach(page: Page, target: Locator, *, most: int = 80) -> None:
    """Press Tab until the control has the focus; the focus must be visible by then."""
    target.wait_for(state="visible")
    for _press in range(most):
        if target.evaluate(_FOCUSED):
            return
        page.keyboard.press("Tab")
    raise Unreachable(f"Tab does not reach {target}")


def fill(page: Page, target: Locator, text: str) -> None:
    """Reach a field and type into it."""
    reach(page, target)
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def press(page: Page, target: Locator) -> None:
    """Reach a button or a link and press Enter."""
    reach(page, target)
    page.keyboard.press("Enter")
