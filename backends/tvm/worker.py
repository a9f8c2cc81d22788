"""Builds kernels in small batches; `main` is a process that does so for another."""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from qir.backends.toolchain.built import LENGTH, Built
from qir.backends.tvm.build import build_object, lower
from qir.backends.tvm.c_expression import NotC
from qir.backends.tvm.c_source import c_function
from qir.backends.tvm.compat import PrimFunc
from qir.backends.tvm.integer_only import integer_only
from qir.backends.tvm.kernels.registry import emit

BATCH = 12
"""Kernels of one object: few, so that one which LLVM never finishes is found among few."""


def build(target: Mapping[str, object], codes: Mapping[str, Any]) -> Built:
    """Objects of these kernels, each proven to be integer-only first."""
    symbols = list(codes)
    objects: list[bytes] = []
    texts: list[tuple[str, str]] = []
    faults: list[str] = []
    for at in range(0, len(symbols), BATCH):
        functions: dict[str, PrimFunc] = {}
        for symbol in symbols[at : at + BATCH]:
            faults += _emit(functions, symbol, codes[symbol])
        if not faults and target["kind"] == "c":
            texts += _texts(functions, target, faults)
        elif not faults:
            objects += _objects(functions, target, faults)
    checked = () if faults else tuple(symbols)
    return Built(tuple(objects), checked, tuple(faults), version("apache-tvm"), tuple(texts))


def _emit(functions: dict[str, PrimFunc], symbol: str, code: Any) -> list[str]:
    """Add the kernel's TIR to `functions`; the faults of it."""
    try:
        functions[symbol] = emit(code, symbol)
    except Exception as e:  # TVM raises many kinds; all mean that this kernel cannot be built
        return [f"{symbol}: TIR cannot be made ({type(e).__name__}: {str(e).splitlines()[0]})"]
    return [f"{symbol}: {text}" for text in integer_only(functions[symbol])]


def _objects(
    functions: Mapping[str, PrimFunc], target: Mapping[str, object], faults: list[str]
) -> list[bytes]:
    """One object, or where LLVM cannot make that, one a function; faults name their kernel."""
    try:
        return [build_object(functions, target)]
    except Exception as e:
        if len(functions) == 1:
            lines = str(e).strip().splitlines() or [type(e).__name__]
            faults.append(f"{next(iter(functions))}: {lines[-1]}")
            return []
    return [c for s, f in functions.items() for c in _objects({s: f}, target, faults)]


def _texts(
    functions: Mapping[str, PrimFunc], target: Mapping[str, object], faults: list[str]
) -> list[tuple[str, str]]:
    """Each kernel as a C function; faults name theirs."""
    found = []
    for variable, function in lower(functions, target).functions.items():
        symbol = variable.name_hint
        try:
            found.append((symbol, c_function(function, symbol)))
        except NotC as e:
            faults.append(f"{symbol}: {e} has no portable C")
    return found


def main() -> None:
    """Answer questions until there are no more: (target, {symbol: code}), each with a Built.

    Messages are pickled, after their length in 8 bytes, on standard input and output.
    """
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing else may mix with the answers
    while head := sys.stdin.buffer.read(LENGTH.size):
        try:
            (size,) = LENGTH.unpack(head)
            target, codes = pickle.loads(sys.stdin.buffer.read(size))
            built = build(target, codes)
        except Exception:
            built = Built((), (), (traceback.format_exc(),), "")
        content = pickle.dumps(built)
        answers.write(LENGTH.pack(len(content)) + content)
        answers.flush()
