"""What a kernel asks of a machine with vectors of int32 lanes."""

from __future__ import annotations

from abc import ABC, abstractmethod

from qir.backends.tvm.compat import tirx
from qir.backends.tvm.kernels.writer import cast_bits, shuffle

Expr = object


class VectorDot(ABC):
    """One dot instruction and the packs of its vector width. Values are TIR expressions of whole vectors."""

    name: str
    lanes: int

    @abstractmethod
    def spread(self, word) -> list:  # type: ignore[no-untyped-def,type-arg]
        """The operand forms of one int32 word of four u8, the same in every lane."""

    @abstractmethod
    def step(self, acc, spread: list, weights: list):  # type: ignore[no-untyped-def,type-arg]
        """acc + the four products of each lane; one weight vector (of int8 bytes) for each form."""

    @abstractmethod
    def pack_words(self, a, b):  # type: ignore[no-untyped-def]
        """int32 a, b -> int16, saturated; 128-bit blocks of a and b alternate."""

    @abstractmethod
    def pack_bytes(self, a, b, dtype: str):  # type: ignore[no-untyped-def]
        """int16 a, b -> u8 or i8, saturated; 128-bit blocks of a and b alternate."""

    def unblock(self, packed):  # type: ignore[no-untyped-def]
        """The result of two packs of four vectors, back in the order the vectors were given."""
        blocks = self.lanes // 4
        words = cast_bits(packed, f"int32x{self.lanes}")
        return cast_bits(
            shuffle([words], [4 * b + v for v in range(4) for b in range(blocks)]), str(packed.ty)
        )

    def unblock_words(self, packed):  # type: ignore[no-untyped-def]
        """The result of one pack of two vectors, back in the order the vectors were given."""
        blocks = self.lanes // 4
        pairs = cast_bits(packed, f"int64x{self.lanes // 2}")
        return cast_bits(
            shuffle([pairs], [2 * b + v for v in range(2) for b in range(blocks)]), str(packed.ty)
        )


def broadcast(word, lanes: int, dtype: str):  # type: ignore[no-untyped-def]
    return cast_bits(tirx.Broadcast(word, lanes), f"{dtype}x{4 * lanes}")
