"""Serialisers that a person registered, as modules that travel beside the code of each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ropewalk_core.model import Bundle
from ropewalk_runtime import own
from ropewalk_workflows.capture.collect import MAIN, capture_several, sealed


def with_serialisers(bundle: Bundle, *, shell: Any = None, modules_root: Path | None = None) -> Bundle:
    """Return a bundle to which all registered serialisers were added; the same one where there are none.

    Raises
    ------
    BadCode
        If something that they use cannot travel.
    """
    files = dict(bundle.files)
    for name, known in sorted(own.registered().items()):
        both = capture_several((known.write, known.read), shell=shell, modules_root=modules_root)
        text = both.files[f"{MAIN}.py"] + f"\n\nWRITE, READ = {known.write.__name__}, {known.read.__name__}\n"
        files |= {path: source for path, source in both.files.items() if path != f"{MAIN}.py"}
        files[own.file_of(name)] = text
    return bundle if files == bundle.files else sealed(files, bundle.entry, bundle.origin, bundle.imports)
