"""What Argo says of a workflow's nodes, as the facts that our engine's tree grows from. Pure.

Argo names nodes by where they are; here each leaf is found again under the path that our engine gives it, by walking
the manifest and Argo's nodes side by side. The tree itself, its names, groups and arrows, then comes from the same code
as on one machine (``seen``). Rejected: a second reading of Argo's graph; two readings would never stay equal.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import gzip
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ropewalk_core.errors import Unavailable
from ropewalk_core.kube.kinds import Object
from ropewalk_workflows.argo.render import FACTS, GENERATION
from ropewalk_workflows.engine.calls import loops
from ropewalk_workflows.engine.leaves import path_of
from ropewalk_workflows.engine.state import Fact, Reference, node_id
from ropewalk_workflows.manifest.hooks import hooks_of, suffix
from ropewalk_workflows.manifest.model import Manifest, Template

_MEMBER = re.compile(r"([^()]+)\((\d+):")
_ENDED = ("Succeeded", "Failed", "Error", "Skipped", "Omitted")
_LOG = "main-logs"
_LARGEST = 64 * 2**20
_STOPPED = re.compile(r"(?i)shutdown with strategy|stopped with strategy|terminated")


@dataclass(frozen=True)
class Leaf:
    """A step as Argo has it: the node that counts, how many attempts there were, and what the step told of itself."""

    node: Mapping[str, Any]
    last: Mapping[str, Any]
    attempts: int = 1
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def phase(self) -> str:
        """Argo's word for where it stands."""
        return str(self.node.get("phase") or "")

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.phase in _ENDED

    @property
    def waits_again(self) -> bool:
        """Whether an attempt failed and another is to come."""
        return not self.ended and self.attempts > 0 and self.last.get("phase") in ("Failed", "Error")

    @property
    def stopped(self) -> bool:
        """Whether it was ended because the whole workflow was."""
        said = str(self.last.get("message") or self.node.get("message") or "")
        return self.phase in ("Failed", "Error") and bool(_STOPPED.search(said))

    @property
    def message(self) -> str:
        """What Argo or Kubernetes says about it."""
        return str(self.last.get("message") or self.node.get("message") or "")

    @property
    def log(self) -> str:
        """The key of its log in the bucket, once it ended."""
        return self.keys().get(_LOG, "")

    def keys(self) -> dict[str, str]:
        """Return where its files lie in the bucket, by name."""
        return {
            str(one["name"]): str(one["s3"]["key"])
            for one in (self.last.get("outputs") or {}).get("artifacts") or ()
            if isinstance(one.get("s3"), dict) and one["s3"].get("key")
        }

    def files(self) -> dict[str, str]:
        """Return where the files that it wrote lie."""
        return {name: key for name, key in self.keys().items() if name != _LOG}

    def parameters(self) -> dict[str, str]:
        """Return its output parameters."""
        outputs = self.last.get("outputs") or {}
        found = {str(one["name"]): str(one.get("value") or "") for one in outputs.get("parameters") or ()}
        found.pop(FACTS, None)
        return found | ({"result": str(outputs["result"])} if outputs.get("result") is not None else {})


def hydrated(workflow: Object) -> dict[str, dict[str, Any]]:
    """Return the nodes of a workflow by identifier, unpacked where there are many.

    Raises
    ------
    Unavailable
        If they lie in a database of Argo's, which is switched off by default.
    """
    status = workflow.get("status") or {}
    if status.get("offloadNodeStatusVersion"):
        raise Unavailable(
            "Argo keeps the steps of this run in a database, where the platform cannot see them.",
            hint="An administrator switches off nodeStatusOffLoad in Argo's configuration.",
        )
    if not status.get("nodes") and (text := status.get("compressedNodes")):
        try:
            unpacker = zlib.decompressobj(wbits=47)
            found = json.loads(unpacker.decompress(base64.b64decode(text), _LARGEST))
        except (ValueError, zlib.error, binascii.Error) as error:
            raise Unavailable(f"What Argo says of this run cannot be read: {error}.") from error
    else:
        found = status.get("nodes") or {}
    return {str(key): one for key, one in found.items() if isinstance(one, dict)}


def packed(nodes: Mapping[str, Any]) -> str:
    """Return nodes as Argo writes them where there are many; unpacked they may be larger than the API server takes."""
    return base64.b64encode(gzip.compress(json.dumps(nodes).encode())).decode()


def generation(workflow: Object) -> int:
    """Return which of our orders this workflow carries out: 1, and one more for each retry."""
    return numbered(workflow, GENERATION, 1)


def numbered(workflow: Object, annotation: str, without: int) -> int:
    """Return the number that an annotation of a workflow holds."""
    text = str(((workflow.get("metadata") or {}).get("annotations") or {}).get(annotation) or "")
    return int(text) if text.isdecimal() else without


@dataclass
class Known:
    """What Argo has of a run, by our engine's identifiers: its leaves, and everything that it did not leave out."""

    leaves: dict[str, Leaf] = field(default_factory=dict)
    tries: dict[str, Leaf] = field(default_factory=dict)
    """Composites that are tried again."""
    begun: set[str] = field(default_factory=set)


def known(workflow: Object, manifest: Manifest, run: str) -> Known:
    """Return what Argo has of a run; what it has not begun is not in it."""
    index, found = _Index(hydrated(workflow)), Known()
    entry = manifest.template(manifest.spec.entrypoint)
    tops = [(run, path_of(entry), entry)]
    for name, hook in hooks_of(manifest.spec, manifest.spec.arguments).items():
        tops.append((run + suffix(name), suffix(name).removeprefix("."), manifest.template(hook.template)))
    for name, path, template in tops:
        if (node := index.named.get(name)) is not None:
            _walk(found, index, manifest, node, path, template)
    return found


def fact(leaf: Leaf, files: Mapping[str, Reference], earlier: int, *, over: bool = False) -> Fact:
    """Return the fact of a leaf.

    Parameters
    ----------
    leaf
        What Argo has.
    files
        The files that it wrote, with their digests.
    earlier
        How many attempts there were before the last retry of the whole run.
    over
        The whole run has ended, so that nothing of it runs or waits.
    """
    told, last = leaf.told, leaf.last
    made = Fact(attempt=earlier + leaf.attempts, started=seconds(last.get("startedAt")))
    code = (last.get("outputs") or {}).get("exitCode")
    made.code = int(code) if isinstance(code, str) and code.isdecimal() and len(code) < 6 else 0
    made.peak = int(told["peak_memory"]) if isinstance(told.get("peak_memory"), int) else 0
    if leaf.phase == "Succeeded":
        made.phase, made.parameters, made.artifacts = "Succeeded", leaf.parameters(), dict(files)
    elif leaf.phase in ("Failed", "Error") and not leaf.stopped:
        made.phase, made.artifacts = "Error" if leaf.phase == "Error" else "Failed", dict(files)
    elif over:
        pass
    elif leaf.waits_again:
        made.again = seconds(last.get("finishedAt")) or 0.0
    elif leaf.phase == "Running" and last.get("phase") == "Running":
        made.running = True
    if made.phase or made.again is not None:
        made.ended = seconds(last.get("finishedAt"))
    return made


def seconds(text: Any) -> float | None:
    """Return Unix time from a time as Kubernetes writes it."""
    if not isinstance(text, str) or not text:
        return None
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


class _Index:
    """Argo's nodes by name, and by the composite around them and the call that made them."""

    def __init__(self, nodes: Mapping[str, dict[str, Any]]) -> None:
        self.nodes = nodes
        self.named: dict[str, dict[str, Any]] = {}
        self.called: dict[tuple[str, str], dict[str, Any]] = {}
        self.members: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
        for one in nodes.values():
            self.named[str(one.get("name"))] = one
            shown, around = str(one.get("displayName") or ""), str(one.get("boundaryID") or "")
            if (one.get("nodeFlag") or {}).get("retried"):
                continue
            if (match := _MEMBER.match(shown)) is not None:
                self.members.setdefault((around, match[1]), {})[int(match[2])] = one
            else:
                self.called[(around, shown)] = one

    def leaf(self, node: Mapping[str, Any]) -> Leaf:
        """Return a node that runs a program, with its last attempt."""
        if node.get("type") != "Retry":
            begun = node.get("type") in ("Pod", "Suspend")
            return Leaf(node, node, 1 if begun else 0, _told(node))
        tries = self.tries(node)
        last = tries[-1] if tries else node
        return Leaf(node, last, len(tries), _told(last))

    def tries(self, node: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the attempts of a node in their order."""
        inside = [self.nodes[one] for one in node.get("children") or () if one in self.nodes]
        return sorted((one for one in inside if (one.get("nodeFlag") or {}).get("retried")), key=_number)


def _walk(
    found: Known, index: _Index, manifest: Manifest, node: Mapping[str, Any], path: str, template: Template
) -> None:
    if node.get("phase") not in ("Skipped", "Omitted"):
        found.begun.add(node_id(path))
    if template.program is not None or template.suspend is not None:
        found.leaves[node_id(path)] = index.leaf(node)
        return
    if node.get("type") == "Retry":
        found.tries[node_id(path)] = index.leaf(node)
        for number, one in enumerate(index.tries(node)):
            found.begun.add(node_id(f"{path}({number})"))
            _inside(found, index, manifest, one, f"{path}({number})", template)
        return
    _inside(found, index, manifest, node, path, template)


def _inside(
    found: Known, index: _Index, manifest: Manifest, node: Mapping[str, Any], path: str, template: Template
) -> None:
    """Walk what a composite calls."""
    groups = template.steps if template.steps is not None else ((template.dag.tasks,) if template.dag else ())
    around = str(node.get("id"))
    for call in (one for group in groups for one in group):
        at, called = f"{path}/{call.name}" if path else call.name, manifest.template(call.template)
        if loops(call):
            for number, one in sorted(index.members.get((around, call.name), {}).items()):
                found.begun.add(node_id(at))
                _walk(found, index, manifest, one, f"{at}({number})", called)
        elif (whole := index.called.get((around, call.name))) is not None:
            _walk(found, index, manifest, whole, at, called)
            for name, hook in hooks_of(call, manifest.spec.arguments).items():
                if (hooked := index.named.get(f"{whole.get('name')}{suffix(name)}")) is not None:
                    _walk(found, index, manifest, hooked, at + suffix(name), manifest.template(hook.template))


def _number(attempt: Mapping[str, Any]) -> int:
    text = str(attempt.get("name") or "").rpartition("(")[2].rstrip(")")
    return int(text) if text.isdigit() else 0


def _told(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a step of ours told; it came from a person's pod, so anything may stand there."""
    for one in (node.get("outputs") or {}).get("parameters") or ():
        if one.get("name") == FACTS and one.get("value"):
            try:
                found = json.loads(one["value"])
            except (ValueError, RecursionError, TypeError):
                return {}
            return found if isinstance(found, dict) else {}
    return {}
