"""`@step` and `@workflow`: plain Python that makes a ``graph``.

Inside a workflow, calling a step runs nothing: it notes a task and returns an `Output`, which stands for the result and
goes into other steps. Loops and list comprehensions fan out; `step.map` fans out over a list or over an earlier result;
a list of outputs joins. Outside of a workflow a step is the plain function. It must not know Argo (``compile``) or how
a run is started (a submitter is put in by the kernel). Rejected: reading the workflow's source (loops over values that
only Python knows would be lost).
"""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, overload

from ropewalk_core.errors import BadWorkflow, RopewalkError
from ropewalk_core.flows import RunSpec
from ropewalk_core.model import Bundle
from ropewalk_core.placement import Placement, parse_placement
from ropewalk_workflows import required
from ropewalk_workflows.graph import Condition, Graph, Output, Unknown
from ropewalk_workflows.secret_names import checked

_LONGEST = 365 * 86400
_tracing: ContextVar[Graph | None] = ContextVar("tracing", default=None)


class Submitter(Protocol):
    """What the kernel puts in: sends a run on its way and returns its handle."""

    def __call__(self, spec: RunSpec) -> Any:
        """Submit the run."""


@dataclass
class _Wiring:
    submitter: Submitter | None = None
    saver: Callable[..., Any] | None = None
    folder: Callable[[], str] = field(default=lambda: "")


_wiring = _Wiring()


def set_submitter(
    submitter: Submitter | None, *, saver: Callable[..., Any] | None = None, folder: Callable[[], str] | None = None
) -> None:
    """Say how a workflow reaches the platform, and in which folder (relative to the files) a run works.

    Parameters
    ----------
    submitter
        What `Workflow.submit` calls with a compiled run.
    saver
        What `Workflow.save` calls with the workflow, a name and options.
    folder
        Returns the folder.
    """
    _wiring.submitter, _wiring.saver = submitter, saver
    if folder is not None:
        _wiring.folder = folder


@dataclass(frozen=True)
class Options:
    """How a step runs."""

    placement: Placement = field(default_factory=Placement)
    retries: int = 0
    backoff: float = 1.0
    timeout: float | None = None
    pickle: bool = False
    cache: bool | float | None = None
    secrets: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """The code of a step that is no function of the person's.

    Parameters
    ----------
    bundle
        What travels.
    text
        What makes it again.
    leaves
        Files that it leaves beside its result, by name.
    alone
        Whether only a workflow may call it, and no other step's code.
    hint
        What to do where it is called with arguments that it has not.
    """

    bundle: Bundle
    text: str
    leaves: tuple[str, ...] = ()
    alone: bool = False
    hint: str = ""


class Step:
    """A step: a function that a workflow may run elsewhere."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        options: Options | None = None,
        made: Made | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or function.__name__
        self.options = options or Options()
        self.made = made
        self.signature = _signature(function, self.name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function; inside of a workflow, note a task and return its `Output`."""
        graph = _tracing.get()
        if graph is None:
            return self.function(*args, **kwargs)
        return graph.add(self, self._bind(args, kwargs))

    def when(self, condition: Any) -> When:
        """Return the step to be called where a condition holds: ``report.when(score > 0.9)(model)``.

        Where it does not hold the call is left out and its result is None, also for the steps that take it.

        Parameters
        ----------
        condition
            A comparison of another step's result with a number, text, True, False or None; or plain True or False.
        """
        return When(self, condition)

    def map(self, items: Any, /, **common: Any) -> Any:
        """Run the step once for each item, given as its first argument; ``common`` goes to each.

        Parameters
        ----------
        items
            A list, or the output of a step that returns a list.
        """
        first = next(iter(self.signature.parameters), "")
        if not first:
            raise BadWorkflow(f"The step '{self.name}' takes no argument to map over.", field=self.name)
        graph = _tracing.get()
        if graph is None:
            return [self.function(**{first: item}, **common) for item in self._listed(items)]
        if not isinstance(items, Unknown):
            items = self._listed(items)
        bound = self._bind((), {first: None, **common})
        del bound[first]
        return graph.add(self, bound, over=(first, items))

    def _listed(self, items: Any) -> list[Any]:
        try:
            return list(items)
        except TypeError as error:
            raise BadWorkflow(
                f"{self.name}.map(...) takes a list, or the result of a step that returns one; not "
                f"{type(items).__name__}.",
                field=f"{self.name}.map",
            ) from error

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise BadWorkflow(
                f"The step '{self.name}' cannot be called so: {error}.",
                field=self.name,
                hint=f"Its arguments are {self.name}{self.signature}. {self.made.hint if self.made else ''}".strip(),
            ) from error
        return dict(bound.arguments)

    def __repr__(self) -> str:
        return f"<step {self.name}{self.signature}>"


class When:
    """A step and the condition without which it is left out."""

    def __init__(self, step: Step, condition: Any) -> None:
        if isinstance(condition, Output):
            raise BadWorkflow(
                f"'{step.name}' is to depend on a result as it is.",
                field=f"{step.name}.when",
                hint="Compare it: step.when(result == True)(...).",
            )
        if isinstance(condition, Unknown):
            bool(condition)  # which says why not
        self._step, self._condition = step, condition

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function, or return None; inside of a workflow, note a task and return its `Output`."""
        graph, condition = _tracing.get(), self._condition
        if graph is not None and isinstance(condition, Condition):
            return graph.add(self._step, self._step._bind(args, kwargs), when=condition)
        return self._step(*args, **kwargs) if condition else None

    def __repr__(self) -> str:
        return f"<step {self._step.name}, on a condition>"


class Workflow:
    """A workflow: a function that calls steps."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        timeout: float | None = None,
        on_exit: Step | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or function.__name__
        self.timeout = timeout
        self.on_exit = on_exit
        self.signature = _signature(function, self.name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the whole workflow here, as plain Python; inside of another one, add its steps there."""
        if self.on_exit is None:
            return self.function(*args, **kwargs)
        if _tracing.get() is not None:
            raise BadWorkflow(
                f"The workflow '{self.name}' has a last step, and is called inside of another workflow.",
                field=f"{self.name}.on_exit",
                hint="Give the workflow that you submit the last step: @workflow(on_exit=...).",
            )
        try:
            found = self.function(*args, **kwargs)
        except Exception:
            _exit(self.on_exit, "Failed")
            raise
        _exit(self.on_exit, "Succeeded")
        return found

    def graph(self, *args: Any, **kwargs: Any) -> Graph:
        """Return the tasks that this call makes."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise BadWorkflow(
                f"The workflow '{self.name}' cannot be submitted so: {error}.",
                field=self.name,
                hint=f"Its arguments are {self.name}{self.signature}.",
            ) from error
        graph = Graph()
        token = _tracing.set(graph)
        try:
            graph.returns = self.function(*bound.args, **bound.kwargs)
        except RecursionError:
            raise BadWorkflow(
                f"The workflow '{self.name}' calls itself without end: a cycle.",
                field=self.name,
                hint="Give it a case in which it does not call itself again.",
            ) from None
        except RopewalkError:
            raise
        except Exception as error:
            raise self._failed(error) from error
        finally:
            _tracing.reset(token)
        if not graph.tasks:
            raise BadWorkflow(f"The workflow '{self.name}' calls no step.", field=self.name)
        return graph

    def _failed(self, error: Exception) -> BadWorkflow:
        """Return what to say when the person's own lines raised; their traceback is that of the cause."""
        file = self.function.__code__.co_filename
        lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
        return BadWorkflow(
            f"The workflow '{self.name}' raised {type(error).__name__} while its steps were put together: {error}",
            field=f"{self.name}, line {lines[-1]}" if lines else self.name,
            hint="Correct that line. The workflow only connects steps; work on their results belongs into a step.",
        )

    def spec(self, *args: Any, fresh: bool = False, **kwargs: Any) -> RunSpec:
        """Return what would be submitted: manifest, code and values."""
        from ropewalk_workflows.compile import compile_workflow

        folder = _wiring.folder()  # first: without a working folder nothing else can be said in clear words
        spec = compile_workflow(self, args, kwargs)
        return spec.model_copy(update={"fresh": fresh, "folder": folder})

    def manifest(self, *args: Any, **kwargs: Any) -> str:
        """Return the Argo manifest as YAML."""
        from ropewalk_workflows.compile import to_yaml

        return to_yaml(self.spec(*args, **kwargs).manifest)

    def submit(self, *args: Any, fresh: bool = False, **kwargs: Any) -> Any:
        """Run it on the platform and return the run's handle.

        Parameters
        ----------
        args, kwargs
            The workflow's own arguments.
        fresh
            Run again, also when an equal run is under way or done, and every step of it; without it that run is
            returned, marked unchanged.
        """
        if _wiring.submitter is None:
            raise RopewalkError(
                "There is no platform to submit to.",
                hint="Submit from a notebook of the platform, or call the workflow to run it here.",
            )
        return _wiring.submitter(self.spec(*args, fresh=fresh, **kwargs))

    def save(self, name: str = "", **options: Any) -> Any:
        """Keep the workflow on the platform, to be launched with other arguments or by itself; return its handle.

        Parameters
        ----------
        name
            What it will be called; its own name if empty.
        options
            Fixed values of arguments, and ``every``, ``after``, ``on_file`` and their like (``ropewalk.save``).

        Raises
        ------
        BadWorkflow
            If an argument must be known to put the steps together: give it here, and it is fixed.
        """
        if _wiring.saver is None:
            raise RopewalkError("There is no platform to save to.", hint="Save from a notebook of the platform.")
        return _wiring.saver(self, name, **options)

    def __repr__(self) -> str:
        return f"<workflow {self.name}{self.signature}>"


@overload
def step(function: Callable[..., Any], /) -> Step: ...
@overload
def step(
    *,
    name: str = "",
    placement: Placement | dict[str, Any] | None = None,
    retries: int = 0,
    backoff: float = 1.0,
    timeout: float | None = None,
    pickle: bool = False,
    cache: bool | float | None = None,
    secrets: Sequence[str] = (),
    requirements: Sequence[str] = (),
    made: Made | None = None,
) -> Callable[[Callable[..., Any]], Step]: ...


def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    placement: Placement | dict[str, Any] | None = None,
    retries: int = 0,
    backoff: float = 1.0,
    timeout: float | None = None,
    pickle: bool = False,
    cache: bool | float | None = None,
    secrets: Sequence[str] = (),
    requirements: Sequence[str] = (),
    made: Made | None = None,
) -> Any:
    """Make a function a step.

    Parameters
    ----------
    name
        What people call it; the function's name by default.
    placement
        What it needs: ``Placement(memory="2Gi")``.
    retries
        How many more attempts a failed one gets.
    backoff
        Seconds before the second attempt; each further wait is twice as long.
    timeout
        Seconds an attempt may take.
    pickle
        Whether what goes in and comes out may be pickled where it has no form of its own. Plain values, arrays, data
        frames, tensors and estimators have one; objects of your own classes are pickled without asking.
    cache
        Whether a later run takes this one's result where code, inputs and packages are the same: so it does, except of
        a step that returned nothing, or was seen to use files of yours, the network or other programs, which are not
        compared. True also then, False never, a number for so many seconds.
    secrets
        Names of secrets of yours (`ropewalk.secrets`), which it gets as variables: ``os.environ["TOKEN"]``. What it
        prints and how it fails is shown without their values.
    requirements
        Packages that it runs with in place of those of your notebook: lines such as ``"polars==1.2"``. Import them
        inside the function. On one machine only.
    made
        For `program` and its like: the code that travels in place of the function's own.
    """
    if not isinstance(retries, int) or not 0 <= retries <= 100:
        raise BadWorkflow("retries is a number from 0 to 100.", field="retries")
    _check_seconds("backoff", backoff or 1)
    _check_seconds("timeout", timeout)
    if not isinstance(cache, bool):
        _check_seconds("cache", cache)
    options = Options(
        parse_placement(placement),
        retries,
        float(backoff),
        timeout,
        bool(pickle),
        cache,
        _secrets(secrets),
        required.checked(requirements),
    )

    def make(one: Callable[..., Any]) -> Step:
        return Step(_function(one, "step"), name=name, options=options, made=made)

    return make if function is None else make(function)


def workflow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    timeout: float | None = None,
    on_exit: Step | None = None,
) -> Any:
    """Make a function that calls steps a workflow.

    Parameters
    ----------
    name
        What people call it; the function's name by default.
    timeout
        Limits the whole run, in seconds.
    on_exit
        A step that runs once all others have ended, however they did, unless the run was cancelled. If it takes an
        argument, that is how the run ended: ``"Succeeded"``, ``"Failed"`` or ``"Error"``. If it fails, so does the run.
    """
    _check_seconds("timeout", timeout)
    if on_exit is not None:
        _check_exit(on_exit)

    def make(one: Callable[..., Any]) -> Workflow:
        return Workflow(_function(one, "workflow"), name=name, timeout=timeout, on_exit=on_exit)

    return make if function is None else make(function)


def _secrets(given: Sequence[str]) -> tuple[str, ...]:
    listed = [given] if isinstance(given, str) else list(given)
    if not all(isinstance(one, str) for one in listed):
        raise BadWorkflow("secrets is a list of names.", field="secrets")
    return checked(listed, "secrets")


def _check_exit(step: Any) -> None:
    if not isinstance(step, Step):
        raise BadWorkflow("on_exit is a step: a function with @step above it.", field="on_exit")
    needed = [one for one in step.signature.parameters.values() if one.default is one.empty]
    if len(needed) > 1:
        raise BadWorkflow(
            f"The last step '{step.name}' takes {len(needed)} arguments, and there is one: how the run ended.",
            field="on_exit",
        )


def _exit(step: Step, status: str) -> None:
    first = next(iter(step.signature.parameters), "")
    step.function(**({first: status} if first else {}))


def _check_seconds(field: str, value: Any) -> None:
    if value is not None and not (isinstance(value, int | float) and 0 < value <= _LONGEST):
        raise BadWorkflow(f"{field} is a number of seconds, more than 0 and at most a year.", field=field)


def _function(value: Any, what: str) -> Callable[..., Any]:
    if isinstance(value, Step | Workflow):
        return value.function
    if not inspect.isfunction(value):
        raise BadWorkflow(f"@{what} goes on a function, not on {type(value).__name__}.", field=what)
    return value


def _signature(function: Callable[..., Any], name: str) -> inspect.Signature:
    signature = inspect.signature(function)
    for one in signature.parameters.values():
        if one.kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            raise BadWorkflow(
                f"The argument '{one}' of '{name}' has no fixed name.",
                field=f"{name}.{one.name}",
                hint="Give each argument a name of its own.",
            )
    return signature
