"""Vectors of int32 lanes, as kernels use them; a machine with one lane is scalar."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from qir.backends.kernels.dots import DOTS, Dot
from qir.backends.tvm.compat import tirx
from qir.backends.tvm.kernels.writer import Expr, cast, cast_bits, kind, shuffle


class VectorDot(ABC):
    """One dot instruction of a machine; values are whole vectors."""

    name: str

    @property
    def machine(self) -> Dot:
        return DOTS[self.name]

    @property
    def lanes(self) -> int:
        return self.machine.lanes

    def spreads(self, chunks: Sequence[Expr], count: int, dtype: str) -> list[list[Expr]]:
        """The operand forms of each of `count` steps, from what was loaded for them.

        A chunk (one for each of the dot's rows) is `count` * depth bytes of X: an integer where
        they are one, four or eight, else a vector; `dtype` is that of X as read.
        """
        assert count == 1
        return [self.spread(chunks[0])]

    def spread(self, word: Expr) -> list[Expr]:
        """The operand forms of one int32 word of four bytes, the same in every lane."""
        lanes = self.lanes
        return self.widen(cast_bits(tirx.Broadcast(word, lanes), f"uint8x{4 * lanes}"))

    def widen(self, words: Expr) -> list[Expr]:
        """The operand forms of a vector of words of four bytes."""
        return [words]

    def widen_weights(self, weights: Expr) -> list[Expr]:
        """The operands of `step` from a vector of int8 weights, where a machine `widens`."""
        return [weights]

    @abstractmethod
    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        """acc + the products of each lane; one weight vector (of int8 bytes) for each form."""

    def steps(self, acc: list[Expr], spread: list[Expr], weights: list[Expr]) -> list[Expr]:
        """`step` for the accumulators that the dot's rows share."""
        return [self.step(acc[0], spread, weights)]

    def multiplier(self, mult: Expr) -> Expr:
        """u8 multipliers, one for each lane, as `scaled` takes them."""
        return cast(mult, "int32", self.lanes)

    def scaled(self, acc: Expr, total: Expr, mult: Expr) -> Expr:
        """acc + total * mult: a group's part of the sum."""
        return acc + total * mult

    def paired(self, spread: list[Expr], weights: list[Expr]) -> list[Expr]:
        """For each form the int16 sums of two products of a step, where a machine `chains`."""
        raise NotImplementedError(self.name)

    def widened(self, acc: Expr, pairs: list[Expr], mult: Expr) -> Expr:
        """acc + the sums of `paired` times the multiplier of each lane."""
        raise NotImplementedError(self.name)

    def summed(self, total: Expr, chunks: Sequence[Expr]) -> Expr:
        """total + the bytes of X, where a machine has a `weight_offset`."""
        raise NotImplementedError(self.name)

    def corrected(self, acc: Expr, total: Expr, larger: int) -> Expr:
        """acc less the excess of weights that are `larger`, by the total of X."""
        raise NotImplementedError(self.name)

    def parted(self, acc: list[Expr]) -> list[Expr]:
        """Shared accumulators, each row's lanes in a vector of their own."""
        return acc


class PackingDot(VectorDot):
    """A dot of a machine with saturating packs."""

    @abstractmethod
    def pack_words(self, a: Expr, b: Expr) -> Expr:
        """int32 a, b -> int16, saturated; blocks of a and b alternate."""

    @abstractmethod
    def pack_bytes(self, a: Expr, b: Expr, dtype: str) -> Expr:
        """int16 a, b -> u8 or i8, saturated; blocks of a and b alternate."""

    def unblock(self, packed: Expr) -> Expr:
        """The result of two packs of four vectors, back in the order the vectors were given."""
        return self._unblock(packed, "int32", 4)

    def unblock_words(self, packed: Expr) -> Expr:
        """The result of one pack of two vectors, back in the order the vectors were given."""
        return self._unblock(packed, "int64", 2)

    def _unblock(self, packed: Expr, unit: str, vectors: int) -> Expr:
        blocks = self.machine.vector_bytes // self.machine.block
        if blocks == 1:
            return packed
        units = cast_bits(packed, kind(unit, vectors * blocks))
        order = [vectors * b + v for v in range(vectors) for b in range(blocks)]
        return cast_bits(shuffle([units], order), str(packed.ty))


class HalvesDot(PackingDot):
    """A dot of a machine that multiplies 32 bits by the halves of 32 bits, in 32-bit lanes."""

    @abstractmethod
    def high_product(self, a: Expr, b: Expr) -> Expr:
        """(a * low half of b, unsigned) >> 16 in every lane."""

    @abstractmethod
    def low_product(self, a: Expr, b: Expr) -> Expr:
        """The low 32 bits of a * low half of b, unsigned."""

    @abstractmethod
    def added_high(self, acc: Expr, a: Expr, b: Expr) -> Expr:
        """(acc + a * high half of b, signed) >> 15, the sum in more than 32 bits."""
