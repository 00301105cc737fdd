"""The promises of the tour: what a newcomer was told, where it must be seen, and what was seen.

A promise is kept when the words it needs stand where the person looks: under a cell, on a page, in a terminal. Not
here: how the browser gets there (`lab`, `visits`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Promise:
    """One sentence that must come true. ``part`` is the number in the tour; 0 is before, 8 after."""

    key: str
    part: int
    words: str


PROMISES = (
    Promise("link", 0, "`ropewalk up` prints one address and a one-time link"),
    Promise("administrator", 0, "the link makes the first administrator and lands on the dashboard"),
    Promise("keyboard", 0, "signing in and starting the notebook work without a mouse"),
    Promise("notebook", 0, "JupyterLab opens on the person's own origin"),
    Promise("import", 1, "import ropewalk works and the magics are there, without a token"),
    Promise("pip", 1, "%pip install changes the person's own environment"),
    Promise("pip-step", 1, "a step sees the installed package"),
    Promise("pip-function", 1, "a function sees the installed package"),
    Promise("module", 1, "a module beside the notebook works in a step and a function"),
    Promise("graph", 2, "the graph lives under the cell"),
    Promise("graph-moves", 2, "the graph changes while the run runs"),
    Promise("result", 2, "a result comes back as a Python value"),
    Promise("results", 2, "the results of a fan-out come back as Python values"),
    Promise("logs-live", 2, "logs show under the cell while the run runs"),
    Promise("logs", 2, "the log of a step comes back as text"),
    Promise("artifact", 2, "the model comes back as an artifact"),
    Promise("manifest", 2, "the Argo manifest is shown on request"),
    Promise("hera", 2, "a Hera program runs unchanged"),
    Promise("hera-create", 2, "Hera's own create() works without a login of its own"),
    Promise("traceback", 2, "a failing step shows the person's own traceback"),
    Promise("debug", 2, "debug() opens the failed step with its own inputs"),
    Promise("deploy", 3, "one %%function cell deploys the model"),
    Promise("call", 3, "the function is called as a Python callable"),
    Promise("curl", 3, "the function is called by its URL with curl and $(ropewalk token)"),
    Promise("anonymous", 3, "an anonymous call gets 401"),
    Promise("payload", 3, "a payload that does not fit is refused and named"),
    Promise("handler", 3, "the handler's own traceback is shown to its owner"),
    Promise("function-logs", 3, "the failed call is in the function's log"),
    Promise("service", 4, "a service is launched from a template with values, from Python"),
    Promise("service-open", 4, "the service answers the signed-in person at its address"),
    Promise("service-websocket", 4, "websockets reach the service"),
    Promise("service-closed", 4, "the service asks anybody else to sign in"),
    Promise("service-stopped", 4, "the service is stopped again"),
    Promise("service-form", 4, "a service is launched with the dashboard's form, and stopped there"),
    Promise("placement", 5, "satisfied placements run"),
    Promise("refused-workflow", 5, "an architecture that no machine has is refused at once for a workflow"),
    Promise("refused-function", 5, "an accelerator that no machine has is refused at once for a function"),
    Promise("refused-service", 5, "an accelerator that no machine has is refused at once for a service"),
    Promise("restart-function", 6, "after a kernel restart the function comes back by name"),
    Promise("restart-run", 6, "after a kernel restart the run comes back"),
    Promise("unchanged-function", 6, "running the function's cell again says unchanged"),
    Promise("unchanged-run", 6, "running the workflow's cell again says unchanged"),
    Promise("dashboard-function", 7, "the function is seen and called on the dashboard"),
    Promise("dashboard-run", 7, "the run is seen on the dashboard with its graph"),
    Promise("terminal-notebook", 7, "the command line inside the notebook lists the function as JSON"),
    Promise("terminal", 7, "the command line outside lists the function and the run as JSON"),
    Promise("pages", 7, "every page of the dashboard opens, light and dark"),
    Promise("people", 7, "somebody signs up, waits, and is approved on the People page"),
    Promise("saved", 8, "the executed notebook is saved with its pictures and without a token"),
    Promise("sign-out", 8, "signing out ends the notebook's session too"),
    Promise("down", 8, "Ctrl-C ends the platform and leaves no process behind"),
)

ON_A_CLUSTER = (
    Promise("argo", 7, "Argo's own command in the notebook's terminal submits, waits, reads logs and deletes"),
)
"""What is looked at on a cluster alone: there the command is built, one machine may lack it."""

OTHER = r"(riscv64|amd64)"


@dataclass(frozen=True)
class Words:
    """Words that must stand in a cell's output for a promise."""

    key: str
    cell: str
    patterns: tuple[str, ...]


IN_CELLS = (
    Words("import", "imports", (r"1,797 images of handwritten digits",)),
    Words("pip", "imports", (r"1,797 images",)),
    Words("pip-step", "logs-split", (r"1,257 images to learn from",)),
    Words("result", "result", (r"\d\d\.\d% of the test images",)),
    Words("results", "values", (r"width   8  rate 0\.001", r"width 128  rate 0\.01 ")),
    Words("logs", "logs", (r"epoch 20: 0\.\d+", r"epoch 120: 0\.\d+")),
    Words("artifact", "artifact", (r"<artifact result, [\d,]+ bytes", r"MLPClassifier")),
    Words("manifest", "manifest", (r"apiVersion: argoproj\.io/v1alpha1", r"generateName: search-")),
    Words("hera", "hera", (r"first \| hello, Hera", r"second \| hello, Argo")),
    Words("hera-create", "hera-create", (r"greetings-\w+ Succeeded",)),
    Words("traceback", "broken-result", (r"sum\(values\) / by", r"ZeroDivisionError", r"RW-USER-CODE", r"debug\(\)")),
    Words("debug", "debug", (r"(ipdb|Pdb).*by\s+0\s", r"\[1, 2, 3\]")),
    Words("deploy", "function", (r"digits: deployed, revision 1", r"http://digits--fn--")),
    Words("call", "call", (r"'digit': 7", r"'in words': 'seven'")),
    Words("pip-function", "call", (r"'in words': 'seven'",)),
    Words("module", "call", (r"'digit': 7",)),
    Words("curl", "curl", (r"200 OK", r'"digit":\s*7')),
    Words("anonymous", "anonymous", (r" 401 ",)),
    Words("payload", "bad-name", (r"RW-BAD-INPUT", r"picture", r"image")),
    Words("handler", "bad-value", (r"RW-USER-CODE", r"tidy\(image\)", r"reshape")),
    Words("function-logs", "function-logs", (r"failed", r"tidy\(image\)")),
    Words("service", "service", (r"report: launched", r"http://report--", r"running")),
    Words("service-stopped", "service-stop", (r"report: stopped",)),
    Words("placement", "fits", (r"x86_64|aarch64",)),
    Words("refused-workflow", "elsewhere", (r"RW-UNSATISFIABLE", rf"arch {OTHER}", r"Next: .*arch", r"There is ")),
    Words("refused-function", "npu", (r"RW-UNSATISFIABLE", r"accelerator npu", r"Next: .*accelerator")),
    Words("refused-service", "npu-service", (r"RW-UNSATISFIABLE", r"accelerator npu")),
    Words("restart-function", "back-call", (r"'digit': 3",)),
    Words("restart-run", "back-call", (r"with width \d+",)),
    Words("terminal-notebook", "cli", (r'"name": "digits"',)),
)

AGAIN = {
    "deploy": (r"digits: (deployed|unchanged), revision 1", r"http://digits--fn--"),
    "service": (r"report: (launched|unchanged)", r"http://report--", r"running"),
    "service-stopped": (r"report: stopped|RW-NOT-FOUND.*report|report.*RW-NOT-FOUND",),
}
"""What a cell may say instead when it is run again because nobody knows how it ended the first time."""


@dataclass
class Ledger:
    """What was seen, with the evidence, and how long each part took."""

    kept: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    say: Callable[[str], None] = field(default=lambda line: None)
    promises: tuple[Promise, ...] = PROMISES

    def see(self, key: str, seen: bool, evidence: str = "") -> bool:
        """Note that a promise was seen, or was not where it should be; a later sighting wins."""
        assert any(one.key == key for one in self.promises), key
        if seen:
            self.kept[key] = evidence
            self.broken.pop(key, None)
        elif key not in self.kept:
            self.broken[key] = evidence
        return seen

    def read(self, cell: str, text: str, *, again: bool = False) -> None:
        """Look for every promise that this cell's output must show."""
        for words in IN_CELLS:
            if words.cell == cell:
                patterns = AGAIN.get(words.key, words.patterns) if again else words.patterns
                missing = [one for one in patterns if not re.search(one, text, re.DOTALL)]
                self.see(
                    words.key, not missing, f"cell {cell}" + (f" lacks {missing}: {text[-1500:]}" if missing else "")
                )

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure a part of the tour."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - started
            self.say(f"{self.seconds[name]:7.1f} s  {name}")

    @property
    def whole(self) -> bool:
        """Whether every promise was seen."""
        return all(one.key in self.kept for one in self.promises)

    def lines(self) -> Iterator[str]:
        """Yield the report."""
        for one in self.promises:
            mark = "seen    " if one.key in self.kept else "NOT SEEN"
            yield f"{mark}  {one.part}  {one.words}"
            if one.key in self.broken:
                yield f"             {self.broken[one.key]}"

    def as_json(self) -> dict[str, object]:
        """Return the report as data."""
        rows = [
            {
                "part": one.part,
                "promise": one.words,
                "seen": one.key in self.kept,
                "evidence": self.kept.get(one.key, ""),
            }
            for one in self.promises
        ]
        return {"whole": self.whole, "promises": rows, "seconds": self.seconds}
