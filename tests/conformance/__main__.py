"""``python -m tests.conformance``: run the corpus and write the page."""

from __future__ import annotations

import asyncio

from tests.conformance.corpus import cases, outcomes
from tests.conformance.page import PAGE, written

if __name__ == "__main__":
    found = cases()
    PAGE.write_text(written(found, asyncio.run(outcomes(found))))
