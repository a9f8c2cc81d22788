"""What a kernel asks of a machine with vectors of int32 lanes."""

from __future__ import annotations

from abc import ABC, abstractmethod

from qir.backends.tvm.compat import tirx
from qir.backends.tvm.kernels.writer import Expr, cast_bits, shuffle


class VectorDot(ABC):
    """One dot instruction and the packs of its vector width. Values are whole vectors."""

    name: str
    lanes: int

    def spread(self, word: Expr) -> list[Expr]:
        """The operand forms of one int32 word of four u8, the same in every lane."""
        return self.widen(cast_bits(tirx.Broadcast(word, self.lanes), f"uint8x{4 * self.lanes}"))

    def widen(self, words: Expr) -> list[Expr]:
        """The operand forms of a vector of words of four u8."""
        return [words]

    @abstractmethod
    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        """acc + the four products of each lane; one weight vector (of int8 bytes) for each form."""

    @abstractmethod
    def pack_words(self, a: Expr, b: Expr) -> Expr:
        """int32 a, b -> int16, saturated; 128-bit blocks of a and b alternate."""

    @abstractmethod
    def pack_bytes(self, a: Expr, b: Expr, dtype: str) -> Expr:
        """int16 a, b -> u8 or i8, saturated; 128-bit blocks of a and b alternate."""

    def unblock(self, packed: Expr) -> Expr:
        """The result of two packs of four vectors, back in the order the vectors were given."""
        blocks = self.lanes // 4
        words = cast_bits(packed, f"int32x{self.lanes}")
        return cast_bits(
            shuffle([words], [4 * b + v for v in range(4) for b in range(blocks)]), str(packed.ty)
        )

    def unblock_words(self, packed: Expr) -> Expr:
        """The result of one pack of two vectors, back in the order the vectors were given."""
        blocks = self.lanes // 4
        pairs = cast_bits(packed, f"int64x{self.lanes // 2}")
        return cast_bits(
            shuffle([pairs], [2 * b + v for v in range(2) for b in range(blocks)]), str(packed.ty)
        )
