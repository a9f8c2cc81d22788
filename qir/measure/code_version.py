"""The version of qir's own code: what kept results must not outlive."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import import_module
from pathlib import Path

import qir


@cache
def source(*packages: str) -> str:
    """The version of qir and the hash of all Python files of these packages."""
    total = hashlib.sha256()
    for package in packages:
        file = import_module(package).__file__
        assert file is not None
        for path in sorted(Path(file).parent.rglob("*.py")):
            total.update(path.read_bytes())
    return f"{qir.__version__} {total.hexdigest()[:16]}"
