"""The proofs of a program as entries of the manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from qir.ir.graph import Graph
from qir.ir.ranges import Claim, prove_no_overflow
from qir.ir.verify import verify

TIGHTEST = 10  # claims written out; the rest are counted


def prove(graph: Graph) -> tuple[Claim, ...]:
    """The proven bounds of each op: nothing overflows.

    Errors: VerifyError when a rule of the language or one of the proofs fails.
    """
    verify(graph)
    return prove_no_overflow(graph)


def proofs(
    graphs: Iterable[Graph], claims: Sequence[Claim], kernels: Sequence[str]
) -> dict[str, Any]:
    """Integer-only and no overflow; `kernels`: those whose TIR was searched for floats."""
    return {
        "integer_only": {"graph_ops": sum(len(g.ops) for g in graphs), "kernels": sorted(kernels)},
        "no_overflow": {
            "claims": len(claims),
            "tightest": [_claim(c) for c in sorted(claims, key=_room)[:TIGHTEST]],
        },
    }


def _room(claim: Claim) -> float:
    """Unused bits: 0 when the limit is reached."""
    low, high = claim.extreme.bounds.whole
    kind = claim.extreme.kind
    return kind.bits - kind.is_signed - max(high, -low - 1, 0).bit_length()


def _claim(claim: Claim) -> dict[str, Any]:
    low, high = claim.extreme.bounds.whole
    return {
        "op": str(claim.op),
        "what": claim.extreme.what,
        "low": low,
        "high": high,
        "bits": claim.extreme.kind.bits,
        "unused_bits": _room(claim),
    }
