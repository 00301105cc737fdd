"""What looks like a password or a key, and therefore does not travel with code. Pure.

Code is kept, shown on pages and compared between revisions; a secret is stored apart and given by name. A shape that is
wrongly taken for a secret costs its owner a line, one that is not seen is in every revision for good. So names alone
decide only where they leave no doubt: in machine learning a token is mostly a word.
"""

from __future__ import annotations

import re

_SHAPES = {
    "a signed token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "a key of a function": r"\brwk-[0-9a-z]{10}-[\w-]{43}",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22})",
    "a GitLab token": r"\bglpat-[\w-]{20}",
    "a Slack token": r"\bxox[abprs]-[\w-]{10}",
    "an AWS key": r"\bAKIA[0-9A-Z]{16}\b",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30}",
    "a key of an API": r"\bsk-[\w-]{32}",
}
_PASSWORD = re.compile(r"(?:^|_)(?:password|passwd|passphrase|secret)s?$", re.IGNORECASE)
_KEY = re.compile(r"(?:^|_)(?:token|api_?key|access_?key|secret_?key)$", re.IGNORECASE)
_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[!-~]{16,}")


def in_text(text: str) -> str:
    """Return what kind of secret a text holds, such as ``a private key``; empty if it seems to hold none."""
    return next((kind for kind, shape in _SHAPES.items() if re.search(shape, text)), "")


def is_secret(name: str, value: object) -> bool:
    """Say whether a variable is meant to be secret: by its name, and for keys and tokens by its value too."""
    if not isinstance(value, str) or not value:
        return False
    return bool(_PASSWORD.search(name) or (_KEY.search(name) and _RANDOM.fullmatch(value)))


def advice(name: str = "NAME") -> str:
    """Return what to do instead."""
    return (
        f'Store it with ropewalk.secrets.set("{name}"), let the function have it with --secret {name}, and read '
        f'os.environ["{name}"] inside.'
    )
