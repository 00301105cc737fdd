"""The closed model of what the engine runs: each field of Argo's manifest that has an effect here, and no other.

Fields that only matter on a cluster and cannot change a result (`podGC`, `ttlStrategy`, ...) are read and left alone;
everything else that Argo knows is refused with its place. Pure. Not Hera's models: those refuse legal manifests of Argo
3.7 and accept what nobody here runs.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel


def _text(value: Any) -> Any:
    """Read numbers and booleans as Argo does: as their text, with all digits and without an exponent."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{Decimal(repr(value)).normalize():f}"
    return str(value) if isinstance(value, int) else value


def _seconds(value: Any) -> Any:
    return _text(value)


Text = Annotated[str, BeforeValidator(_text)]
Scalar: TypeAlias = str | int | float | bool
IgnoredField = Annotated[Any, Field(default=None, description="No effect on this machine")]


class Closed(BaseModel):
    """A part of the manifest; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=False)


class ValueFrom(Closed):
    """Where an output parameter comes from."""

    path: str | None = None
    parameter: str | None = None
    expression: str | None = None
    default: Text | None = None


class Parameter(Closed):
    """A text that goes in or comes out."""

    name: str
    value: Text | None = None
    default: Text | None = None
    description: IgnoredField = None
    enum: tuple[Text, ...] | None = None
    value_from: ValueFrom | None = None


class S3(Closed):
    """A place in the artifact store. Only the key counts here."""

    key: str


class Raw(Closed):
    """Content given in the manifest."""

    data: Text


class Artifact(Closed):
    """A file that goes in or comes out."""

    name: str
    path: str | None = None
    from_: str | None = Field(default=None, alias="from")
    s3: S3 | None = None
    raw: Raw | None = None
    optional: bool = False
    archive: IgnoredField = None
    mode: IgnoredField = None


class Inputs(Closed):
    """What a template takes."""

    parameters: tuple[Parameter, ...] = ()
    artifacts: tuple[Artifact, ...] = ()


class Outputs(Closed):
    """What a template gives."""

    parameters: tuple[Parameter, ...] = ()
    artifacts: tuple[Artifact, ...] = ()


class Arguments(Closed):
    """What a call hands over."""

    parameters: tuple[Parameter, ...] = ()
    artifacts: tuple[Artifact, ...] = ()


class Sequence(Closed):
    """A loop over numbers."""

    count: Text | None = None
    start: Text | None = None
    end: Text | None = None
    format: str | None = None


class ContinueOn(Closed):
    """Whether what follows may run although this failed."""

    failed: bool = False
    error: bool = False


class Hook(Closed):
    """What else is to run: when a call or the whole ends (``exit``), or as soon as an expression holds."""

    template: str
    arguments: Arguments = Arguments()
    expression: str | None = None


class Call(Closed):
    """One call of a template: a task of a DAG, or one of the parallel steps of a group."""

    name: str
    template: str
    arguments: Arguments = Arguments()
    when: str | None = None
    with_items: tuple[Any, ...] | None = None
    with_param: str | None = None
    with_sequence: Sequence | None = None
    continue_on: ContinueOn = ContinueOn()
    dependencies: tuple[str, ...] = ()
    depends: str | None = None
    on_exit: str | None = None
    hooks: dict[str, Hook] = Field(default_factory=dict)


class Dag(Closed):
    """Tasks with needs."""

    tasks: tuple[Call, ...]
    fail_fast: bool = True


class Env(Closed):
    """One variable of a program's environment."""

    name: str
    value: Text = ""


class Resources(Closed):
    """What a program may use."""

    limits: dict[str, Text] = Field(default_factory=dict)
    requests: dict[str, Text] = Field(default_factory=dict)


class Container(Closed):
    """A program in an image."""

    image: str
    name: IgnoredField = None
    command: tuple[Text, ...] = ()
    args: tuple[Text, ...] = ()
    env: tuple[Env, ...] = ()
    resources: Resources = Resources()
    working_dir: str | None = None
    image_pull_policy: IgnoredField = None
    security_context: IgnoredField = None


class Script(Container):
    """A program whose source is in the manifest."""

    source: str


class Suspend(Closed):
    """A pause."""

    duration: Text | None = None


class Backoff(Closed):
    """How long to wait before another attempt."""

    duration: Text | None = None
    factor: Text | None = None
    max_duration: Text | None = None
    cap: Text | None = None


class Retry(Closed):
    """How many attempts, and after which failures."""

    limit: Text | None = None
    retry_policy: Literal["Always", "OnFailure", "OnError", "OnTransientError"] | None = None
    expression: str | None = None
    backoff: Backoff | None = None
    affinity: IgnoredField = None

    @property
    def policy(self) -> str:
        """After which failures: where an expression says, after all that it wants."""
        return self.retry_policy or ("OnFailure" if self.expression is None else "Always")


class Mutex(Closed):
    """A lock by name: of all steps of an account that name it, one runs at a time."""

    name: str = Field(min_length=1, max_length=200)
    namespace: None = None
    database: None = None


class Synchronization(Closed):
    """Which locks a template's step holds while it runs; `mutex` is the older way to write one of `mutexes`."""

    mutex: Mutex | None = None
    mutexes: tuple[Mutex, ...] = ()
    semaphore: None = None
    semaphores: None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its mutexes, tags not filled in."""
        return tuple(dict.fromkeys(one.name for one in (*((self.mutex,) if self.mutex else ()), *self.mutexes)))


class Metadata(Closed):
    """Labels and annotations."""

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: IgnoredField = None
    uid: IgnoredField = None
    resource_version: IgnoredField = None
    generation: IgnoredField = None
    managed_fields: IgnoredField = None


class Template(Closed):
    """One template: exactly one of dag, steps, container, script and suspend."""

    name: str
    inputs: Inputs = Inputs()
    outputs: Outputs = Outputs()
    dag: Dag | None = None
    steps: tuple[tuple[Call, ...], ...] | None = None
    container: Container | None = None
    script: Script | None = None
    suspend: Suspend | None = None
    retry_strategy: Retry | None = None
    synchronization: Synchronization | None = None
    active_deadline_seconds: Text | None = None
    timeout: Text | None = None
    parallelism: None = None
    fail_fast: None = None
    node_selector: dict[str, str] = Field(default_factory=dict)
    metadata: Metadata = Metadata()
    affinity: Any = None
    service_account_name: IgnoredField = None
    tolerations: IgnoredField = None
    archive_location: IgnoredField = None
    security_context: IgnoredField = None
    automount_service_account_token: IgnoredField = None
    pod_spec_patch: None = None

    @property
    def kind(self) -> str:
        """Which of the five it is; empty when it is none."""
        return next((one for one in KINDS if getattr(self, one) is not None), "")

    @property
    def mutexes(self) -> tuple[str, ...]:
        """The names of the mutexes that its step holds, tags not filled in."""
        return self.synchronization.names if self.synchronization is not None else ()

    @property
    def program(self) -> Container | None:
        """The container or script."""
        return self.script or self.container


KINDS = ("dag", "steps", "container", "script", "suspend")


class Spec(Closed):
    """The workflow itself."""

    entrypoint: str
    templates: tuple[Template, ...]
    arguments: Arguments = Arguments()
    parallelism: int | None = Field(default=None, ge=1)
    active_deadline_seconds: int | None = Field(default=None, ge=1, le=10 * 365 * 86400)
    on_exit: str | None = None
    hooks: dict[str, Hook] = Field(default_factory=dict)
    node_selector: dict[str, str] = Field(default_factory=dict)
    pod_gc: Any = Field(default=None, alias="podGC")
    ttl_strategy: IgnoredField = None
    archive_logs: IgnoredField = None
    artifact_gc: Any = Field(default=None, alias="artifactGC")
    service_account_name: IgnoredField = None
    automount_service_account_token: IgnoredField = None
    workflow_metadata: IgnoredField = None
    pod_metadata: IgnoredField = None
    security_context: IgnoredField = None
    tolerations: IgnoredField = None
    image_pull_secrets: IgnoredField = None
    priority: IgnoredField = None
    pod_priority_class_name: IgnoredField = None


class Manifest(Closed):
    """An Argo workflow."""

    api_version: Literal["argoproj.io/v1alpha1"] = "argoproj.io/v1alpha1"
    kind: Literal["Workflow"]
    metadata: Metadata = Metadata()
    spec: Spec
    status: IgnoredField = None

    @cached_property
    def templates(self) -> dict[str, Template]:
        """The templates by name, put together once: every node of a run asks for one."""
        return {one.name: one for one in self.spec.templates}

    def template(self, name: str) -> Template:
        """Return the template of this name; `check` has made sure that it is there."""
        return self.templates[name]
