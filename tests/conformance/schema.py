"""Argo's own schema of a Workflow; it is not part of the project."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest


def workflow() -> Any:
    """Return the schema, or skip the test where it is not."""
    here = Path(__file__).resolve().parents[3] / "shared" / "data" / "argo" / "schema-4.1.2.json"
    path = Path(os.environ.get("ROPEWALK_ARGO_SCHEMA") or here)
    if not path.is_file():
        pytest.skip("Argo's JSON schema is not on this machine; name it in ROPEWALK_ARGO_SCHEMA")
    schema = json.loads(path.read_text())
    return {"definitions": schema["definitions"], "$ref": "#/definitions/io.argoproj.workflow.v1alpha1.Workflow"}
