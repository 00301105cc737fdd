"""Every route, by its published description: anonymous is refused, strangers find nothing, no input breaks anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropewalk_hub.api import describe

DESCRIPTION = describe()
OPEN = {"open_signed"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DESCRIPTION["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def filled(path: str, owner: str, name: str = "nothing") -> str:
    names = {
        "owner": owner,
        "name": name,
        "run": name,
        "step": "s1",
        "digest": "0" * 64,
        "path": name,
        "token": "x.y",
        "number": "3",
        "identifier": "0123456789",
        "call": name,
    }
    for key, value in names.items():
        path = path.replace("{" + key + "}", value)
    assert "{" not in path, path
    return path


ALL = list(operations())
IDS = [operation["operationId"] for _, _, operation in ALL]
OWNED = [one for one in ALL if "{owner}" in one[1]]


def test_operations_have_names_words_and_answers() -> None:
    assert len(set(IDS)) == len(IDS) >= 30
    for _, path, operation in ALL:
        assert operation["tags"] and operation["description"], path
        assert "401" in operation["responses"], path


@pytest.mark.parametrize(("method", "path", "operation"), ALL, ids=IDS)
@pytest.mark.parametrize("owner", ["ada", "nobody"])
async def test_anonymous_is_refused(
    anonymous: httpx.AsyncClient, method: str, path: str, operation: dict[str, Any], owner: str
) -> None:
    for headers in ({"Authorization": "Bearer x.y.z"}, {"Cookie": "ropewalk-session=x"}, {}):
        answer = await anonymous.request(method, filled(path, owner), headers=headers)
        if operation["operationId"] in OPEN or method == "GET" or "Authorization" in headers:
            assert answer.status_code == 401, (headers, answer.text)
        else:  # without a token, a request that changes something must come from our own page
            assert answer.status_code == 403 and answer.json()["code"] == "RW-WRONG-ORIGIN"
        assert answer.json()["code"].startswith("RW-")


async def test_anonymous_from_our_own_page_is_refused_too(anonymous: httpx.AsyncClient) -> None:
    for method, path, _ in ALL:
        headers = {"Origin": "http://localhost:8000"}
        answer = await anonymous.request(method, filled(path, "ada"), headers=headers)
        assert answer.status_code == 401, path


VALID: dict[str, Any] = {
    "prepare_requirements": {"requirements": ["numpy"]},
    "start_notebook": {},
    "stop_notebook": {},
    "apply_service": {"name": "nothing", "template": "editor"},
    "deploy_function": {"name": "nothing", "bundle": {"files": {}, "entry": "a:b"}},
    "roll_back_function": {"number": 3},
    "split_function": {"shares": {"latest": 100}},
    "share_function": {},
    "add_key": {},
    "set_secret": {"value": "x"},
    "add_trigger": {},
    "choose_triggers": {"triggers": []},
    "submit_run": {"name": "nothing", "manifest": {}},
    "save_workflow": {"name": "nothing", "run": {"name": "nothing", "manifest": {}}},
    "launch_saved_workflow": {},
    "add_saved_trigger": {},
    "choose_saved_triggers": {"triggers": []},
    "sign_file": {"path": "nothing"},
}
ASKED = {"answer_run": {"step": "s1"}}
"""What must stand in an address."""


@pytest.mark.parametrize(("method", "path", "operation"), OWNED, ids=[one[2]["operationId"] for one in OWNED])
@pytest.mark.parametrize("owner", ["bob", "nobody"])
async def test_a_stranger_finds_nothing(
    http: httpx.AsyncClient, method: str, path: str, operation: dict[str, Any], owner: str
) -> None:
    name = operation["operationId"]
    answer = await http.request(method, filled(path, owner), json=VALID.get(name), params=ASKED.get(name))
    assert answer.status_code == 404, answer.text
    assert answer.json()["code"] == "RW-NOT-FOUND"


@pytest.mark.parametrize("path", ["/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v1/functions/ada/x/y/z"])
async def test_the_unknown_is_not_found_in_our_words(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 404 and answer.json()["code"] == "RW-NOT-FOUND"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=8), one, max_size=4),
    max_leaves=8,
)
words = sorted(
    {
        name
        for one in DESCRIPTION["components"]["schemas"].values()
        for name in one.get("properties", {})
        if name not in ("code", "hint")
    }
)
bodies = values | st.dictionaries(st.sampled_from(words), values, max_size=6)
WRITES = [one for one in ALL if one[0] in ("POST", "PUT") and one[2]["operationId"] not in ("start_notebook",)]


@given(data=st.data())
@settings(suppress_health_check=list(HealthCheck), max_examples=150, deadline=None)
async def test_no_body_breaks_a_route(http: httpx.AsyncClient, data: st.DataObject) -> None:
    method, path, operation = data.draw(st.sampled_from(WRITES))
    body, name = data.draw(bodies), data.draw(st.sampled_from(["nothing", "x%00y", "%2e%2e", "a" * 300, "%ff", "é"]))
    if isinstance(body, dict) and data.draw(st.booleans()):
        body = VALID.get(operation["operationId"], {}) | body
    answer = await http.request(
        method, filled(path, "ada", name), content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    known = {int(status) for status in operation["responses"] if status.isdigit()}
    unreachable = {503} if operation["operationId"] == "stop_notebook" else set()
    assert answer.status_code in known | {404, 422} | unreachable, (operation["operationId"], answer.text)
    if answer.is_error:
        assert answer.json()["code"].startswith("RW-") and answer.json()["message"]


@given(data=st.data())
@settings(suppress_health_check=list(HealthCheck), max_examples=100, deadline=None)
async def test_no_query_breaks_a_route(http: httpx.AsyncClient, data: st.DataObject) -> None:
    reads = [one for one in ALL if one[0] == "GET" and one[2]["operationId"] not in ("watch", "list_notebooks")]
    _, path, operation = data.draw(st.sampled_from([one for one in reads if "/notebooks/" not in one[1]]))
    name = data.draw(st.sampled_from(["nothing", "x%00y", "%2e%2e%2fa", "%2fetc%2fpasswd", "a" * 300, "", "%ff"]))
    query = data.draw(st.dictionaries(st.sampled_from(["after", "limit", "follow", "kinds"]), st.text(max_size=10)))
    answer = await http.get(filled(path, "ada", name), params={**query, "follow": "false"})
    assert answer.status_code < 500 and answer.status_code != 405, (operation["operationId"], answer.text)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 50_000, b'{"a":' * 9000, b"NaN", b'"\\ud800"'])
async def test_broken_json_is_said(http: httpx.AsyncClient, content: bytes) -> None:
    answer = await http.put("/api/v1/services/ada/one", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and answer.json()["code"] == "RW-BAD-INPUT", answer.text


async def test_a_problem_names_the_page_that_explains_it(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/v1/services/ada/absent")  # no name of the requests above, which may hit upon a launch
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/help/errors#RW-NOT-FOUND") and answer.json()["type"].startswith("http://")


async def test_a_body_over_the_limit_is_refused(http: httpx.AsyncClient) -> None:
    async def endless() -> Any:
        while True:
            yield b"x" * 10_000

    for content in (b"x" * 200_000, endless()):
        answer = await http.post("/api/v1/functions/ada/double/call", content=content)
        assert answer.status_code == 413 and answer.json()["field"] == "limits.payload"


async def test_the_description_is_published(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.get("/api/v1/openapi.json")
    assert answer.json()["paths"].keys() == DESCRIPTION["paths"].keys()
