"""What a function needs beside its code: lines of requirements, read and checked, and what follows from them. Pure.

Lines are those of PEP 508, written alone or in a block of PEP 723; equal wishes become equal text, so that they share
one environment. Not here: resolving and installing (``local.requirement_store``). Refused for now: addresses and
version control, because nobody could tell whether the same line means the same code tomorrow; paths, because nothing
of a notebook's folder is built; options, because which index is asked is the installation's choice. Rejected: a form
of our own for any of it.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from ropewalk_core.errors import BadInput

MOST, LONGEST = 200, 500
"""Lines of one function, and characters of one line."""
_FIELD, _PYTHON = "requirements", "requires_python"
_ONE = "Name one package in each line, such as pandas==2.2."
_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""The expression of PEP 723 itself."""
_FILES = (".whl", ".tar.gz", ".zip", ".txt", ".in", ".toml", ".lock")
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*==[^\s;]+)(?: .*)? --hash=sha256:[0-9a-f]{64}")
_LISTED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,200}")
_DRAWING = re.compile("[\u2500-\u257f\u25b6\u00d7]")
"""What uv draws around its sentences."""
_FAILS = ("\u00d7", "error", "Error")
"""How the line begins in which uv says that it failed."""


@dataclass(frozen=True)
class Script:
    """A block of PEP 723: the lines of its dependencies, and the versions of Python that it allows."""

    requirements: tuple[str, ...] = ()
    requires_python: str = ""


@dataclass(frozen=True)
class Held:
    """An environment on disk.

    Parameters
    ----------
    key
        Its key.
    used
        When it was needed last, in Unix seconds.
    account
        For whom it was built.
    size
        Its bytes.
    """

    key: str
    used: float
    account: str = ""
    size: int = 0


def checked(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the lines in one spelling and one order, each once.

    Raises
    ------
    BadInput
        If one is not the name of a package with versions; the field is ``requirements``.
    """
    given = list(lines)
    if len(given) > MOST:
        raise BadInput(f"There are {len(given)} lines of requirements; at most {MOST} are taken.", field=_FIELD)
    return tuple(sorted({_line(one) for one in given}))


def check_python(wanted: str, version: str) -> str:
    """Return ``requires-python`` in one spelling.

    Parameters
    ----------
    wanted
        Such as ``>=3.11``; empty allows any.
    version
        Of the Python that functions run on; empty when that is not known here.

    Raises
    ------
    BadInput
        If it cannot be read, or the version is not among it; the field is ``requires_python``.
    """
    try:
        allowed = SpecifierSet(wanted if len(wanted) <= LONGEST else "too long")
    except InvalidSpecifier as error:
        hint = "Write it as >=3.11, for example."
        raise BadInput(f"{_quoted(wanted)} names no versions of Python.", field=_PYTHON, hint=hint) from error
    if version and not allowed.contains(version, prereleases=True):
        raise BadInput(
            f"It needs Python {allowed}, and functions run on Python {version} here.",
            field=_PYTHON,
            hint=f"Allow Python {'.'.join(version.split('.')[:2])} if your code works with it.",
        )
    return str(allowed)


def script(text: str) -> Script | None:
    """Return the block ``# /// script`` of a text; None if it has none. One that is not closed is none, says PEP 723.

    Raises
    ------
    BadInput
        If there are two, or one cannot be read.
    """
    if "# /// script" not in text:
        return None
    found = [one for one in _BLOCK.finditer(text) if one["type"] == "script"]
    if len(found) > 1:
        raise BadInput("There are two blocks `# /// script`.", field=_FIELD, hint="Write all of it into one.")
    if not found:
        return None
    line = text.count("\n", 0, found[0].start()) + 1
    lines = found[0]["content"].splitlines(keepends=True)
    try:
        facts = tomllib.loads("".join(one[2:] if one.startswith("# ") else one[1:] for one in lines))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        said = f"The block `# /// script` in line {line} is not TOML: {error}."
        raise BadInput(said, field=_FIELD) from error
    return _script(facts, line)


def request(lines: Sequence[str], facts: Mapping[str, str]) -> str:
    """Return the digest of a wish: checked lines, and the facts of the machine that they are resolved for."""
    return _digest({"lines": list(lines), "facts": dict(facts)})


def key(lock: str, facts: Mapping[str, str]) -> str:
    """Return the key of an environment: what was resolved, with hashes, and the Python and machine it is for."""
    return _digest({"lock": lock, "facts": dict(facts)})


def pinned(lock: str) -> tuple[str, ...]:
    """Return what a lock names, as ``name==version``.

    Raises
    ------
    BadInput
        If it names something without a version or a hash: only what comes from an index has both.
    """
    found = []
    for line in lock.replace("\\\n", " ").splitlines():
        text = " ".join(line.split())
        if not text or text.startswith("#"):
            continue
        match = _PINNED.match(text)
        if match is None:
            said = f"{_quoted(text.split(' --hash')[0])} does not come from a package index, or has no hash there."
            raise BadInput(said, field=_FIELD, hint="Leave out what needs it.")
        found.append(match[1])
    return tuple(found)


def listed(folders: Iterable[str]) -> tuple[str, ...]:
    """Return ``name==version`` for names of ``.dist-info`` folders, which anybody may have put there."""
    split = (one.removesuffix(".dist-info").partition("-") for one in folders if one.endswith(".dist-info"))
    found = [(name, version) for name, _, version in split if _named(name) and _named(version)]
    return tuple(sorted(f"{canonicalize_name(name)}=={version}" for name, version in found))


def unneeded(held: Iterable[Held], needed: Collection[str], *, now: float, unused: float) -> tuple[str, ...]:
    """Return the keys of environments that may go.

    Parameters
    ----------
    held
        All that are there.
    needed
        Keys that a kept revision names or a worker uses.
    now, unused
        Unix time, and the seconds for which one that nobody needs is kept.
    """
    return tuple(one.key for one in held if one.key not in needed and now - one.used > unused)


def making_room(
    held: Iterable[Held], needed: Collection[str], account: str, size: int, *, limit: int, before: float
) -> tuple[str, ...] | None:
    """Return the keys of environments that go so that an account can have another; None if there is no room even then.

    Parameters
    ----------
    held, needed
        As of `unneeded`.
    account, size
        For whom it is, and its bytes.
    limit
        Bytes that one account may have.
    before
        Unix time; what was used since stays.
    """
    mine = sorted((one for one in held if one.account == account), key=lambda one: one.used)
    left, going = sum(one.size for one in mine) + size - limit, []
    for one in mine:
        if left > 0 and one.key not in needed and one.used < before:
            left -= one.size
            going.append(one.key)
    return tuple(going) if left <= 0 else None


def shortened(lines: Sequence[str], longest: int = 600) -> str:
    """Return why uv failed, in its own words: without its drawing, and without what it said before it failed."""
    plain = [" ".join(_DRAWING.sub(" ", one).split()) for one in lines]
    drawn = [at for at, one in enumerate(lines) if one.lstrip().startswith(_FAILS)]
    text = " ".join(one for one in plain[drawn[0] if drawn else -3 :] if one)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _line(line: str) -> str:
    text = line.strip().replace("\t", " ")
    if not text.isprintable():
        raise BadInput("A line of requirements holds a line break or what nobody can read.", field=_FIELD, hint=_ONE)
    if not text or len(text) > LONGEST:
        said = "A line of requirements is empty." if not text else f"{_quoted(text)} is too long for a line."
        raise BadInput(said, field=_FIELD, hint=_ONE)
    if text.startswith("-"):
        hint = "Name packages alone, such as pandas==2.2. Which index is asked is the installation's choice."
        raise BadInput(f"{_quoted(text)} is an option and no requirement.", field=_FIELD, hint=hint)
    if "@" in text or "://" in text:
        hint = "Name a released version; addresses and version control are not taken."
        raise BadInput(f"{_quoted(text)} names an address.", field=_FIELD, hint=hint)
    if text.lower().endswith(_FILES) or text.startswith((".", "/", "~")) or "\\" in text:
        hint = "Write the lines themselves. Modules beside the notebook travel with the function anyway."
        raise BadInput(f"{_quoted(text)} is a file; requirements name packages.", field=_FIELD, hint=hint)
    try:
        found = Requirement(text)
    except InvalidRequirement as error:
        hint = "Write it as pip takes it: pandas, pandas==2.2 or 'scikit-learn>=1.5,<2'."
        why = str(error).partition("\n")[0]
        raise BadInput(f"{_quoted(text)} is no requirement: {why}.", field=_FIELD, hint=hint) from error
    found.name = canonicalize_name(found.name)
    if found.name == "ropewalk":
        hint = "Leave it out: the function itself runs without it."
        raise BadInput("Ropewalk itself comes from no package index.", field=_FIELD, hint=hint)
    return str(found)


def _script(facts: Mapping[str, Any], line: int) -> Script:
    where = f"The block `# /// script` in line {line}"
    unknown = sorted(set(facts) - {"dependencies", "requires-python", "tool"})
    if unknown:
        raise BadInput(f"{where} says '{unknown[0][:60]}', which PEP 723 does not know.", field=_FIELD)
    if isinstance(tool := facts.get("tool"), dict) and "uv" in tool:
        hint = "Leave [tool.uv] out; which index is asked is the installation's choice."
        raise BadInput(f"{where} has settings of uv, which are not followed here.", field=_FIELD, hint=hint)
    wanted, python = facts.get("dependencies", []), facts.get("requires-python", "")
    if not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
        raise BadInput(f"{where}: dependencies must be a list of texts.", field=_FIELD)
    if not isinstance(python, str):
        raise BadInput(f"{where}: requires-python must be text.", field=_PYTHON)
    return Script(checked(wanted), check_python(python, ""))


def _named(text: str) -> bool:
    return _LISTED.fullmatch(text) is not None


def _quoted(text: str) -> str:
    return f"'{text[:100]}{'...' if len(text) > 100 else ''}'"


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]
