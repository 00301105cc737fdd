"""The scripts beside helmfile, with the programs that they call played: what is downloaded, and what is emptied."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import chart

CHARTS = chart.CHART.parent
_CURL = """#!/bin/sh
for one in "$@"; do address=$one; done
while [ "$1" != --output ]; do shift; done
echo "manifest of $address, $(cat "$GIVES")" >"$2"
"""
_KUBECTL = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
  *"get namespaces"*) echo "$SPACES" ;;
  *"get persistentvolumeclaims"*) [ -z "$CLAIMS" ] || exit 1 ;;
  *api-resources*) echo pods ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout with what `fetch` needs, and programs of its own before all others."""
    for one in ("manifests", "parts"):
        shutil.copytree(CHARTS / one, tmp_path / "charts" / one)
    (tmp_path / "bin").mkdir()
    (tmp_path / "gives").write_text("one")
    return tmp_path


def run(
    checkout: Path, script: str, *words: str, program: str, body: str, **more: str
) -> subprocess.CompletedProcess[str]:
    file = checkout / "bin" / program
    file.write_text(body)
    file.chmod(0o755)
    path = f"{file.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "GIVES": str(checkout / "gives"), "CALLS": str(checkout / "calls")}
    argv = [str(checkout / "charts" / "parts" / script), *words]
    return subprocess.run(argv, env={**environment, **more}, capture_output=True, text=True, check=False)


def lines(digests: Path) -> list[list[str]]:
    return [one.split() for one in digests.read_text().splitlines() if not one.startswith("#")]


def fetched(checkout: Path, part: str) -> subprocess.CompletedProcess[str]:
    shutil.rmtree(checkout / "build", ignore_errors=True)
    return run(checkout, "fetch", part, "upstream", program="curl", body=_CURL)


def test_a_download_is_written_down_and_compared_ever_after(checkout: Path) -> None:
    digests, made = checkout / "charts" / "parts" / "digests", checkout / "build" / "parts" / "argo" / "manifests"
    assert fetched(checkout, "argo").returncode == 0
    ((digest, address),) = lines(digests)
    assert address.startswith("https://") and address.endswith("/install.yaml")
    assert digest == hashlib.sha256((made / "install.yaml").read_bytes()).hexdigest()
    assert fetched(checkout, "argo").returncode == 0
    assert len(lines(digests)) == 1
    (checkout / "gives").write_text("another")
    replaced = fetched(checkout, "argo")
    assert replaced.returncode == 1 and f"{address} is not what charts/parts/digests says" in replaced.stderr
    assert not made.exists() and [*(checkout / "build" / "parts").iterdir()] == []
    assert lines(digests) == [[digest, address]]


def test_a_digest_that_is_known_beforehand_holds_for_the_first_download(checkout: Path) -> None:
    assert fetched(checkout, "knative").returncode == 0
    digests = checkout / "charts" / "parts" / "digests"
    first, *rest = lines(digests)
    assert len(rest) == 2  # each part's every address
    digests.write_text(f"{'0' * 64}  {first[1]}\n")
    assert fetched(checkout, "knative").returncode == 1
    assert not (checkout / "build" / "parts" / "knative").exists()


def left(checkout: Path, **more: str) -> tuple[int, list[str]]:
    done = run(checkout, "leave", "ropewalk", "ropewalk", program="kubectl", body=_KUBECTL, **more)
    return done.returncode, (checkout / "calls").read_text().splitlines()


def test_only_namespaces_with_the_name_and_both_marks_are_emptied(checkout: Path) -> None:
    code, calls = left(checkout, SPACES="ropewalk--ada theirs ropewalk-x", CLAIMS="")
    assert code == 0
    chosen = next(one for one in calls if "get namespaces" in one)
    assert "ropewalk.dev/installation=ropewalk,app.kubernetes.io/managed-by=ropewalk-tenancy" in chosen
    assert "delete namespace ropewalk--ada --timeout=120s" in calls
    assert not [one for one in calls if "theirs" in one or "ropewalk-x" in one]


def test_a_namespace_whose_volumes_could_not_be_looked_up_stays(checkout: Path) -> None:
    code, calls = left(checkout, SPACES="ropewalk--ada", CLAIMS="no answer")
    assert code != 0
    assert not [one for one in calls if "delete namespace" in one]
