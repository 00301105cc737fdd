"""Run each check of a module, and print what became of it as JSON: ``python -m tests.user_side MODULE``.

A check is a function that begins with ``check_``; `LACKS` maps those that need a package which may be absent to it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import traceback


def main() -> None:
    """Run the module that the command line names."""
    module = importlib.import_module(f"tests.user_side.{sys.argv[1]}")
    found: dict[str, str] = {}
    for name, check in list(vars(module).items()):
        if not name.startswith("check_"):
            continue
        lacks = [one for one in getattr(module, "NEEDS", {}).get(name, ()) if importlib.util.find_spec(one) is None]
        try:
            found[name] = f"skipped: {lacks[0]} is not installed" if lacks else check() or "passed"
        except BaseException:
            found[name] = traceback.format_exc()
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
