"""Writes Argo manifests, through Hera: from `@workflow`, from a person's Hera object, from YAML."""

from ropewalk_workflows.compile.foreign import from_object, to_yaml
from ropewalk_workflows.compile.manifests import compile_workflow
from ropewalk_workflows.compile.saving import to_save

__all__ = ["compile_workflow", "from_object", "to_save", "to_yaml"]
