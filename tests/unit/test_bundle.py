"""A bundle on disk: whatever its files and its entry are called, nothing outside of its folder is written or run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_runtime import bundle, programs

ODD = [
    "../x",
    "/tmp/x",
    "a/../../b",
    "bundle.json",
    "./bundle.json",
    "",
    ".",
    "..",
    "a\0b",
    "x" * 300,
    "//x",
    "a//b",
    "a/.",
]
_NAMES = st.one_of(st.sampled_from([*ODD, "a", "a/b", "a/b/c"]), st.text(max_size=20))


@given(st.dictionaries(_NAMES, st.text(max_size=5), max_size=4))
def test_files_are_written_inside_or_not_at_all(files: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target, content = Path(folder) / "one" / "bundle", {"files": files, "entry": "cell:handler", "digest": "d"}
        target.parent.mkdir()
        (Path(folder) / "x").write_text("before")
        try:
            bundle.write(target, content)
        except (ValueError, OSError):
            assert os.listdir(target.parent) == []
        else:
            assert os.listdir(target.parent) == ["bundle"] and bundle.read(target)["entry"] == "cell:handler"
            assert sum(len(names) for _, _, names in os.walk(target)) == len({Path(name) for name in files}) + 1
        assert (Path(folder) / "x").read_text() == "before" and set(os.listdir(folder)) == {"one", "x"}


@pytest.mark.parametrize(
    "entry", ["", ":", "cell", "cell:", ":handler", "cell:none", "../out:handler", "none:f", "a\0:f"]
)
def test_an_entry_that_names_nothing_inside_is_refused(entry: str, tmp_path: Path) -> None:
    (tmp_path / "out.py").write_text("handler = 1\n")
    bundle.write(tmp_path / "bundle", {"files": {"cell.py": "handler = 1\n"}, "entry": entry, "digest": "d"})
    with pytest.raises((ValueError, KeyError, OSError)):
        bundle.load(tmp_path / "bundle", install=False)


@pytest.mark.parametrize("entry", ["", ":main", "../out:main", "none:main", "/bin/sh:main", "a\0:main"])
def test_a_program_outside_is_refused(entry: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("#!/bin/sh\n")
    bundle.write(tmp_path / "bundle", {"files": {"program": "#!/bin/sh\n"}, "entry": entry, "digest": "d"})
    with pytest.raises((programs.NotRunnable, ValueError)):
        programs.path_of(str(tmp_path / "bundle"))
