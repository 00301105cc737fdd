"""Read a manifest and refuse, with its place, whatever the engine would not run. Pure; nothing has started yet."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Set
from functools import partial
from typing import Any

from pydantic import ValidationError

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.wrong import words
from ropewalk_workflows.manifest import images as image_names
from ropewalk_workflows.manifest import names, text
from ropewalk_workflows.manifest.caching import keeps
from ropewalk_workflows.manifest.calls import ancestors, calls_of, earlier
from ropewalk_workflows.manifest.hooks import EXIT, check_shape, hooks_of, templates_of
from ropewalk_workflows.manifest.model import KINDS, Artifact, Call, Hook, Manifest, Parameter, Template
from ropewalk_workflows.manifest.names import Tags
from ropewalk_workflows.manifest.resolved import plain

_MOST_TEMPLATES, _MOST_CALLS, _DEEPEST = 1_000, 20_000, 12
_WORKFLOW_TAGS = (
    "workflow.name",
    "workflow.uid",
    "workflow.namespace",
    "workflow.creationTimestamp",
    "workflow.status",
)
_PATHS = ("/tmp/", "/ropewalk/")  # noqa: S108 - each step has a /tmp of its own


def read(manifest: Mapping[str, Any], images: Mapping[str, str]) -> Manifest:
    """Return the manifest, checked through and through.

    Parameters
    ----------
    manifest
        Plain data, as it came.
    images
        What image names mean here (``settings.environments.images``).

    Raises
    ------
    BadWorkflow
        Naming the first field that is wrong or not supported.
    """
    manifest = plain(manifest)
    try:
        read_one = Manifest.model_validate(manifest)
    except ValidationError as error:
        first = min(error.errors(), key=lambda one: one["type"] == "missing")  # it may lack what stands in its place
        raise _refusal(first, manifest) from error
    _Check(read_one, images).all()
    names.check_hidden(manifest)
    return read_one


def _refusal(error: Any, manifest: Any) -> BadWorkflow:
    place, here = "", manifest
    for part in error["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
        here = _inside(here, part)
        if isinstance(part, int) and isinstance(here, dict) and isinstance(here.get("name"), str):
            place = f"{place.rpartition('[')[0]}[{here['name']}]"
    last = str(error["loc"][-1]) if error["loc"] else "manifest"
    if error["type"] in ("extra_forbidden", "none_required"):
        return BadWorkflow(
            f"'{last}' at {place} is not supported here.",
            field=place or "manifest",
            hint="Leave it out; nothing was started.",
        )
    if error["type"] == "missing":
        return BadWorkflow(f"'{last}' is missing at {place}.", field=place)
    return BadWorkflow(f"{place or 'The manifest'} {words(error)[:200]}.", field=place or "manifest")


def _inside(value: Any, part: Any) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


class _Check:
    def __init__(self, manifest: Manifest, images: Mapping[str, str]) -> None:
        self.manifest, self.images = manifest, images
        self.templates = manifest.templates
        self.heights: dict[str, int] = {}

    def all(self) -> None:
        spec = self.manifest.spec
        if len(spec.templates) > _MOST_TEMPLATES or len(self.templates) < len(spec.templates):
            raise BadWorkflow("Templates need different names, and at most 1,000 of them.", field="spec.templates")
        hooks = hooks_of(spec, spec.arguments)
        places = {name: f"spec.hooks[{name}]" for name in hooks}
        places |= {EXIT: "spec.onExit"} if spec.on_exit is not None else {}
        self._exists(spec.entrypoint, "spec.entrypoint")
        for name, hook in hooks.items():
            self._exists(hook.template, places[name])
        known = {*_WORKFLOW_TAGS, "workflow.parameters"}
        known |= {f"workflow.parameters.{one.name}" for one in spec.arguments.parameters}
        for one in spec.arguments.parameters:
            if one.value is None and one.default is None:
                raise BadWorkflow(f"The parameter '{one.name}' has no value.", field=f"spec.arguments[{one.name}]")
            self._enum(one, one.value if one.value is not None else one.default, f"spec.arguments[{one.name}]")
        self._supplied(spec.arguments, self.templates[spec.entrypoint], "spec.arguments", known)
        for template in spec.templates:
            self._template(template, known)
        for name, hook in hooks.items():
            if name == EXIT and hook.expression is not None:  # Argo reads it, and runs the hook whatever it says
                raise BadWorkflow("The exit hook of a workflow has no expression.", field=places[name])
            self._hook(name, hook, known, known, places[name])
        for name in (spec.entrypoint, *(one.template for one in hooks.values())):
            self._depth(name, ())

    def _exists(self, template: str, where: str) -> None:
        if template not in self.templates:
            raise BadWorkflow(f"There is no template '{template}'.", field=where)

    def _hook(self, name: str, hook: Hook, asked: Container[str], given: Container[str], where: str) -> None:
        """Check a hook: what its condition may ask for, and what its arguments may hold."""
        check_shape(name, hook, where)
        self._exists(hook.template, f"{where}.template")
        if hook.expression is not None:
            names.check(hook.expression, asked, f"{where}.expression", alone=True)
        self._supplied(hook.arguments, self.templates[hook.template], f"{where}.arguments", given)

    # Templates

    def _template(self, template: Template, known: set[str]) -> None:
        where = f"spec.templates[{template.name}]"
        kinds = [one for one in KINDS if getattr(template, one) is not None]
        if len(kinds) != 1:
            raise BadWorkflow(f"The template '{template.name}' must be one of {', '.join(KINDS)}.", field=where)
        own = known | _input_tags(template)
        if template.retry_strategy is not None and template.program is None:
            own |= names.OF_A_RETRY
        if template.program is not None:
            self._program(template, own | {"retries", "pod.name", "node.name"}, where)
        elif template.suspend is not None:
            self._seconds(template.suspend.duration, f"{where}.suspend.duration")
        else:
            self._composite(template, own, where)
        self._synchronization(template, own, f"{where}.synchronization")
        for field, value in (
            ("activeDeadlineSeconds", template.active_deadline_seconds),
            ("timeout", template.timeout),
        ):
            self._seconds(value, f"{where}.{field}")
            if value is not None and template.program is None:
                raise BadWorkflow(
                    f"'{field}' is supported on container and script templates.", field=f"{where}.{field}"
                )
        self._retry(template, where)

    def _program(self, template: Template, known: set[str], where: str) -> None:
        program = template.program
        assert program is not None
        place = f"{where}.{template.kind}"
        kind = image_names.meaning(program, self.images, place)
        image_names.placement_of(template, self.manifest, where)
        keeps(template, where)
        if template.kind == "container" and not program.command:
            raise BadWorkflow("Without images a container needs its command written out.", field=f"{place}.command")
        texts = [*program.command, *program.args, *(one.value for one in program.env)]
        texts += [template.script.source] if template.script else []
        outs = {f"outputs.parameters.{one.name}.path" for one in template.outputs.parameters}
        outs |= {f"outputs.artifacts.{one.name}.path" for one in template.outputs.artifacts}
        for one in texts:
            self._tags(one, known | outs, place, strict=template.kind != "script")
        for artifact in template.inputs.artifacts:
            self._path(artifact.path, kind, f"{where}.inputs.artifacts[{artifact.name}].path")
            if artifact.raw is not None:
                self._tags(artifact.raw.data, known, f"{where}.inputs.artifacts[{artifact.name}].raw")
        for parameter in template.outputs.parameters:
            spot = f"{where}.outputs.parameters[{parameter.name}]"
            if parameter.value_from is None or parameter.value_from.path is None:
                raise BadWorkflow("An output of a program comes from a file: valueFrom.path.", field=spot)
            self._path(parameter.value_from.path, kind, f"{spot}.valueFrom.path")
        for artifact in template.outputs.artifacts:
            self._path(artifact.path, kind, f"{where}.outputs.artifacts[{artifact.name}].path")
            if artifact.s3 is not None:
                spot = f"{where}.outputs.artifacts[{artifact.name}].s3.key"
                if any(text.expressions(artifact.s3.key)):  # it would be calculated when the work is done, and may fail
                    raise BadWorkflow("The key of an output cannot hold an expression here.", field=spot)
                self._tags(artifact.s3.key, known, spot)

    def _path(self, path: str | None, kind: str, where: str) -> None:
        if path is None:
            raise BadWorkflow("A path is missing.", field=where)
        if kind != "step" and (not path.startswith(_PATHS) or ".." in path.split("/") or "{{" in path):
            raise BadWorkflow(
                f"The path {path!r} cannot be used here.", field=where, hint="Use a path below /tmp, without '..'."
            )

    def _retry(self, template: Template, where: str) -> None:
        retry = template.retry_strategy
        if retry is None:
            return
        if retry.limit is not None and not (
            retry.limit.isdecimal() and len(retry.limit) < 4 and int(retry.limit) <= 100
        ):
            raise BadWorkflow("A retry limit is a number from 0 to 100.", field=f"{where}.retryStrategy.limit")
        if retry.expression is not None:
            names.check(retry.expression, names.OF_A_RETRY, f"{where}.retryStrategy.expression", alone=True)
        if retry.backoff is not None:
            for field in ("duration", "max_duration", "cap"):
                self._seconds(getattr(retry.backoff, field), f"{where}.retryStrategy.backoff.{field}")
            if not 0 < _number(retry.backoff.factor or "1") <= 1000:
                raise BadWorkflow(
                    "It is a number from 0 to 1000, but not 0.", field=f"{where}.retryStrategy.backoff.factor"
                )

    def _synchronization(self, template: Template, known: Container[str], where: str) -> None:
        if template.synchronization is None:
            return
        if template.program is None:  # what it calls may want the same mutex, and the run would wait for itself
            raise BadWorkflow(
                "'synchronization' is supported on container and script templates.",
                field=where,
                hint="Give it to the templates that are called; nothing was started.",
            )
        if not template.mutexes:
            raise BadWorkflow("It names no mutex.", field=where)
        for name in template.mutexes:
            self._tags(name, known, f"{where}.mutexes")

    def _seconds(self, value: str | None, where: str) -> None:
        try:
            if value is not None:
                text.duration(value)
        except text.BadText as error:
            raise BadWorkflow(f"{where}: {error}.", field=where) from error

    # Tasks and groups

    def _composite(self, template: Template, known: set[str], where: str) -> None:
        groups = template.steps if template.steps is not None else ((template.dag.tasks,) if template.dag else ())
        calls = [one for group in groups for one in group]
        if not calls:
            raise BadWorkflow(f"The template '{template.name}' calls nothing.", field=f"{where}.{template.kind}")
        if len(calls) > _MOST_CALLS:
            raise BadWorkflow(f"A template may call {_MOST_CALLS} others.", field=f"{where}.{template.kind}")
        by_name = {one.name: one for one in calls}
        if len(by_name) < len(calls):
            raise BadWorkflow("Two calls have the same name.", field=f"{where}.{template.kind}")
        prefix = "tasks" if template.dag else "steps"
        before: dict[str, set[str]] = ancestors(by_name, f"{where}.dag.tasks") if template.dag else earlier(groups)
        for call in calls:
            place = f"{where}.{template.kind}.tasks[{call.name}]" if template.dag else f"{where}.steps[{call.name}]"
            if template.dag is None and (call.dependencies or call.depends):
                raise BadWorkflow("Steps of a group have no dependencies.", field=place)
            self._exists(call.template, f"{place}.template")
            self._hooks(call, prefix, known, partial(self._is_result, prefix, by_name, before[call.name]), place)
            self._call(call, Tags(known, partial(self._is_result, prefix, by_name, before[call.name])), place)
        after = Tags(known, partial(self._is_result, prefix, by_name, by_name))
        for parameter in template.outputs.parameters:
            source = parameter.value_from
            spot = f"{where}.outputs.parameters[{parameter.name}]"
            if source is None or (source.parameter is None) == (source.expression is None):
                raise BadWorkflow("It comes from a task: valueFrom.parameter or valueFrom.expression.", field=spot)
            if source.expression is not None:
                names.check(source.expression, after, f"{spot}.valueFrom.expression", alone=True)
            self._tags(source.parameter or "", after, spot)
        for artifact in template.outputs.artifacts:
            spot = f"{where}.outputs.artifacts[{artifact.name}]"
            if artifact.from_ is None:
                raise BadWorkflow("It comes from a task: from.", field=spot)
            self._from(artifact.from_, after, spot)

    def _hooks(self, call: Call, prefix: str, known: Set[str], earlier: Callable[[str], bool], place: str) -> None:
        """Check a call's hooks, which know of it how it stands and, once it has ended, what it gave."""
        hooks = hooks_of(call, self.manifest.spec.arguments)
        if hooks and (call.with_items, call.with_param, call.with_sequence) != (None, None, None):
            raise BadWorkflow(
                "A call that fans out has no hooks here: Argo runs them for each member and at times once more.",
                field=place,
                hint="Let the call be of a template whose one step has the hook.",
            )
        own = f"{prefix}.{call.name}"
        gave = (f"{own}.status", f"{own}.outputs.parameters.", f"{own}.outputs.artifacts.")
        asked = Tags(known | {gave[0]}, earlier)
        given = Tags(
            known,
            lambda tag: (
                earlier(tag) or (tag.startswith(gave) and self._is_result(prefix, {call.name: call}, {call.name}, tag))
            ),
        )
        for name, hook in hooks.items():
            at = f"{place}.onExit" if name == EXIT and call.on_exit is not None else f"{place}.hooks[{name}]"
            self._hook(name, hook, asked, given, at)

    def _call(self, call: Call, known: Tags, place: str) -> None:
        loops = [one for one in (call.with_items, call.with_param, call.with_sequence) if one is not None]
        if len(loops) > 1:
            raise BadWorkflow("A call has at most one of withItems, withParam and withSequence.", field=place)
        if call.with_param is not None:
            self._tags(call.with_param, known, f"{place}.withParam")
        if call.with_sequence is not None:
            parts = (call.with_sequence.count, call.with_sequence.start, call.with_sequence.end)
            for one in filter(None, parts):
                self._tags(one, known, f"{place}.withSequence")
            if call.with_sequence.format and not text.FORMAT.fullmatch(call.with_sequence.format):
                raise BadWorkflow("It is not a format such as %02d.", field=f"{place}.withSequence.format")
        inner = Tags(known.plain, known.results, looping=bool(loops))
        if call.when is not None:
            self._tags(call.when, inner, f"{place}.when")
            self._dry(call.when, f"{place}.when")
        self._supplied(call.arguments, self.templates[call.template], f"{place}.arguments", inner)

    def _dry(self, expression: str, where: str) -> None:
        """Refuse a condition that cannot be read, whatever its values will be."""
        try:
            text.is_true(expression, _Anything())
        except text.BadText as error:
            if "neither true nor false" not in str(error) and "not both numbers" not in str(error):
                raise BadWorkflow(f"The condition cannot be read: {error}.", field=where) from error

    def _supplied(self, arguments: Any, template: Template, place: str, known: Container[str]) -> None:
        given = {one.name: one for one in arguments.parameters}
        for parameter in arguments.parameters:
            if parameter.value is not None:
                self._tags(parameter.value, known, f"{place}.parameters[{parameter.name}]")
            elif parameter.value_from is not None:
                raise BadWorkflow("'valueFrom' is not supported here.", field=f"{place}.parameters[{parameter.name}]")
        for wanted in template.inputs.parameters:
            have = given.get(wanted.name)
            value = have.value if have and have.value is not None else have.default if have else None
            if value is None and wanted.value is None and wanted.default is None:
                raise BadWorkflow(
                    f"The template '{template.name}' needs the parameter '{wanted.name}'.", field=f"{place}.parameters"
                )
        files: dict[str, Artifact] = {one.name: one for one in arguments.artifacts}
        for artifact in arguments.artifacts:
            spot = f"{place}.artifacts[{artifact.name}]"
            if sum(one is not None for one in (artifact.from_, artifact.s3, artifact.raw)) != 1:
                raise BadWorkflow("An artifact is given by one of from, s3 and raw.", field=spot)
            if artifact.from_:
                self._from(artifact.from_, known, spot)
            for one in (artifact.s3 and artifact.s3.key, artifact.raw and artifact.raw.data):
                if one:
                    self._tags(one, known, spot)
        for file in template.inputs.artifacts:
            own = file.raw is not None or file.s3 is not None or file.optional
            if file.name not in files and not own:
                raise BadWorkflow(
                    f"The template '{template.name}' needs the artifact '{file.name}'.", field=f"{place}.artifacts"
                )

    def _tags(self, value: str, known: Container[str], where: str, *, strict: bool = True) -> None:
        for expression in text.expressions(value):
            names.check(expression, known, where)
        for tag in text.tags(value):
            if tag not in known and (strict or tag.partition(".")[0] in ("inputs", "workflow")):
                raise BadWorkflow(f"Nothing is known as '{{{{{tag}}}}}' here.", field=where)

    def _from(self, value: str, known: Container[str], where: str) -> None:
        if any(text.expressions(value)):
            raise BadWorkflow("An artifact cannot come from an expression here.", field=where)
        self._tags(value, known, where)

    def _is_result(self, prefix: str, calls: Mapping[str, Call], before: Container[str], tag: str) -> bool:
        """Say whether a tag is a result of a call that has ended by then."""
        first, _, rest = tag.partition(".")
        name, _, what = rest.partition(".")
        if first != prefix or name not in before or calls[name].template not in self.templates:
            return False
        template = self.templates[calls[name].template]
        outputs = template.outputs
        kind, _, wanted = what.removeprefix("outputs.").partition(".")
        if what.startswith("outputs.") and wanted:
            if kind == "parameters":
                return any(one.name == wanted for one in outputs.parameters)
            return kind == "artifacts" and any(one.name == wanted for one in outputs.artifacts)
        if what == "exitCode":
            return template.program is not None
        return what in ("status", "id", "name", "outputs.result", "outputs.parameters")

    def _enum(self, parameter: Parameter, value: str | None, where: str) -> None:
        if parameter.enum is not None and value not in parameter.enum:
            raise BadWorkflow(f"{value!r} is none of {', '.join(parameter.enum)}.", field=where)

    def _depth(self, name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise BadWorkflow(
                f"The template '{name}' calls itself ({' > '.join([*above, name])}), which is a cycle.",
                field=f"spec.templates[{name}]",
            )
        if len(above) > _DEEPEST:
            raise BadWorkflow("Templates are nested too deeply.", field=f"spec.templates[{name}]")
        below = {one for call in calls_of(self.templates[name]) for one in templates_of(call)}
        if name not in self.heights:  # many ways may lead to a template; it is looked into once
            self.heights[name] = 1 + max((self._depth(one, (*above, name)) for one in sorted(below)), default=0)
        if len(above) + self.heights[name] > _DEEPEST + 1:
            raise BadWorkflow("Templates are nested too deeply.", field=f"spec.templates[{name}]")
        return self.heights[name]


class _Anything(dict[str, str]):
    """Every tag has a value, and every expression."""

    def expression(self, text: str) -> str:
        """Return some value."""
        return "1"

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> str:
        return "1"


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return 0.0


def _input_tags(template: Template) -> set[str]:
    found = {"inputs.parameters", *(f"inputs.parameters.{one.name}" for one in template.inputs.parameters)}
    for one in template.inputs.artifacts:
        found |= {f"inputs.artifacts.{one.name}", f"inputs.artifacts.{one.name}.path"}
    return found
