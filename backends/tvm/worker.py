"""Builds one batch of kernels: here, or as a process of its own that runs `main`."""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from qir.backends.tvm.build import build_object
from qir.backends.tvm.integer_only import integer_only
from qir.backends.tvm.kernels.registry import emit


@dataclass(frozen=True)
class Built:
    """An object, or the faults that prevented it; `checked`: kernels whose TIR holds no float; TVM's version."""

    content: bytes
    checked: tuple[str, ...]
    faults: tuple[str, ...]
    version: str


def build(target: Mapping[str, object], codes: Mapping[str, Any]) -> Built:
    """The object of these kernels, each proven to be integer-only first."""
    functions, checked, faults = {}, [], []
    for symbol, code in codes.items():
        try:
            functions[symbol] = emit(code, symbol)
        except Exception as e:  # TVM raises many kinds; all mean that this kernel cannot be built
            faults.append(
                f"{symbol}: TIR cannot be made ({type(e).__name__}: {str(e).splitlines()[0]})"
            )
            continue
        floats = integer_only(functions[symbol])
        faults += [f"{symbol}: {text}" for text in floats]
        checked.append(symbol)
    if faults:
        return Built(b"", (), tuple(faults), version("apache-tvm"))
    try:
        return Built(build_object(functions, target), tuple(checked), (), version("apache-tvm"))
    except Exception as e:
        lines = str(e).strip().splitlines() or [type(e).__name__]
        return Built(b"", (), (f"{', '.join(functions)}: {lines[-1]}",), version("apache-tvm"))


def main() -> None:
    """A pickled (target, {symbol: code}) from standard input; a pickled Built to standard output."""
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing else may mix with the answer
    try:
        target, codes = pickle.load(sys.stdin.buffer)
        answer = build(target, codes)
    except Exception:
        answer = Built(b"", (), (traceback.format_exc(),), "")
    pickle.dump(answer, out)
    out.flush()
