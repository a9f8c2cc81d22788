"""How machines add the products of attention: interleaved keys and values, codes as they are read.

A word is int32: `depth` codes of a query, or probabilities of adjacent keys, as a dot reads them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from qir.backends.kernels.sequence.attention import AttentionDots
from qir.backends.tvm.compat import tirx
from qir.backends.tvm.kernels.writer import Expr, Writer, call, cast, cast_bits, shuffle, splat

BLOCK = 16  # bytes within which x86 interleaves


class Interleaved(ABC):
    """`stored`, `chances`: the dtypes of codes and probabilities; `raised`, `raised_values`: what
    is added to every code and every value.
    """

    stored: str
    chances: str
    raised = 0
    raised_values = 0

    def __init__(self, w: Writer, machine: AttentionDots) -> None:
        self.w, self.machine = w, machine

    @property
    def forms(self) -> int:
        """Weight vectors of four channels of keys."""
        return 4 // self.machine.depth

    @abstractmethod
    def codes(self, q: Expr, lanes: int) -> Expr:
        """Lanes of i8 as they are stored."""

    @abstractmethod
    def keys(self, words: Expr) -> list[Expr]:
        """The weights of four channels, a word of int32 for each key: one vector per form."""

    @abstractmethod
    def values(self, rows: Sequence[Expr]) -> list[Expr]:
        """The weights of a piece of the values of `depth` adjacent keys, in the order of
        `order`."""

    @property
    @abstractmethod
    def order(self) -> list[int]:
        """The channel of each lane of the sums over `values`."""

    @abstractmethod
    def step(self, acc: Expr, word: Expr, weights: Expr) -> Expr:
        """acc + the products of a word of codes with the weights of each lane."""

    def value_step(self, acc: Expr, word: Expr, weights: Expr) -> Expr:
        """acc + the products of a word of probabilities with the weights of each lane."""
        return self.step(acc, word, weights)


class Bytes(Interleaved):
    """vpdpbusd on codes that are 128 larger; four keys' values in a word."""

    stored = chances = "uint8"
    raised = 128

    def codes(self, q: Expr, lanes: int) -> Expr:
        raw = cast_bits(q, f"uint8x{lanes}" if lanes > 1 else "uint8")
        return tirx.bitwise_xor(raw, splat(0x80, "uint8", lanes))

    def keys(self, words: Expr) -> list[Expr]:
        return [cast_bits(words, f"int8x{4 * self.machine.lanes}")]

    def values(self, rows: Sequence[Expr]) -> list[Expr]:
        size = self.machine.piece
        bytes_ = [cast_bits(r, f"int8x{size}") for r in rows]
        pairs = [zipped(self.w, bytes_[i], bytes_[i + 2], "int8", size) for i in (0, 1)]
        vectors = []
        for a, b in zip(*pairs, strict=True):
            vectors += zipped(self.w, a, b, "int8", size)
        together = 4 * self.machine.lanes // size  # that fill a vector of weights
        if together == 1:
            return vectors
        groups = [vectors[i : i + together] for i in range(0, len(vectors), together)]
        return [self.w.let(shuffle(group, range(together * size))) for group in groups]

    @property
    def order(self) -> list[int]:
        blocks = self.machine.piece // BLOCK
        return [BLOCK * g + 4 * u + i for u in range(4) for g in range(blocks) for i in range(4)]

    def step(self, acc: Expr, word: Expr, weights: Expr) -> Expr:
        lanes = self.machine.lanes
        x = cast_bits(tirx.Broadcast(word, lanes), f"uint8x{4 * lanes}")
        return call("llvm.x86.avx512.vpdpbusd.512", f"int32x{lanes}", acc, x, weights)


class WordProducts(Interleaved):
    """vpmaddwd on codes and probabilities in 16 bits; two keys' values in a word."""

    stored = chances = "int16"

    def codes(self, q: Expr, lanes: int) -> Expr:
        return cast(q, "int16", lanes)

    def keys(self, words: Expr) -> list[Expr]:
        lanes = self.machine.lanes
        halves = cast_bits(words, f"int8x{4 * lanes}")
        picks = [[4 * n + 2 * f + i for n in range(lanes) for i in (0, 1)] for f in (0, 1)]
        return [cast(shuffle([halves], p), "int16", 2 * lanes) for p in picks]

    def values(self, rows: Sequence[Expr]) -> list[Expr]:
        size = self.machine.piece
        pairs = zipped(self.w, rows[0], rows[1], "int8", size)
        return [self.w.let(cast(v, "int16", size)) for v in pairs]

    @property
    def order(self) -> list[int]:
        return list(range(self.machine.piece))

    def step(self, acc: Expr, word: Expr, weights: Expr) -> Expr:
        lanes = self.machine.lanes
        x = cast_bits(tirx.Broadcast(word, lanes), f"int16x{2 * lanes}")
        return acc + call("llvm.x86.avx2.pmadd.wd", f"int32x{lanes}", x, weights)


class SignedBytes(Bytes):
    """sdot on codes; udot on probabilities and on values that are 128 larger."""

    stored = "int8"
    raised = 0
    raised_values = 128

    def codes(self, q: Expr, lanes: int) -> Expr:
        return q

    def values(self, rows: Sequence[Expr]) -> list[Expr]:
        mask = splat(-128, "int8", 4 * self.machine.lanes)
        return [self.w.let(tirx.bitwise_xor(v, mask)) for v in super().values(rows)]

    def step(self, acc: Expr, word: Expr, weights: Expr) -> Expr:
        return self._dot("sdot", "int8x16", acc, word, weights)

    def value_step(self, acc: Expr, word: Expr, weights: Expr) -> Expr:
        return self._dot("udot", "uint8x16", acc, word, weights)

    @staticmethod
    def _dot(name: str, dtype: str, acc: Expr, word: Expr, weights: Expr) -> Expr:
        x = cast_bits(tirx.Broadcast(word, 4), dtype)
        name = f"llvm.aarch64.neon.{name}.v4i32.v16i8"
        return call(name, "int32x4", acc, x, cast_bits(weights, dtype))


def zipped(w: Writer, a: Expr, b: Expr, dtype: str, lanes: int) -> list[Expr]:
    """The first and the second half of each block of a and b, in turns."""
    per = BLOCK if dtype == "int8" else BLOCK // 4
    per = min(per, lanes)
    vectors = []
    for half in (0, 1):
        picks = []
        for g in range(lanes // per):
            first = g * per + half * per // 2
            for i in range(per // 2):
                picks += [first + i, lanes + first + i]
        vectors.append(w.let(shuffle([a, b], picks)))
    return vectors


def transposed(w: Writer, rows: list[Expr], lanes: int, count: int) -> list[Expr]:
    """`lanes` rows of `count` words each -> `count` vectors, word t of every row in each."""
    vectors = [[row] for row in rows]  # of each row, in vectors of at most `lanes` words
    width = count
    while len(vectors) > 1:
        half = len(vectors) // 2
        pairs = zip(vectors[:half], vectors[half:], strict=True)
        vectors = [_in_turns(w, a, b, width, lanes) for a, b in pairs]
        width = min(2 * width, lanes)
    return vectors[0]


def _in_turns(w: Writer, a: list[Expr], b: list[Expr], width: int, lanes: int) -> list[Expr]:
    """Words of a and b in turns."""
    vectors = []
    for x, y in zip(a, b, strict=True):
        picks = [p for i in range(width) for p in (i, width + i)]
        if 2 * width <= lanes:
            vectors.append(w.let(shuffle([x, y], picks)))
        else:
            vectors += [w.let(shuffle([x, y], picks[k * width : (k + 1) * width])) for k in (0, 1)]
    return vectors


KINDS: dict[str, type[Interleaved]] = {
    "vnni512": Bytes,
    "vnni512_halves": Bytes,
    "words256": WordProducts,
    "sdot": SignedBytes,
}
