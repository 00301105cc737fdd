"""Logs as lines with offsets."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropewalk_core.local import logs

SAME = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@SAME
@given(
    st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=20), max_size=20),
    st.integers(0, 400),
)
def test_reading_in_pieces_gives_every_line_once(tmp_path: Path, texts: list[str], cut: int) -> None:
    path = tmp_path / "log"
    data = "".join(f"{text}\n" for text in texts).encode()
    path.write_bytes(data[:cut])
    first, offset = logs.lines(path, partial=False)
    path.write_bytes(data)
    rest, end = logs.lines(path, offset, partial=False)
    assert [line.text for line in (*first, *rest)] == [text.rstrip("\r") for text in texts]
    assert end == len(data)
    for line in (*first, *rest):
        assert logs.lines(path, line.offset)[1] == len(data)


def test_the_last_line_without_an_end_is_shown_when_nothing_more_comes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo")
    assert [line.text for line in logs.lines(path)[0]] == ["one", "two"]
    assert [line.text for line in logs.lines(path, partial=False)[0]] == ["one"]
    assert logs.lines(tmp_path / "none") == ([], 0)
    assert logs.tail(path, 1) == ["two"]


def test_a_cut_log_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %05d\n" % number for number in range(1000)))
    assert not logs.trim(path, 20_000)
    assert logs.trim(path, 5000)
    found, _ = logs.lines(path, 11_000)
    assert "earlier lines were cut" in found[0].text
    assert found[-1].text == "line 00999" and path.stat().st_size < 5000


async def test_following_ends_after_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\n")
    over = False
    seen: list[str] = []

    async def read() -> None:
        async for line in logs.follow(path, follow=True, ended=lambda: over):
            seen.append(line.text)

    task = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    with path.open("a") as file:
        file.write("two\nthree")
    over = True
    await asyncio.wait_for(task, 5)
    assert seen == ["one", "two", "three"]
