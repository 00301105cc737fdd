"""Compile a `@workflow` to an Argo manifest, valid for Argo 3.7 and 4, that the local engine runs too.

Code travels as an artifact by digest; a small plain value as a parameter that Argo writes to a file, every other value
as an artifact. Nothing is ever pasted into source. A loop of the person's Python is written out task by task;
`step.map` becomes withItems or withParam, and its results lie under one key, which a join reads as a folder.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.flows import RunSpec
from ropewalk_core.model import Bundle
from ropewalk_runtime import values
from ropewalk_workflows import names
from ropewalk_workflows.capture import capture
from ropewalk_workflows.capture.serialisers import with_serialisers
from ropewalk_workflows.compile import placements
from ropewalk_workflows.compile.source import source_of
from ropewalk_workflows.dag import Step
from ropewalk_workflows.graph import Condition, Given, Output, Task, Unknown, names_of, outputs_in, task_name

if TYPE_CHECKING:
    from ropewalk_workflows.dag import Workflow

_INLINE = 16 * 1024
_MOST_TASKS = 20_000
_LAST = "on-exit"


def compile_workflow(workflow: Workflow, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RunSpec:
    """Return the run of a workflow with these arguments.

    One that is `Given` becomes a parameter of the manifest, without a value.

    Raises
    ------
    BadWorkflow
        If the workflow is not one, with the field's name.
    BadCode
        If code of a step cannot travel.
    """
    graph = workflow.graph(*args, **kwargs)
    if len(graph.tasks) > _MOST_TASKS:
        raise BadWorkflow(f"A workflow may have {_MOST_TASKS} tasks, not {len(graph.tasks)}.", field=workflow.name)
    compiler = _Compiler(graph.tasks)
    returns, outputs = compiler.returned(graph.returns, workflow.name)
    bound = workflow.signature.bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = {name: _shown(value) for name, value in bound.arguments.items() if not isinstance(value, Given)}
    last = compiler.last(workflow.on_exit) if workflow.on_exit is not None else None
    manifest = compiler.manifest(task_name(workflow.name), outputs, {names.RETURNS: returns}, workflow.timeout, last)
    if (text := source_of(workflow)) is not None:
        compiler.bundles[text.digest] = text
    return RunSpec(
        name=workflow.name, manifest=manifest, bundles=compiler.bundles, values=compiler.values, arguments=arguments
    )


@dataclass
class _Shape:
    """Which inputs a template has; calls of equal shape share one template."""

    step: Step
    mapped: bool
    wants: tuple[str, ...]
    parameters: list[str] = field(default_factory=list)
    artifacts: list[tuple[str, str]] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    tests: tuple[tuple[str, Any], ...] = ()
    """Operators and values with which its result is compared."""
    maybe: list[str] = field(default_factory=list)
    """Arguments, and members of lists as ``name/0``, that are None where what gives them was left out."""

    def key(self) -> str:
        return json.dumps(
            [
                id(self.step),
                self.mapped,
                self.wants,
                sorted(self.parameters),
                sorted(self.artifacts),
                sorted(self.lists),
                self.tests,
                sorted(self.maybe),
            ]
        )


class _Compiler:
    def __init__(self, tasks: list[Task]) -> None:
        from hera.workflows import models  # half a second; only who compiles pays

        self.hera = models
        self.tasks = tasks
        self.names = names_of(tasks)
        self.bundles: dict[str, Bundle] = {}
        self.values: dict[str, str] = {}
        self.captured: dict[int, str] = {}
        self.templates: dict[str, Any] = {}
        self.taken: set[str] = {"main", _LAST}
        self.fanned = {id(one.over[1]._task) for one in tasks if one.over and isinstance(one.over[1], Output)}
        self.given: dict[str, None] = {}
        self.tests: dict[int, list[tuple[str, Any]]] = {}
        for one in (task.when for task in tasks if task.when is not None):
            known = self.tests.setdefault(id(one.task), [])
            if repr((one.operator, one.value)) not in map(repr, known):  # 1 and True are equal, and differ
                known.append((one.operator, one.value))
        self.dag: list[Any] = []
        for task in tasks:
            self.dag.append(self._task(task))

    def manifest(
        self, name: str, outputs: list[Any], annotations: dict[str, str], timeout: float | None, last: Any = None
    ) -> dict[str, Any]:
        """Return the whole manifest as plain data; ``last`` is the template of what runs at the end."""
        m = self.hera
        main = m.Template(
            name="main", dag=m.DAGTemplate(tasks=self.dag), outputs=m.Outputs(artifacts=outputs) if outputs else None
        )
        written = m.Workflow(
            api_version="argoproj.io/v1alpha1",
            kind="Workflow",
            metadata=m.ObjectMeta(generate_name=f"{name}-", annotations=annotations),
            spec=m.WorkflowSpec(
                entrypoint="main",
                arguments=m.Arguments(parameters=[m.Parameter(name=one) for one in self.given]) if self.given else None,
                templates=[main, *([last] if last is not None else []), *self.templates.values()],
                on_exit=last.name if last is not None else None,
                active_deadline_seconds=None if timeout is None else max(1, round(timeout)),
            ),
        )
        plain: dict[str, Any] = json.loads(written.model_dump_json(exclude_none=True, by_alias=True))
        return plain

    def last(self, step: Step) -> Any:
        """Return a template that calls the last step with how the run ended."""
        m = self.hera
        shape, given = _Shape(step, False, ()), []
        if first := next(iter(step.signature.parameters), ""):
            shape.parameters.append(first)
            given = [m.Parameter(name=first, value='"{{workflow.status}}"')]
        task = m.DAGTask(
            name=task_name(step.name),
            template=self._template(shape),
            arguments=m.Arguments(parameters=given) if given else None,
        )
        return m.Template(name=_LAST, dag=m.DAGTemplate(tasks=[task]))

    def returned(self, value: Any, name: str) -> tuple[str, list[Any]]:
        """Return the shape of what the workflow returns, and the outputs of its entry."""
        if value is None:
            return "none", []
        if isinstance(value, Output):
            return "one", [self._out("result", value, name)]
        if isinstance(value, list | tuple) and value and all(isinstance(one, Output) for one in value):
            return "list", [self._out(f"result-{index}", one, name) for index, one in enumerate(value)]
        if isinstance(value, dict) and value and all(isinstance(one, Output) for one in value.values()):
            outs = []
            for key, one in value.items():
                if not isinstance(key, str) or not key.isidentifier():
                    raise BadWorkflow(f"The workflow returns {key!r}, which is not a name.", field=name)
                outs.append(self._out(f"result-{key}", one, name))
            return "dict", outs
        raise BadWorkflow(
            f"The workflow '{name}' returns something that no step made.",
            field=name,
            hint="Return the result of a step, a list or dict of such results, or nothing.",
        )

    def _out(self, name: str, output: Output, where: str) -> Any:
        task = output._task
        if id(task) not in self.names:
            raise BadWorkflow(f"The workflow '{where}' returns a result of another workflow.", field=where)
        if task.when is not None:
            raise BadWorkflow(
                f"The workflow '{where}' returns the result of '{task.step.name}', which may be left out.",
                field=where,
                hint="Take it into a step that returns what is to come back, for None too.",
            )
        if task.over is not None:
            raise BadWorkflow(
                f"The workflow '{where}' returns the results of '{task.step.name}.map' as they are.",
                field=where,
                hint="Join them in a step: best(train.map(rates)).",
            )
        source = f"{{{{tasks.{self.names[id(task)]}.outputs.artifacts.result}}}}"
        return self.hera.Artifact(name=name, from_=source)

    # Tasks

    def _task(self, task: Task) -> Any:
        m = self.hera
        shape = _Shape(task.step, task.over is not None, ("items",) if id(task) in self.fanned else ())
        shape.tests = tuple(self.tests.get(id(task), ()))
        parameters, artifacts, needs = [], [], list(task.after)
        for name, value in sorted(task.arguments.items()):
            needs += [one._task for one in outputs_in(value, f"{task.step.name}.{name}")]
            more = self._argument(shape, name, value)
            parameters += more[0]
            artifacts += more[1]
        loop: dict[str, Any] = {}
        if task.over is not None:
            loop, needed, more_parameters = self._loop(task, shape)
            needs += needed
            parameters += more_parameters
        if task.when is not None:
            needs.append(task.when.task)
            loop["when"] = self._when(task.when)
        dependencies = sorted({self.names[id(one)] for one in needs})
        arguments = m.Arguments(parameters=parameters or None, artifacts=artifacts or None)
        return m.DAGTask(
            name=self.names[id(task)],
            template=self._template(shape),
            arguments=arguments if parameters or artifacts else None,
            dependencies=dependencies or None,
            **loop,
        )

    def _when(self, condition: Condition) -> str:
        """Return what a cluster decides: what the tested step said of its result, so that no result becomes source."""
        known = [repr(one) for one in self.tests[id(condition.task)]]
        place = known.index(repr((condition.operator, condition.value)))
        return f"{{{{tasks.{self.names[id(condition.task)]}.outputs.parameters.{names.TEST}{place}}}}} == true"

    def _argument(self, shape: _Shape, name: str, value: Any) -> tuple[list[Any], list[Any]]:
        """Return the parameters and artifacts by which one argument reaches a task."""
        m = self.hera
        if isinstance(value, Output):
            return [], [self._from_output(shape, name, value)]
        if isinstance(value, Given):
            shape.parameters.append(name)
            return [m.Parameter(name=name, value=self._given(value))], []
        if isinstance(value, list | tuple) and any(isinstance(one, Unknown) for one in value):
            shape.lists.append(name)
            if len(value) == 1 and isinstance(value[0], Output) and value[0]._task.over is not None:
                raise BadWorkflow(
                    f"The results of a fan-out are a list already: pass '{name}' without brackets.", field=name
                )
            artifacts = []
            for index, one in enumerate(value):
                inner = f"{name}-{index}"
                shape.artifacts.append((inner, f"{names.MOUNT}/inputs/{name}/{index}"))
                if isinstance(one, Output):
                    shape.maybe += [f"{name}/{index}"] if one._task.when is not None else []
                    artifacts.append(self._from_output(None, inner, one))
                elif isinstance(one, Given):
                    artifacts.append(m.Artifact(name=inner, raw=m.RawArtifact(data=self._given(one))))
                else:
                    artifacts.append(
                        m.Artifact(
                            name=inner, s3=m.S3Artifact(key=self._value(one, f"{shape.step.name}.{name}", shape.step))
                        )
                    )
            return [], artifacts
        if values.is_exact(value) and len(text := values.text_of(value)) <= _INLINE:
            shape.parameters.append(name)
            return [m.Parameter(name=name, value=text)], []
        shape.artifacts.append((name, f"{names.MOUNT}/inputs/{name}"))
        key = self._value(value, f"{shape.step.name}.{name}", shape.step)
        return [], [m.Artifact(name=name, s3=m.S3Artifact(key=key))]

    def _given(self, value: Given, form: str = "") -> str:
        """Return the tag of an argument that comes at a launch; ``form`` is that in which a fan-out reads it."""
        self.given[name := f"{form}{value._name}"] = None
        return f"{{{{workflow.parameters.{name}}}}}"

    def _from_output(self, shape: _Shape | None, name: str, output: Output) -> Any:
        m = self.hera
        task = output._task
        source = self.names[id(task)]
        if task.over is None:
            if shape is not None:
                shape.artifacts.append((name, f"{names.MOUNT}/inputs/{name}"))
                shape.maybe += [name] if task.when is not None else []
            whence = f"{{{{tasks.{source}.outputs.artifacts.result}}}}"
            return m.Artifact(name=name, from_=whence, optional=task.when is not None or None)
        if shape is None:
            raise BadWorkflow(f"The results of '{task.step.name}.map' cannot be a member of another list.", field=name)
        shape.artifacts.append((name, f"{names.MOUNT}/inputs/{name}"))
        shape.lists.append(name)
        return m.Artifact(name=name, s3=m.S3Artifact(key=f"{{{{workflow.name}}}}/{source}"))

    def _loop(self, task: Task, shape: _Shape) -> tuple[dict[str, Any], list[Task], list[Any]]:
        m = self.hera
        assert task.over is not None
        first, items = task.over
        shape.parameters.append(first)
        own = self.names[id(task)]
        parameters = [
            m.Parameter(name=first, value="{{item.value}}"),
            m.Parameter(name="ropewalk-place", value=f"{{{{workflow.name}}}}/{own}/{{{{item.index}}}}"),
        ]
        if isinstance(items, Given):
            return {"with_param": self._given(items, names.ITEMS)}, [], parameters
        if isinstance(items, Output):
            if items._task.over is not None:
                raise BadWorkflow(
                    f"'{task.step.name}.map' cannot fan out over the results of another fan-out.",
                    field=task.step.name,
                    hint="Put a step between them that returns one list.",
                )
            if items._task.when is not None:
                raise BadWorkflow(
                    f"'{task.step.name}.map' cannot fan out over the result of '{items._task.step.name}', which may be "
                    "left out.",
                    field=task.step.name,
                    hint="Put a step between them that returns an empty list for None.",
                )
            source = self.names[id(items._task)]
            return {"with_param": f"{{{{tasks.{source}.outputs.parameters.items}}}}"}, [items._task], parameters
        if not items or not values.is_exact(list(items)):
            wrong = values.inexact(list(items), first) if items else "this one is empty"
            raise BadWorkflow(
                f"'{task.step.name}.map' needs a list of plain values (numbers, text, lists, dicts); {wrong}.",
                field=f"{task.step.name}.{first}",
                hint="Use a list comprehension to fan out over results or other objects.",
            )
        loop = [{"index": str(index), "value": values.text_of(one)} for index, one in enumerate(items)]
        return {"with_items": loop}, [], parameters

    def _value(self, value: Any, where: str, step: Step) -> str:
        """Keep a value that travels as a file, and return its key."""
        try:
            content, _ = values.encode(value, where, pickles=step.options.pickle)
        except values.Unsavable as error:
            raise BadWorkflow(f"The argument {error.said}", field=where, hint=error.hint) from error
        digest = hashlib.sha256(content).hexdigest()
        self.values[digest] = base64.b64encode(content).decode()
        return f"{names.VALUES}{digest}"

    # Templates

    def _template(self, shape: _Shape) -> str:
        key = shape.key()
        if key not in self.templates:
            base, name, number = task_name(shape.step.name), task_name(shape.step.name), 2
            while name in self.taken:
                name, number = f"{base}-{number}", number + 1
            self.taken.add(name)
            self.templates[key] = self._written(name, shape)
        return str(self.templates[key].name)

    def _written(self, name: str, shape: _Shape) -> Any:
        m = self.hera
        options = shape.step.options
        inputs = [
            m.Artifact(
                name="ropewalk-bundle", path=f"{names.MOUNT}/bundle", s3=m.S3Artifact(key=self._bundle(shape.step))
            )
        ]
        call: dict[str, Any] = {"wants": list(shape.wants), "lists": sorted(set(shape.lists))}
        call |= {"pickle": True} if options.pickle else {}
        call |= {"maybe": sorted(shape.maybe)} if shape.maybe else {}
        call |= {"tests": [{"operator": sign, "value": value} for sign, value in shape.tests]} if shape.tests else {}
        inputs.append(
            m.Artifact(name="ropewalk-call", path=f"{names.MOUNT}/call.json", raw=m.RawArtifact(data=json.dumps(call)))
        )
        for one in sorted(shape.parameters):
            raw = m.RawArtifact(data=f"{{{{inputs.parameters.{one}}}}}")
            inputs.append(m.Artifact(name=f"ropewalk-given-{one}", path=f"{names.MOUNT}/parameters/{one}", raw=raw))
        for one, path in sorted(shape.artifacts):
            given = path.removeprefix(f"{names.MOUNT}/inputs/")
            optional = given in shape.maybe or given in shape.lists
            inputs.append(m.Artifact(name=one, path=path, optional=optional or None))
        place = m.S3Artifact(key="{{inputs.parameters.ropewalk-place}}") if shape.mapped else None
        none = m.ArchiveStrategy(none=m.NoneStrategy())
        result = m.Artifact(name="result", path=f"{names.MOUNT}/outputs/result", archive=none, s3=place)
        beside = [
            m.Artifact(name=one, path=f"{names.MOUNT}/outputs/{one}", archive=none, optional=True)
            for one in (shape.step.made.leaves if shape.step.made else ())
        ]
        wanted = [
            m.Parameter(name=one, value_from=m.ValueFrom(path=f"{names.MOUNT}/outputs/{one}.json"))
            for one in [*shape.wants, *(f"{names.TEST}{place}" for place in range(len(shape.tests)))]
        ]
        parameters = sorted(shape.parameters) + (["ropewalk-place"] if shape.mapped else [])
        rendered = placements.render(m, options.placement)
        caching = {} if options.cache is None else {names.CACHE: json.dumps(options.cache)}
        caching |= {names.SECRETS: json.dumps(options.secrets)} if options.secrets else {}
        caching |= {names.REQUIREMENTS: json.dumps(options.requirements)} if options.requirements else {}
        retry = None
        if options.retries:
            backoff = m.Backoff(duration=f"{options.backoff:g}s", factor="2")
            retry = m.RetryStrategy(limit=str(options.retries), backoff=backoff, retry_policy="Always")
        return m.Template(
            name=name,
            metadata=m.Metadata(annotations={names.STEP: shape.step.name, **rendered.annotations, **caching}),
            inputs=m.Inputs(parameters=[m.Parameter(name=one) for one in parameters] or None, artifacts=inputs),
            outputs=m.Outputs(artifacts=[result, *beside], parameters=wanted or None),
            container=m.Container(
                image=names.RUNNER_IMAGE, command=list(names.RUNNER_COMMAND), resources=rendered.resources
            ),
            node_selector=rendered.node_selector or None,
            affinity=rendered.affinity,
            retry_strategy=retry,
            active_deadline_seconds=None if options.timeout is None else f"{max(1, round(options.timeout))}",
        )

    def _bundle(self, step: Step) -> str:
        if id(step) not in self.captured:
            bundle = step.made.bundle if step.made else with_serialisers(capture(step.function))
            self.bundles[bundle.digest] = bundle
            self.captured[id(step)] = bundle.digest
        return f"{names.BUNDLES}{self.captured[id(step)]}"


def _shown(value: Any) -> Any:
    """Return an argument as people see it beside the run."""
    if values.is_exact(value) and len(json.dumps(value)) <= 2000:
        return value
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:199]}…"
