"""C files with holes: @NAME@ and the like, in backends/c/templates/."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent / "templates"
HOLE = re.compile(r"@([A-Z_]+)@")


def fill(template: str, **holes: object) -> str:
    """templates/`template` with each @KEY@ replaced; holes and keys must be the same."""
    text = (FOLDER / template).read_text()
    keys = set(HOLE.findall(text))
    assert keys == set(holes), (template, keys ^ set(holes))
    return HOLE.sub(lambda m: str(holes[m.group(1)]), text)
