"""What an image and its resources mean on a machine without images. Pure.

Our runner image with our command is the step interface; images named in the settings stand for the account's Python or
a shell; any other image is refused by name before anything starts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ropewalk_core.errors import BadWorkflow, RopewalkError
from ropewalk_core.placement import Placement, parse_placement
from ropewalk_workflows import names
from ropewalk_workflows.manifest.model import Container, Manifest, Template

_REGISTRIES = ("docker.io/library/", "docker.io/", "index.docker.io/library/", "library/")
_RESOURCES = {"cpu": "cpu", "memory": "memory", "ephemeral-storage": "scratch"}


class AnyImage(dict[str, str]):
    """What images mean on a cluster: each is itself. For checks that were written for machines without images."""

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> str:
        return "shell"


def meaning(program: Container, images: Mapping[str, str], where: str) -> str:
    """Return ``step``, ``python`` or ``shell``.

    Raises
    ------
    BadWorkflow
        If the image means nothing here.
    """
    if program.image == names.RUNNER_IMAGE and program.command == names.RUNNER_COMMAND:
        return "step"
    image = program.image
    for registry in _REGISTRIES:
        image = image.removeprefix(registry)
    bare = image.partition("@")[0].partition(":")[0]
    tag = image.partition("@")[0].partition(":")[2]
    for candidate in (program.image, image, f"{bare}:{tag.partition('.')[0].partition('-')[0]}", bare):
        if candidate in images and images[candidate] in ("python", "shell"):
            return images[candidate]
    raise BadWorkflow(
        f"The image {program.image!r} means nothing on this machine, which runs no images.",
        field=f"{where}.image",
        hint=f"Use one of {', '.join(sorted(images))}, or ask your administrator to name it in the settings.",
    )


def placement_of(template: Template, manifest: Manifest, where: str) -> Placement:
    """Return what a template needs: from our annotation, else from its resources and node selector.

    Raises
    ------
    BadWorkflow
        If it asks for something that has no meaning here.
    """
    if text := template.metadata.annotations.get(names.PLACEMENT):
        try:
            return parse_placement(json.loads(text))
        except (ValueError, RopewalkError) as error:
            raise BadWorkflow(
                f"The annotation is not a placement: {error}.", field=f"{where}.metadata.annotations"
            ) from error
    if template.affinity is not None:
        raise BadWorkflow("'affinity' is not supported here.", field=f"{where}.affinity", hint="Use nodeSelector.")
    asked: dict[str, Any] = {}
    resources = template.program.resources if template.program else None
    for source in (resources.requests, resources.limits) if resources else ():
        for name, amount in source.items():
            if name not in _RESOURCES:
                raise BadWorkflow(
                    f"The resource {name!r} has no meaning here.",
                    field=f"{where}.resources",
                    hint=f"Set the annotation {names.PLACEMENT} with an accelerator instead.",
                )
            asked[_RESOURCES[name]] = _cores(amount) if name == "cpu" else amount
    labels = {**manifest.spec.node_selector, **template.node_selector}
    if arch := labels.pop(names.ARCH_LABEL, ""):
        asked["arch"] = arch
    if accelerator := labels.pop(names.ACCELERATOR_LABEL, ""):
        asked["accelerator"] = accelerator
    try:
        return parse_placement({**asked, "labels": labels})
    except RopewalkError as error:
        raise BadWorkflow(error.message, field=f"{where}.resources", hint=error.hint) from error


def _cores(amount: str) -> Any:
    if amount.endswith("m") and amount[:-1].isdigit():
        return int(amount[:-1]) / 1000
    return amount
