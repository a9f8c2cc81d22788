"""Where a processor or its system says which features it has: words and bits, read in C.

The words of each architecture are those that `ask` fills in
backends/c/templates/entry/ask_*.c, in its order.
"""

from __future__ import annotations

from collections.abc import Mapping

from qir.ir.errors import LowerError
from qir.ir.target import Target

Bits = tuple[tuple[int, int], ...]
"""(word, bit) of each bit that must be 1."""


def _in(word: int, **bits: int) -> dict[str, Bits]:
    return {name.replace("__", "."): ((word, bit),) for name, bit in bits.items()}


WORDS: Mapping[str, int] = {"x86_64": 6, "aarch64": 2}
"""Words that are asked for, by architecture."""

BITS: Mapping[str, Mapping[str, Bits]] = {
    "x86_64": {
        **_in(0, ssse3=9, fma=12, sse4__1=19, sse4__2=20, movbe=22, popcnt=23, f16c=29),
        "avx": ((0, 28), (5, 1), (5, 2)),  # and the system keeps the registers: xmm, ymm
        **_in(1, bmi=3, avx2=5, bmi2=8, avx512dq=17, avx512ifma=21, avx512cd=28, avx512bw=30),
        **_in(1, avx512vl=31),
        "avx512f": ((1, 16), (5, 5), (5, 6), (5, 7)),  # and the masks, both halves of zmm
        **_in(2, avx512vbmi=1, gfni=8, avx512vnni=11),
        **_in(3, avxvnni=4),
        **_in(4, lzcnt=5),
    },
    "aarch64": {
        **_in(0, neon=1, dotprod=20),
        **_in(1, i8mm=13),
    },
}
"""LLVM's name of each feature -> its bits, by architecture."""


def required_bits(target: Target) -> tuple[int, ...]:
    """The bits that each word must have for `target`, as masks.

    Errors: LowerError for a feature, or an architecture, that nothing here says how to ask for.
    """
    bits = BITS.get(target.architecture)
    if bits is None:
        architectures = ", ".join(BITS)
        raise LowerError(
            f"target {target}: features of {target.architecture} cannot be asked for, one of"
            f" {architectures} is needed"
        )
    if unknown := [f for f in target.features if f not in bits]:
        raise LowerError(
            f"target {target}: no bit known for {', '.join(unknown)}, one is needed to choose"
            " a variant"
        )
    masks = [0] * WORDS[target.architecture]
    for feature in target.features:
        for word, bit in bits[feature]:
            masks[word] |= 1 << bit
    return tuple(masks)
