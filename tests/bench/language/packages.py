"""Packages that bring the files of a model."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def package(name: str, distribution: str) -> Path:
    """Where the files of a package are; it is not imported."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"error: no package {name}\nhint: pip install {distribution}")
    return Path(found.submodule_search_locations[0])
