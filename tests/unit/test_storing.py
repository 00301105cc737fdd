"""Files of the store: the digest is that of the content, however it was written, and nothing half-written stays."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import threading
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropewalk_core.artifacts import ArtifactStore
from ropewalk_runtime import storing, values
from ropewalk_runtime.storing import CHUNK, Partial

_SIZES = st.sampled_from([0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(_SIZES, max_size=6))
def test_the_digest_is_that_of_what_was_written(tmp_path: Path, sizes: list[int]) -> None:
    pieces = [bytes([at % 251]) * size for at, size in enumerate(sizes)]
    with Partial(tmp_path / "store") as file:
        for one in pieces:
            assert file.write(one) == len(one)
        assert file.tell() == sum(sizes)
        digest, size = file.settle()
    assert (digest, size) == (hashlib.sha256(b"".join(pieces)).hexdigest(), sum(sizes))
    assert ArtifactStore(tmp_path / "store").verify(digest) == size, "the platform reads the same"


def test_what_was_not_settled_is_gone(tmp_path: Path) -> None:
    threads = threading.active_count()
    with pytest.raises(KeyError), Partial(tmp_path / "store") as file:
        file.write(bytes(3 * CHUNK))
        raise KeyError
    assert list((tmp_path / "store").iterdir()) == []
    assert threading.active_count() == threads


def test_a_file_that_cannot_grow_leaves_nothing(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK, CHUNK))
            values.save(bytes(4 * CHUNK), tmp_path / "store")
        except OSError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize("shared", [True, False])
def test_a_programs_file_is_the_stores_own_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    def share(source: BinaryIO, target: BinaryIO) -> bool:
        if shared:  # as disks do that can
            shutil.copyfileobj(source, target)
            target.flush()
        return shared

    monkeypatch.setattr(storing, "_shared", share)
    content = os.urandom(2 * CHUNK + 7)
    (tmp_path / "made").write_bytes(content)
    digest, size = values.keep_file(tmp_path / "made", tmp_path / "store")
    assert (digest, size) == (hashlib.sha256(content).hexdigest(), len(content))
    kept = tmp_path / "store" / digest[:2] / digest
    storing.copy(kept, tmp_path / "given")
    for other in (tmp_path / "made", tmp_path / "given"):
        assert other.read_bytes() == content
        other.write_bytes(b"changed")
    assert kept.read_bytes() == content and kept.stat().st_nlink == 1
