"""Names: total, distinct, legal; hosts are read back as they were written."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ropewalk_core import names
from ropewalk_core.errors import BadName

letters = "abcdefghijklmnopqrstuvwxyz"
legal = st.from_regex(names._NAME, fullmatch=True).filter(names.is_name)


@given(text=st.text())
def test_any_text_has_a_legal_name(text: str) -> None:
    name = names.slug(text)
    assert names.is_name(name) and name not in names.RESERVED


@given(one=st.text(max_size=60), other=st.text(max_size=60))
def test_distinct_texts_have_distinct_names(one: str, other: str) -> None:
    assume(one != other)
    assert names.slug(one) != names.slug(other)


@given(text=st.text(max_size=60))
def test_a_changed_name_cannot_be_asked_for(text: str) -> None:
    """Somebody who types another's slug gets a different one."""
    name = names.slug(text)
    if name != text:
        assert names.slug(name) != name


@given(name=legal)
def test_a_legal_name_stays(name: str) -> None:
    assume(name not in names.RESERVED and not (len(name) > 17 and name[-17] == "-"))
    assert names.slug(name) == name == names.check_name(name)


@pytest.mark.parametrize(
    "text", ["", "-a", "a-", "a--b", "A", "1a", "ä", "a_b", "a.b", "a" * 33, "a b", "a\n", "hub", "root", "fn"]
)
def test_unusable_names_are_refused_by_field(text: str) -> None:
    with pytest.raises(BadName) as caught:
        names.check_name(text, what="service")
    assert caught.value.field == "service"


def test_longest_and_shortest_names() -> None:
    assert names.is_name("a") and names.is_name("a" * 32) and not names.is_name("a" * 33)


@given(account=legal, service=legal, port=st.sampled_from(["", ":8001"]))
def test_hosts_are_read_back(account: str, service: str, port: str) -> None:
    assume(len(f"{service}--fn--{account}") <= 63)
    function = names.PeopleHost("function", account, service)
    if len(f"r77--{service}--fn--{account}") <= 63:
        one = names.PeopleHost("function", account, service, 77)
        assert names.parse_host(names.revision_host(77, service, account) + port) == one
    else:
        with pytest.raises(BadName):
            names.revision_host(77, service, account)
    assert names.parse_host(names.function_host(service, account) + port) == function
    assert names.parse_host(names.notebook_host(account) + port) == names.PeopleHost("notebook", account)
    if service != "fn":
        read = names.parse_host(names.service_host(service, account) + port)
        assert read == names.PeopleHost("service", account, service)


@given(host=st.text(max_size=80))
def test_reading_a_host_never_fails(host: str) -> None:
    names.parse_host(host)


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", ".localhost", "a.b.localhost", "evil.com", "a--b--c.localhost", "a.localhost.evil"],
)
def test_hosts_that_are_nobodys(host: str) -> None:
    assert names.parse_host(host) is None


def test_a_pair_that_overflows_a_label_is_refused() -> None:
    names.check_pair("f" * 31, "a" * 26)
    with pytest.raises(BadName):
        names.check_pair("f" * 32, "a" * 26)


def test_identifiers_are_names_and_do_not_repeat() -> None:
    found = {names.new_id("run") for _ in range(1000)}
    assert len(found) == 1000 and all(names.is_name(one) for one in found)
