"""A list and the changes after it: through any cut of the stream, what is seen equals what is there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.kube.view import Broken, Change, Happened, View

Object = dict[str, Any]


class Truth:
    """A server's objects, and every event it ever sent."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.events: list[tuple[int, bytes]] = []
        self.version = self.born = 0

    def act(self, name: str, remove: bool) -> None:
        if remove and name not in self.objects:
            return
        self.version += 1
        known = self.objects.get(name)
        self.born += known is None
        uid = known["metadata"]["uid"] if known else f"u{self.born}"
        one = {"metadata": {"name": name, "uid": uid, "resourceVersion": str(self.version)}, "n": self.version}
        kind = "DELETED" if remove else "MODIFIED" if known else "ADDED"
        if remove:
            del self.objects[name]
        else:
            self.objects[name] = one
        self.events.append((self.version, json.dumps({"type": kind, "object": one}).encode()))

    def after(self, version: int) -> list[bytes]:
        return [line for number, line in self.events if number > version]


class Reader:
    """Folds changes, and holds each to its word."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}

    def take(self, changes: list[Change]) -> None:
        for one in changes:
            name = one.object["metadata"]["name"] if one.object else ""
            match one.happened:
                case Happened.ADDED:
                    assert name not in self.objects
                    self.objects[name] = one.object
                case Happened.CHANGED:
                    assert self.objects[name]["metadata"]["uid"] == one.object["metadata"]["uid"]
                    self.objects[name] = one.object
                case Happened.REMOVED:
                    assert self.objects.pop(name)["metadata"]["uid"] == one.object["metadata"]["uid"]


ACTS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=6)
MISHAPS = st.sampled_from(["none", "cut", "repeat", "swap", "lose", "garbage", "bookmark", "gone", "unknown"])


@given(st.lists(st.tuples(ACTS, MISHAPS, st.integers(0, 8)), max_size=12))
def test_what_is_seen_equals_what_is_there_through_any_cut(rounds: list[tuple[Any, str, int]]) -> None:
    truth, view, reader = Truth(), View(), Reader()
    for acts, mishap, where in rounds:
        for act in acts:
            truth.act(*act)
        if not view.version or mishap == "lose":  # what a server loses, only a list brings back
            reader.take(view.relist(truth.objects.values(), str(truth.version)))
            continue
        lines = spoilt(truth.after(int(view.version)), mishap, where, truth.version)
        try:
            for one in lines:
                reader.take(view.feed(one))
        except Broken as broken:
            view.version = "" if broken.relist else view.version
        assert reader.objects == {key[1]: one for key, one in view.objects.items()}
    if view.version:
        for one in truth.after(int(view.version)):
            reader.take(view.feed(one))
    else:
        reader.take(view.relist(truth.objects.values(), str(truth.version)))
    assert reader.objects == truth.objects


def spoilt(lines: list[bytes], mishap: str, where: int, version: int) -> list[bytes]:
    place = where % (len(lines) + 1)
    match mishap:
        case "cut":
            return lines[:place]
        case "repeat":
            return [*lines[:place], *lines[max(0, place - 1) :]]
        case "swap" if len(lines) > 1:
            return [*lines[:-2], lines[-1], lines[-2]]
        case "garbage":
            return [*lines[:place], b'{"type": "ADDED", "obj', *lines[place:]]
        case "unknown":
            return [*lines[:place], b'{"type": "LATER", "object": {}}', *lines[place:]]
        case "bookmark":
            mark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}
            return [*lines, json.dumps(mark).encode()]
        case "gone":
            error = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
            return [*lines[:place], json.dumps(error).encode()]
    return lines


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda one: one.encode()))
def test_no_line_does_more_than_break_the_stream(line: bytes) -> None:
    view = View()
    try:
        view.feed(line)
    except Broken:
        assert view.objects == {}


def test_an_error_that_is_not_410_keeps_the_place() -> None:
    view = View()
    view.relist([], "5")
    with pytest.raises(Broken) as found:
        view.feed(b'{"type": "ERROR", "object": {"code": 500, "message": "etcd"}}')
    assert not found.value.relist and view.version == "5"


def test_a_name_taken_again_is_another_object() -> None:
    def one(uid: str, version: str) -> Object:
        return {"metadata": {"name": "a", "uid": uid, "resourceVersion": version}}

    view = View()
    view.relist([one("u1", "1")], "1")
    assert [change.happened for change in view.relist([one("u2", "7")], "7")] == ["removed", "added", "synced"]
    line = json.dumps({"type": "MODIFIED", "object": one("u3", "9")}).encode()
    assert [change.happened for change in view.feed(line)] == ["removed", "added"]
