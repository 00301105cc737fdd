"""Environments of requirements: built once, checked by hash, whole or not at all, removed when nobody needs them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core import settings as settings_module
from ropewalk_core.errors import BadInput, Denied, RopewalkError, StorageFull, TimedOut, TooLarge, Unavailable
from ropewalk_core.local import accounts, building, cgroups, requirement_store, sandbox
from ropewalk_core.local.layout import BUILT, AccountPaths
from ropewalk_core.local.requirement_store import Built, RequirementStore
from ropewalk_core.processes import Processes, run
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
        one.wheel("rope_toy", "1.0", needs=["rope_part>=1"])
        one.wheel("rope_part", "1.0")
        one.wheel("rope_part", "2.0")
        yield one


def home_of(tmp_path: Path, index: Index, **chosen: Any) -> Settings:
    home = settings_module.load(tmp_path / "home", environ={}, environments_index=index.url, **chosen)
    for name in ("ann", "bob"):
        accounts.prepare(home, name)
    return home


@pytest.fixture
def home(tmp_path: Path, index: Index) -> Settings:
    return home_of(tmp_path, index)


@pytest.fixture
async def store(home: Settings) -> AsyncIterator[Store]:
    yield Store(home)
    assert not [one for one in (home.home / BUILT).iterdir() if one.name.startswith((".new-", ".old-"))]
    assert not Processes(home.run / "processes").living("build.")


def python(home: Settings, account: str, built: Built, code: str) -> str:
    """Run code in an environment, in the account's sandbox."""
    paths = AccountPaths(home.home, account)
    done = run(sandbox.command(home, paths, [str(built.python), "-c", code]), timeout=60)
    return done.out + done.err


class Store(RequirementStore):
    """The store, and what functions would say that they need."""

    def __init__(self, settings: Settings) -> None:
        self.needs: set[str] = set()
        super().__init__(settings, self._said)

    async def _said(self) -> set[str]:
        return self.needs


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():  # noqa: ASYNC110 - files and processes of others wake nobody
            await asyncio.sleep(0.05)


def names(home: Settings, place: str) -> list[str]:
    folder = home.home / BUILT / place
    return sorted(one.name for one in folder.iterdir() if one.name != "wishes") if folder.is_dir() else []


async def test_it_holds_what_was_named_and_what_that_needs_and_nothing_else(home: Settings, store: Store) -> None:
    lines = [line async for line in store.log("ann", ["rope-toy==1.0"])]
    assert any("rope-toy==1.0" in one.text for one in lines) and any(one.stream == "platform" for one in lines)
    assert [one.offset for one in lines] == sorted({one.offset for one in lines})
    built = await store.ensure("ann", ["Rope_Toy==1.0"])
    assert built.packages == ("rope-part==2.0", "rope-toy==1.0") and names(home, "shared") == [built.key]
    said = python(home, "ann", built, "import rope_toy, rope_part; print(rope_toy.version, rope_part.version)")
    assert said == "1.0 2.0\n"
    assert "No module named 'pydantic'" in python(home, "ann", built, "import pydantic")
    assert "No module named 'pip'" in python(home, "ann", built, "import pip")
    assert python(home, "ann", built, "import rope_toy; print(rope_toy.__cached__)").strip().endswith(".pyc")
    assert list((built.python.parents[1]).rglob("__pycache__/rope_toy.*.pyc"))


async def test_the_same_wish_is_there_at_once_and_means_the_same(index: Index, store: Store) -> None:
    built = await store.ensure("ann", ["rope-toy"])
    index.asked.clear()
    index.wheel("rope_part", "3.0")
    assert [line async for line in store.log("ann", [" Rope_Toy "])] == []
    assert await store.ensure("ann", ["rope-toy"]) == built and not index.asked


async def test_equal_locks_are_one_environment_and_accounts_share_it(home: Settings, store: Store) -> None:
    first = await store.ensure("ann", ["rope-toy==1.0"])
    second = await store.ensure("bob", ["rope-toy>=1.0", "rope-part"])
    assert first.key == second.key and names(home, "shared") == [first.key]
    assert python(home, "bob", second, "import rope_toy; print(rope_toy.version)") == "1.0\n"


async def test_several_at_once_build_it_once(home: Settings, index: Index, store: Store) -> None:
    wishes = [store.ensure(account, ["rope-toy"]) for account in ("ann", "bob", "ann", "bob")]
    found = await asyncio.gather(*wishes)
    assert len({one.key for one in found}) == 1 and names(home, "shared") == [found[0].key]
    assert sum("rope_toy-1.0" in path for path in index.asked) <= 3  # twice for its metadata, and it


@pytest.mark.parametrize("place", ["lib", "bin", ""])
async def test_an_account_cannot_change_it(home: Settings, store: Store, place: str) -> None:
    built = await store.ensure("ann", ["rope-toy"])
    target = built.python.parents[1] / place / "mine.py"
    done = run(sandbox.command(home, AccountPaths(home.home, "ann"), ["/bin/sh", "-c", f"echo x > {target}"]))
    assert done.code != 0 and not target.exists()
    site = next(built.python.parents[1].glob("lib/python3*/site-packages"))
    code = f"import pathlib; pathlib.Path({str(site / 'rope_toy.py')!r}).write_text('evil')"
    assert "Error" in python(home, "ann", built, code)


async def test_source_packages_are_for_the_account_alone(home: Settings, index: Index, store: Store) -> None:
    index.source("rope_raw", "1.0")
    lines = [line.text async for line in store.log("ann", ["rope-raw"])]
    assert any("source packages" in one for one in lines), lines
    built = await store.ensure("ann", ["rope-raw"])
    assert names(home, "shared") == [] and names(home, "own/ann") == [built.key]
    assert python(home, "ann", built, "import rope_raw; print(rope_raw.version)") == "1.0\n"
    assert "No such file" in python(home, "bob", built, "import rope_raw")
    with pytest.raises(Unavailable):
        requirement_store.find(AccountPaths(home.home, "bob"), built.key)
    assert await store.ensure("ann", ["rope-raw"]) == built
    theirs = await store.ensure("bob", ["rope-raw"])
    assert names(home, "own/bob") == [theirs.key]


async def test_no_solution_is_said_in_uvs_words(store: Store) -> None:
    with pytest.raises(BadInput) as caught:
        await store.ensure("ann", ["rope-nothing==3"])
    assert caught.value.field == "requirements" and "rope-nothing" in caught.value.message
    assert len(caught.value.message) < 700 and caught.value.details["log"]
    with pytest.raises(BadInput) as caught:
        await store.ensure("ann", ["rope-toy==1.0", "rope-part<1"])
    assert "rope-part" in caught.value.message


async def test_an_index_that_is_away_is_no_fault_of_the_line(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    home = home_of(tmp_path, index)
    away = settings_module.load(home.home, environ={}, environments_index="http://127.0.0.1:9/simple/")
    with pytest.raises(Unavailable) as caught:
        await Store(away).ensure("ann", ["rope-toy"])
    assert caught.value.details["wait"] is False and "index" in caught.value.message


async def test_a_file_that_changed_on_the_index_is_not_installed(home: Settings, index: Index) -> None:
    making = building.Building(
        home,
        Processes(home.run / "processes"),
        await Store(home)._interpreter(),
        folder=home.home / BUILT / ".new-test",
        cache=home.home / BUILT / ".cache",
        account="ann",
        log=building.Log(10000),
    )
    making.prepare(["rope-part==2.0"])
    lock = await making.resolve(sources=False)
    with pytest.raises(RopewalkError) as caught:
        await making.install(lock.replace("sha256:", "sha256:0000", 1)[: len(lock)], sources=False)
    assert "hash" in str(caught.value.details).lower() or "hash" in caught.value.message.lower()


async def test_limits_have_names(tmp_path: Path, index: Index) -> None:
    index.wheel("rope_big", "1.0", modules={"rope_big.py": "x = '" + "x" * 300_000 + "'\n"})
    home = home_of(tmp_path, index, environments_build_size=100_000)
    with pytest.raises(TooLarge) as caught:
        await Store(home).ensure("ann", ["rope-big"])
    assert caught.value.field == "environments.build_size" and names(home, "shared") == []
    slow = settings_module.load(home.home, environ={}, environments_index=index.url, environments_build_time=1.0)
    index.wheel("rope_slow", "1.0")
    index.hold.clear()
    with pytest.raises(TimedOut) as late:
        await Store(slow).ensure("ann", ["rope-slow"])
    assert late.value.field == "environments.build_time" and names(home, "shared") == []


async def test_who_waits_alone_and_leaves_ends_the_build(home: Settings, index: Index, store: Store) -> None:
    index.hold.clear()
    lines = store.log("ann", ["rope-toy"])
    asking = asyncio.ensure_future(anext(lines))
    await until(lambda: any(path.startswith("/files/") for path in index.asked))
    assert Processes(home.run / "processes").living("build.")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: not Processes(home.run / "processes").living("build."))
    await until(lambda: not list((home.home / BUILT).glob(".new-*")))
    index.hold.set()
    assert (await store.ensure("ann", ["rope-toy"])).packages  # and what comes next is not disturbed


async def test_the_build_goes_on_for_who_still_waits(index: Index, store: Store) -> None:
    index.hold.clear()
    leaving, staying = (asyncio.create_task(store.ensure("ann", ["rope-toy"])) for _ in range(2))
    await until(lambda: any(path.startswith("/files/") for path in index.asked))
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    index.hold.set()
    assert (await staying).packages


async def test_a_deactivated_account_builds_no_further(home: Settings, index: Index, store: Store) -> None:
    index.hold.clear()
    lines = store.log("ann", ["rope-toy"])
    waiting = [asyncio.create_task(store.ensure("ann", ["rope-toy"])), asyncio.ensure_future(collect(lines))]
    other = asyncio.create_task(store.ensure("bob", ["rope-part"]))
    builders = Processes(home.run / "processes")
    await until(lambda: any(path.startswith("/files/rope_toy") for path in index.asked))
    await until(lambda: len(builders.living("build.")) == 2)
    await store.end("ann")
    assert [type(one) for one in await asyncio.gather(*waiting, return_exceptions=True)] == [Denied, Denied]
    assert len(builders.living("build.")) == 1  # of whom is active
    index.hold.set()
    assert (await other).packages and names(home, "own/ann") == []
    assert (await store.ensure("ann", ["rope-toy"])).packages  # where it is active again


async def collect(lines: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in lines]


async def test_downloads_are_held_to_their_limit_also_while_others_build(tmp_path: Path, index: Index) -> None:
    home = home_of(tmp_path, index, environments_build_size=1_000_000)
    cache, store = home.home / BUILT / ".cache", Store(home)
    await store.ensure("ann", ["rope-part"])
    (cache / "more").write_text("x" * 1_500_000)
    await store.ensure("ann", ["rope-part==1.0"])
    assert cache.is_dir() and not (cache / "more").exists()  # nobody used it
    async with store._downloads.used(tmp_path / "own") as shared:
        assert shared == cache
        (cache / "more").write_text("x" * 1_500_000)
        before = building.size(cache)
        built = await store.ensure("ann", ["rope-toy"])
        assert building.size(cache) == before  # its downloads went with it
        assert sorted(one.name for one in built.python.parents[2].iterdir() if one.is_dir()) == ["venv"]
    await store.tidy(time.time())
    assert not cache.exists()


async def test_downloads_of_builds_that_failed_go_too(tmp_path: Path, index: Index) -> None:
    home = home_of(tmp_path, index, environments_build_size=1000)
    store = Store(home)
    with pytest.raises(TooLarge):
        await store.ensure("ann", ["rope-toy"])
    assert (home.home / BUILT / ".cache").exists()
    assert await store.tidy(time.time()) == [] and not (home.home / BUILT / ".cache").exists()


async def test_what_nobody_needs_goes_after_a_while(home: Settings, index: Index, store: Store) -> None:
    index.source("rope_raw", "1.0")
    toy, part, raw = [await store.ensure("ann", [one]) for one in ("rope-toy", "rope-part", "rope-raw")]
    now, week = time.time(), home.environments.unused
    store.needs = {toy.key}
    assert await store.tidy(now) == []
    assert sorted(await store.tidy(now + week + 60)) == sorted([part.key, raw.key])
    assert names(home, "shared") == [toy.key] and names(home, "own/ann") == []
    store.needs = set()
    assert await store.tidy(now + week + 120) == []  # it was needed a moment ago
    assert python(home, "ann", toy, "import rope_toy") == ""
    assert (await store.ensure("ann", ["rope-part"])).key == part.key  # made again
    assert await store.tidy(now + 3 * week) != [] and names(home, "shared") == []
    assert list((home.home / BUILT / "shared" / "wishes").iterdir()) == []
    assert await store.tidy(now + 4 * week) == []


async def test_room_is_made_by_what_nothing_needs_and_else_refused(tmp_path: Path, index: Index) -> None:
    for name in ("rope_a", "rope_b", "rope_c"):
        index.wheel(name, "1.0", modules={f"{name}.py": f"x = '{'x' * 100_000}'\n"})
    home = home_of(tmp_path, index, environments_build_total=500_000)
    store = Store(home)
    first, second = [await store.ensure("ann", [one]) for one in ("rope-a", "rope-b")]
    with pytest.raises(StorageFull) as caught:  # each was used a moment ago
        await store.ensure("ann", ["rope-c"])
    assert caught.value.field == "environments.build_total"
    old = time.time() - 2 * requirement_store.GRACE
    for one in (first, second):
        os.utime(one.python.parents[2] / "ropewalk.json", (old, old))
    store.needs = {first.key}
    third = await store.ensure("ann", ["rope-c"])
    assert names(home, "shared") == sorted([first.key, third.key])
    assert not list((home.home / BUILT).glob(".old-*"))  # its disk is free too, and not only at the next look
    assert await store.ensure("bob", ["rope-b"])  # what others have does not count
    seen = run(
        sandbox.command(home, AccountPaths(home.home, "bob"), ["grep", "-r", "-l", "ann", str(home.home / BUILT)])
    )
    assert seen.out == ""  # nor does anybody learn for whom one was built


async def test_what_was_asked_for_again_meanwhile_stays(home: Settings, store: Store) -> None:
    built = await store.ensure("ann", ["rope-toy"])
    old = time.time() - 2 * home.environments.unused
    os.utime(built.python.parents[2] / "ropewalk.json", (old, old))
    held = store.held

    def asked_meanwhile() -> Any:
        found = held()
        os.utime(built.python.parents[2] / "ropewalk.json")
        return found

    store.held = asked_meanwhile  # type: ignore[method-assign]
    assert await store.tidy(time.time()) == [] and names(home, "shared") == [built.key]


async def test_what_a_killed_platform_left_is_removed(home: Settings, index: Index) -> None:
    left = home.home / BUILT / ".new-left"
    (left / "work").mkdir(parents=True)
    (left / "work").chmod(0)
    Processes(home.run / "processes").spawn("build.left", ["sleep", "60"], env={}, log=tmp_log(home))
    store = Store(home)
    await store.ensure("ann", ["rope-toy"])
    assert not left.exists() and not Processes(home.run / "processes").living("build.")


def tmp_log(home: Settings) -> Path:
    home.logs.mkdir(exist_ok=True)
    return home.logs / "left.log"


async def test_a_full_disk_is_said_and_leaves_nothing(
    home: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, limit: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(building, "settle", full)
    with pytest.raises(StorageFull):
        await store.ensure("ann", ["rope-toy"])
    assert names(home, "shared") == []


async def test_another_python_is_refused(store: Store) -> None:
    with pytest.raises(BadInput) as caught:
        await store.ensure("ann", ["rope-toy"], ">=4")
    assert caught.value.field == "requires_python" and "functions run on Python 3." in caught.value.message
    assert await store.check_python(">=3.9") == ">=3.9"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("error: Failed to fetch: `https://x`\n  Caused by: error sending request for url", Unavailable),
        ("error: Failed to write: No space left on device (os error 28)", StorageFull),
        ("  \u00d7 No solution found when resolving dependencies", BadInput),
    ],
)
def test_why_uv_failed(said: str, kind: type[RopewalkError]) -> None:
    assert type(building.failure("It failed", 1, said.splitlines())) is kind
    assert "memory" in building.failure("It failed", -9, []).message


def test_a_log_has_an_end() -> None:
    log = building.Log(1500)
    for number in range(1000):
        log.say(f"line {number}")
    log.say("the platform's own", ours=True)
    assert [one.text for one in log.lines[-2:]] == [building.CUT, "the platform's own"] and len(log.lines) < 20


def test_empty_lines_count_too() -> None:
    log = building.Log(2**20)
    for _ in range(100_000):
        log.say("")
    assert len(log.lines) < 11_000 and log.lines[-1].text == building.CUT


def test_what_says_where_the_index_is_reaches_the_builder(
    monkeypatch: pytest.MonkeyPatch, home: Settings, tmp_path: Path
) -> None:
    for name in ("UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_PUBLISH_TOKEN"):
        monkeypatch.setenv(name, str(tmp_path))
    chosen = building.index_variables(home)
    assert chosen["UV_DEFAULT_INDEX"] == home.environments.index and chosen["UV_FIND_LINKS"] == str(tmp_path)
    assert not {"UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_PUBLISH_TOKEN"} & set(chosen)
    own = building.index_variables(settings_module.load(tmp_path / "other", environ={}))
    assert {"UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"} <= set(own) and "UV_DEFAULT_INDEX" not in own
    assert tmp_path in building._named_files(own)
