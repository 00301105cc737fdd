"""Every knob, read once. The only module of hub and core that touches the environment.

Each field's documentation is the string under it (unit, default, reason); a test fails on an undocumented one and on
one missing from ``docs/settings.md``. Order: default, then ``<home>/ropewalk.toml``, then
``ROPEWALK_<GROUP>_<FIELD>``, then what a command says. Rejected: traitlets (its values change at any time and have no
types).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
import tomllib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ropewalk_core.errors import BadInput

IMAGES = ("hub", "notebook", "runner")
_LABEL = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_HOST = rf"{_LABEL}(\.{_LABEL})*"


def _text(default: str, pattern: str) -> str:
    """Return a field whose text, whole, has a form; the chart's schema has it too."""
    chosen: str = field(default=default, metadata={"pattern": f"^({pattern})$"})
    return chosen


def default_home() -> Path:
    """Return the folder that holds the platform's state: ``$ROPEWALK_HOME``, or the XDG state folder."""
    if chosen := os.environ.get("ROPEWALK_HOME"):
        return Path(chosen)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "ropewalk"


@dataclass(frozen=True)
class Door:
    """Where people and the platform meet."""

    port: int = 8000
    """TCP port of the platform's door (sign-in, dashboard, API, hub, notebooks); the people's door is the next one."""
    host: str = _text("localhost", _HOST)
    """Name people type; notebooks live at <account>.<host>. On a shared machine use a name with a wildcard record."""
    bind: str = "127.0.0.1"
    """Address to listen on. Loopback by default: embedded mode speaks plain http."""
    scheme: str = _text("http", "https?")
    """http, or https when a proxy in front ends TLS."""
    people_host: str = _text("", f"({_HOST})?")
    """Domain of notebooks, services and functions; empty means the same name as `host`."""

    @property
    def people_port(self) -> int:
        """The port of the people's door."""
        return self.port + 1

    @property
    def people(self) -> str:
        """The domain of notebooks, services and functions."""
        return self.people_host or self.host

    @property
    def origin(self) -> str:
        """The platform's origin as a browser writes it."""
        return f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True)
class Accounts:
    """Who may sign in, and for how long."""

    sign_up: bool = True
    """Whether the sign-in page offers an account; a new one waits for an administrator."""
    session: float = 14 * 86400.0
    """Seconds a sign-in lasts without use. Two weeks, as JupyterHub's cookies."""
    token: float = 600.0
    """Seconds a token from `ropewalk token` lives. Ten minutes: short enough to leak, long enough for curl."""
    shared_trust: bool = False
    """Allow several accounts without a working sandbox, on the word that these people trust each other."""
    first_uid: int = 20001
    """First numeric user that `ropewalk up` as root gives to an account; above what distributions hand out."""


@dataclass(frozen=True)
class Limits:
    """What one account may use at most."""

    payload: int = 32 * 2**20
    """Bytes of a function's request or answer; larger data goes by file."""
    value: int = 8 * 2**30
    """Bytes of one data frame or array that goes to a function as a file; smaller ones than 1 MiB lie in the call."""
    values: int = 32 * 2**30
    """Bytes of such files that are kept of one account, whichever functions they went to."""
    values_kept: float = 6 * 3600.0
    """Seconds for which such a file is kept after its last call, so that it need not be sent again; one of a durable
    call stays until that has ended, or is forgotten if it failed."""
    bundle: int = 8 * 2**20
    """Bytes of captured code in one function or step."""
    memory: int = 4 * 2**30
    """Bytes of memory for one worker or step that asks for none."""
    steps: int = 4
    """Steps of one account that run at the same time; 0 means the number of cores."""
    files: int = 20 * 2**30
    """Bytes an account may keep in its files."""
    log: int = 16 * 2**20
    """Bytes of log kept for one step, service or call; more is cut with a mark."""
    processes: int = 512
    """Processes one sandbox may have."""
    durable_waiting: int = 50_000
    """Durable calls of one account that may wait or run; further ones are refused."""
    durable_payload: int = 2**20
    """Bytes of a durable call's arguments, and of its result: the journal keeps both, larger data goes by file."""
    durable_bytes: int = 256 * 2**20
    """Bytes that an account's durable calls may take in the journal: arguments, kept results, and 1 KiB for each."""
    durable_kept: float = 7 * 86400.0
    """Seconds that a durable call is kept after its end, with its result, or with its arguments if it failed."""
    triggers: int = 100
    """Triggers that all functions and saved workflows of one account may have together."""
    triggers_each: int = 20
    """Triggers that one function or saved workflow may have."""
    saved_workflows: int = 200
    """Workflows that one account may have saved."""
    trigger_chain: int = 8
    """Ends that may fire one another in a row, so that a circle of triggers comes to its end."""
    trigger_ends: int = 10_000
    """Ends of one account's calls and runs that may wait for their triggers; further ones fire nothing."""
    trigger_entries: int = 10_000
    """Entries that a folder may have which is looked through for new files."""


@dataclass(frozen=True)
class Environments:
    """The Python environments of the accounts."""

    base: Path = field(default_factory=lambda: Path(sys.prefix).with_name(Path(sys.prefix).name + "-user"))
    """Read-only lower layer of every account's environment: the user side of Ropewalk and the usual libraries.
    `make setup` builds it beside the platform's own environment."""
    index: str = ""
    """Package index, such as a mirror, that requirements of functions come from, and that pip and uv ask in notebooks
    on a cluster; empty means their own. Put no password in it: people's code can read it."""
    build_time: float = 900.0
    """Seconds that the requirements of a function may take to be found and installed."""
    build_size: int = 8 * 2**30
    """Bytes that an environment of requirements may have; as many may be kept of downloads."""
    build_total: int = 32 * 2**30
    """Bytes that all environments of requirements which were built for one account may have together."""
    build_log: int = 2**20
    """Bytes of log kept of one such build; more is left out with a mark."""
    unused: float = 7 * 86400.0
    """Seconds for which an environment of requirements is kept that no kept revision names and no worker uses."""
    images: dict[str, str] = field(
        default_factory=lambda: {
            "python": "python",
            "python:3": "python",
            "alpine": "shell",
            "busybox": "shell",
            "debian": "shell",
            "bash": "shell",
        }
    )
    """What an image name means without a cluster: `python` (the account's environment) or `shell` (/bin/sh)."""


@dataclass(frozen=True)
class Devices:
    """Accelerators of one machine; a cluster has its device plugins."""

    extra: dict[str, str] = field(default_factory=dict)
    """Accelerators beside those that are found by themselves, as their nodes: fpga = "/dev/fpga0 /dev/fpga0-ctl,
    /dev/fpga1" are two, of which the first has two nodes. Each is lent to one piece of work at a time."""


@dataclass(frozen=True)
class Cluster:
    """The Kubernetes cluster, when `backend` is `kube`. Amounts are written as Kubernetes writes them."""

    kubeconfig: Path | None = None
    """How to reach the API server from outside; empty means the service account of the pod that we run in."""
    context: str = ""
    """Context of the kubeconfig; empty means its current one."""
    namespace: str = "ropewalk"
    """Namespace that the platform itself runs in; nobody's work runs there."""
    prefix: str = "ropewalk"
    """Begins the name of every account's namespace, <prefix>--<account>. Two installations need two."""
    quota: dict[str, str] = field(
        default_factory=lambda: {
            "pods": "50",
            "requests.cpu": "8",
            "limits.cpu": "16",
            "requests.memory": "32Gi",
            "limits.memory": "32Gi",
            "requests.ephemeral-storage": "100Gi",
            "limits.ephemeral-storage": "100Gi",
            "persistentvolumeclaims": "10",
            "requests.storage": "100Gi",
            "services": "50",
            "services.nodeports": "0",
            "services.loadbalancers": "0",
            "secrets": "100",
            "configmaps": "200",
        }
    )
    """What one account may have at once, of any resource that the cluster counts (requests.nvidia.com/gpu too).
    Setting it replaces the whole table."""
    container: dict[str, str] = field(default_factory=lambda: {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "2Gi"})
    """The limits of a container that says none. A quota refuses pods without."""
    container_request: dict[str, str] = field(default_factory=lambda: {"cpu": "100m"})
    """What such a container reserves, where that is less than its limits."""
    container_most: dict[str, str] = field(default_factory=dict)
    """The most that one container may ask for; empty means what the quota leaves."""
    accelerators: dict[str, str] = field(default_factory=dict)
    """Names of accelerators beside those that nodes tell: nvidia-h100 = "nvidia.com/gpu,nvidia.com/gpu.product=X"."""
    pools: dict[str, str] = field(default_factory=dict)
    """Node pools that have no node now and could bring one: big = "arch=arm64,cpu=16,memory=64Gi,nvidia-h100=8"."""
    tolerated: tuple[str, ...] = ()
    """Labels that people may ask for although a taint of that name keeps others away from their nodes."""
    images: dict[str, str] = field(default_factory=lambda: {one: f"ropewalk/{one}:0.1" for one in IMAGES})
    """The image of the platform's own programs (hub), of notebooks, and of functions and steps (runner)."""
    storage_class: str = ""
    """Storage class of accounts' files; empty means the cluster's default."""
    files_size: str = "10Gi"
    """Size of each account's files; fixed when they are first needed. The quota's requests.storage counts it."""
    files_access: str = "ReadWriteMany"
    """ReadWriteMany, or ReadWriteOnce where the storage class cannot do that: everything of one account then runs on
    the one node that has its files, and no space is shared."""
    secrets: Path | None = None
    """Folder where the Secret with what the platform's pods share is mounted; empty means that each makes its own."""
    start_timeout: float = 900.0
    """Seconds after which a notebook that waits for a machine, an image or a volume has failed to start."""
    functions: str = "auto"
    """What functions run on: knative, deployment (one pod each, always on), or auto: Knative where it is."""
    objects: str = ""
    """Address of the versitygw that keeps workflows' values and logs; empty means the chart's own, in `namespace`."""
    dns: str = "kube-system/k8s-app=kube-dns"
    """Where names are looked up: the namespace and a label of the pods that answer."""
    gateways: tuple[str, ...] = ()
    """Namespaces besides the platform's whose pods may call into accounts' pods: knative-serving, kourier-system."""
    api_server: tuple[str, ...] = ()
    """Addresses of the API server, as 10.0.0.1:6443, that the reporter beside a workflow's step must reach, and a
    notebook with `notebook_token`; no other pod of an account may."""
    notebook_token: bool = False
    """Whether notebooks get a Kubernetes token, so that kubectl and its kind work in them: for ten minutes, renewed,
    and only to read what runs in the account's own namespace. Nothing else of an account's gets one."""
    private: tuple[str, ...] = (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    )
    """Networks that accounts' pods cannot reach, unlike the rest of the world. Nodes, services and the addresses where
    clouds keep their keys belong in it; 0.0.0.0/0 and ::/0 cut the world off."""


@dataclass(frozen=True)
class Settings:
    """All settings of one home."""

    home: Path = field(default_factory=default_home)
    """Folder with all state: journal, secrets (mode 0600), accounts' files, logs. Deleting it is a clean uninstall."""
    folder: Path | None = None
    """Folder that the first administrator's notebook opens; None means the account's own folder in the home."""
    journal: str = ""
    """Where the journal is kept: empty for a file in the home (one platform, on a disk of its own), or the address of
    a PostgreSQL database, postgresql://user:password@host/database, without a pooler between."""
    backend: str = "local"
    """Backend of the six ports, found by the entry point `ropewalk.backends`."""
    door: Door = field(default_factory=Door)
    """Addresses and ports."""
    accounts: Accounts = field(default_factory=Accounts)
    """Sign-in and accounts."""
    limits: Limits = field(default_factory=Limits)
    """Limits of one account."""
    environments: Environments = field(default_factory=Environments)
    """Python environments."""
    devices: Devices = field(default_factory=Devices)
    """Accelerators of one machine."""
    cluster: Cluster = field(default_factory=Cluster)
    """The Kubernetes cluster."""

    @property
    def run(self) -> Path:
        """Folder of sockets, locks and process records; mode 0700, never mounted in a sandbox."""
        return self.home / "run"

    @property
    def secrets(self) -> Path:
        """Folder of generated secrets; mode 0700, files 0600."""
        return self.home / "secrets"

    @property
    def logs(self) -> Path:
        """Folder of the platform's own logs."""
        return self.home / "logs"


def load(home: Path | None = None, *, environ: Mapping[str, str] | None = None, **chosen: Any) -> Settings:
    """Read the settings of a home once.

    Parameters
    ----------
    home
        The home folder; None asks `default_home`.
    environ
        The environment; None means the process's own.
    chosen
        What a command said, as ``group_field=value``, for example ``door_port=9000``.

    Raises
    ------
    BadInput
        If a value has the wrong type or a name is unknown; ``field`` names it.
    """
    environ = os.environ if environ is None else environ
    base = (home or default_home()).expanduser().resolve()
    values = _from_file(base / "ropewalk.toml")
    for name, text in environ.items():
        if name.startswith("ROPEWALK_") and (path := _known(name[len("ROPEWALK_") :].lower())):
            values[path] = text
    values |= {path: value for name, value in chosen.items() if value is not None and (path := _path(name))}
    settings: Settings = _build(Settings, "", values | {"home": base})
    return settings


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment that our own processes hand on: a short allow-list of the machine's, and ``extra``."""
    keep = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "NO_COLOR", "TERM")
    return {name: os.environ[name] for name in keep if name in os.environ} | dict(extra or {})


def package_environment() -> dict[str, str]:
    """Return what the environment says about package indexes, in uv's own variables, and how they are reached."""
    keep = (
        *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX_STRATEGY"),
        *("UV_FIND_LINKS", "UV_NO_INDEX", "UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_HTTP_TIMEOUT"),
        "UV_HTTP_RETRIES",
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    )
    return {name: os.environ[name] for name in keep if name in os.environ}


def whole_environment() -> dict[str, str]:
    """Return every variable, for a process that becomes another one in the same container."""
    return dict(os.environ)


@contextlib.contextmanager
def shown_instead(name: str, value: str) -> Iterator[None]:
    """Show this process another value of an environment variable meanwhile; for its start, before it has threads."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def read_environment(name: str, default: str = "") -> str:
    """Return one variable that another program set for us (JUPYTERHUB_API_TOKEN and its kin)."""
    return os.environ.get(name, default)


def _from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not TOML: {error}.", field=str(path)) from error
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        items = value.items() if isinstance(value, dict) and name in _groups() else [("", value)]
        for inner, one in items:
            flat[_path(f"{name}_{inner}" if inner else name)] = one
    return flat


def _groups() -> dict[str, Any]:
    return {
        one.name: hint
        for one in dataclasses.fields(Settings)
        if dataclasses.is_dataclass(hint := typing.get_type_hints(Settings)[one.name])
    }


def _known(name: str) -> str:
    for group, cls in _groups().items():
        if name.startswith(f"{group}_") and name[len(group) + 1 :] in {one.name for one in dataclasses.fields(cls)}:
            return f"{group}.{name[len(group) + 1 :]}"
    return name if name in {one.name for one in dataclasses.fields(Settings)} - set(_groups()) - {"home"} else ""


def _path(name: str) -> str:
    if known := _known(name):
        return known
    raise BadInput(f"There is no setting '{name}'.", field=name, hint="See docs/settings.md for their names.")


def _build(cls: Any, prefix: str, values: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(cls)
    chosen = {}
    for one in dataclasses.fields(cls):
        path = f"{prefix}{one.name}"
        if dataclasses.is_dataclass(hints[one.name]):
            chosen[one.name] = _build(hints[one.name], f"{path}.", values)
        elif path in values:
            chosen[one.name] = value = _convert(path, hints[one.name], values[path])
            if (form := one.metadata.get("pattern")) and not re.fullmatch(form, value):
                raise _cannot_be(path, value)
    return cls(**chosen)


def _convert(path: str, hint: Any, value: Any) -> Any:
    """Return the value in the field's type; text comes from the environment."""
    try:
        if hint is bool:
            return (
                value
                if isinstance(value, bool)
                else {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
            )
        if hint in (int, float, str):
            return hint(value)
        if hint in (Path, Path | None):
            return Path(value).expanduser().resolve()
        if hint == tuple[str, ...]:
            return tuple(value.split(",")) if isinstance(value, str) else tuple(value)
        return dict(value)
    except (KeyError, TypeError, ValueError) as error:
        raise _cannot_be(path, value) from error


def _cannot_be(path: str, value: Any) -> BadInput:
    return BadInput(f"Setting '{path}' cannot be {value!r}.", field=path, hint="See docs/settings.md.")
