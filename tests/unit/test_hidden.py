"""Values of secrets are taken out of what a worker tells, and nothing else is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from ropewalk_runtime import hidden


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {"LONG": "abcdefgh", "PART": "abcd", "SHORT": "abc", "SPACED": " wxyz\n"}.items():
        monkeypatch.setenv(name, value)
    hidden.know(["LONG", "PART", "SHORT", "SPACED", "MISSING"])
    yield
    hidden.know([])


def test_texts_lose_values_the_longer_before_its_part() -> None:
    assert hidden.hide("x abcdefgh y abcd z abc wxyz") == "x *** y *** z abc ***"


def test_objects_lose_them_in_their_texts() -> None:
    told = {"logs": "abcd", "error": {"message": "abcd", "details": {"traceback": "abcd"}}, "id": 4}
    assert hidden.hide(told) == {"logs": "***", "error": {"message": "***", "details": {"traceback": "***"}}, "id": 4}


def test_a_value_of_several_lines_is_hidden_as_it_is_shown_in_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "-----BEGIN-----\nabc'\\é\n-----END-----\n")
    hidden.know(["KEY"])
    value = os.environ["KEY"]
    for text in (value, repr({"KEY": value}), json.dumps({"KEY": value}), str(KeyError(value))):
        assert "abc" not in hidden.hide(text) and "***" in hidden.hide(text), text


def test_without_secrets_all_stays_as_it_is() -> None:
    hidden.know([])
    assert hidden.hide("abcdefgh") == "abcdefgh"
