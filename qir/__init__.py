"""The public names of qir, each loaded when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from qir.version import __version__

if TYPE_CHECKING:
    from qir.driver import compile
    from qir.ir.errors import (
        ArtifactError,
        DataError,
        FrontendError,
        LowerError,
        ParseError,
        PassError,
        QirError,
        VerifyError,
    )
    from qir.language_net import LanguageNet
    from qir.lm import compile_lm
    from qir.loading import load
    from qir.net import Net
    from qir.passes.bits.choice import Bits
    from qir.passes.mixed_precision import MixedPrecision
    from qir.passes.transform.depth.requests import Concurrency, Skip
    from qir.passes.transform.depth.skip_decode import DecodeSkip

__all__ = [
    "ArtifactError",
    "Bits",
    "Concurrency",
    "DataError",
    "DecodeSkip",
    "FrontendError",
    "LanguageNet",
    "LowerError",
    "MixedPrecision",
    "Net",
    "ParseError",
    "PassError",
    "QirError",
    "Skip",
    "VerifyError",
    "__version__",
    "compile",
    "compile_lm",
    "load",
]

_HOMES = {
    "compile": "qir.driver",
    "compile_lm": "qir.lm",
    "load": "qir.loading",
    "LanguageNet": "qir.language_net",
    "Net": "qir.net",
    "Bits": "qir.passes.bits.choice",
    "MixedPrecision": "qir.passes.mixed_precision",
    "Concurrency": "qir.passes.transform.depth.requests",
    "Skip": "qir.passes.transform.depth.requests",
    "DecodeSkip": "qir.passes.transform.depth.skip_decode",
}


def __getattr__(name: str) -> object:
    """Load a public name from its home: `import qir` alone stays cheap.

    Errors: QirError for a package that its home needs and this Python lacks.
    """
    if name not in __all__:
        raise AttributeError(f"module 'qir' has no attribute {name!r}")
    try:
        home = import_module(_HOMES.get(name, "qir.ir.errors"))
    except ModuleNotFoundError as e:
        package = (e.name or "qir").split(".")[0]
        if package == "qir":
            raise
        from qir.ir.errors import QirError

        raise QirError(
            f"qir.{name}: Python package {package} is not installed, it is needed",
            "pip install qir; qir.runtime.load runs artifacts with NumPy alone",
        ) from e
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
