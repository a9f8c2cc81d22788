"""Names that the text form can write: of graphs, values, and passes."""

from __future__ import annotations

import re
from functools import lru_cache

NAME = r"[\w.$-]+"  # of a graph or value
WORD = r"[A-Za-z_](?:[\w-]*\w)?"  # of an op, stage or pass

_NAME, _WORD = re.compile(NAME), re.compile(WORD)


@lru_cache(1 << 16)
def is_name(text: str) -> bool:
    """Whether a graph or value can have this name."""
    return _NAME.fullmatch(text) is not None


@lru_cache(1 << 10)
def is_word(text: str) -> bool:
    """Whether an op or pass can have this name."""
    return _WORD.fullmatch(text) is not None
