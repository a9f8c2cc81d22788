"""The proofs of a program as entries of the manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from qir.ir.graph import Graph
from qir.ir.ranges import Intermediate, prove_no_overflow
from qir.ir.verify import verify

TIGHTEST = 10  # intermediates written out; the rest are counted


def prove(graph: Graph) -> tuple[Intermediate, ...]:
    """The proven bounds of each op: nothing overflows.

    Errors: VerifyError when a rule of the language or one of the proofs fails.
    """
    verify(graph)
    return prove_no_overflow(graph)


def proofs(
    graphs: Iterable[Graph], intermediates: Sequence[Intermediate], kernels: Sequence[str]
) -> dict[str, Any]:
    """Integer-only and no overflow; `kernels`: those whose TIR was searched for floats."""
    return {
        "integer_only": {"graph_ops": sum(len(g.ops) for g in graphs), "kernels": sorted(kernels)},
        "no_overflow": {
            "claims": len(intermediates),
            "tightest": [_entry(one) for one in sorted(intermediates, key=_room)[:TIGHTEST]],
        },
    }


def _room(one: Intermediate) -> float:
    """Unused bits: 0 when the limit is reached."""
    low, high = one.extreme.bounds.ends
    kind = one.extreme.kind
    return kind.bits - kind.is_signed - max(high, -low - 1, 0).bit_length()


def _entry(one: Intermediate) -> dict[str, Any]:
    low, high = one.extreme.bounds.ends
    return {
        "op": str(one.op),
        "what": one.extreme.what,
        "low": low,
        "high": high,
        "bits": one.extreme.kind.bits,
        "unused_bits": _room(one),
    }
