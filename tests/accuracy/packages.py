"""Models and text out of packages: where they are, and which are missing."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from qir.ir.types import Array


class Absent(Exception):
    """A package that a model needs is not installed."""


def module(name: str) -> ModuleType:
    """Errors: Absent."""
    if importlib.util.find_spec(name) is None:
        raise Absent(f"package {name} is not installed")
    return importlib.import_module(name)


def folder(name: str, distribution: str) -> Path:
    """Where a package of a model's files is, without importing it. Errors: Absent."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise Absent(f"package {distribution} is not installed (pip install {distribution})")
    return Path(spec.submodule_search_locations[0])


def documents() -> Iterator[str]:
    """Text that every Python brings: its manual's topics and its library, 12,000 characters of
    each, one and one.
    """
    from pydoc_data.topics import topics

    manual = [topics[key] for key in sorted(topics) if len(topics[key]) > 3000]
    library = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    programs = [file for file in library if file.stat().st_size > 6000]
    for page, file in zip(manual, programs, strict=False):
        yield page[:12000]
        yield file.read_text(encoding="utf8", errors="replace")[:12000]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of the manual of Python, 5 words and 20 to 200 characters at least, in random
    order.
    """
    from pydoc_data.topics import topics

    names = set()
    for page in topics.values():
        for paragraph in page.split("\n\n"):
            for s in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
                if 20 <= len(s) <= 200 and s[0].isupper() and s[-1] in ".!?" and s.count(" ") > 3:
                    names.add(s)
    ordered = sorted(names)
    np.random.default_rng(seed).shuffle(ordered)
    return ordered[:count]


def decibels(reals: Array, found: Array) -> float:
    """Signal to noise."""
    wide = reals.astype(np.float64)
    return float(10 * np.log10((wide**2).sum() / ((wide - found) ** 2).sum()))
