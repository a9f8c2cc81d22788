"""Loads and runs artifacts; needs the standard library and NumPy only."""

from __future__ import annotations

import os

from .errors import ArtifactError, DataError
from .load import Loaded, from_files, read
from .session import Port, Session

__all__ = ["ArtifactError", "DataError", "Loaded", "Port", "Session", "from_files", "load", "read"]


def load(path: str | os.PathLike[str], threads: int = 1) -> Session:
    """The artifact in folder `path`, checked and ready to run."""
    return Session(read(path), threads)
