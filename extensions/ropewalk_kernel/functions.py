"""Functions in a notebook: deploy from a cell, call like any callable, look at, remove; found again by name.

A handle holds a name and nothing else that matters, so it survives a kernel restart as ``functions.get(name)``. Not
here: capturing code (``ropewalk_workflows.capture``) and the wire to the gateway (``calls``).
"""

from __future__ import annotations

import inspect
import secrets
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Literal

import httpx
from pydantic import ValidationError

from ropewalk_core import samples, sync, variables
from ropewalk_core.client.durable import Shelf
from ropewalk_core.errors import BadInput, NotFound, RopewalkError
from ropewalk_core.model import Call, Function, FunctionSpec, Revision, Window
from ropewalk_core.names import check_name
from ropewalk_core.placement import Placement, parse_placement
from ropewalk_core.revisions import difference, environment, pair, previous, stories
from ropewalk_core.signatures import read
from ropewalk_core.wrong import wrong
from ropewalk_kernel import (
    calls,
    cards,
    live,
    look,
    mapping,
    needs,
    observed,
    printed,
    shares,
    sharing,
    taken,
    triggers,
    values,
)
from ropewalk_kernel.bar import Bar
from ropewalk_kernel.brought import Brought, Program, captured, form_of, here
from ropewalk_kernel.sending import DURABLE, Sender
from ropewalk_kernel.spawned import Spawned, SpawnedCall, listed
from ropewalk_kernel.workflows import working_folder

_PLACEMENT = frozenset(Placement.model_fields)
_FORMS = ("python", "asgi", "program", "server")
_ELSEWHERE = sharing.OPTIONS | triggers.OPTIONS
_OPTIONS = frozenset(
    {"form", "timeout", "cpu_time", "concurrency", "min_workers", "max_workers", "idle"}
    | {"retries", "retry_errors", "retry_wait", "environment", "secrets", "files"}
)


class FunctionHandle(sharing.Shared, shares.Split, triggers.Triggered):
    """A deployed function. Call it: ``digits(pixels)``; the answer comes back as Python values.

    Parameters
    ----------
    name
        The function's name.
    function
        The Python function of the cell, when it was deployed from this kernel; `local` calls it here.
    number
        The revision that calls go to alone; 0: wherever the function's traffic leads them.
    """

    def __init__(self, name: str, function: Callable[..., Any] | None = None, number: int = 0) -> None:
        self.name, self.function, self.number = name, function, number
        self.__name__ = name
        self.__doc__ = getattr(function, "__doc__", None) or f"The function {name}, called on the platform."
        self._seen: Function | None = None
        self._one: Callable[..., Any] | None = None
        self._cell: int | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function on the platform with Python values; numpy arrays and data frames arrive as such.

        Large ones go once, as files, with a line of progress under the cell.

        What a call that takes longer than a second prints appears under the cell while it goes on.
        What a generator yields comes as it is yielded: ``for part in f(x)``. To leave the loop ends the generator.
        """
        return calls.call(self._address(self._known()), args, kwargs, printed.follower(self.name))

    async def aio(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function on the platform without blocking: ``await f.aio(x)``, or many with ``asyncio.gather``.

        To cancel who awaits ends the call. What a generator yields comes by ``async for part in await f.aio(x)``.

        Examples
        --------
        >>> import asyncio
        >>> one, two = await asyncio.gather(double.aio(1), double.aio(2))
        """
        client = sync.client()
        if self._seen is None:
            self._seen = await sync.elsewhere(client.functions.get(self.name))
        return await calls.aio(client, self._address(self._seen), args, kwargs)

    def map(
        self,
        *iterables: Iterable[Any],
        workers: int | None = None,
        progress: bool = True,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Iterator[Any]:
        """Call the function for each item, several at a time, and yield the answers in the order of the items.

        Answers come as soon as they and all before them are there. Items are taken when they are needed, so an endless
        generator is fine. Leaving the loop early, or the stop button, cancels what is under way.

        Parameters
        ----------
        iterables
            The arguments; several are taken side by side, as Python's own `map` does.
        workers
            How many calls are under way at the same time; not given, as many as the function takes.
        progress
            Whether to show a line of progress under the cell.
        on_error
            ``"return"`` yields a failed call's error in its place; ``"raise"`` raises it there, and begins no more.

        Raises
        ------
        RopewalkError
            What a call failed with. Only a call that was refused for lack of room is sent again.

        Examples
        --------
        >>> list(double.map(range(3)))
        [0, 2, 4]
        >>> for answer in double.map([1, "x"], on_error="return"):
        ...     print("failed" if isinstance(answer, ropewalk.RopewalkError) else answer)
        """
        if not iterables:
            raise BadInput("There is nothing to call it with.", field="iterables", hint="Write f.map(items).")
        if on_error not in ("raise", "return"):
            raise BadInput(f"on_error is {on_error!r}.", field="on_error", hint='Write "raise" or "return".')
        seen, client = self.info(), sync.client()
        spec = seen.revision.spec
        count = min(spec.max_workers * spec.concurrency, mapping.MOST) if workers is None else workers
        if not isinstance(count, int) or not 1 <= count <= mapping.MOST:
            raise BadInput(f"workers is {count!r}.", field="workers", hint=f"Give a number from 1 to {mapping.MOST}.")
        lengths = [len(one) for one in iterables if isinstance(one, Sized)]
        bar = Bar(self.name, min(lengths) if len(lengths) == len(iterables) else None, shown=progress)
        address = self._address(seen)
        lanes = mapping.Lanes(lambda body: calls.send(client, address, body), count, go_on=on_error == "return")
        sender = Sender(client, address, shown=progress, remembers=True)
        return mapping.results(
            lanes,
            zip(*iterables, strict=False),
            bar,
            give_failures=on_error == "return",
            write=lambda args: calls.envelope(client, address, args, {}, sender),
        )

    def spawn(self, *args: Any, **kwargs: Any) -> SpawnedCall:
        """Have the call carried out whatever happens meanwhile, and return at once; it is on disk when this returns.

        Keep the handle's ``id``: ``functions.spawned(id).result()`` asks for the result tomorrow, from any notebook.
        What is lost or takes too long is tried again, as the options ``retries``, ``retry_errors`` and ``retry_wait``
        of the function say. It may therefore run more than once; its result is recorded once.

        Examples
        --------
        >>> call = double.spawn(21)
        >>> call.result()
        42
        >>> ropewalk.functions.spawned(call.id).state
        """
        return self._spawn(secrets.token_hex(16), args, kwargs)

    def spawn_once(self, key: str, *args: Any, **kwargs: Any) -> SpawnedCall:
        """Do as `spawn` does, under a key: the same key again returns the call that it made, however often you run it.

        Examples
        --------
        >>> double.spawn_once("monday", 21).id == double.spawn_once("monday", 21).id
        True
        """
        if not key:
            raise BadInput("The key is empty.", field="key", hint="Give text that names this one call.")
        return self._spawn(key, args, kwargs)

    def spawned(self, shelf: Shelf = "", limit: int = 20) -> Spawned:
        """Return the latest durable calls, newest first: all, or with ``shelf`` the open, failed or ended ones."""
        return listed(self.name, shelf, limit)

    def _spawn(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> SpawnedCall:
        client, address = sync.client(), self._address(self._known())
        body = calls.envelope(client, address, args, kwargs, Sender(client, address, least=DURABLE))
        return SpawnedCall(sync.wait(calls.spawn(client, address, body, key)))

    def local(self, *args: Any, **kwargs: Any) -> Any:
        """Call the code of the cell in this kernel, whichever revision is deployed; a class is started once for it."""
        if self.function is None:
            raise BadInput(
                f"The code of {self.name} is not in this kernel.", field="local", hint="Run the cell that defines it."
            )
        if isinstance(self.function, type):
            self._one = self._one or _started(self.function)
            return self._one(*args, **kwargs)
        return self.function(*args, **kwargs)

    def request(self, method: str, path: str = "/", **options: Any) -> httpx.Response:
        """Send a request to the function's own address, with a token of yours: for an ASGI app.

        Parameters
        ----------
        method, path
            Of the request.
        options
            As of ``httpx.request``: ``json``, ``params``, ``headers``, ``content``, ``timeout`` ...
        """
        return calls.request(self._address(self._known()), method, path, options)

    @property
    def url(self) -> str:
        """The function's own address, or that of the revision that `at` chose."""
        return self._address(self._known())

    @property
    def placement(self) -> Placement:
        """What it asks of the machine."""
        return self.info().revision.spec.placement

    def info(self) -> Function:
        """Return the function as it is now."""
        self._seen = sync.wait(sync.client().functions.get(self.name))
        return self._seen

    def curl(self, *args: Any, **kwargs: Any) -> str:
        """Return the shell command that does the same call; the token is taken when it runs.

        Without arguments it shows sample values that fit the function's parameters.
        """
        value: Any = kwargs or (args[0] if args else samples.payload(read(self._known().revision.spec.bundle)))
        body = values.encode(value, exact=False).decode()
        body = body if len(body) <= 2000 else "@payload.json"
        return (
            f'curl -H "Authorization: Bearer $(ropewalk token)" -H "Content-Type: application/json" '
            f"-d {shlex.quote(body)} {self.url}"
        )

    def openapi(self) -> dict[str, Any]:
        """Return the function as an OpenAPI document, made from its type hints: for tools that make clients and forms.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> double.openapi()["paths"]["/"]["post"]["requestBody"]
        """
        return sync.wait(sync.client().functions.openapi(self.name))

    def calls(self, limit: int = 20) -> list[Call]:
        """Return the latest calls, newest first."""
        return list(sync.wait(sync.client().functions.calls(self.name, limit=limit)).items)

    def figures(self, window: Window = "hour") -> observed.ShownFigures:
        """Return how many calls there were, how long they took and how many failed, as drawings and numbers.

        Parameters
        ----------
        window
            ``"hour"``: the last hour by minute; ``"day"``: the last day by quarter of an hour.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> double.figures()
        """
        return observed.figures(self.name, window)

    def costs(self) -> observed.ShownCosts:
        """Return what the calls cost by day: CPU seconds, and memory set aside in GB-seconds.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> double.costs()
        """
        return observed.costs(self.name)

    def logs(self, limit: int = 5) -> str:
        """Return what the latest calls printed and how they failed, oldest first."""
        parts = []
        for call in reversed(self.calls(limit)):
            took = look.duration(call.queued or call.started, call.ended)
            cold = ", cold" if call.cold else ""
            on = f", on {call.accelerator}" if call.accelerator else ""
            parts.append(f"{call.id} {look.SIGNS[call.state]} {call.state.value} {took}{cold}{on}".rstrip())
            parts += [text.rstrip() for text in (call.logs, call.traceback or call.error) if text]
        return "\n".join(parts)

    def versions(self) -> Versions:
        """Return the revisions that are kept, newest first; iterate over them for `Revision`.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> double.versions()
        """
        current = self.info().revision
        return Versions(sync.wait(sync.client().functions.revisions(self.name)).items, current.number)

    def diff(self, older: int = 0, newer: int = 0) -> cards.Picture:
        """Return what changed between two revisions: code, options and environment, as a unified diff.

        Parameters
        ----------
        older
            The number of a revision; left out, the one before the current.
        newer
            Left out, the current one.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> double.diff()
        """
        ask, kept = sync.client().functions, self.versions().items
        numbers = pair(older, newer, self._known().revision, kept)
        before, after = [sync.wait(ask.revision(self.name, one)) for one in numbers]
        title = f"function {self.name}: revision {before.number} to {after.number}"
        text = difference(before, after)
        return cards.difference(title, text) if text else cards.notice(f"{title}: nothing differs")

    def rollback(self, number: int = 0) -> None:
        """Deploy an earlier revision again, and show the card.

        It is tried as every deploy is and becomes a new revision, so that the one it takes the place of stays too.
        Where calls were split between revisions, all of them go to it.

        Parameters
        ----------
        number
            The number of a revision; left out, the one before the current.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> double.rollback()
        """
        if not number:
            kept = self.versions().items
            number = previous(self._known().revision, kept)
        self._seen = sync.wait(sync.client().functions.rollback(self.name, number))
        word = "is already what" if self._seen.unchanged else f"revision {self._seen.revision.number} is what"
        line = f"function {self.name}: {word} revision {number} was, and takes all calls"
        live.show(cards.function_card(self._seen, line=line))

    def remove(self) -> None:
        """Remove the function; its address answers no more."""
        sync.wait(sync.client().functions.remove(self.name))
        live.show(cards.notice(f"function {self.name}: removed"))

    def _known(self) -> Function:
        return self._seen or self.info()

    def _address(self, seen: Function) -> str:
        """Return where calls go."""
        if not self.number:
            return seen.address
        for one in seen.traffic.shares:
            if one.number == self.number and one.address:
                return one.address
        raise NotFound(
            f"Revision {self.number} of {self.name} has no address of its own.",
            field="number",
            hint=f"`.at({self.number})` gives it one, unless the names of function and account are too long for it.",
        )

    def _ipython_display_(self) -> None:
        if self._cell is None or self._cell != live.cell():  # its cell shows the card already
            live.show(cards.function_card(self.info()))

    def __repr__(self) -> str:
        return f"<function {self.name}{f', revision {self.number},' if self.number else ''} on the platform>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (FunctionHandle, (self.name, None, self.number))


class Functions:
    """Your functions: ``functions.get(name)``, ``functions.list()``, ``functions[name]``.

    Examples
    --------
    >>> import ropewalk
    >>> @ropewalk.function
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> ropewalk.functions.get("double").url
    """

    def of(self, owner: str, name: str) -> sharing.Borrowed:
        """Return a function that its owner lets you call, or raise `NotFound`.

        Examples
        --------
        >>> import ropewalk
        >>> @ropewalk.function(access=["bob"])
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> ropewalk.functions.of("ada", "double")
        """
        return sharing.Borrowed(sync.wait(sync.client().functions.get(check_name(name), owner=check_name(owner))))

    def get(self, name: str) -> FunctionHandle:
        """Return a function by name, or raise `NotFound`.

        Examples
        --------
        >>> import ropewalk
        >>> [function.name for function in ropewalk.functions.list()]
        """
        handle = FunctionHandle(check_name(name))
        handle.info()
        return handle

    def list(self) -> Listed:
        """Return all functions by name.

        Examples
        --------
        >>> import ropewalk
        >>> ropewalk.functions.list()
        """
        return Listed(tuple(sync.iterate(sync.client().functions.all())))

    def costs(self) -> observed.ShownCosts:
        """Return what the calls of all functions cost by day, also of those that were removed.

        Examples
        --------
        >>> import ropewalk
        >>> ropewalk.functions.costs()
        """
        return observed.costs()

    def spawned(self, call: str) -> SpawnedCall:
        """Return a durable call by the identifier of its handle, or raise `NotFound`.

        Examples
        --------
        >>> import ropewalk
        >>> @ropewalk.function
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> call = double.spawn(21)
        >>> ropewalk.functions.spawned(call.id).result()
        42
        """
        return SpawnedCall(sync.wait(sync.client().durable.get(call)))

    def deploy(
        self,
        function: Callable[..., Any] | Brought,
        name: str = "",
        *,
        placement: Placement | None = None,
        **options: Any,
    ) -> FunctionHandle:
        """Deploy a function of this notebook, and show its card.

        Parameters
        ----------
        function
            A function defined in a cell or in a module beside the notebook.
        name
            Its name on the platform; empty means the function's own, with dashes.
        placement
            Where it may run.
        options
            ``memory``, ``cpu``, ``arch``, ``accelerator`` and the other fields of a `Placement`; ``timeout``,
            ``cpu_time`` (processor time of a call) and ``idle`` in seconds; ``concurrency``; ``min_workers``, which are
            kept while nobody calls, and ``max_workers``; ``retries``, ``retry_errors`` and ``retry_wait`` of
            durable calls; ``environment``, variables by name, and ``secrets``, names of yours that it gets as variables
            (`ropewalk.secrets`); ``files="read"`` to let it only read your files;
            ``access`` and ``origins`` as in `access`; ``form="asgi"`` for a function that returns an ASGI app;
            ``requirements``, lines such as ``"pandas==2.2"``, for an environment of its own, and
            ``requires_python`` (a block ``# /// script`` in its cell says the same); ``every`` (with ``zone``),
            ``after`` (with ``when``) and ``on_file`` (with ``existing``) as in `add_trigger`, or ``triggers``, a list
            of such. Those that are named take the place of all it had.

        Raises
        ------
        BadCode
            If something that the function uses cannot travel.
        Unsatisfiable
            If no machine can ever satisfy the placement.

        Examples
        --------
        >>> import ropewalk
        >>> def double(x: int) -> int:
        ...     return 2 * x
        >>> ropewalk.functions.deploy(double, memory="512Mi", timeout=5)
        """
        wish, called = sharing.wished(options), triggers.wished(options)
        spec = specification(function, name, placement, options)
        if along := taken.said(spec.bundle):
            live.show(cards.note(along))
        needs.prepare(spec.name, spec)
        deployed = sync.wait(sync.client().functions.deploy(spec, prepared=True))
        line = f"function {spec.name}: {'unchanged' if deployed.unchanged else 'deployed'}"
        line += f", revision {deployed.revision.number}"
        try:
            if wish is not None:
                unchanged = deployed.unchanged
                deployed = sharing.apply(deployed, *wish).model_copy(update={"unchanged": unchanged})
            if called is not None:
                line += f"; called {triggers.choose(spec.name, called) or 'by nothing by itself'}"
        except RopewalkError as error:
            error.message = f"The {line}, but not all that you asked for was done. {error.message}"
            raise
        handle = FunctionHandle(spec.name, here(function))
        handle._seen, handle._cell = deployed, live.cell()
        live.show(cards.function_card(deployed, line=line, curl=f"{spec.name}(...)   or   {handle.curl()}"))
        return handle

    def program(self, source: str, name: str, *, placement: Placement | None = None, **options: Any) -> FunctionHandle:
        """Deploy a program in any language: a process for each call, which reads the payload and writes the answer.

        Parameters
        ----------
        source
            Its text, or the path of its file; a first line with ``#!`` names what runs it, else it is a shell's.
        name
            Its name on the platform.
        placement, options
            As of `deploy`; with ``form="server"`` it runs as long as its worker and listens on the port in ``PORT``.

        Examples
        --------
        >>> import ropewalk
        >>> shout = ropewalk.functions.program("tr a-z A-Z", "shout")
        >>> print(shout.curl("quiet"))
        """
        return self.deploy(Program.of(source, name), name, placement=placement, **options)

    def __getitem__(self, name: str) -> FunctionHandle:
        return self.get(name)

    def _ipython_key_completions_(self) -> Sequence[str]:
        return [one.name for one in self.list().items]

    def __repr__(self) -> str:
        return repr(self.list())


class Listed(cards.Pictured):
    """A list of functions that reads well in a notebook; iterate over it for handles."""

    def __init__(self, items: tuple[Function, ...]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[FunctionHandle]:
        return iter([FunctionHandle(one.name) for one in self.items])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> FunctionHandle:
        return FunctionHandle(self.items[place].name)

    def _picture(self) -> cards.Picture:
        rows = [(one.name, look.word(one.status), f"revision {one.revision.number}", one.address) for one in self.items]
        empty = "No functions yet. Put %%function on the first line of a cell with a def."
        return cards.listing("functions", ("name", "state", "revision", "address"), rows, empty=empty)


class Versions(cards.Pictured):
    """The revisions of a function, newest first, as a table that reads well in a notebook."""

    def __init__(self, items: tuple[Revision, ...], current: int) -> None:
        self.items, self.current = items, current

    def __iter__(self) -> Iterator[Revision]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> Revision:
        return self.items[place]

    def _picture(self) -> cards.Picture:
        rows = [
            (
                f"{one.number} (current)" if one.number == self.current else str(one.number),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(one.created)),
                story,
                environment(one),
                one.id,
            )
            for one, story in zip(self.items, stories(self.items), strict=True)
        ]
        empty = "No revision has been accepted yet."
        return cards.listing("revisions", ("revision", "deployed", "changed", "environment", "id"), rows, empty=empty)


def specification(
    function: Callable[..., Any] | Brought, name: str, placement: Placement | None, options: Mapping[str, Any]
) -> FunctionSpec:
    """Return what will be sent: captured code, placement and limits. Raises `BadInput` on an unknown option."""
    given = {key: value for key, value in options.items() if value is not None and key not in _ELSEWHERE}
    unknown = sorted(set(given) - _PLACEMENT - _OPTIONS - needs.OPTIONS)
    if unknown:
        known = ", ".join(sorted(_PLACEMENT | _OPTIONS | needs.OPTIONS | _ELSEWHERE))
        raise BadInput(f"There is no option '{unknown[0]}'.", field=unknown[0], hint=f"The options are {known}.")
    fields = {key: given.pop(key) for key in list(given) if key in _PLACEMENT}
    if "environment" in given:
        given["environment"] = variables.parse(given["environment"])
    if isinstance(given.get("secrets"), str):
        given["secrets"] = [given["secrets"]]
    needed = needs.of(function, **{key: given.pop(key) for key in list(given) if key in needs.OPTIONS})
    if placement is not None:
        fields = placement.model_dump(exclude_unset=True) | fields
    own = str(getattr(function, "__name__", ""))
    chosen, form = name or platform_name(own), given.pop("form", "") or form_of(function)
    if form not in _FORMS:
        raise BadInput(f"There is no form {form!r}.", field="form", hint=f"The forms are {', '.join(_FORMS)}.")
    checked = (
        {"name": check_name(chosen), "placement": parse_placement(fields), "folder": working_folder()} | given | needed
    )
    try:
        return FunctionSpec(bundle=captured(function).model_copy(update={"form": form}), **checked)
    except ValidationError as error:
        raise wrong(error.errors()) from error


def _started(made: type) -> Callable[..., Any]:
    """Return what answers calls of a class, as a worker makes it: one object, started once."""
    one = made()
    begun = one.start() if hasattr(one, "start") else None
    if inspect.iscoroutine(begun):
        sync.wait(begun)
    answering: Callable[..., Any] = getattr(one, "call", one)
    return answering


def platform_name(own: str) -> str:
    """Return the name on the platform that a Python function gets by itself."""
    return own.lower().strip("_").replace("_", "-")


functions = Functions()
