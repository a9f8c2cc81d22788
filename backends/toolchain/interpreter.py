"""Python as a child process: it finds the modules of this process, and none of the caller's.

A file tvm.py beside a model is no module of qir: the folder of the script and the current folder
are not searched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import qir.ir


def environment() -> dict[str, str]:
    """The variables of this process, with the search path of a child that runs Python."""
    path = os.pathsep.join(_search_path())
    user_site = {"PYTHONNOUSERSITE": "1"} if sys.flags.no_user_site else {}
    return {**os.environ, **user_site, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def has_module(name: str) -> bool:
    """Whether such a child finds the module."""
    return PathFinder.find_spec(name, _search_path()) is not None


def _search_path() -> list[str]:
    """Absolute, since a child may run in another folder."""
    home = Path(qir.ir.__file__).resolve().parents[2]  # where this very qir lies, in any case
    callers = {Path.cwd(), *_script_folder()} - {home}
    folders = dict.fromkeys(Path(entry).resolve() for entry in sys.path)
    return [str(f) for f in folders if f not in callers and f.exists()]


def _script_folder() -> Iterator[Path]:
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if file is not None and not sys.flags.safe_path:
        yield Path(file).resolve().parent
