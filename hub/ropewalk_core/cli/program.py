"""The commands: found, parsed and run, and their failures said.

Other packages add commands through the entry point group ``ropewalk.commands``: ``register(subparsers)`` declares
parsers and sets ``run`` to a function of the arguments that returns the exit code (0 done, 1 failed, 2 wrong use,
3 refused, 4 not found, 75 later). Not here: what commands do on the machine (``ropewalk_hub.commands``).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from ropewalk_core.cli import argo, platform, work
from ropewalk_core.cli.output import fail
from ropewalk_core.cli.parsing import Parser
from ropewalk_core.client import connect, platform_origin
from ropewalk_core.errors import RopewalkError

_EPILOG = """examples:
  ropewalk up                       start the platform here
  ropewalk functions list --json    what your notebooks deployed
  ropewalk workflows logs last -f   follow the latest run

exit codes: 0 done, 1 failed, 2 wrong use, 3 refused, 4 not found, 75 try later
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every command that is installed."""
    parser: argparse.ArgumentParser = Parser(
        prog="ropewalk",
        description="Notebook cells as services, functions and workflows.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for entry in sorted(entry_points(group="ropewalk.commands"), key=lambda one: one.name):
        try:
            register = entry.load()
        except ModuleNotFoundError:
            continue  # in a notebook, the platform's own side is not installed
        register(subparsers)
    work.register(subparsers)
    platform.register(subparsers)
    argo.register(subparsers)
    return parser


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        arguments = parser.parse_args(words)
        return int(asyncio.run(_ask(arguments)) if "ask" in arguments else arguments.run(arguments))
    except RopewalkError as error:
        return fail(error, as_json="--json" in words, origin=platform_origin(_home(words)))
    except BrokenPipeError:
        # Whoever read our output has left; keep the interpreter from complaining while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _home(words: Sequence[str]) -> Path | None:
    """Return the home that a command names, also where the rest of it cannot be read."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--home", type=Path)
    try:
        found: Path | None = parser.parse_known_args(words)[0].home
    except argparse.ArgumentError:
        return None
    return found


async def _ask(arguments: argparse.Namespace) -> int:
    async with connect(home=arguments.home, account=arguments.account) as client:
        code: int = await arguments.ask(client, arguments)
        return code
