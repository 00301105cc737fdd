"""What each pod of ours says of its own security: what Kubernetes' profile ``restricted`` wants, and whose it is.

All that runs for an account is the same person to the volume, so its pods all say the same; namespaces refuse a pod
that says less. Pure. Not here: what a chart of somebody else may say (``charts.py``). Rejected: writing it out where
each pod is drawn, which had given functions a pod that says less than a step's.
"""

from __future__ import annotations

from typing import Any

from ropewalk_core.kube.kinds import Object

USER = 1000
"""The user and the group of everything that runs for an account, and of its files."""


def pod() -> Object:
    """Return the security context of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container(**more: Any) -> Object:
    """Return the security context of a container, whose pod says the rest."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, **more}


def alone() -> Object:
    """Return the security context of a container whose pod cannot say anything, as with Knative."""
    said = pod()
    return container(**{key: said[key] for key in ("runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile")})
