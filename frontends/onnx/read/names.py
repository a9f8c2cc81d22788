"""Names of values: the model's, reduced to letters, digits and _ . $ -."""

from __future__ import annotations

import re

FORBIDDEN = re.compile(r"[^A-Za-z0-9_.$-]+")
LONGEST = 200  # a longer name of the model is cut; the place of the op keeps it whole


def sanitized(name: str) -> str:
    """`name` with every run of other characters as one _, none at its ends."""
    return FORBIDDEN.sub("_", name).strip("_")[:LONGEST] or "value"
