"""Files on this machine pass the contract; and what only a folder suffers: links, pipes, a full disk, other owners."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ropewalk_core import beneath, settings
from ropewalk_core.errors import (
    BadInput,
    BadPath,
    NotFound,
    RopewalkError,
    StorageFull,
    TooLarge,
    Unauthenticated,
)
from ropewalk_core.local.storage import LocalStorage
from ropewalk_core.signed import read_signed
from ropewalk_core.testing import ADA, BOB, StorageContract

KEY = b"k" * 32


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for account in ("ada", "bob"):
        (tmp_path / "accounts" / account / "files").mkdir(parents=True)
    (tmp_path / "accounts" / "bob" / "files" / "secret").write_text("secret")
    return tmp_path


@pytest.fixture
def port(home: Path) -> LocalStorage:
    return LocalStorage(settings.load(home, environ={}, limits_files=1000), key=KEY, wall=lambda: 1000.0)


@pytest.fixture
def files(home: Path) -> Path:
    return home / "accounts" / "ada" / "files"


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def port(self, home: Path) -> LocalStorage:
        return LocalStorage(settings.load(home, environ={}, limits_files=self.quota), key=KEY)


@pytest.mark.parametrize("plant", ["file", "folder", "loop", "files"])
async def test_a_planted_link_leads_nowhere(port: LocalStorage, home: Path, files: Path, plant: str) -> None:
    bobs = home / "accounts" / "bob" / "files"
    if plant == "file":
        (files / "x").symlink_to(bobs / "secret")
    elif plant == "folder":
        (files / "x").symlink_to(bobs)
    elif plant == "loop":
        (files / "x").symlink_to(files)
    else:
        files.rmdir()
        files.symlink_to(bobs)
    for path in ("x", "x/secret", "secret", "x/x"):
        with pytest.raises(RopewalkError):
            await port.open(ADA, "ada", path)
        with pytest.raises(RopewalkError):
            await port.remove(ADA, "ada", f"{path}/secret")
    if plant != "file":
        with pytest.raises(RopewalkError):
            await port.write(ADA, "ada", "x/new" if plant != "files" else "new", chunks(b"x"))
    assert (bobs / "secret").read_text() == "secret" and [one.name for one in bobs.iterdir()] == ["secret"]


async def test_writing_over_a_link_replaces_the_link(port: LocalStorage, home: Path, files: Path) -> None:
    (files / "x").symlink_to(home / "accounts" / "bob" / "files" / "secret")
    await port.write(ADA, "ada", "x", chunks(b"mine"))
    assert not (files / "x").is_symlink() and (files / "x").read_bytes() == b"mine"
    assert (home / "accounts" / "bob" / "files" / "secret").read_text() == "secret"


async def test_removing_a_link_leaves_what_it_names(port: LocalStorage, home: Path, files: Path) -> None:
    (files / "a").mkdir()
    (files / "a" / "x").symlink_to(home / "accounts" / "bob" / "files")
    await port.remove(ADA, "ada", "a")
    assert (home / "accounts" / "bob" / "files" / "secret").exists() and not (files / "a").exists()


async def test_special_files_are_neither_shown_nor_opened(
    port: LocalStorage, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(files / "pipe")
    monkeypatch.chdir(files)  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    (files / "link").symlink_to("/etc/passwd")
    (files / os.fsdecode(b"\xff")).write_text("x")
    (files / ".partial-dead").write_text("half")
    (files / "plain").write_text("x")
    assert [one.path for one in (await port.list(ADA, "ada")).items] == ["plain"]
    for name in ("pipe", "socket", "link"):
        with pytest.raises(RopewalkError):
            await port.open(ADA, "ada", name)


@pytest.mark.parametrize("owner", ["", "..", "ada/files", "nobody", "Ada", "a" * 40, "ada\0"])
async def test_only_accounts_have_files(port: LocalStorage, owner: str) -> None:
    with pytest.raises(NotFound):
        await port.list(ADA, owner)


async def test_no_space_leaves_nothing(port: LocalStorage, files: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(StorageFull):
            await port.write(ADA, "ada", "big", chunks(b"x" * 500))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(files.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser writes for other users")
async def test_what_the_superuser_writes_belongs_to_the_account(port: LocalStorage, files: Path) -> None:
    os.chown(files, 20001, 20001)
    await port.write(ADA, "ada", "a/b/c", chunks(b"x"))
    assert {one.stat().st_uid for one in files.rglob("*")} == {20001}


@given(path=st.lists(st.sampled_from(["..", ".", "", "a", "b", "/", "\0", "~", "%2e%2e"]), max_size=6).map("/".join))
@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60, deadline=None
)
async def test_no_path_writes_outside(home: Path, path: str) -> None:
    port = LocalStorage(settings.load(home, environ={}), key=KEY)
    before = {one for one in home.rglob("*") if "ada/files" not in str(one)}
    try:
        await port.write(ADA, "ada", path, chunks(b"x"))
    except RopewalkError:
        pass
    assert {one for one in home.rglob("*") if "ada/files" not in str(one)} == before


async def test_a_signed_address_opens_one_file_for_a_while(port: LocalStorage) -> None:
    await port.write(ADA, "ada", "a/b", chunks(b"x"))
    token = (await port.sign(ADA, "ada", "a/b", seconds=60)).rsplit("/", 1)[1]
    assert read_signed(KEY, token, 1059.0) == ("ada", "a/b")
    for key, text, now in ((KEY, token, 1061.0), (b"other", token, 1000.0), (KEY, token[:-2] + "AA", 1000.0)):
        with pytest.raises(Unauthenticated):
            read_signed(key, text, now)


async def test_the_first_administrators_files_are_the_opened_folder(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (home / "first-administrator").write_text("ada")
    port = LocalStorage(settings.load(home, environ={}, folder=folder), key=KEY)
    await port.write(ADA, "ada", "data/x", chunks(b"x"))
    assert (folder / "data" / "x").read_bytes() == b"x"
    usage = await port.usage(ADA, "ada")
    assert 0 < usage.used <= usage.limit
    assert [one.path for one in (await port.list(BOB, "bob")).items] == ["secret"]


async def test_the_first_act_makes_the_folders(home: Path) -> None:
    port = LocalStorage(settings.load(home, environ={}), key=KEY)
    eve = ADA.model_copy(update={"account": "eve"})
    assert (await port.list(eve, "eve")).items == ()
    await port.write(eve, "eve", "x", chunks(b"x"))


@given(token=st.text(max_size=50))
def test_any_text_is_a_bad_signature(token: str) -> None:
    with pytest.raises(Unauthenticated):
        read_signed(KEY, token, 0.0)


async def test_a_deep_folder_is_refused_in_words(port: LocalStorage, files: Path) -> None:
    deep = files / "d"
    deep.mkdir()
    for _ in range(120):
        deep = deep / "d"
        deep.mkdir()
    with pytest.raises(BadInput, match="levels deep"):
        await port.remove(ADA, "ada", "d")


async def test_usage_counts_below_the_files_alone(port: LocalStorage, home: Path, files: Path) -> None:
    (files / "in").mkdir()
    (files / "in" / "mine").write_text("12345")
    (files / "out").symlink_to(home / "accounts" / "bob")
    assert (await port.usage(ADA, "ada")).used == 5
    files.rename(files.with_name("old"))
    files.symlink_to(home / "accounts" / "bob" / "files")
    fresh = LocalStorage(settings.load(home, environ={}), key=KEY)
    assert (await fresh.usage(ADA, "ada")).used == 0


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    left, kept = ".partial-0123456789abcdef", (".partial-mine", "x.partial-0123456789abcdef")
    for folder in ("a", "a/b", "out"):
        for name in (left, *kept):
            (tmp_path / folder / name).write_text("x")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "out")
    with beneath.replacing(tmp_path / "a", ["now"]) as file:
        file.write(b"x")
        assert beneath.sweep(tmp_path / "a") == 2
        file.settle()
    assert sorted(one.name for one in (tmp_path / "a" / "b").iterdir()) == sorted(kept)
    assert (tmp_path / "out" / left).exists()


async def test_a_look_finds_what_fits_and_follows_no_link(port: LocalStorage, files: Path) -> None:
    inbox = files / "inbox"
    (inbox / "sub.csv").mkdir(parents=True)
    for name in ("a.csv", "b.txt", ".hidden.csv", ".partial-0123456789abcdef"):
        (inbox / name).write_text("12")
    (inbox / "link.csv").symlink_to("/etc/passwd")
    (files / "outside").symlink_to("/etc")
    os.mkfifo(inbox / "pipe.csv")
    [found] = await port.look("ada", "inbox", "*.csv", 100)
    assert (found.path, found.size) == ("inbox/a.csv", 2) and found.modified > 0
    assert [one.path for one in await port.look("ada", "inbox", ".h*", 100)] == ["inbox/.hidden.csv"]
    assert list(await port.look("ada", "", "*", 100)) == []
    for folder in ("outside", "inbox/link.csv", "../bob", "/etc"):
        with pytest.raises(BadPath):
            await port.look("ada", folder, "*", 100)
    for owner, folder in (("ada", "nothing"), ("../ada", "")):
        with pytest.raises(NotFound):
            await port.look(owner, folder, "*", 100)
    with pytest.raises(TooLarge) as caught:
        await port.look("ada", "inbox", "*", 3)
    assert caught.value.field == "limits.trigger_entries"
