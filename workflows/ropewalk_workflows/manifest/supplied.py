"""Whether a manifest's code and values came with it: what a step of ours would miss is refused before the start.

A compiled manifest names bundles and values by digest; alone, as a YAML file say, it cannot run. Pure. Not here: the
shape of the manifest (``check``). Rejected: looking for code of an earlier run; nobody could say what a manifest runs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping

from ropewalk_core.errors import BadWorkflow
from ropewalk_workflows import names
from ropewalk_workflows.manifest.images import meaning
from ropewalk_workflows.manifest.model import Artifact, Call, Manifest, Spec, Template

_BUNDLE, _CALL = "ropewalk-bundle", "ropewalk-call"
_HINT = "Submit the @workflow itself from your notebook; it takes the code along."


def check_supplied(
    manifest: Manifest, images: Mapping[str, str], bundles: Collection[str], values: Collection[str]
) -> None:
    """Refuse a manifest whose steps need code or values that did not come with it.

    Parameters
    ----------
    manifest
        A checked manifest.
    images
        What an image name means here.
    bundles, values
        Digests of what came along.

    Raises
    ------
    BadWorkflow
        With the place of the first that is missing.
    """
    for template in manifest.spec.templates:
        if template.program is not None and meaning(template.program, images, template.name) == "step":
            _check_step(template)
        elif any(one.name in (_BUNDLE, _CALL) for one in template.inputs.artifacts):
            raise BadWorkflow(
                f"Artifacts named {_BUNDLE} and {_CALL} belong to steps of Ropewalk.",
                field=f"spec.templates[{template.name}].inputs.artifacts",
            )
    for place, artifact in _given(manifest):
        key = artifact.s3.key if artifact.s3 is not None else ""
        for prefix, known, what in ((names.BUNDLES, bundles, "code"), (names.VALUES, values, "value")):
            if key.startswith(prefix) and key.removeprefix(prefix) not in known:
                raise BadWorkflow(
                    f"The manifest came without the {what} that {place} names.", field=f"{place}.s3.key", hint=_HINT
                )


def _check_step(template: Template) -> None:
    """Refuse a step of ours whose code or call nobody could read."""
    where = f"spec.templates[{template.name}].inputs.artifacts"
    found = {one.name: one for one in template.inputs.artifacts}
    bundle, call = found.get(_BUNDLE), found.get(_CALL)
    if bundle is None or bundle.s3 is None or not bundle.s3.key.startswith(names.BUNDLES):
        sentence = f"The template '{template.name}' runs a step of Ropewalk and names no code."
        raise BadWorkflow(sentence, field=f"{where}[{_BUNDLE}]", hint=_HINT)
    text = call.raw.data if call is not None and call.raw is not None else "{}"
    try:
        facts = None if "{{" in text else json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    lists = [facts.get(one, []) for one in ("wants", "lists", "maybe")] if isinstance(facts, dict) else [None]
    tests = facts.get("tests", []) if isinstance(facts, dict) else None
    fine = isinstance(tests, list) and all(isinstance(one, dict) and {*one} == {"operator", "value"} for one in tests)
    if not fine or not all(isinstance(one, list) and all(isinstance(name, str) for name in one) for one in lists):
        raise BadWorkflow("It is not what Ropewalk writes there.", field=f"{where}[{_CALL}]", hint=_HINT)


def _given(manifest: Manifest) -> Iterator[tuple[str, Artifact]]:
    """Return every artifact that is given by its place, and where the manifest says so."""
    yield from _handed_over(manifest.spec, "spec")
    for template in manifest.spec.templates:
        where = f"spec.templates[{template.name}]"
        for artifact in template.inputs.artifacts:
            yield f"{where}.inputs.artifacts[{artifact.name}]", artifact
        calls = [
            *(template.dag.tasks if template.dag else ()),
            *(one for group in template.steps or () for one in group),
        ]
        for call in calls:
            yield from _handed_over(call, f"{where}.{template.kind}[{call.name}]")


def _handed_over(by: Call | Spec, where: str) -> Iterator[tuple[str, Artifact]]:
    """Return the files that a call, and each hook, hands over."""
    found = [(where, by.arguments), *((f"{where}.hooks[{name}]", one.arguments) for name, one in by.hooks.items())]
    for place, arguments in found:
        for artifact in arguments.artifacts:
            at = f"{place}.arguments.artifacts[{artifact.name}]"
            if artifact.name in (_BUNDLE, _CALL):
                raise BadWorkflow("A call cannot replace the code of a step.", field=at)
            yield at, artifact
