"""Helm and helmfile, as they are built with the cluster: a chart is installed, changed and removed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster.builder import Builder
from tests.cluster.cluster import Cluster
from tests.cluster.kube import Kube
from tests.cluster.layout import Layout
from tests.cluster.scene import Scene

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture(scope="module", autouse=True)
def installed(at: Layout, kube: Kube) -> None:
    """Have the clients beside the cluster."""
    Cluster(at).up("helm")


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """Return a chart of one config map."""
    folder = tmp_path / "chart"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: words\nversion: 0.1.0\n")
    (folder / "values.yaml").write_text("word: one\n")
    made = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: words\ndata:\n  word: {{ .Values.word }}\n"
    (folder / "templates" / "words.yaml").write_text(made)
    return folder


def run(at: Layout, home: Path, *argv: str | Path) -> str:
    """Run a client as someone with nothing of their own, and return what it says."""
    environment = {
        "PATH": f"{at.run / 'bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "KUBECONFIG": str(at.kubeconfig),
    }
    done = subprocess.run([*map(str, argv)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def word(scene: Scene) -> str | None:
    found = scene.kube.get(f"/api/v1/namespaces/{scene.namespace}/configmaps/words")
    return str(found["data"]["word"]) if found else None


def test_helm_installs_changes_and_removes(scene: Scene, at: Layout, chart: Path, tmp_path: Path) -> None:
    place = ("--namespace", scene.namespace)
    assert (
        run(at, tmp_path, "helm", "version", "--short")
        .strip()
        .startswith(Builder(at).version("helm", "helm.sh/helm/v4"))
    )
    run(at, tmp_path, "helm", "install", "words", chart, *place)
    assert word(scene) == "one"
    run(at, tmp_path, "helm", "upgrade", "words", chart, "--set", "word=two", *place)
    assert word(scene) == "two"
    listed = json.loads(run(at, tmp_path, "helm", "list", "--output", "json", *place))
    assert [(one["name"], one["revision"]) for one in listed] == [("words", "2")]
    run(at, tmp_path, "helm", "uninstall", "words", *place)
    assert word(scene) is None


def test_helmfile_brings_releases_to_what_it_says(scene: Scene, at: Layout, chart: Path, tmp_path: Path) -> None:
    release = {"name": "words", "namespace": scene.namespace, "chart": str(chart), "values": [{"word": "three"}]}
    file = tmp_path / "helmfile.yaml"
    file.write_text(yaml.safe_dump({"releases": [release]}))
    run(at, tmp_path, "helmfile", "--file", file, "sync")
    assert word(scene) == "three"
    run(at, tmp_path, "helmfile", "--file", file, "destroy")
    assert word(scene) is None
