"""Prints the link that makes the first administrator: ``python -m ropewalk_hub.first``, inside the platform's pod.

On one machine `ropewalk up` prints it. Who may run a command in that pod may make the first administrator, and nobody
else: the link is in no log and in no Kubernetes object. Rejected: a password in a Secret, which outlives its use.
"""

from __future__ import annotations

import asyncio
import sys

from ropewalk_core import settings as settings_module
from ropewalk_core.settings import Settings
from ropewalk_hub.siblings import ask_unix


def link_command(settings: Settings) -> str:
    """Return the command that prints the link."""
    if settings.backend == "kube":
        return "kubectl exec deploy/platform --container platform -- python -m ropewalk_hub.first"
    return "ropewalk up"


def main() -> int:
    """Print the link; say so when there is an administrator already."""
    settings = settings_module.load()
    status, answer = asyncio.run(ask_unix(settings.run / "platform.sock", "/internal/first", "POST"))
    if status != 200:
        sys.stderr.write("The platform does not answer. Wait until its pod is ready, then try again.\n")
        return 75
    link = (answer or {}).get("link")
    if link is None:
        sys.stdout.write(f"There is an administrator. Sign in at {settings.door.origin}/sign-in\n")
        return 0
    sys.stdout.write(f"{link}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
