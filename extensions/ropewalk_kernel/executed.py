"""The executed notebook of a step, in a notebook: shown in a frame where nothing of it can run, read or saved.

Not here: executing it (the step), and the platform's own page of it. Rejected: its outputs among those of this notebook
(their scripts would run here as if the reader had written them).
"""

from __future__ import annotations

import html
import json
from typing import Any

from ropewalk_kernel.cards import framed
from ropewalk_runtime.notebooks import NOTEBOOK, PAGE

_LARGEST = 4 * 2**20
"""Bytes of a page that is kept in the notebook that shows it."""
_STYLE = "width:100%;height:32rem;border:0"
_FRAME = '<iframe title="Executed notebook" sandbox="" style="{style}" srcdoc="{page}"></iframe>'


class Executed:
    """An executed notebook. ``read()`` is what nbformat reads, ``save(path)`` a file."""

    def __init__(self, files: dict[str, Any]) -> None:
        self._notebook, self._page = files[NOTEBOOK], files.get(PAGE)

    def read(self) -> dict[str, Any]:
        """Return the notebook as JSON."""
        return json.loads(self._notebook.read())  # type: ignore[no-any-return]

    def save(self, path: str) -> Any:
        """Write it to a file beside this notebook, and return its path."""
        return self._notebook.save(path)

    def _repr_html_(self) -> str | None:
        if self._page is None or self._page.info.size > _LARGEST:
            return None
        page = self._page.read().decode("utf-8", "replace")
        return framed("Executed notebook", _FRAME.format(style=_STYLE, page=html.escape(page)), repr(self)).html

    def __repr__(self) -> str:
        cells = [one for one in self.read()["cells"] if one["cell_type"] == "code" and "".join(one["source"]).strip()]
        failed = any(each["output_type"] == "error" for one in cells for each in one["outputs"])
        return f"<notebook, {len(cells)} cells{', the last of which failed' if failed else ''}>"
