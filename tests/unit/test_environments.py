"""An account's environment: quick to make, its own layer, pinned where Ropewalk needs it, with a fingerprint."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
import zipfile
from pathlib import Path

import pytest

from ropewalk_core import environments, pip_guard
from ropewalk_core import settings as settings_module
from ropewalk_core.errors import Unavailable
from ropewalk_core.local import accounts, sandbox
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.processes import Finished, run
from ropewalk_core.settings import Settings


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return settings_module.load(tmp_path / "home", environ={})


@pytest.fixture
def ann(home: Settings) -> AccountPaths:
    paths = accounts.prepare(home, "ann")
    environments.ensure(home, paths)
    return paths


def python(home: Settings, paths: AccountPaths, *arguments: str, binds: tuple[Path, ...] = ()) -> Finished:
    return run(sandbox.command(home, paths, [str(paths.python), *arguments], binds=binds), timeout=60)


def wheel(folder: Path, name: str, version: str) -> Path:
    """Make the smallest package that pip installs."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(
            f"{info}/RECORD", f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    path.chmod(0o644)
    return path


def test_it_is_quick_and_the_second_time_is_free(home: Settings) -> None:
    environments.pins(home.environments.base)
    first, second = accounts.prepare(home, "ann"), accounts.prepare(home, "bob")
    environments.ensure(home, first)
    started = time.perf_counter()
    environments.ensure(home, second)
    assert time.perf_counter() - started < 0.5
    started = time.perf_counter()
    environments.ensure(home, second)
    assert time.perf_counter() - started < 0.1
    assert second.python.lstat().st_uid == accounts.uid_of(second)


def test_it_sees_the_base_and_is_a_venv_of_its_own(home: Settings, ann: AccountPaths) -> None:
    code = "import sys, httpx, pip, ropewalk_runtime; print(sys.prefix, httpx.__file__)"
    done = python(home, ann, "-c", code)
    prefix, module = done.out.split()
    assert prefix == str(ann.environment), done.err
    assert module.startswith(str(home.environments.base))


def test_install_changes_only_its_own_layer_and_the_fingerprint(
    home: Settings, ann: AccountPaths, tmp_path: Path
) -> None:
    before = environments.fingerprint(ann)
    assert before == environments.fingerprint(ann)
    package = wheel(tmp_path / "wheels", "rope_toy", "1.0")
    done = python(home, ann, "-m", "pip", "install", "--no-index", str(package), binds=(package.parent,))
    assert done.code == 0, done.err
    assert python(home, ann, "-c", "import rope_toy; print(rope_toy.__file__)").out.startswith(str(ann.environment))
    changed = environments.fingerprint(ann)
    assert changed != before
    assert not list(home.environments.base.glob("lib/python3.*/site-packages/rope_toy*"))
    done = python(home, ann, "-m", "pip", "uninstall", "-y", "rope_toy")
    assert environments.fingerprint(ann) == before, done.err


def test_what_is_seen_differs_when_there_is_something_to_do(home: Settings, ann: AccountPaths) -> None:
    def seen() -> tuple[object, ...]:
        """Return it once a second has passed since the last change; before, another change could look the same."""
        end = time.monotonic() + 10
        while (found := environments.seen(home, ann)) is None:
            assert time.monotonic() < end
            time.sleep(0.05)
        return found

    first = seen()
    assert seen() == first
    site = next(ann.environment.glob("lib/python3.*/site-packages"))
    fingerprint = environments.fingerprint(ann)
    (site / "rope_toy-1.0.dist-info").mkdir()
    assert environments.seen(home, ann) is None
    second = seen()
    assert second != first and environments.fingerprint(ann) != fingerprint
    other = ann.environment / "lib" / "python3.99" / "site-packages"
    other.mkdir(parents=True)
    assert (third := seen()) not in (first, second)
    (ann.environment / "pyvenv.cfg").write_text("home = /nowhere\n")
    assert seen() not in (first, second, third)
    (ann.environment / "ropewalk.json").unlink()
    assert environments.seen(home, ann) is None
    environments.ensure(home, ann)
    assert seen()


def test_what_an_account_heaps_up_is_not_looked_through_where_all_accounts_wait(
    home: Settings, ann: AccountPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        (ann.environment / "lib" / f"python3.{number + 100}").mkdir()
    looked: list[object] = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda *given, **more: looked.append(given) or stat(*given, **more))
    assert environments.seen(home, ann) is None and looked == []


def test_what_would_break_ropewalk_is_refused_by_name(home: Settings, ann: AccountPaths, tmp_path: Path) -> None:
    package = wheel(tmp_path / "wheels", "pydantic", "1.10")
    find = ["--no-index", "--find-links", str(package.parent)]
    done = python(home, ann, "-m", "pip", "install", *find, "pydantic<2", binds=(package.parent,))
    assert done.code != 0
    pin = environments.pins(home.environments.base)["pydantic"]
    assert "pydantic<2" in done.err + done.out
    assert f"(constraint) pydantic=={pin}" in done.err + done.out
    assert f"Ropewalk needs pydantic {pin}" in done.err and "RW-WOULD-BREAK" in done.err
    quiet = run(
        sandbox.command(
            home, ann, [str(ann.environment / "bin/pip"), "install", "-q", *find, "pydantic<2"], binds=(package.parent,)
        ),
        timeout=60,
    )
    assert f"Ropewalk needs pydantic {pin}" in quiet.err
    assert python(home, ann, "-c", "import pydantic; print(pydantic.VERSION)").out.strip() == pin


def test_pins_are_the_user_side_and_nothing_more(home: Settings) -> None:
    found = environments.pins(home.environments.base)
    assert {"pydantic", "httpx", "ipykernel", "hera", "cloudpickle", "anyio"} <= set(found)
    assert not {"pandas", "numpy", "scikit-learn", "ropewalk"} & set(found)


def test_a_newer_base_is_taken_up_and_packages_stay(home: Settings, ann: AccountPaths) -> None:
    mine = next(ann.environment.glob("lib/python3.*/site-packages")) / "mine.py"
    mine.write_text("x = 1")
    (ann.environment / pip_guard.PINS).write_text("pydantic==0.1\n")
    (ann.environment / "ropewalk.json").write_text(json.dumps({"stamp": "older"}))
    environments.ensure(home, ann)
    assert mine.exists()
    assert "pydantic==0.1" not in (ann.environment / pip_guard.PINS).read_text()
    assert python(home, ann, "-c", "import mine, httpx; print('ready')").out == "ready\n"
    assert run([str(ann.environment / "bin" / "pip"), "--version"]).code == 0


def test_a_removed_environment_comes_back(home: Settings, ann: AccountPaths) -> None:
    shutil.rmtree(ann.environment)
    assert environments.ensure(home, ann) == ann.python
    assert python(home, ann, "-c", "print('ready')").out == "ready\n"


def test_what_a_mend_left_half_done_is_in_nobodys_way(home: Settings, ann: AccountPaths) -> None:
    (ann.python.parent / f".python-{os.getpid()}").symlink_to("nowhere")
    ann.python.unlink()
    assert environments.ensure(home, ann).exists()


def test_the_command_that_starts_over_removes_nothing_else(tmp_path: Path) -> None:
    folder = AccountPaths(tmp_path / "my home", "ann").environment
    said = environments.start_over(AccountPaths(tmp_path / "my home", "ann"))
    assert shlex.split(said.partition("next try: ")[2]) == ["rm", "-rf", str(folder)]


def test_links_in_the_account_lead_nowhere(home: Settings, ann: AccountPaths, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(ann.environment)
    ann.environment.symlink_to(outside)
    with pytest.raises(Exception, match="link"):
        environments.ensure(home, ann)
    assert not list(outside.iterdir())


def test_a_pipe_or_an_endless_file_in_the_account_stops_nobody(home: Settings, ann: AccountPaths) -> None:
    environments.ensure(home, ann)
    config = ann.environment / "pyvenv.cfg"
    for plant in (lambda: os.mkfifo(config), lambda: config.symlink_to("/dev/zero")):
        config.unlink()
        plant()
        started = time.monotonic()
        assert len(environments.fingerprint(ann)) == 16
        assert time.monotonic() - started < 5


def test_no_base_says_what_to_do(tmp_path: Path) -> None:
    home = settings_module.load(tmp_path / "home", environ={}, environments_base=tmp_path / "none")
    with pytest.raises(Unavailable, match="make setup"):
        environments.ensure(home, accounts.prepare(home, "ann"))


def test_the_kernel_loads_the_extension(home: Settings, ann: AccountPaths) -> None:
    spec = json.loads((ann.environment / "share/jupyter/kernels/python3/kernel.json").read_text())
    assert spec["argv"][0] == str(ann.python)
    code = (
        "from ipykernel.kernelapp import IPKernelApp\n"
        "app = IPKernelApp()\n"
        "app.init_config_files()\napp.load_config_file()\n"
        "print(app.config.InteractiveShellApp.extensions)"
    )
    assert python(home, ann, "-c", code).out.strip() == "['ropewalk_kernel']"
