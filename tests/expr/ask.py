"""``make expr-cases``: asks Argo what each expression gives, and writes ``cases.json``. Needs Go.

They are those of ``asked.txt`` and of ``generate``; ``names.json`` holds the values of the tags around them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.expr.generate import expressions

HERE = Path(__file__).parent
_PROGRAM = HERE.parent / "reference" / "argo"


def ask(texts: list[str]) -> list[dict[str, str]]:
    """Return what Argo says of each: ``value`` or ``error``."""
    names = json.loads((HERE / "names.json").read_text())
    asked = "".join(json.dumps({"text": text, "names": names}) + "\n" for text in texts)
    answers = subprocess.run(
        ["go", "run", "."], cwd=_PROGRAM, input=asked, text=True, stdout=subprocess.PIPE, check=True
    )
    return [json.loads(line) for line in answers.stdout.splitlines()]


def main() -> None:
    texts = list(dict.fromkeys([*(HERE / "asked.txt").read_text().splitlines(), *expressions()]))
    cases = [{"text": text, **answer} for text, answer in zip(texts, ask(texts), strict=True)]
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in cases)
    (HERE / "cases.json").write_text(f"[\n{lines}\n]\n")
    sys.stdout.write(f"{len(cases)} cases\n")


if __name__ == "__main__":
    main()
