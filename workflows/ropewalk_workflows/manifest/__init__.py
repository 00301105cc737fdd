"""Reads manifests: a closed model of what the engine runs. What it does not run is refused before the start."""

from ropewalk_workflows.manifest.caching import keeps
from ropewalk_workflows.manifest.check import read
from ropewalk_workflows.manifest.images import meaning, placement_of
from ropewalk_workflows.manifest.model import Manifest, Template
from ropewalk_workflows.manifest.supplied import check_supplied
from ropewalk_workflows.secret_names import secrets_of

__all__ = ["Manifest", "Template", "check_supplied", "keeps", "meaning", "placement_of", "read", "secrets_of"]
