"""What the code of a source package can do while it is built: make a package for the account that asked, no more."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core import settings as settings_module
from ropewalk_core.errors import BadInput, RopewalkError, TooLarge
from ropewalk_core.local import accounts, building, cgroups, sandbox
from ropewalk_core.local.layout import BUILT, AccountPaths
from ropewalk_core.local.requirement_store import Built, RequirementStore
from ropewalk_core.processes import run
from ropewalk_core.settings import Settings
from tests.package_index import Index, serving

pytestmark = pytest.mark.skipif(not sandbox.probe().works, reason=f"no working bubblewrap: {sandbox.probe().why}")


@pytest.fixture(autouse=True)
def groups(tmp_path: Path) -> Iterator[None]:
    """The home's control groups go with it."""
    yield
    cgroups.remove(Settings(home=(tmp_path / "home").resolve()))


@pytest.fixture
def index() -> Iterator[Index]:
    with serving() as one:
        one.wheel("rope_toy", "1.0")
        yield one


@pytest.fixture
def home(tmp_path: Path, index: Index) -> Settings:
    home = settings_module.load(tmp_path / "home", environ={}, environments_index=index.url)
    for name in ("ann", "bob"):
        accounts.prepare(home, name)
    home.secrets.mkdir(mode=0o700)
    (home.secrets / "key").write_text("TOP SECRET")
    descriptor = accounts.open_inside(AccountPaths(home.home, "ann"), "files/diary")
    os.write(descriptor, b"TOP SECRET")
    os.close(descriptor)
    return home


async def nothing() -> set[str]:
    return set()


async def built(home: Settings, index: Index, does: str) -> tuple[Built, list[str]]:
    """Build a source package that does something first; return what came of it, and what was said."""
    index.source("rope_evil", "1.0", does=does)
    store = RequirementStore(home, nothing)
    said = [line.text async for line in store.log("ann", ["rope-evil"])]
    return await store.ensure("ann", ["rope-evil"]), said


def everything(home: Settings) -> set[str]:
    left_out = (".cache", "wishes", ".built-for")
    return {
        str(one.relative_to(home.home))
        for one in home.home.rglob("*")
        if not set(one.parts).intersection(left_out) and f"{BUILT}/own/ann/" not in str(one)
    }


async def test_it_sees_no_account_and_no_secret(home: Settings, index: Index) -> None:
    looks = (
        "import os, sys\nfound = []\n"
        f"for at, _, files in os.walk({str(home.home)!r}):\n"
        "    found += [os.path.join(at, one) for one in files]\n"
        f"for path in ({str(home.secrets / 'key')!r}, {str(home.home / 'accounts/ann/files/diary')!r}):\n"
        "    assert not os.path.exists(path), path\n"
        "assert not {'diary', 'key'} & {os.path.basename(one) for one in found}, found\n"
        "assert not [one for one in os.environ if one.startswith('ROPEWALK')], os.environ\n"
        "assert len([one for one in os.listdir('/proc') if one.isdigit()]) < 20\n"
        f"assert os.getuid() == {sandbox.builder_uid(home)}\n"
    )
    made, _ = await built(home, index, looks)
    assert made.packages == ("rope-evil==1.0",)


async def test_it_writes_nowhere_else(home: Settings, index: Index) -> None:
    shared = (await RequirementStore(home, nothing).ensure("bob", ["rope-toy"])).python.parents[2]
    before, cache = everything(home), home.home / BUILT / ".cache"
    targets = [
        shared / "venv" / "evil.py",
        home.home / "evil",
        home.secrets / "evil",
        cache / "evil",
        Path("/usr/evil"),
    ]
    writes = "import os, pathlib\n" + "".join(
        f"try:\n    pathlib.Path({str(one)!r}).write_text('evil')\nexcept OSError:\n    pass\n" for one in targets
    )
    # The sandbox's own empty folders may be written, and are gone with it.
    await built(home, index, writes)
    assert everything(home) == before
    assert not any(one.exists() for one in targets)


async def test_a_link_in_the_place_of_the_lock_is_not_followed(home: Settings, index: Index) -> None:
    swaps = (
        "import glob, os\n"
        f"for work in glob.glob({str(home.home / BUILT)!r} + '/.new-*/work'):\n"
        f"    os.symlink({str(home.secrets / 'key')!r}, work + '/lock.txt.evil')\n"
        "    os.rename(work + '/lock.txt.evil', work + '/lock.txt')\n"
    )
    try:
        made, said = await built(home, index, swaps)
    except RopewalkError as error:
        assert "SECRET" not in str(error.problem())
        return
    assert "SECRET" not in "".join(said) + "".join(made.packages)


def test_the_lock_is_read_as_a_strangers(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("TOP SECRET")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.link(tmp_path / "secret", tmp_path / "second")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * (5 * 2**20))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name in ("link", "second", "pipe", "large", "bytes", "missing", "."):
        with pytest.raises(BadInput):
            building.read_plain(tmp_path / name)


def test_what_it_leaves_is_settled_without_following_links(tmp_path: Path) -> None:
    outside, venv = tmp_path / "outside", tmp_path / "venv"
    (outside / "inner").mkdir(parents=True)
    (outside / "file").write_text("x")
    (outside / "file").chmod(0o600)
    (venv / "closed").mkdir(parents=True)
    (venv / "closed" / "file").write_text("x")
    (venv / "closed" / "program").write_text("x")
    (venv / "closed" / "program").chmod(0o4755)
    (venv / "way").symlink_to(outside)
    (venv / "file").symlink_to(outside / "file")
    os.mkfifo(venv / "pipe")
    (venv / "closed").chmod(0)
    assert building.settle(venv, 10**6) < 10**4
    assert (outside / "file").stat().st_mode & 0o777 == 0o600 and (outside / "file").stat().st_uid == os.geteuid()
    assert not (venv / "pipe").exists() and (venv / "way").is_symlink()
    assert (venv / "closed").stat().st_mode & 0o7777 == 0o755
    assert (venv / "closed" / "program").stat().st_mode & 0o7777 == 0o755
    with pytest.raises(TooLarge):
        building.settle(venv, 1)
    (venv / "closed").chmod(0)
    building.discard(venv)
    assert not venv.exists() and (outside / "inner").is_dir()


DIGS = """import os
at = os.getcwd()
os.chdir({place})
for _ in range(1500):
    os.mkdir("d")
    os.chdir("d")
os.chdir(at)
"""


@pytest.mark.parametrize("place", ["os.environ['HOME']", "os.environ['HOME'] + '/../venv'"])
async def test_folders_in_folders_are_no_end_of_builds(home: Settings, index: Index, place: str) -> None:
    """Deeper than Python's own functions go: what they leave would keep every later platform from building at all."""
    index.source("rope_evil", "1.0", does=DIGS.replace("{place}", place))
    with contextlib.suppress(BadInput):  # in the environment itself it is refused, elsewhere it does not matter
        await RequirementStore(home, nothing).ensure("ann", ["rope-evil"])
    assert not list((home.home / BUILT).glob(".new-*"))


async def test_what_a_killed_build_dug_is_removed_before_the_next(home: Settings) -> None:
    accounts.prepare(home, "bob")
    at = os.getcwd()
    (home.home / BUILT / ".new-left").mkdir()
    os.chdir(home.home / BUILT / ".new-left")
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(at)
    assert (await RequirementStore(home, nothing).ensure("bob", ["rope-toy"])).packages
    assert not list((home.home / BUILT).glob(".new-*"))


def test_a_path_that_nobody_can_open_is_refused(tmp_path: Path) -> None:
    at = os.getcwd()
    os.chdir(tmp_path)
    for _ in range(20):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    os.chdir(at)
    with pytest.raises(BadInput):
        building.settle(tmp_path, 10**9)
    building.discard(tmp_path)
    assert not tmp_path.exists()


async def test_what_it_left_running_is_ended(home: Settings, index: Index) -> None:
    stays = "import subprocess\nsubprocess.Popen(['sleep', '4747'], start_new_session=True, stdout=-3, stderr=-3)\n"
    await built(home, index, stays)
    assert run(["pgrep", "-f", "sleep 4747"]).code != 0


async def test_code_of_wheels_never_runs_while_they_are_installed(home: Settings, index: Index) -> None:
    """Not even a .pth file, which Python runs at each start."""
    marks: dict[str, Any] = {"rope_path.pth": "import os; os.mkdir(os.environ.get('UV_CACHE_DIR', '/tmp') + '/ran')\n"}
    index.wheel("rope_path", "1.0", modules=marks | {"rope_path.py": "version = 1\n"})
    made = await RequirementStore(home, nothing).ensure("ann", ["rope-path"])
    assert made.packages == ("rope-path==1.0",)
    assert not list((home.home / BUILT).rglob("ran"))
