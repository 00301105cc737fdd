"""Each thing that Argo's manifests may say runs here or is refused by name, as the page says."""

from __future__ import annotations

import asyncio
from typing import Any

import jsonschema
import pytest

from tests.conformance.corpus import Case, cases, outcomes
from tests.conformance.page import PAGE, written
from tests.conformance.schema import workflow

CASES = cases()
WORKFLOWS = [one for one in CASES if one.manifest["kind"] == "Workflow"]


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    return asyncio.run(outcomes(CASES))


@pytest.mark.parametrize("at", range(len(CASES)), ids=[f"{one.group}: {one.feature}" for one in CASES])
def test_it_ends_as_the_corpus_says(at: int, found: list[dict[str, Any]]) -> None:
    outcome = {key: one for key, one in found[at].items() if key != "said"}
    assert outcome == CASES[at].wanted


def test_the_page_says_what_happens(found: list[dict[str, Any]]) -> None:
    assert PAGE.read_text() == written(CASES, found), "run python -m tests.conformance"


@pytest.mark.parametrize("case", WORKFLOWS, ids=lambda one: one.feature)
def test_argo_would_take_it(case: Case) -> None:
    jsonschema.Draft202012Validator(workflow()).validate(case.manifest)
