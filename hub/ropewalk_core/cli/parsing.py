"""How commands are declared: a noun, its verbs, an example for each, and the options that all share.

A command sets ``run`` to a function of the parsed arguments that returns the exit code, or to a coroutine function of
a client and the arguments. Rejected: a framework for commands; argparse is there and people know its help.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import yaml

from ropewalk_core.client import Client
from ropewalk_core.errors import BadInput
from ropewalk_core.placement import Placement, parse_placement

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[Client, argparse.Namespace], Awaitable[int]]


class Parser(argparse.ArgumentParser):
    """A parser whose complaints look like all our errors."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where the help is, and leave with 2."""
        raise BadInput(f"{message[:1].upper()}{message[1:]}.", field="arguments", hint=f"See `{self.prog} --help`.")


def noun(subparsers: Subparsers, name: str, help_text: str) -> Subparsers:
    """Declare a noun and return where its verbs go."""
    parser = subparsers.add_parser(name, help=help_text, description=help_text)
    return parser.add_subparsers(title="verbs", metavar="VERB", required=True)


def verb(
    subparsers: Subparsers, name: str, help_text: str, *, run: Run, example: str, account: bool = True
) -> argparse.ArgumentParser:
    """Declare a command that asks the platform, and return its parser for further arguments."""
    parser = subparsers.add_parser(
        name,
        help=help_text,
        description=help_text,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common(parser)
    if account:
        parser.add_argument(
            "--as",
            dest="account",
            default="",
            metavar="ACCOUNT",
            help="outside a notebook: act as this account (default: the first administrator)",
        )
    parser.set_defaults(ask=run)
    return parser


def common(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--home", type=Path, metavar="DIR", help="home folder of the platform")


def add_placement(parser: argparse.ArgumentParser) -> None:
    """Add the options of a placement."""
    group = parser.add_argument_group("placement")
    group.add_argument("--arch", action="append", metavar="ARCH", help="amd64, arm64 or riscv64; repeat for a choice")
    group.add_argument("--accelerator", action="append", metavar="NAME", help="see `ropewalk accelerators list`")
    group.add_argument("--cpu", type=float, metavar="CORES")
    group.add_argument("--memory", metavar="SIZE", help="such as 2Gi")
    group.add_argument("--scratch", metavar="SIZE", help="of the temporary folder")


def placement_of(arguments: argparse.Namespace) -> Placement:
    """Return the placement that was asked for."""
    asked = {
        "arch": tuple(arguments.arch or ()),
        "accelerator": tuple(arguments.accelerator or ()),
        "cpu": arguments.cpu,
        "memory": arguments.memory,
        "scratch": arguments.scratch,
    }
    return parse_placement(asked)


def pairs(words: list[str], what: str) -> dict[str, Any]:
    """Return ``name=value`` words as a mapping; values are read as YAML, so 3 is a number and true a truth."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise BadInput(f"'{word}' is not NAME=VALUE.", field=what)
        found[name] = load_yaml(value, what)
    return found


def load_yaml(text: str, what: str) -> Any:
    """Return the content of a YAML text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{what} is not YAML: {error}.", field=what) from error


def read_text(path: str) -> str:
    """Return the text of a file, or of standard input for ``-``."""
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}.", field="file") from error


def payload_of(given: str) -> bytes:
    """Return JSON that was written out, or read from ``@FILE`` or standard input (``-``)."""
    text = read_text(given.removeprefix("@")) if given == "-" or given.startswith("@") else given
    try:
        json.loads(text)
    except ValueError as error:
        raise BadInput(f"The payload is not JSON: {error}.", field="payload") from error
    return text.encode()
