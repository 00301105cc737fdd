"""Decide what travels with a function, and write it as one readable module. The same code gives the same digest."""

from __future__ import annotations

import ast
import builtins
import hashlib
import inspect
import json
import symtable
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ropewalk_core.errors import BadCode
from ropewalk_core.model import Bundle
from ropewalk_workflows.capture import confidential, local_modules, values
from ropewalk_workflows.capture.sources import Cells, Piece
from ropewalk_workflows.here import here

MAIN = "ropewalk_cells"
_STANDARD = frozenset(
    name for name in dir(builtins) if not getattr(getattr(builtins, name), "__module__", "").startswith("IPython")
)


def capture(function: Any, *, shell: Any = None, modules_root: Path | None = None) -> Bundle:
    """Return the bundle of a function that was defined in a notebook or a module.

    Parameters
    ----------
    function
        A function, a class, or one of our own decorated objects.
    shell
        IPython's shell, which knows the cells' numbers; None asks IPython.
    modules_root
        Modules below this folder travel by source; None means the working folder.

    Raises
    ------
    BadCode
        If something it uses cannot travel; ``field`` is the cell and line.
    """
    return capture_several((function,), shell=shell, modules_root=modules_root)


def capture_several(functions: tuple[Any, ...], *, shell: Any = None, modules_root: Path | None = None) -> Bundle:
    """Return the bundle of functions of one module, of which the first is the entry; see `capture`."""
    functions = tuple(plain(one) for one in functions)
    for one in functions:
        if not _is_definition(one):
            raise BadCode(
                f"{type(one).__name__} is not a function.", field="function", hint="Write a def that calls it."
            )
    first = functions[0]
    home = getattr(inspect.unwrap(first), "__globals__", None) or vars(sys.modules[first.__module__])
    collector = _Collector(Cells(home, shell or _shell()), first.__module__, (modules_root or here()).resolve())
    for one in functions:
        collector.entry(one)
    return collector.bundle(first.__name__)


def capture_cell(text: str, name: str, *, file: str, shell: Any = None, modules_root: Path | None = None) -> Bundle:
    """Return the bundle of a whole cell, of which a name answers: an app that its statements make.

    Parameters
    ----------
    text
        The cell as plain Python.
    name
        What it binds to that which answers.
    file
        What Python calls the cell.
    shell, modules_root
        As of `capture`.

    Raises
    ------
    BadCode
        If something it uses cannot travel; ``field`` is the cell and line.
    """
    shell = shell or _shell()
    home = shell.user_ns if shell is not None else vars(sys.modules["__main__"])
    collector = _Collector(Cells(home, shell), "__main__", (modules_root or here()).resolve())
    collector.cell(name, text, collector.cells.label(file))
    return collector.bundle(name)


def plain(value: Any) -> Any:
    """Return the function under our own decorators."""
    while type(value).__module__.partition(".")[0] in ("ropewalk", "ropewalk_workflows", "ropewalk_kernel"):
        inner = getattr(value, "function", None)
        if inner is None:
            break
        value = inner
    return value


def _made(value: Any) -> str:
    """Return the text that makes a step again which is no function of the person's, such as a program's."""
    ours = type(value).__module__.partition(".")[0] == "ropewalk_workflows"
    return str(getattr(getattr(value, "made", None), "text", "")) if ours else ""


def _shell() -> Any:
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


@dataclass
class _Uses:
    """The global names that a definition reads: all, and those read when it is defined."""

    names: set[str] = field(default_factory=set)
    early: set[str] = field(default_factory=set)


class _Collector:
    def __init__(self, cells: Cells, home: str, root: Path) -> None:
        self.cells, self.home, self.root = cells, home, root
        self.pieces: dict[str, Piece] = {}
        self.uses: dict[str, _Uses] = {}
        self.imports: set[str] = set()
        self.constants: dict[str, str] = {}
        self.aliases: dict[str, str] = {}
        self.objects: dict[str, Any] = {}
        self.modules: set[str] = set()
        self.files: dict[str, str] = {}
        self.queue: list[tuple[str, Any]] = []

    def entry(self, function: Any) -> None:
        if function.__name__ not in self.pieces:
            self._take(function.__name__, function)
        while self.queue:
            self._follow(*self.queue.pop(0))

    def cell(self, name: str, text: str, label: str) -> None:
        """Take a whole cell; what it binds itself comes from nowhere else."""
        lead = len(text) - len(text.lstrip("\n"))
        future = "from __future__ import annotations"
        piece = Piece(name, text.lstrip("\n").replace(future, "", 1), label, lead + 1, future in text)
        tree = ast.parse(piece.text)
        bound = {one.get_name() for one in symtable.symtable(piece.text, "cell", "exec").get_symbols() if _binds(one)}
        self.objects |= {one: self.cells.namespace.get(one) for one in bound}
        self.pieces[name] = piece
        for one in ast.walk(tree):
            if isinstance(one, ast.Import):
                for alias in one.names:
                    self._module(alias.name)
            elif isinstance(one, ast.ImportFrom) and one.module and not one.level:
                self._module(one.module)
        self._resolve(piece, bound, {})
        while self.queue:
            self._follow(*self.queue.pop(0))

    # Collecting

    def _take(self, name: str, value: Any) -> None:
        self.objects[name] = value
        self.pieces[name] = self.cells.piece(name, value)
        self.queue.append((name, value))

    def _follow(self, name: str, value: Any) -> None:
        self._resolve(self.pieces[name], {name}, _closure(inspect.unwrap(value)))

    def _resolve(self, piece: Piece, bound: set[str], inner: dict[str, Any]) -> None:
        """Take what a piece uses and does not bind itself."""
        uses = self.uses[piece.name] = _uses(piece.text)
        if piece.future:
            self.imports.add("from __future__ import annotations")
        for used in sorted((uses.names | set(inner)) - bound):
            if used in inner:
                self._add(used, inner[used], piece)
            elif used in _STANDARD and _covers(self.cells.namespace.get(used), used):
                continue  # IPython puts its own `open` before the real one
            elif used in self.cells.namespace:
                self._add(used, self.cells.namespace[used], piece)
            elif used not in _STANDARD:
                if not hasattr(builtins, used):
                    raise _refuse(piece, used, "is not defined", "Run the cell that defines it first.")
                self._add(used, getattr(builtins, used), piece)

    def _add(self, name: str, value: Any, piece: Piece) -> None:
        again = _made(value)
        value = plain(value) if not again else value
        if name in self.objects:
            if self.objects[name] is not value:
                raise _refuse(piece, name, "means two different things here", "Give one of them another name.")
            return
        if name in ("__name__", "__file__", "__doc__", "__builtins__"):
            return
        if again and value.made.alone:
            hint = "Call it in the workflow, and give its result to this step."
            raise _refuse(piece, name, "is a step that only a workflow calls", hint)
        if again:
            self.objects[name], self.constants[name] = value, f"ropewalk.{again}"
            self.imports.add("import ropewalk")
            return
        if name == "get_ipython" or getattr(value, "__module__", "") == "IPython.core.getipython":
            raise _refuse(piece, name, "is IPython itself; magics work only in a notebook", "Leave the magic out.")
        if statement := self._import(name, value, piece):
            self.objects[name] = value
            self.imports.add(statement)
        elif _is_definition(value) and value.__name__ not in (name, "<lambda>"):
            self.objects[name], self.aliases[name] = value, value.__name__
            self._add(value.__name__, value, piece)
        elif _is_definition(value) or values.is_typing(value):
            self._take(name, value)
        else:
            self.objects[name] = value
            self.constants[name] = self._constant(name, value, piece)

    def _import(self, name: str, value: Any, piece: Piece) -> str:
        """Return the import statement that gives this value, if it comes from a module other than the home."""
        if isinstance(value, types.ModuleType):
            self._module(value.__name__)
            for dotted in _dotted(piece.text, name, value):
                self._module(dotted)
                self.imports.add(f"import {dotted}")
            return _import_module(name, value)
        module = getattr(value, "__module__", None)
        if module == self.home and _is_definition(value):
            return ""
        if statement := self.cells.import_of(name, value):
            self._module(statement.split()[1])
            return statement
        if not (_is_definition(value) or isinstance(value, types.BuiltinFunctionType)) or not isinstance(module, str):
            return ""
        public = values.public_module(module, value)
        if not public:
            return ""
        self._module(public)
        original = value.__name__
        return f"from {public} import {original}" + (f" as {name}" if name != original else "")

    def _module(self, name: str) -> None:
        """Take a module that lies beside the notebook, and note any other: to import its package is not enough."""
        top = name.partition(".")[0]
        self.modules.add(top)
        self.files.update(local_modules.sources(name, self.root, self.files))
        if not any(path.partition("/")[0].removesuffix(".py") == top for path in self.files):
            self.modules.add(name)

    def _constant(self, name: str, value: Any, piece: Piece) -> str:
        if confidential.is_secret(name, value):
            raise _refuse(
                piece, name, "looks like a secret, which does not travel with code", confidential.advice(name)
            )
        text, why, extra = values.literal(value)
        if extra:
            self.imports.add(extra)
        if not text:
            hint = f"Pass it as an argument: def {piece.name}(..., {name})."
            raise _refuse(piece, name, why, hint)
        return text

    # Writing

    def bundle(self, entry: str) -> Bundle:
        lines: list[str] = []
        origin: dict[str, str] = {}
        imports = sorted(self.imports, key=lambda line: (not line.startswith("from __future__"), line))
        lines += imports + ([""] if imports else [])
        constants = [f"{name} = {text}" for name, text in sorted(self.constants.items())]
        lines += constants + ([""] if constants else [])
        for piece in self._ordered():
            lines.append("")
            origin[f"{MAIN}.py:{len(lines) + 1}"] = f"{piece.cell}:{piece.line}"
            lines += piece.text.rstrip("\n").split("\n")
            lines.append("")
        lines += [f"{name} = {original}" for name, original in sorted(self.aliases.items())]
        files = {f"{MAIN}.py": "\n".join(lines).strip("\n") + "\n", **self.files}
        lead = len(lines) - len("\n".join(lines).lstrip("\n").split("\n"))
        origin = {f"{MAIN}.py:{int(key.rpartition(':')[2]) - lead}": value for key, value in origin.items()}
        return sealed(files, f"{MAIN}:{entry}", origin, tuple(sorted(self.modules)))

    def _ordered(self) -> list[Piece]:
        """Return the pieces so that what is read while defining comes first."""
        done: dict[str, Piece] = {}

        def visit(name: str) -> None:
            if name in done or name not in self.pieces or name in walking:
                return
            walking.add(name)
            for needed in sorted(self.uses[name].early):
                visit(needed)
            done[name] = self.pieces[name]

        walking: set[str] = set()
        for name in sorted(self.pieces):
            visit(name)
        return list(done.values())


def sealed(files: dict[str, str], entry: str, origin: dict[str, str], imports: tuple[str, ...]) -> Bundle:
    """Return files as a bundle, whatever language they are in.

    Raises
    ------
    BadCode
        If the hub token, or what looks like another secret, is in one of them.
    """
    _no_secret(files)
    digest = hashlib.sha256(json.dumps([files, entry], sort_keys=True).encode()).hexdigest()
    return Bundle(files=files, entry=entry, origin=origin, imports=imports, digest=digest)


def _no_secret(files: dict[str, str]) -> None:
    token = values.hub_token()
    for name, text in files.items():
        if token and token in text:
            raise BadCode(
                "The code contains your hub token.",
                field=name,
                hint="Remove it; no token is needed, ropewalk signs in by itself.",
            )
        if kind := confidential.in_text(text):
            raise BadCode(f"The code contains {kind}.", field=name, hint=confidential.advice())


def _uses(text: str) -> _Uses:
    uses = _Uses()

    def walk(table: symtable.SymbolTable, early: bool, top: bool) -> None:
        for symbol in table.get_symbols():
            free = symbol.is_referenced() if top else symbol.is_global() and symbol.is_referenced()
            if free:
                uses.names.add(symbol.get_name())
                if early:
                    uses.early.add(symbol.get_name())
        for child in table.get_children():
            walk(child, early and child.get_type() == "class", False)

    walk(symtable.symtable(text, "cell", "exec"), True, True)
    return uses


def _binds(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def _closure(value: Any) -> dict[str, Any]:
    cells = getattr(value, "__closure__", None) or ()
    names = value.__code__.co_freevars if cells else ()
    found = {}
    for name, cell in zip(names, cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def _dotted(text: str, name: str, module: types.ModuleType) -> list[str]:
    """Return the submodules that the code reaches by attribute, such as ``sklearn.datasets`` of ``sklearn``."""
    found = []
    for node in ast.walk(ast.parse(text)):
        chain: list[str] = []
        while isinstance(node, ast.Attribute):
            chain.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node.id == name and chain:
            dotted = module.__name__
            for part in chain:
                dotted = f"{dotted}.{part}"
                if dotted not in sys.modules:
                    break
                found.append(dotted)
    return found


def _covers(value: Any, name: str) -> bool:
    """Say whether the value is only a wrapper around the builtin of that name."""
    return getattr(value, "__wrapped__", None) is getattr(builtins, name)


def _import_module(name: str, module: types.ModuleType) -> str:
    if name == module.__name__:
        return f"import {name}"
    return f"import {module.__name__} as {name}"


def _is_definition(value: Any) -> bool:
    return isinstance(value, types.FunctionType | type) or isinstance(
        getattr(value, "__wrapped__", None), types.FunctionType
    )


def _refuse(piece: Piece, name: str, why: str, hint: str) -> BadCode:
    where = piece.where(name)
    return BadCode(
        f"'{name}', used by '{piece.name}' ({where}), {why}.", field=where, hint=hint, details={"name": name}
    )
