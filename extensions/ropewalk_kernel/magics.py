"""The magics: ``%%function``, ``%functions``, ``%runs``, ``%services``. Thin; each is one call of the module of its
noun.

The cell of ``%%function`` runs here first, as the plain Python it is, so that the function can be tried with
``.local()`` and its mistakes show at once; then the function is captured and deployed, and its name stands for the
deployed one.
"""

from __future__ import annotations

import ast
import inspect
import re
import traceback
from collections.abc import Callable
from typing import Any

from IPython.core import inputtransformer2, magic_arguments
from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class

from ropewalk_core.errors import BadCode, BadInput, BadName, RopewalkError
from ropewalk_core.names import is_name
from ropewalk_core.requirements import script
from ropewalk_core.signatures import answering
from ropewalk_kernel import absent
from ropewalk_kernel.brought import Cell, Program
from ropewalk_kernel.functions import functions, platform_name
from ropewalk_kernel.runs import runs
from ropewalk_kernel.services import services
from ropewalk_runtime import missing


def function(target: Callable[..., Any] | None = None, name: str = "", **options: Any) -> Any:
    """Deploy a function; the name then stands for the deployed one. Use it with or without options.

    Parameters
    ----------
    name
        Its name on the platform; empty means the function's own.
    options
        As in ``%%function``: ``memory``, ``arch``, ``accelerator``, ``timeout`` ...

    Examples
    --------
    >>> import ropewalk
    >>> @ropewalk.function(memory="512Mi")
    ... def double(x: int) -> int:
    ...     return 2 * x
    """
    if target is None:
        return lambda one: functions.deploy(one, name, **options)
    return functions.deploy(target, name, **options)


def _options() -> Any:
    """Return the parser of ``%%function``'s line; its help is part of ``%%function?``."""
    kit: Any = magic_arguments
    parser = kit.MagicArgumentParser("%function", add_help=False)
    add = parser.add_argument
    add("name", nargs="?", default="", help="which function of the cell; the last one when left out")
    add("--as", dest="deploy_as", default="", metavar="NAME", help="its name on the platform")
    add("--memory", "-m", help="such as 512Mi")
    add("--cpu", type=float, help="cores")
    add("--arch", action="append", help="amd64 or arm64; may be repeated")
    add("--accelerator", "-A", action="append", help="in order of preference; may be repeated")
    add("--scratch", help="size of the temporary folder")
    add("--isolation", help="sandbox class")
    add("--form", help="asgi for a cell that makes an ASGI app; program or server for one that is no Python function")
    add("--timeout", type=float, help="seconds that a call may take")
    add("--idle", type=float, help="seconds after which an unused worker ends")
    add("--concurrency", type=int, help="calls that one worker takes at a time")
    add("--cpu-time", type=int, help="seconds of processor time that a call may use")
    add("--min-workers", type=int, help="workers kept also while nobody calls")
    add("--max-workers", type=int, help="workers at most")
    add("--files", help="write, or read: it may then only read your files")
    add("--environment", action="append", metavar="NAME=VALUE", help="a variable; may be repeated")
    add("--secret", dest="secrets", action="append", metavar="NAME", help="a secret of yours, as a variable")
    add("--access", help="private, public (anybody, without signing in), or accounts with commas between them")
    add("--origins", help="web pages that may call it, with commas between them")
    add("--every", action="append", metavar="SCHEDULE", help="call it by itself: cron's five fields, or @hourly ...")
    add("--zone", help="time zone of the schedule, such as Europe/Athens; UTC if left out")
    add("--after", action="append", metavar="NAME", help="call it when a call of this function, or workflow:NAME, ends")
    add("--when", help="after which ends: success, failure or always")
    add("--on-file", action="append", metavar="PATTERN", help="call it for each new file, such as inbox/*.csv")
    add("--existing", action="store_true", default=None, help="files that are there already count as new")
    add("--retries", type=int, help="times that a durable call is tried again")
    add("--retry-errors", action="store_true", default=None, help="try it again after the function's own exception too")
    add(
        "--requirement",
        "-r",
        dest="requirements",
        action="append",
        help="a package, such as pandas==2.2",
    )
    add("--requires-python", help="versions of Python that it works with, such as >=3.11")
    add("--retry-wait", type=float, help="seconds before the first retry")
    return parser


OPTIONS = _options()


@magics_class
class RopewalkMagics(Magics):
    """The magics of a person's kernel."""

    @cell_magic
    def function(self, line: str, cell: str) -> None:
        """Deploy the function that the cell defines, and bind its name to the deployed one.

        Example::

            %%function --memory 512Mi
            def double(x: int) -> int:
                return 2 * x
        """
        chosen = _options_of(line)
        shell: Any = self.shell
        if cell.lstrip("\n").startswith("#!") or chosen["form"] in ("program", "server"):
            wanted, deploy_as = chosen.pop("name"), chosen.pop("deploy_as")
            bound = _bound_as(wanted or deploy_as)
            shell.user_ns[bound] = functions.deploy(
                Program(cell.lstrip("\n"), bound), deploy_as or platform_name(wanted), **_listed(chosen)
            )
            return
        # The magic's own line counts: tracebacks then name the lines that the person sees in the cell.
        source = "\n" + _plain_python(cell)
        whole = chosen["form"] == "asgi"
        wanted = _defined(source, chosen.pop("name"), whole=whole)
        deploy_as = chosen.pop("deploy_as")
        file = shell.compile.cache(source, _prompt(shell), raw_code=source)
        with absent.standing_in(source if chosen["requirements"] or script(source) else "", file):
            try:
                exec(compile(source, file, "exec"), shell.user_ns)  # noqa: S102 - the person's own cell, in their kernel
            except ModuleNotFoundError as error:
                raise _lacking(error, file) from error
            target = shell.user_ns[wanted]
            if whole and not inspect.isfunction(target):
                target = Cell(source, wanted, file, target)
            shell.user_ns[wanted] = functions.deploy(target, deploy_as, **_listed(chosen))

    @line_magic
    def functions(self, line: str) -> Any:
        """List your functions: ``%functions``. With a name it shows one."""
        return functions.get(line.strip()) if line.strip() else functions.list()

    @line_magic
    def runs(self, line: str) -> Any:
        """List your latest runs: ``%runs``. With an identifier it shows one."""
        return runs.get(line.strip()) if line.strip() else runs.list()

    @line_magic
    def services(self, line: str) -> Any:
        """List your services: ``%services``. With a name it shows one."""
        return services.get(line.strip()) if line.strip() else services.list()


def _listed(chosen: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in chosen.items()}


def _bound_as(name: str) -> str:
    """Return the Python name of a program, which has none in its own text."""
    if not name:
        hint = "Write %%function NAME above it; the name then stands for the deployed program."
        raise BadInput("A program needs a name.", field="name", hint=hint)
    return name.replace("-", "_")


def _prompt(shell: Any) -> int:
    """Return the number of the running cell. The shell counts on before it runs one, so only the cell itself knows."""
    cells: dict[str, int] = getattr(shell.compile, "_filename_map", {})
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename not in cells:
        frame = frame.f_back
    return int(cells[frame.f_code.co_filename] if frame is not None else shell.execution_count)


def _defined(source: str, wanted: str, *, whole: bool = False) -> str:
    """Return which function of the cell is meant; raise when there is none, or the cell does not compile.

    With ``whole`` it may be anything that the cell binds, and is ``app`` when that is not said.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise BadCode(f"The cell does not compile: {error.msg}.", field=f"cell line {error.lineno}") from error
    names = [str(getattr(one, "name", "")) for one in tree.body if _answers(one)]
    if whole:
        bound = [one.id for node in tree.body if isinstance(node, ast.Assign) for one in _targets(node)]
        wanted, names = wanted or ("app" if "app" in bound else ""), names + bound
    if not names:
        hint = "Write one with def, or a class with a method call."
        raise BadInput("The cell defines no function.", field="cell", hint=hint)
    if wanted and wanted not in names:
        raise _undefined(wanted, names)
    return wanted or names[-1]


def _targets(node: ast.Assign) -> list[ast.Name]:
    return [one for one in node.targets if isinstance(one, ast.Name)]


def _answers(one: ast.stmt) -> bool:
    """Say whether a statement defines what can answer calls: a function, or a class with ``call`` or ``__call__``."""
    if isinstance(one, ast.ClassDef):
        return answering(one) is not None
    return isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)


def _undefined(wanted: str, names: list[str]) -> RopewalkError:
    """Return the error for a name that the cell does not define; the person may have meant a name on the platform."""
    legal = is_name(platform_name(wanted))
    example = platform_name(wanted) if legal else "NAME"
    hint = f"It defines {', '.join(names)}. For another name on the platform write --as {example}."
    said = f"The cell defines no function '{wanted[:60]}'"
    if is_name(wanted):
        return BadInput(f"{said}.", field="name", hint=hint)
    return BadName(f"{said}, and on the platform this name cannot be used.", field="name", hint=hint)


def _lacking(error: ModuleNotFoundError, file: str) -> Exception:
    """Return what a person is told where a cell imports what is not installed; any other error as it is."""
    lacks = missing.package(error)
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    if lacks is None or not lines:
        return error
    said = f"The cell needs {lacks.said}, which is not installed."
    return BadCode(said, field=f"cell line {lines[-1]}", hint=missing.fix(lacks))


def _options_of(line: str) -> dict[str, Any]:
    """Return the options of a line of ``%%function``."""
    try:
        return {key: _unquoted(value) for key, value in vars(OPTIONS.parse_argstring(line)).items()}
    except (UsageError, ValueError) as error:  # the parser's own, and a quote that is never closed
        said = re.fullmatch(r"argument ([^:]+): (.*)", str(error), re.DOTALL)
        field, text = said.groups() if said else ("%%function", str(error))
        hint = "See %%function? for its options and an example."
        raise BadInput(f"{text[:1].upper()}{text[1:200]}.", field=field, hint=hint) from None


def _unquoted(value: Any) -> Any:
    """Return an option without the quotes around it, which IPython leaves there."""
    if isinstance(value, list):
        return [_unquoted(one) for one in value]
    quoted = isinstance(value, str) and len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value


def _plain_python(cell: str) -> str:
    """Return the cell with IPython's own syntax turned into Python, as IPython itself reads it, line for line."""
    kit: Any = inputtransformer2
    lines = cell.splitlines(keepends=True)
    empty = next((at for at, line in enumerate(lines) if line.strip()), 0)  # IPython leaves them out
    return "\n" * empty + str(kit.TransformerManager().transform_cell(cell))


RopewalkMagics.function.__doc__ = f"{RopewalkMagics.function.__doc__}\n{OPTIONS.format_help()}"


def load_ipython_extension(shell: Any) -> None:
    """Register the magics; IPython calls this when one of them is used for the first time."""
    shell.register_magics(RopewalkMagics)
