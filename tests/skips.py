"""What may be missing for a test, and what CI makes of it.

Without CI a test whose tool is missing is skipped. In CI that is a failure, since .ci/run installs
the tools. What cannot be installed is named here; such skips are counted at the end of a run.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable

IN_CI = os.environ.get("CI") == "true"

EXCEPTIONS = {
    "this CPU lacks": "instructions of another CPU",
    "needs an x86-64 machine": "another machine",
    "the model zoo is absent": "the zoo of trained models",
    "HAWQ's inputs are absent": "measurements of HAWQ",
}
"""How the reason of a skip begins -> what cannot be installed."""


def exception(reason: str) -> str | None:
    """What this skip lacks that cannot be installed; None where CI has to have it."""
    plain = re.sub(r"^Skipped: ", "", reason)
    return next((what for head, what in EXCEPTIONS.items() if plain.startswith(head)), None)


def counted(reasons: Iterable[str]) -> list[str]:
    """A line for each exception with how many tests it takes."""
    counts = Counter(exception(reason) for reason in reasons)
    return [f"{count} tests skipped for want of {what}" for what, count in counts.items() if what]
