"""The integer-only proof over TIR: no float type, constant or operation."""

from __future__ import annotations

import tvm_ffi

from qir.backends.tvm.compat import PrimFunc

FLOATS = ("float", "bfloat")


def integer_only(function: PrimFunc) -> list[str]:
    """Every float type, constant and operation found, as text; an empty list is the proof."""
    faults: dict[str, None] = {}

    def visit(node: object) -> None:
        ty = getattr(node, "ty", "")
        kind = str(getattr(ty, "dtype", ty) or getattr(getattr(node, "buffer", None), "dtype", ""))
        if any(name in kind for name in FLOATS) or "FloatImm" in type(node).__name__:
            text = " ".join(str(node).split())
            faults[f"{type(node).__name__} of type {kind}: {text[:80]}"] = None

    tvm_ffi.structural_walk([*function.params, function.body], visit)
    return list(faults)
