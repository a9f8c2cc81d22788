"""The version of qir's own code, so that stored results never outlive the code they came from."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import import_module
from pathlib import Path

from qir.version import __version__


@cache
def source(*packages: str) -> str:
    """The version of qir and a hash of all Python files of these packages."""
    digest = hashlib.sha256()
    for package in packages:
        file = import_module(package).__file__
        assert file is not None
        for path in sorted(Path(file).parent.rglob("*.py")):
            digest.update(path.read_bytes())
    return f"{__version__} {digest.hexdigest()[:16]}"
