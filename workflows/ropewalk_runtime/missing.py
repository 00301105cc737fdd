"""A package that is not installed: what it is called where packages come from, and the one line that brings it. Pure.

Import names and names of distributions mostly agree; the few well-known ones that do not are listed. Not here:
installing. Rejected: asking a package index (a name that somebody registered proves nothing).
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

DISTRIBUTIONS = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "Bio": "biopython",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "git": "gitpython",
    "igraph": "python-igraph",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "Levenshtein": "python-levenshtein",
    "magic": "python-magic",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
"""By the name that code imports."""
_OURS = frozenset({"ropewalk", "ropewalk_core", "ropewalk_kernel", "ropewalk_workflows"})


@dataclass(frozen=True)
class Package:
    """What lacks: the module that code imports, and the distribution that brings it."""

    module: str
    distribution: str

    @property
    def said(self) -> str:
        """How a sentence names it."""
        if self.module == self.distribution:
            return f"the package {self.module}"
        return f"{self.module} (the package {self.distribution})"


def package(error: BaseException) -> Package | None:
    """Return the package that lacks; None if the error is another, or only a part of an installed package lacks."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    name = error.name.partition(".")[0]
    if name in sys.modules or name in sys.stdlib_module_names:
        return None
    return Package(name, DISTRIBUTIONS.get(name, name.replace("_", "-")))


def fix(lacking: Package) -> str:
    """Return what to do about it, in one line."""
    if lacking.module in _OURS:
        return "Leave the import out of the function: Ropewalk itself is not among its requirements."
    if declared():
        return f"Add it to the function's requirements: %%function -r {lacking.distribution}"
    name = lacking.distribution
    return f"Install it: %pip install {name}. Or for this function alone: %%function -r {name}"


def declared() -> bool:
    """Say whether this Python is an environment of requirements: then its lock lies beside it."""
    return os.path.isfile(os.path.join(os.path.dirname(sys.prefix), "lock.txt"))
