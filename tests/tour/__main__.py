"""Run the tour: `python -m tests.tour`. Leaves the executed notebook, screenshots and a report in build/tour/.

The exit status is 0 when every promise was seen, 1 when one was not, 2 when the machine lacks something.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager

import nbformat
from playwright.sync_api import BrowserContext, Error, Page

from tests.tour import stage, visits
from tests.tour.lab import Lab, ask
from tests.tour.promises import Ledger
from tests.tour.stage import BUILD, ROOT, Missing, Platform

NOTEBOOK = ROOT / "docs" / "tour.ipynb"
LONG = {"pip": 180.0, "result": 120.0, "service": 120.0}
TYPED = {"debug": ("by", "values", "q")}


class Tour:
    """One tour through one platform."""

    def __init__(self, platform: Platform, context: BrowserContext, ledger: Ledger) -> None:
        self.platform, self.context, self.ledger = platform, context, ledger
        self.page: Page = context.new_page()
        self.desk: Page = context.new_page()
        self.source = nbformat.read(NOTEBOOK, as_version=4)
        self.ids = [cell["id"] for cell in self.source.cells]
        self.lab = Lab(self.page, self.source)
        self.problems: list[str] = []

    def step(self, name: str, errand: Callable[[], None]) -> bool:
        """Do one part; a failure is noted with a picture, and the tour goes on where it can."""
        with self.ledger.part(name):
            try:
                errand()
            except (AssertionError, Error, OSError) as error:
                self.problems.append(f"{name}: {error}")
                (BUILD / f"problem-{name.replace(' ', '-')}.txt").write_text(traceback.format_exc())
                with_picture(self.page, name)
                with_picture(self.desk, f"{name} desk")
                return False
        return True

    # Errands

    def arrive(self) -> None:
        see = self.ledger.see
        see("link", True, self.platform.first.split("/first/")[0])
        landed = visits.first_administrator(self.desk, self.platform)
        if "/sign-in" in landed:
            landed = visits.sign_in(self.desk, self.platform)
        see("administrator", landed.rstrip("/") == self.platform.origin, landed)
        self.platform.settle(self.desk)

    def enter(self) -> None:
        visits.sign_out(self.desk, self.platform)
        visits.sign_in(self.desk, self.platform)
        address = visits.start_notebook(self.page, self.platform)
        self.ledger.see("keyboard", True, "account, password and Start notebook by Tab and Enter")
        self.ledger.see("notebook", address.startswith(visits.lab_address(self.platform).split("/user/")[0]), address)
        self.page.goto(visits.lab_address(self.platform))
        self.lab.ready()

    def cells(self, ids: list[str]) -> None:
        for one in ids:
            self.cell(one)

    def cell(self, one: str) -> None:
        index = self.ids.index(one)
        cell = self.source.cells[index]
        seconds = LONG.get(one, 60) * self.platform.patience
        took = self.lab.run(index, seconds=seconds, typed=TYPED.get(one, ()), watch=self._watcher(one))
        if took > 2:
            self.ledger.seconds[f"cell {one}"] = took
            say(f"{took:7.1f} s    cell {one}")
        if cell.cell_type != "code":
            return
        text = self.lab.output(index)
        self.ledger.read(one, text)
        failed = self.lab.failed(index)
        if failed != ("raises-exception" in cell.metadata.get("tags", [])):
            self.problems.append(f"cell {one} {'failed' if failed else 'did not fail'}: {text[-3000:]}")
        if one == "result":
            self.look_at_card()
        if one == "service":
            self.look_at_service(text)

    def _watcher(self, one: str) -> Callable[[], None] | None:
        """While the result is awaited, look at the card of the cell above."""
        if one != "result":
            return None
        card = self.lab.cell(self.ids.index("submit"))
        pictures: list[str] = []

        def watch() -> None:
            text = " ".join(card.locator(".jp-OutputArea-output").all_inner_texts())
            if not (BUILD / "card-run-moving.png").exists() and "running" in text:
                card.screenshot(path=BUILD / "card-run-moving.png")
            if not pictures or pictures[-1] != text:
                pictures.append(text)
            moving = [
                one for one in pictures if re.search(r"\d (running|asked|starting|waiting|done)|[1-9] of 8 steps", one)
            ]
            if len(pictures) > 1 and len(set(moving)) > 1:
                self.ledger.see("graph-moves", True, f"{len(set(pictures))} different pictures while it ran")
            if re.search(r"running.*epoch \d+: 0\.\d+", text, re.DOTALL):
                self.ledger.see("logs-live", True, "lines of a step while the run was running")

        return watch

    def look_at_card(self) -> None:
        texts = self.lab.cell(self.ids.index("submit")).locator("svg text").all_text_contents()
        drawn = {"split", "train x 6", "pick", "✓ done", "✓ 6 done"} <= set(texts)
        self.ledger.see("graph", drawn, ", ".join(texts))
        self.lab.cell(self.ids.index("submit")).screenshot(path=BUILD / "card-run.png")

    def look_at_service(self, text: str) -> None:
        found = re.search(r"https?://report--\S+", text)
        address = found[0] if found else ""
        said, websockets = visits.open_report(self.context, address)
        self.ledger.see("service-open", "Which digits are hard to read?" in said, said[:300])
        self.ledger.see("service-websocket", websockets > 0, f"{websockets} websockets carried frames")
        browser = self.context.browser
        assert browser is not None
        ended = visits.open_as_stranger(browser, address)
        self.ledger.see("service-closed", "/sign-in" in ended, ended)

    def before_restart(self) -> None:
        self.cells(self.ids[: self.ids.index("back")])

    def restart(self) -> None:
        self.lab.restart()
        self.lab.select(self.ids.index("back"))
        self.cells(self.ids[self.ids.index("back") :])

    def again(self) -> None:
        for one in [cell["id"] for cell in self.source.cells if "again" in cell.metadata.get("tags", [])]:
            index = self.ids.index(one)
            self.lab.select(index)
            self.lab.run(index)
            text = self.lab.output(index)
            if one == "function":
                self.ledger.see("unchanged-function", "digits: unchanged, revision 1" in text, text[:400])
            if one == "submit":
                self.ledger.see("unchanged-run", "unchanged" in text and "search" in text, text[:400])

    def save(self) -> None:
        self.page.screenshot(path=BUILD / "notebook.png")
        self.lab.save()
        saved = self.lab.saved(visits.contents_address(self.platform))
        nbformat.write(saved, BUILD / "tour.ipynb")
        text = json.dumps(saved)
        frozen = next(cell for cell in saved.cells if cell["id"] == "submit")
        kept = "<svg" in json.dumps(frozen["outputs"]) and "<script" not in text
        token = re.search(r"eyJ[\w-]{20,}\.eyJ", text)
        self.ledger.see(
            "saved", kept and not token, "a token is in the notebook" if token else "graph kept as a picture"
        )

    def dashboard(self) -> None:
        wrong = visits.look_at_pages(self.desk, self.platform)
        self.ledger.see("pages", not wrong, str(wrong or visits.PAGES))

    def dashboard_function(self) -> None:
        payload = (self.platform.folder / "seven.json").read_text()
        said = visits.function_page(self.desk, self.platform, payload)
        self.ledger.see("dashboard-function", bool(re.search(r'"digit":\s*7', said)), said)

    def terminal(self) -> None:
        functions = self.platform.command("functions", "list", "--json")
        runs = self.platform.command("workflows", "list", "--json")
        both = '"digits"' in functions.stdout and '"search"' in runs.stdout
        self.ledger.see("terminal", both, functions.stdout[:200] + functions.stderr + runs.stdout[:200] + runs.stderr)
        found = re.findall(r"run-[0-9a-z]+", runs.stdout)
        one = self.platform.command("workflows", "get", found[-1], "--json") if found else runs
        (BUILD / "run.json").write_text(one.stdout or one.stderr)
        page = visits.run_page(self.desk, self.platform, found[-1] if found else "none")
        self.ledger.see("dashboard-run", "train" in page or "near" in page, page[:300])

    def form(self) -> None:
        said, left = visits.launch_by_form(self.desk, self.platform, self.platform.folder)
        self.ledger.see("service-form", "Launched by a form" in said and left == 0, f"{said[:200]}, {left} links left")

    def people(self) -> None:
        browser = self.context.browser
        assert browser is not None
        landed = visits.welcome(browser, self.desk, self.platform)
        self.ledger.see("people", landed.rstrip("/") == self.platform.origin, landed)

    def leave(self) -> None:
        address = visits.contents_address(self.platform)
        assert ask(self.page, address)[0] == 200, "the notebook does not answer before signing out"
        visits.sign_out(self.desk, self.platform)
        took = visits.session_ends(self.page, address)
        self.ledger.see(
            "sign-out", took is not None, f"after {took:.0f} s" if took is not None else "still open after 60 s"
        )

    def all(self) -> None:
        """Go through everything, in a person's order."""
        if not self.step("first administrator", self.arrive) or not self.step("keyboard, notebook", self.enter):
            return
        if self.step("cells before the restart", self.before_restart):
            self.step("restart and cells after it", self.restart)
            self.step("cells again", self.again)
        self.step("save", self.save)
        self.step("dashboard pages", self.dashboard)
        self.step("dashboard function", self.dashboard_function)
        self.step("terminal and run page", self.terminal)
        self.step("service by form", self.form)
        self.step("people", self.people)
        self.step("sign out", self.leave)


def with_picture(page: Page, name: str) -> None:
    """Keep what the page showed when something went wrong."""
    try:
        page.screenshot(path=BUILD / f"problem-{name.replace(' ', '-')}.png")
    except Error:
        return


def say(line: str) -> None:
    """Say a line at once; a tour takes minutes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _stage() -> AbstractContextManager[Platform]:
    """Return the stage that was asked for: one machine, or a test cluster."""
    if sys.argv[1:] in ([], ["local"]):
        return stage.platform(NOTEBOOK)
    if sys.argv[1:] == ["kube"]:
        from tests.tour import kube  # the cluster's clients, which one machine does not need

        return kube.platform(NOTEBOOK)
    raise Missing(f"there is no backend {' '.join(sys.argv[1:])}; take local or kube")


def main() -> int:
    """Run the tour and print the report."""
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    ledger, problems = Ledger(say=say), []
    try:
        stage.chromium()
        with ledger.part("platform"), _stage() as platform, stage.browser() as browser:
            context = browser.new_context(viewport={"width": 1440, "height": 1000})
            context.set_default_timeout(20_000)
            tour = Tour(platform, context, ledger)
            tour.all()
            problems = tour.problems
        left = platform.left()
        ledger.see("down", not left, "; ".join(left))
    except Missing as error:
        sys.stderr.write(f"{error}\n")
        return 2
    report = "\n".join([*ledger.lines(), *(f"problem  {one}" for one in problems)])
    (BUILD / "report.txt").write_text(report + "\n")
    with (BUILD / "report.json").open("w") as file:
        stage.write_json(file, ledger.as_json())
    say(report)
    return 0 if ledger.whole and not problems else 1


if __name__ == "__main__":
    sys.exit(main())
