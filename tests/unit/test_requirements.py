"""Lines of requirements, blocks of PEP 723, locks and what may go: all that is decided without installing anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from ropewalk_core.errors import BadInput
from ropewalk_core.requirements import (
    Held,
    Script,
    check_python,
    checked,
    key,
    listed,
    making_room,
    pinned,
    request,
    script,
    shortened,
    unneeded,
)

NAMES = st.from_regex(r"[a-z]([a-z0-9]|-[a-z0-9]){0,8}", fullmatch=True).filter(lambda one: one != "ropewalk")
VERSIONS = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}", fullmatch=True)
SPECIFIERS = st.builds(lambda sign, version: f"{sign}{version}", st.sampled_from(["==", ">=", "<", "!="]), VERSIONS)
LINES = st.builds(lambda name, wanted: f"{name}{','.join(wanted)}", NAMES, st.lists(SPECIFIERS, max_size=2))
FACTS = {"version": "3.11.4"}
LOCK = (
    "numpy==2.3.1 \\\n    --hash=sha256:" + "0" * 64 + " \\\n    --hash=sha256:" + "1" * 64 + "\n"
    "pandas==2.2.0 \\\n    --hash=sha256:" + "2" * 64 + "\n"
)


@given(lines=st.lists(LINES, max_size=8))
def test_equal_wishes_are_equal_text(lines: list[str]) -> None:
    found = checked(lines)
    assert found == checked(reversed(lines)) == checked(found) == checked([f" {one} " for one in [*lines, *lines]])
    assert {Requirement(one).name for one in found} == {Requirement(one).name for one in lines}
    assert request(found, FACTS) == request(checked(reversed(lines)), FACTS)


def test_spelling_does_not_matter_and_what_is_meant_does() -> None:
    assert checked(["Scikit_Learn>=1.5,<2"]) == checked(["scikit-learn <2, >=1.5"])
    assert checked(["pandas[excel]==2.2; python_version > '3.9'"])[0].startswith("pandas[excel]==2.2")
    assert request(checked(["a==1"]), FACTS) != request(checked(["a==2"]), FACTS)
    assert request(checked(["a==1"]), FACTS) != request(checked(["a==1"]), {"version": "3.12.0"})
    assert key(LOCK, FACTS) != key(LOCK + " ", FACTS) != key(LOCK, {"version": "3.12.0"})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "empty"),
        ("--index-url=https://evil.test/simple", "option"),
        ("-e .", "option"),
        ("-r requirements.txt", "option"),
        ("requirements.txt", "file"),
        ("./package", "file"),
        ("../package", "file"),
        ("/srv/package", "file"),
        ("package-1.0-py3-none-any.whl", "file"),
        ("pandas @ https://evil.test/pandas.whl", "address"),
        ("pandas @ git+https://evil.test/pandas", "address"),
        ("git+https://evil.test/pandas", "address"),
        ("pandas=2.2", "no requirement"),
        ("pandas numpy", "no requirement"),
        ("pandas\n--index-url=https://evil.test", "line break"),
        ("pandas\n--no-index", "line break"),
        ("pandas; python_version > '3\n--no-index'", "line break"),
        ("pandas==2.2 --hash=sha256:00", "no requirement"),
        ("x" * 501, "too long"),
        ("Ropewalk", "Ropewalk itself"),
    ],
)
def test_what_is_no_package_with_versions_is_refused_by_name(line: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        checked(["numpy", line])
    assert said in caught.value.message and caught.value.field == "requirements"
    assert caught.value.hint and len(caught.value.message) < 300


@given(line=st.text(max_size=60))
def test_whatever_a_line_is_it_is_one_package_or_refused(line: str) -> None:
    try:
        [found] = checked([line])
    except BadInput as error:
        assert error.field == "requirements"
        return
    assert "\n" not in found and not found.startswith("-") and Requirement(found).url is None


def test_too_many_lines_are_refused() -> None:
    with pytest.raises(BadInput):
        checked(f"a{number}" for number in range(201))


@pytest.mark.parametrize("wanted", [">=3.11", "", ">=3.9,<4", "==3.11.*"])
def test_a_python_that_fits(wanted: str) -> None:
    assert check_python(wanted, "3.11.4") == check_python(check_python(wanted, ""), "3.11.4")


@pytest.mark.parametrize(("wanted", "said"), [(">=3.12", "functions run on Python 3.11.4"), ("3.11", "no versions")])
def test_a_python_that_does_not_fit_is_refused(wanted: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_python(wanted, "3.11.4")
    assert said in caught.value.message and caught.value.field == "requires_python"


@given(lines=st.lists(LINES, max_size=5), before=st.sampled_from(["", "x = 1\n", "# note\n\n"]))
def test_a_block_says_what_lines_say(lines: list[str], before: str) -> None:
    listed_lines = "".join(f"#   {one!r},\n" for one in lines)
    text = (
        f"{before}# /// script\n# requires-python = '>=3.11'\n# dependencies = [\n{listed_lines}# ]\n# ///\nimport os\n"
    )
    assert script(text) == Script(checked(lines), ">=3.11")


PIECES = st.sampled_from(
    [
        "# /// script\n",
        "# ///\n",
        "#\n",
        "# dependencies = ['a']\n",
        "# x = [\n",
        "x = 1\n",
        "\n",
        "# \\\n",
        "# [tool.uv]\n",
    ]
)


@given(text=st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=80))
def test_any_text_has_a_block_or_none_or_is_refused(text: str) -> None:
    try:
        found = script(text)
    except BadInput as error:
        assert error.field in ("requirements", "requires_python")
        return
    assert found is None or "# /// script" in text


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("# dependencies = [\n", "in line 2 is not TOML"),
        ("# dependencies = 'pandas'\n", "list of texts"),
        ("# dependencies = [1]\n", "list of texts"),
        ("# requires-python = 3\n", "must be text"),
        ("# dependency = ['pandas']\n", "'dependency'"),
        ("# [tool.uv]\n# index-url = 'https://evil.test'\n", "settings of uv"),
        ("# dependencies = ['-e .']\n", "option"),
    ],
)
def test_a_block_that_cannot_be_followed_is_refused(inside: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        script(f"\n# /// script\n{inside}# ///\n")
    assert said in caught.value.message


def test_two_blocks_are_refused_and_others_are_not_ours() -> None:
    block = "# /// script\n# dependencies = []\n# ///\n"
    with pytest.raises(BadInput):
        script(f"{block}x = 1\n{block}")
    assert script(block.replace("script", "other")) is None
    assert script("# /// script\n# dependencies = []\n") is None
    assert script(block) == Script()


def test_a_lock_names_versions_with_hashes() -> None:
    assert pinned(LOCK) == ("numpy==2.3.1", "pandas==2.2.0")
    assert pinned("# nothing\n") == ()
    for other in (
        "pandas @ https://evil.test/pandas.whl",
        "pandas==2.2.0",
        "-e .",
        "pandas>=2 --hash=sha256:" + "0" * 64,
    ):
        with pytest.raises(BadInput):
            pinned(LOCK + other + "\n")


@given(names=st.lists(st.text(max_size=30) | NAMES.map(lambda one: f"{one}-1.0.dist-info")))
def test_names_of_folders_are_read_as_a_strangers(names: list[str]) -> None:
    assert all("==" in one and "\n" not in one and len(one) < 450 for one in listed(names))
    assert listed(["Rope_Toy-1.0.dist-info", "x.egg-link", "evil\n-1.dist-info"]) == ("rope-toy==1.0",)


@given(
    ages=st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 100)),
    needed=st.sets(st.sampled_from("abcdef")),
    unused=st.floats(0, 100),
)
def test_what_is_needed_or_was_a_moment_ago_stays(ages: dict[str, float], needed: set[str], unused: float) -> None:
    held = [Held(one, 1000.0 - age) for one, age in ages.items()]
    going = set(unneeded(held, needed, now=1000.0, unused=unused))
    assert not going & needed and going <= set(ages)
    assert all(ages[one] > unused - 1e-6 for one in going)
    assert {one for one in ages if one not in needed and ages[one] > unused + 1e-6} <= going


@given(
    sizes=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 50)),
    needed=st.sets(st.sampled_from("abcdef")),
    size=st.integers(0, 100),
)
def test_room_is_made_by_the_oldest_that_nothing_needs(sizes: dict[str, int], needed: set[str], size: int) -> None:
    held = [Held(one, float(ord(one)), "ann", size_of) for one, size_of in sizes.items()]
    others = [Held("z", 0.0, "bob", 1000)]
    going = making_room([*held, *others], needed, "ann", size, limit=100, before=float(ord("e")))
    may = [one for one in sorted(sizes) if one not in needed and one < "e"]
    if going is None:
        assert sum(sizes.values()) - sum(sizes[one] for one in may) + size > 100
    else:
        assert list(going) == may[: len(going)]
        assert sum(sizes.values()) - sum(sizes[one] for one in going) + size <= 100
        assert not going or sum(sizes.values()) - sum(sizes[one] for one in going[:-1]) + size > 100


def test_uv_is_quoted_shortly() -> None:
    said = [
        "Resolved 3 packages in 1ms",
        "  \u00d7 No solution found when resolving dependencies:",
        "  \u2570\u2500\u25b6 Because nosuch was not found in the package registry and you require nosuch, we can",
        "      conclude that your requirements are unsatisfiable.",
    ]
    short = shortened(said)
    assert short.startswith("No solution found") and short.endswith("unsatisfiable.") and "Resolved" not in short
    assert "  " not in short and "\u2570" not in short
    assert shortened(["a", "b", "c", "d"]) == "b c d" and shortened([]) == ""
    assert len(shortened(["error: " + "x" * 5000])) == 600
