"""The command that deploys a program of any language as a function. Functions of Python come from notebooks.

What a script needs is in its block of PEP 723 or in ``-r``. Not here: how a program runs (``ropewalk_runtime.programs``
and ``listening``).
"""

from __future__ import annotations

import argparse
import json
from pathlib import PurePath

from pydantic import ValidationError

from ropewalk_core.cli.output import clean, echo, plain
from ropewalk_core.cli.parsing import Subparsers, add_placement, placement_of, read_text, verb
from ropewalk_core.client import Client
from ropewalk_core.errors import BadInput
from ropewalk_core.model import Bundle, FunctionSpec
from ropewalk_core.names import check_name
from ropewalk_core.requirements import Script, checked, script
from ropewalk_core.variables import parse
from ropewalk_core.wrong import wrong

_OPTIONS = ("timeout", "cpu_time", "idle", "concurrency", "min_workers", "max_workers", "files")


def register(verbs: Subparsers) -> None:
    """Declare the command."""
    one = verb(
        verbs,
        "deploy",
        "deploy a program as a function: a process for each call, from its input to its output",
        run=_deploy,
        example="ropewalk functions deploy count.sh --name count --memory 128Mi",
    )
    one.add_argument("file", help="a script; its #! line says what runs it, else it is /bin/sh. - reads standard input")
    one.add_argument("--name", default="", help="its name (default: the file's)")
    one.add_argument("--server", action="store_true", help="it listens on the port in PORT, one for each worker")
    one.add_argument("--timeout", type=float, help="seconds that a call may take")
    one.add_argument("--idle", type=float, help="seconds after which an unused worker ends")
    one.add_argument("--concurrency", type=int, help="calls that one worker takes at a time")
    one.add_argument("--cpu-time", type=int, help="seconds of processor time that a call may use")
    one.add_argument("--min-workers", type=int, help="workers kept also while nobody calls")
    one.add_argument("--max-workers", type=int, help="workers at most")
    one.add_argument(
        "-r",
        "--requirement",
        action="append",
        default=[],
        metavar="LINE",
        help="a package, such as pandas==2.2; repeat",
    )
    one.add_argument("--files", choices=("write", "read"), help="what it may do with your files (default: write)")
    one.add_argument("--environment", action="append", default=[], metavar="NAME=VALUE", help="a variable; repeat")
    one.add_argument("--secret", action="append", default=[], metavar="NAME", help="a secret of yours, as a variable")
    add_placement(one)


async def _deploy(client: Client, arguments: argparse.Namespace) -> int:
    text = read_text(arguments.file)
    if not text.strip():
        raise BadInput("The program is empty.", field="file")
    name = arguments.name or PurePath(arguments.file).stem.lower().replace("_", "-")
    options = {key: getattr(arguments, key) for key in _OPTIONS}
    bundle = Bundle(files={"program": text}, entry="program:main", form="server" if arguments.server else "program")
    given = {key: value for key, value in options.items() if value is not None}
    given |= {"environment": parse(arguments.environment), "secrets": tuple(arguments.secret)}
    block = script(text) or Script()
    given["requirements"] = checked([*block.requirements, *arguments.requirement])
    given["requires_python"] = block.requires_python
    try:
        spec = FunctionSpec(name=check_name(name), bundle=bundle, placement=placement_of(arguments), **given)
    except ValidationError as error:
        raise wrong(error.errors()) from error
    async for line in client.functions.prepare(spec):
        echo(clean(line.text), error=True)
    function = await client.functions.deploy(spec, prepared=True)
    if arguments.json:
        echo(json.dumps(plain(function), indent=2))
    else:
        word = "unchanged" if function.unchanged else "deployed"
        echo(f"{clean(function.name)} is {word}, revision {function.revision.number}: {function.address}")
    return 0
