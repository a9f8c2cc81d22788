"""Models from outside become imported graphs: one folder for each outside format."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qir.frontends.onnx import import_onnx
    from qir.frontends.torch import import_torch

__all__ = ["import_onnx", "import_torch"]

# Public name -> the package that holds it, loaded when first used: torch and onnx are heavy.
_HOMES = {"import_onnx": "qir.frontends.onnx", "import_torch": "qir.frontends.torch"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'qir.frontends' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
