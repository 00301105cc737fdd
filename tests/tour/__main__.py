"""Run the tour: `python -m tests.tour`. Leaves the executed notebook, screenshots and a report in build/tour/.

The exit status is 0 when every promise was seen, 1 when one was not, 2 when the machine lacks something. With `kube
--faults` parts of the platform are killed meanwhile; what goes wrong for it is done again, as a person would do it, and
that is said and counted. A cell that fails must say why in the platform's words even then.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import nbformat
from playwright.sync_api import BrowserContext, Error, Page

from tests.cluster.layout import ClusterError
from tests.tour import stage, visits
from tests.tour.lab import Lab, ask
from tests.tour.promises import ON_A_CLUSTER, PROMISES, Ledger
from tests.tour.stage import BUILD, ROOT, Missing, Platform

NOTEBOOK = ROOT / "docs" / "tour.ipynb"
LONG = {"pip": 180.0, "result": 120.0, "service": 120.0}
TYPED = {"debug": ("by", "values", "q")}
ROPES = """
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: ropes-}
spec:
  entrypoint: lay
  arguments: {parameters: [{name: strands, value: two}]}
  templates:
    - name: lay
      container: {image: "python:3.11", command: [sh, -c], args: ["echo '{{workflow.parameters.strands}} strands'"]}
"""
ARGO = """
cd && eval "$(ropewalk argo-env)" && ./argo submit --wait ropes.yaml -p strands=three && ./argo list --completed \\
    && ./argo logs @latest --no-color && ./argo delete @latest && ./argo version
"""
WRONG = (AssertionError, Error, OSError, ValueError, LookupError, ClusterError, subprocess.SubprocessError)
"""What a part of the tour raises when it went wrong; an answer that is no JSON is among it."""
TRIES = 4
"""How often something is tried while parts of the platform are killed."""
LINGER = 400.0
"""Seconds that the person stays on the dashboard, at most, until each part was killed often enough."""


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
        self.kills = platform.kills
        self.tried = False  # whether what is being done was tried before

    def step(self, name: str, errand: Callable[[], None], *, again: bool = True) -> bool:
        """Do one part; a failure is noted with a picture, and the tour goes on where it can.

        While parts are killed it is done ``again``, unless it sees to that itself.
        """
        with self.ledger.part(name):
            attempt = partial(self._attempt, name, errand)
            wrong = self._until_right(name, attempt) if again else attempt()
            if wrong:
                self.problems.append(f"{name}: {wrong}")
        return not wrong

    def _attempt(self, name: str, errand: Callable[[], None]) -> str:
        """Return what is wrong with one part, if anything is."""
        try:
            errand()
        except WRONG as error:
            (BUILD / f"problem-{name.replace(' ', '-')}.txt").write_text(traceback.format_exc())
            with_picture(self.page, name)
            with_picture(self.desk, f"{name} desk")
            return str(error) or type(error).__name__
        return ""

    def _until_right(self, name: str, attempt: Callable[[], str]) -> str:
        """Do something, again if what was killed meanwhile excuses what is wrong; return what is wrong at last."""
        known, wrong = set(self.ledger.broken), ""
        for number in range(TRIES if self.kills else 1):
            began, self.tried = time.monotonic(), number > 0
            if self.kills:
                self.kills.doing = name
            wrong = attempt()
            broken = [f"{key}: {said}" for key, said in self.ledger.broken.items() if key not in known]
            if self.kills is None or not (wrong or broken) or number + 1 == TRIES or not self.kills.excuse(began):
                break
            self.kills.again(name, wrong or "; ".join(broken))
        self.tried = False
        return wrong

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
        visits.sign_out(self.desk, self.platform, again=self.tried)
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
        wrong = self._until_right(f"cell {one}", partial(self._cell, one))
        if wrong:
            self.problems.append(f"cell {one} {wrong}")

    def _cell(self, one: str) -> str:
        """Run a cell and return what is wrong with it; one that cannot be run is raised, unless parts are killed."""
        if self.kills is None:
            return self._run(one)
        try:
            if self.tried:
                self.lab.dismiss()
            return self._run(one)
        except WRONG as error:
            with_picture(self.page, f"cell {one}")
            return str(error) or type(error).__name__

    def _run(self, one: str) -> str:
        index = self.ids.index(one)
        cell = self.source.cells[index]
        seconds = LONG.get(one, 60) * self.platform.patience
        took = self.lab.run(index, seconds=seconds, typed=TYPED.get(one, ()), watch=self._watcher(one))
        if took > 2:
            self.ledger.seconds[f"cell {one}"] = took
            say(f"{took:7.1f} s    cell {one}")
        if cell.cell_type != "code":
            return ""
        text = self.lab.output(index)
        self.ledger.read(one, text, again=self.tried)
        failed = self.lab.failed(index)
        if self.kills and failed and not re.search(r"\bRW-[A-Z-]+", text):
            self.problems.append(f"cell {one} failed without a plain sentence: {text[-3000:]}")
        wrong = ""
        if failed != ("raises-exception" in cell.metadata.get("tags", [])) and not (self.tried and gone(one, text)):
            wrong = f"{'failed' if failed else 'did not fail'}: {text[-3000:]}"
        if one == "result":
            self.look_at_card()
        if one == "service":
            self.look_at_service(text)
        return wrong

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

    def after_restart(self) -> None:
        self.lab.select(self.ids.index("back"))
        self.cells(self.ids[self.ids.index("back") :])

    def again(self) -> None:
        for one in [cell["id"] for cell in self.source.cells if "again" in cell.metadata.get("tags", [])]:
            self._until_right(f"cell {one} again", partial(self._cell_again, one))

    def _cell_again(self, one: str) -> str:
        index = self.ids.index(one)
        self.lab.select(index)
        self.lab.run(index)
        text = self.lab.output(index)
        if one == "function":
            self.ledger.see("unchanged-function", "digits: unchanged, revision 1" in text, text[:400])
        if one == "submit":
            self.ledger.see("unchanged-run", "unchanged" in text and "search" in text, text[:400])
        return ""

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

    def argo(self) -> None:
        assert self.platform.argo is not None
        (self.platform.folder / "ropes.yaml").write_text(ROPES)
        said = self.platform.argo(ARGO)
        seen = all(one in said for one in ("Succeeded", "three strands", "deleted", "argo-server"))
        self.ledger.see("argo", seen, said[-1500:])

    def form(self) -> None:
        said, left = visits.launch_by_form(self.desk, self.platform, self.platform.folder, again=self.tried)
        self.ledger.see("service-form", "Launched by a form" in said and left == 0, f"{said[:200]}, {left} links left")

    def people(self) -> None:
        browser = self.context.browser
        assert browser is not None
        landed = visits.welcome(browser, self.desk, self.platform, again=self.tried)
        self.ledger.see("people", landed.rstrip("/") == self.platform.origin, landed)

    def leave(self) -> None:
        address = visits.contents_address(self.platform)
        assert self.tried or ask(self.page, address)[0] == 200, "the notebook does not answer before signing out"
        visits.sign_out(self.desk, self.platform, again=self.tried)
        seconds = 240.0 if self.kills else 60.0  # while the hub is away, what it said of a visitor is believed
        took = visits.session_ends(self.page, address, seconds)
        said = f"after {took:.0f} s" if took is not None else f"still open after {seconds:.0f} s"
        self.ledger.see("sign-out", took is not None, said)

    def linger(self) -> None:
        """Look at the dashboard until each part was killed often enough."""
        end = time.monotonic() + LINGER
        while self.kills and self.kills.lacking and self.kills.lives and time.monotonic() < end:
            for errand in (self.dashboard, self.dashboard_function):
                self._until_right("the dashboard, meanwhile", partial(self._attempt, "meanwhile", errand))

    def all(self) -> None:
        """Go through everything, in a person's order."""
        if not self.step("first administrator", self.arrive) or not self.step("keyboard, notebook", self.enter):
            return
        if self.step("cells before the restart", self.before_restart, again=False):
            if self.step("kernel restart", self.lab.restart):
                self.step("cells after the restart", self.after_restart, again=False)
            self.step("cells again", self.again, again=False)
        self.step("save", self.save)
        self.step("dashboard pages", self.dashboard)
        self.step("dashboard function", self.dashboard_function)
        self.step("terminal and run page", self.terminal)
        if self.platform.argo:
            self.step("Argo's command", self.argo)
        self.step("service by form", self.form)
        self.step("people", self.people)
        if self.kills:
            self.step("until all was killed often enough", self.linger, again=False)
        self.step("sign out", self.leave)


def gone(cell: str, text: str) -> bool:
    """Say whether a cell that stops something found, when it was run again, that it had stopped it before."""
    return cell == "service-stop" and "RW-NOT-FOUND" in text


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


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.tour", description=__doc__)
    parser.add_argument("backend", nargs="?", choices=("local", "kube"), default="local")
    parser.add_argument("--faults", action="store_true", help="kill parts of the platform meanwhile (kube)")
    parser.add_argument("--seed", type=int, help="kill the same parts in the same way as another time")
    asked = parser.parse_args()
    if asked.faults and asked.backend != "kube":
        parser.error("--faults needs kube: it kills pods")
    return asked


def _stage(asked: argparse.Namespace) -> AbstractContextManager[Platform]:
    """Return the stage that was asked for: one machine, or a test cluster."""
    if asked.backend == "local":
        return stage.platform(NOTEBOOK)
    from tests.tour import kube  # the cluster's clients, which one machine does not need

    drawn = secrets.randbelow(10_000) if asked.seed is None else asked.seed
    return kube.platform(NOTEBOOK, seed=drawn if asked.faults else None)


def main() -> int:
    """Run the tour and print the report."""
    asked = _asked()
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    promises = PROMISES + (ON_A_CLUSTER if asked.backend == "kube" else ())
    ledger, problems, told = Ledger(say=say, promises=promises), [], []
    try:
        stage.chromium()
        with ledger.part("platform"), _stage(asked) as platform, stage.browser() as browser:
            context = browser.new_context(viewport={"width": 1440, "height": 1000})
            context.set_default_timeout(20_000)
            tour = Tour(platform, context, ledger)
            with platform.kills.going_on() if platform.kills else nullcontext():
                tour.all()
            problems = tour.problems
            if platform.kills:
                problems, told = [*problems, *platform.kills.problems], list(platform.kills.lines())
        left = platform.left()
        ledger.see("down", not left, "; ".join(left))
    except Missing as error:
        sys.stderr.write(f"{error}\n")
        return 2
    report = "\n".join([*ledger.lines(), *told, *(f"problem  {one}" for one in problems)])
    (BUILD / "report.txt").write_text(report + "\n")
    with (BUILD / "report.json").open("w") as file:
        stage.write_json(file, {**ledger.as_json(), "kills": told})
    say(report)
    return 0 if ledger.whole and not problems else 1


if __name__ == "__main__":
    sys.exit(main())
