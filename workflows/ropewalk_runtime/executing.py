"""The libraries of notebooks, at work: read one, execute it in a fresh kernel, make a page of it.

What cells print goes to the step's log as it comes, between lines that say which cell runs. The page is somebody's
markup: it says itself that nothing in it may run or be fetched, and who shows it must hold it to that. Not here: what
is done with it (``notebooks``). The only module of the runtime that needs nbformat, nbclient and nbconvert, which come
with every notebook server.
"""

from __future__ import annotations

import html
import sys
from pathlib import Path
from typing import Any, cast

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import reader, v4
from traitlets.config import Config

from ropewalk_runtime.cells import FOLDER, CellFailed
from ropewalk_runtime.exec import environment
from ropewalk_runtime.notebooks import INJECTED, plain

_STARTS_WITHIN = 600
"""Seconds; a busy machine is slow, and the step has a limit of its own."""
_SKIP = "skip-execution"
_CONTENT = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
_SHOWN = ("text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/latex", "text/plain")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">
<title>Notebook</title><style>{style}</style></head><body>
{body}
</body></html>
"""
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1b1f23;background:#fff;margin:1rem;overflow-wrap:anywhere}
pre,code{font:13px/1.45 ui-monospace,monospace}pre{margin:0;white-space:pre-wrap}img{max-width:100%}
.cell{margin:0 0 1rem}.input_area{background:#f5f6f7;border:1px solid #dfe2e5;border-radius:4px;padding:.5rem .7rem}
.output_area{padding:.4rem .7rem;overflow-x:auto}.prompt{color:#57606a;font:12px ui-monospace,monospace}
.output_stderr,.output_error{background:#fdf1f0}.anchor-link{display:none}
table{border-collapse:collapse}td,th{border:1px solid #dfe2e5;padding:.15rem .5rem;text-align:right}
.ansi-red-fg{color:#b3261e}.ansi-green-fg{color:#1a7f37}.ansi-blue-fg,.ansi-cyan-fg{color:#0550ae}
"""


class _Client(NotebookClient):
    """Executes the cells, and says so."""

    def __init__(self, notebook: Any, **more: Any) -> None:
        super().__init__(notebook, **more)
        self.number, self.of = 0, sum(map(_runs, notebook.cells))

    async def async_execute_cell(
        self,
        cell: Any,
        cell_index: int,
        execution_count: int | None = None,
        store_history: bool = True,
    ) -> Any:
        """Execute a cell; the injected one leaves the numbers of the others as they are in the notebook."""
        own = _is_injected(cell)
        if not own and _runs(cell):
            self.number += 1
            _say(f"Cell {self.number} of {self.of}\n")
        done = await super().async_execute_cell(cell, cell_index, None, not own)
        if own:
            cell["execution_count"] = None
        return done

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Take in what the kernel says, and print what a cell prints."""
        if msg["msg_type"] == "stream":
            _say(str(msg["content"].get("text", "")), msg["content"].get("name") == "stderr")
        return super().process_message(msg, cell, cell_index)


def read(text: str) -> Any:
    """Return the notebook in a text."""
    return v4.upgrade(reader.reads(text))  # type: ignore[no-untyped-call]


def written(notebook: Any) -> str:
    """Return a notebook as text."""
    return v4.writes(notebook)  # type: ignore[no-any-return, no-untyped-call]


def execute(notebook: Any, folder: Path) -> None:
    """Execute the cells of a notebook, which has their outputs then.

    Parameters
    ----------
    notebook
        What `read` returned.
    folder
        Where the kernel has its sockets, and its parameters; a short path.

    Raises
    ------
    CellFailed
        At the first cell that fails.
    """
    specs = KernelSpecManager(kernel_dirs=[], ensure_native_kernel=True)
    manager = AsyncKernelManager(
        kernel_spec_manager=specs, transport="ipc", connection_file=str(folder / "kernel"), ip=str(folder / "k")
    )
    client = _Client(notebook, km=manager, timeout=None, startup_timeout=_STARTS_WITHIN)
    variables = environment({FOLDER: str(folder), "PYDEVD_DISABLE_FILE_VALIDATION": "1"})
    variables.pop("MPLBACKEND", None)  # the kernel has its own
    try:
        client.execute(env=variables, cleanup_kc=True)
    except DeadKernelError:
        said = f"{_place(client)} failed: its kernel ended. Did it need more memory than the step may have?"
        raise CellFailed(said) from None
    except CellExecutionError as error:
        problem = "RW-OUT-OF-MEMORY" if error.ename == "MemoryError" else "RW-USER-CODE"
        message = f"{error.ename}: {error.evalue}".removesuffix(": ")
        raise CellFailed(f"{_place(client)} failed: {message}", _traceback(notebook), problem) from None


def page(notebook: Any) -> str:
    """Return a page of a notebook; empty, and a line in the log, where none can be made."""
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]

    try:
        config = Config({"NbConvertBase": {"display_data_priority": list(_SHOWN)}})
        exporter = HTMLExporter(  # type: ignore[no-untyped-call]
            config=config, template_name="basic", extra_template_basedirs=[_templates()]
        )
        body, _ = exporter.from_notebook_node(notebook)
        style = _STYLE + cast(str, HtmlFormatter().get_style_defs(".highlight"))
    except Exception as error:  # noqa: BLE001 - outputs may be anything; the notebook itself is kept
        _say(f"There is no page of the notebook: {type(error).__name__}: {error}\n", wrong=True)
        return ""
    return _PAGE.format(policy=html.escape(_CONTENT), style=style, body=body)


def _templates() -> str:
    """Return where nbconvert's own templates are, also where no variable leads there."""
    import nbconvert

    return str(Path(nbconvert.__file__).parents[4] / "share/jupyter/nbconvert/templates")


def _runs(cell: Any) -> bool:
    tags = cell.metadata.get("tags", [])
    return cell.cell_type == "code" and bool(cell.source.strip()) and _SKIP not in tags and INJECTED not in tags


def _is_injected(cell: Any) -> bool:
    return INJECTED in cell.metadata.get("tags", [])


def _place(client: _Client) -> str:
    return f"Cell {client.number} of {client.of}" if client.number else "The cell of parameters"


def _traceback(notebook: Any) -> str:
    failed = [one for cell in notebook.cells for one in cell.get("outputs", ()) if one.output_type == "error"]
    return plain(list(failed[-1].traceback)) if failed else ""


def _say(text: str, wrong: bool = False) -> None:
    stream = sys.stderr if wrong else sys.stdout
    stream.write(text)
    stream.flush()
