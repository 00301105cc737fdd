"""What `bench.deploy` runs as a person's notebook: cells that deploy a function and call it; their times as JSON.

A cell begins with ``%%function``, the next one calls what it made. Each deploys other code, so each is a new revision
that is captured, sent, written, loaded once to see that it works, and called: by a worker that was not there before.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time

from IPython.core.interactiveshell import InteractiveShell

CODE = {
    "bare": "def answer(value):\n    return value + {number}\n",
    "heavy": "def answer(value):\n    return value + {number} if pandas.DataFrame and LinearRegression else None\n",
}
BEFORE = {"bare": "pass", "heavy": "import pandas\nfrom sklearn.linear_model import LinearRegression"}
_WARM_UP = 2


def run(shell: InteractiveShell, cell: str) -> None:
    """Run a cell and raise what it raised."""
    with contextlib.redirect_stdout(io.StringIO()):
        shell.run_cell(cell, store_history=True).raise_error()


def deployed(shell: InteractiveShell, kind: str, number: int) -> float:
    """Return the milliseconds of the two cells."""
    begin = time.perf_counter()
    run(shell, f"%%function --idle 1 --as answer-{kind}\n{CODE[kind].format(number=number)}")
    run(shell, "found = answer(1)")
    taken = (time.perf_counter() - begin) * 1e3
    if shell.user_ns["found"] != 1 + number:
        raise RuntimeError(f"the function answered {shell.user_ns['found']!r}")
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=CODE)
    parser.add_argument("--samples", type=int, default=5)
    chosen = parser.parse_args()
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "ropewalk_kernel")
    run(shell, BEFORE[chosen.kind])
    first = time.time_ns() // 1000 % 10**12  # so that no run deploys what another one did
    taken = []
    for number in range(chosen.samples + _WARM_UP):
        taken.append(deployed(shell, chosen.kind, first + number))
        time.sleep(0.3)  # what a deploy leaves to be done behind it is not the next one's
    sys.stdout.write("\n" + json.dumps({"taken": taken[_WARM_UP:]}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
