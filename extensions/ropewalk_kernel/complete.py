"""Tab completion inside ``ropewalk.functions.get("...")``, ``runs.get`` and ``services.get``.

IPython asks `matcher` at every tab. Names come from the platform, are kept for some seconds, and are asked for in a
thread, so that a platform that is away costs a tab one second at most and never an error; what comes later is there at
the next tab. Inside of ``ropewalk.functions["..."]`` IPython completes by itself.
"""

from __future__ import annotations

import re
import threading
import time
import types
from collections.abc import Sequence
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

_CALL = re.compile(r"""([A-Za-z_]\w*)(?:\.(\w+))?\.get\(\s*["']([\w.-]*)$""")
_FRESH, _PATIENCE = 5.0, 1.0
_NAME = "ropewalk.names"


class Names:
    """The names of each noun, not older than some seconds if the platform answers."""

    def __init__(self, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._known: dict[str, tuple[float, Sequence[str]]] = {}
        self._asking: dict[str, threading.Thread] = {}

    def of(self, noun: Any) -> Sequence[str]:
        """Return the names of ``ropewalk.functions``, say; those of before when the platform does not answer soon."""
        kind = type(noun).__name__
        asked, names = self._known.get(kind, (float("-inf"), ()))
        if time.monotonic() - asked < _FRESH:
            return names
        thread = self._asking.get(kind)
        if thread is None or not thread.is_alive():
            thread = self._asking[kind] = threading.Thread(target=self._ask, args=(kind, noun), daemon=True)
            thread.start()
        thread.join(self._patience)
        return self._known.get(kind, (asked, names))[1]

    def _ask(self, kind: str, noun: Any) -> None:
        try:
            found = noun._ipython_key_completions_()
        except Exception:  # noqa: BLE001 - whatever it is, a tab is no place to speak of it
            found = self._known.get(kind, (0.0, ()))[1]
        self._known[kind] = (time.monotonic(), found)


def matcher(shell: Any, names: Names | None = None) -> Any:
    """Return what IPython's completer asks; it knows the person's variables by the shell."""
    known = names or Names()

    def match(context: CompletionContext) -> SimpleMatcherResult:
        found = _CALL.search(context.text_until_cursor)
        noun = _noun(shell.user_ns, found[1], found[2]) if found else None
        if found is None or noun is None:
            return {"completions": [], "suppress": False}
        fitting = [SimpleCompletion(one, type="name") for one in known.of(noun) if one.startswith(found[3])]
        return {"completions": fitting, "matched_fragment": found[3], "suppress": bool(fitting)}

    return context_matcher(identifier=_NAME)(match)


def install(shell: Any) -> None:
    """Make the shell's completer ask us too."""
    uninstall(shell)
    shell.Completer.custom_matchers.append(matcher(shell))


def uninstall(shell: Any) -> None:
    """Leave the completer as it was."""
    others = [one for one in shell.Completer.custom_matchers if getattr(one, "matcher_identifier", "") != _NAME]
    shell.Completer.custom_matchers[:] = others


def _noun(namespace: dict[str, Any], first: str, second: str | None) -> Any:
    """Return our object of that name; nothing for anything else that has a ``get``."""
    value = namespace.get(first)
    if second:
        ours = isinstance(value, types.ModuleType) and value.__name__ == "ropewalk"
        value = getattr(value, second, None) if ours else None
    is_ours = type(value).__module__.startswith("ropewalk_kernel.")
    return value if is_ours and hasattr(value, "_ipython_key_completions_") else None
