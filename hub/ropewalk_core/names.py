"""Names: any text becomes a name that hosts, folders and Kubernetes accept. Pure and total.

A name is a DNS label of at most 32 characters without ``--``, because ``--`` separates the parts of a people's host
(``<service>--<account>``). Distinct texts give distinct names: a name that had to be changed carries 16 hex digits of
the text's SHA-256. Not here: who owns a name (``policy.py``). Rejected: percent escapes, which overflow a label of 63.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Literal

from ropewalk_core.errors import BadName

LONGEST = 32
_NAME = re.compile(r"[a-z](?:[a-z0-9]|-(?!-)){0,30}[a-z0-9]|[a-z]")
_REVISION = re.compile(r"r([1-9][0-9]{0,7})")
RESERVED = frozenset(
    {
        "api",
        "admin",
        "door",
        "fn",
        "hub",
        "issuer",
        "localhost",
        "platform",
        "root",
        "ropewalk",
        "static",
        "system",
        "user",
        "www",
    }
)
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def is_name(text: str) -> bool:
    """Say whether the text is a legal name as it stands."""
    return bool(_NAME.fullmatch(text)) and len(text) <= LONGEST


def check_name(text: str, *, what: str = "name") -> str:
    """Return the text, or raise `BadName` that says which field is wrong.

    ``what`` is the field's name in the message. Reserved words are refused as well.
    """
    if not isinstance(text, str) or not is_name(text):
        raise BadName(f"The {what} {str(text)[:60]!r} cannot be used.", field=what)
    if text in RESERVED:
        raise BadName(f"The {what} {text!r} is reserved.", field=what, hint="Choose another name.")
    return text


def slug(text: str) -> str:
    """Return a legal name for any text; a legal, unreserved text stays as it is, distinct texts stay distinct."""
    if is_name(text) and text not in RESERVED and not re.search(r"-[0-9a-f]{16}$", text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    stem = re.sub(r"[^a-z0-9]+", "-", text.lower())[: LONGEST - 17].strip("-")
    stem = stem if stem[:1].isalpha() else f"x-{stem}"[: LONGEST - 17].strip("-")
    return f"{stem}-{digest}"


def new_id(prefix: str) -> str:
    """Return a random identifier such as ``run-5k2m9qv0w3``; 50 random bits."""
    return f"{prefix}-{''.join(secrets.choice(_CROCKFORD) for _ in range(10))}"


def accelerator_name(model: str, vendor: str = "nvidia") -> str:
    """Return the name people write for a model: ``NVIDIA H100 80GB HBM3`` is ``nvidia-h100``."""
    words = re.findall(r"[a-z0-9]+", model.lower())
    empty = (vendor, "nvidia", "tesla", "geforce", "quadro", "graphics", "device", "gpu")
    words = [one for one in words if one not in empty]
    kept: list[str] = []
    for one in words:
        if kept and (re.fullmatch(r"\d+gb|hbm\w*|sxm\w*|pcie|nvl", one)):
            break
        kept.append(one)
    return "-".join([vendor, *kept[:3]]) if kept else f"{vendor}-gpu"


@dataclass(frozen=True)
class PeopleHost:
    """What a host name on the people's door stands for."""

    kind: Literal["notebook", "service", "function"]
    account: str
    name: str = ""
    revision: int = 0
    """The number of the function's revision that the host belongs to alone; 0 for the function itself."""


def notebook_host(account: str, base: str = "localhost") -> str:
    """Return ``<account>.<base>``."""
    return f"{account}.{base}"


def service_host(service: str, account: str, base: str = "localhost") -> str:
    """Return ``<service>--<account>.<base>``; the first label stays within the 63 characters of RFC 1035."""
    return _label(f"{service}--{account}") + f".{base}"


def function_host(function: str, account: str, base: str = "localhost") -> str:
    """Return ``<function>--fn--<account>.<base>``."""
    return _label(f"{function}--fn--{account}") + f".{base}"


def revision_host(number: int, function: str, account: str, base: str = "localhost") -> str:
    """Return ``r<number>--<function>--fn--<account>.<base>``, where one revision of a function answers alone."""
    return _label(f"r{number}--{function}--fn--{account}") + f".{base}"


def check_pair(name: str, account: str) -> None:
    """Refuse a function or service name that makes a host label of more than 63 characters with this account."""
    if len(f"{name}--fn--{account}") > 63:
        raise BadName(
            f"The name {name!r} is too long together with the account {account!r}.",
            field="name",
            hint=f"Use at most {63 - 6 - len(account)} characters.",
        )


def _label(label: str) -> str:
    if len(label) > 63:
        raise BadName(f"The host {label!r} is longer than 63 characters.", field="name", hint="Use a shorter name.")
    return label


def parse_host(host: str, base: str = "localhost") -> PeopleHost | None:
    """Return what a ``Host`` header stands for, or None if it is not a people's host. The port is ignored."""
    bare = host.rsplit(":", 1)[0].lower().rstrip(".") if re.search(r":\d+$", host) else host.lower().rstrip(".")
    if not bare.endswith(f".{base}"):
        return None
    parts = bare[: -len(base) - 1].split("--")
    if not all(is_name(part) for part in parts):
        return None
    if len(parts) == 1:
        return PeopleHost("notebook", parts[0])
    if len(parts) == 2:
        return PeopleHost("service", parts[1], parts[0])
    if len(parts) == 3 and parts[1] == "fn":
        return PeopleHost("function", parts[2], parts[0])
    if len(parts) == 4 and parts[2] == "fn" and (found := _REVISION.fullmatch(parts[0])):
        return PeopleHost("function", parts[3], parts[1], int(found[1]))
    return None
