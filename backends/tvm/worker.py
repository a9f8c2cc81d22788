"""Builds kernels in small batches: here, or as a process of its own that runs `main`."""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from qir.backends.tvm.build import build_object
from qir.backends.tvm.compat import PrimFunc
from qir.backends.tvm.integer_only import integer_only
from qir.backends.tvm.kernels.registry import emit

BATCH = 12
"""Kernels of one object: few, so that one which LLVM never finishes is found among few."""


@dataclass(frozen=True)
class Built:
    """Objects, or the faults that prevented them; the kernels searched for floats; TVM's version."""

    objects: tuple[bytes, ...]
    checked: tuple[str, ...]
    faults: tuple[str, ...]
    version: str


def build(target: Mapping[str, object], codes: Mapping[str, Any]) -> Built:
    """Objects of these kernels, each proven to be integer-only first."""
    symbols = list(codes)
    objects, faults = [], []
    for at in range(0, len(symbols), BATCH):
        functions: dict[str, PrimFunc] = {}
        for symbol in symbols[at : at + BATCH]:
            faults += _emit(functions, symbol, codes[symbol])
        if not faults:
            objects.append(_object(functions, target, faults))
    checked = () if faults else tuple(symbols)
    return Built(tuple(objects), checked, tuple(faults), version("apache-tvm"))


def _emit(functions: dict[str, PrimFunc], symbol: str, code: Any) -> list[str]:
    """Add the kernel's TIR to `functions`; the faults of it."""
    try:
        functions[symbol] = emit(code, symbol)
    except Exception as e:  # TVM raises many kinds; all mean that this kernel cannot be built
        return [f"{symbol}: TIR cannot be made ({type(e).__name__}: {str(e).splitlines()[0]})"]
    return [f"{symbol}: {text}" for text in integer_only(functions[symbol])]


def _object(
    functions: Mapping[str, PrimFunc], target: Mapping[str, object], faults: list[str]
) -> bytes:
    """One object; a batch that fails is tried one by one, so that faults name their kernel."""
    try:
        return build_object(functions, target)
    except Exception as e:
        if len(functions) == 1:
            lines = str(e).strip().splitlines() or [type(e).__name__]
            faults.append(f"{next(iter(functions))}: {lines[-1]}")
        else:
            for symbol, function in functions.items():
                _object({symbol: function}, target, faults)
            if not faults:
                faults.append(f"{', '.join(functions)}: each can be built, but not all together")
        return b""


def main() -> None:
    """A pickled (target, {symbol: code}) from standard input; a pickled Built to standard output."""
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing else may mix with the answer
    try:
        target, codes = pickle.load(sys.stdin.buffer)
        answer = build(target, codes)
    except Exception:
        answer = Built((), (), (traceback.format_exc(),), "")
    pickle.dump(answer, out)
    out.flush()
