"""How a failure reads in a notebook: the person's own frames, then our code, one sentence, one next step, one link.

Not here: what failed and why (``ropewalk_core.errors``, ``why``). Installed as IPython's handler for our errors, so
that nobody scrolls through our client's frames to find their own line.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from IPython import get_ipython

from ropewalk_core.errors import RopewalkError, help_address

_OURS = ("ropewalk_core", "ropewalk_kernel", "ropewalk_workflows", "ropewalk_runtime", "ropewalk_devices")


def explain(error: RopewalkError, trace: TracebackType | None = None) -> str:
    """Return the whole message of an error as text."""
    from ropewalk_core.client import platform_origin  # half a second, which no kernel's start should cost

    parts = []
    remote = str(error.details.get("traceback", "")).rstrip()
    # What a person's own lines raised inside of our call is the cause, and has the rest of the way.
    local = own_frames(trace) + own_frames(error.__cause__.__traceback__ if error.__cause__ else None)
    if local:
        parts.append("".join(traceback.format_list(local)).rstrip())
    if remote:
        parts.append(remote)
    parts.append(f"{error.code} {error.message}")
    parts += getattr(error, "__notes__", [])
    if error.field:
        parts.append(f"Where: {error.field}")
    parts.append(f"Next: {error.hint}")
    if origin := platform_origin():
        parts.append(f"More: {help_address(origin, error.code)}")
    return "\n".join(parts)


def own_frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    """Return the frames that are the person's: cells and their own modules, not ours and not installed packages.

    Cells are named as the notebook numbers them.
    """
    cells: dict[str, int] = getattr(getattr(get_ipython(), "compile", None), "_filename_map", {})
    frames = []
    for frame in traceback.extract_tb(trace):
        line = frame.line or ""
        if _is_own(frame.filename) and not line.startswith("get_ipython().run_"):
            file = f"cell [{cells[frame.filename]}]" if frame.filename in cells else _beside(frame.filename)
            frames.append(traceback.FrameSummary(file, frame.lineno, frame.name, lookup_line=False, line=line))
    return frames


def _beside(file: str) -> str:
    """Return a module's path as it lies beside the notebook."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (ValueError, FileNotFoundError):  # elsewhere, or the working folder itself is gone
        return file


def _is_own(file: str) -> bool:
    """Say whether a person wrote this file: a cell, or a module that is neither installed nor ours."""
    if file.startswith("<ipython") or "ipykernel_" in file:
        return True
    parts = Path(file).parts
    installed = "site-packages" in parts or "/lib/python" in file
    return file.endswith(".py") and not installed and not set(parts).intersection(_OURS)


def install(shell: Any) -> None:
    """Make the shell show our errors this way."""

    def handler(
        shell: Any, kind: type[BaseException], error: BaseException, trace: TracebackType | None, tb_offset: Any = None
    ) -> list[str]:
        assert isinstance(error, RopewalkError)
        lines = explain(error, trace).splitlines()
        shell._showtraceback(kind, error, lines)
        return lines

    shell.set_custom_exc((RopewalkError,), handler)


def uninstall(shell: Any) -> None:
    """Give the shell its own handler back."""
    shell.set_custom_exc((), None)
