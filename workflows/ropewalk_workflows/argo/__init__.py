"""Workflows on a cluster: the same manifests, carried out by Argo."""

from ropewalk_workflows.argo.backend import ArgoWorkflows

__all__ = ["ArgoWorkflows"]
