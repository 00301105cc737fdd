"""A notebook with a run's card, executed and exported by nbconvert: the card is there, as a picture without buttons."""

from __future__ import annotations

import nbformat
import pytest

from tests.platform_rig import House

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
CELLS = [
    "from ropewalk import step, workflow\n\n@step\ndef double(x: int) -> int:\n    return 2 * x\n\n"
    "@workflow\ndef doubled(x: int):\n    return double(x)",
    "run = doubled.submit(21)\nrun.wait()\nrun.result()",
    'import ropewalk\nropewalk.runs.compare("doubled")',
]
CONVERT = """
import subprocess, sys
done = subprocess.run(
    [sys.executable, "-m", "nbconvert", "--execute", "--to", "html", "card.ipynb"],
    capture_output=True, text=True,
)
print(done.returncode, done.stderr[-2000:])
"""


def test_an_executed_notebook_has_the_card_as_a_picture(house: House) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in CELLS])
    kernel = house.kernel()
    kernel.run(f"from pathlib import Path\nPath('card.ipynb').write_text({nbformat.writes(notebook)!r})")
    said = kernel.run(CONVERT)
    assert said.startswith("0 "), said
    page = kernel.run("print(Path('card.html').read_text())")
    assert "✓ done" in page and "of doubled: submitted" in page and "1 run of doubled" in page
    card = page.partition('class="rw-card"')[2].partition("</svg>")[0]
    assert "double" in card and "rw-bad" not in card
    kernel.run("[Path(one).unlink() for one in ('card.ipynb', 'card.html')]")
