"""Sums of vectors of elements, in 16 bits where that is proven not to overflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qir.backends.tvm.compat import tirx
from qir.backends.tvm.kernels.script import Script
from qir.backends.tvm.kernels.writer import Expr, cast, shuffle, splat

HELD = 128  # sums of so many bytes, signed or not, fit 16 bits with a sign


class LaneSums:
    """`width` sums of `start`, in 32 bits, and up to `count` elements each."""

    def __init__(self, script: Script, dtype: str, count: int, width: int, start: Expr) -> None:
        bytes_only = dtype in ("uint8", "int8") and width > 1
        self.kind = "int16" if bytes_only and count <= HELD else "int32"
        self._script, self._width = script, width
        self._acc = script.registers(1, self.kind, width)
        self._start = start
        self._acc[0] = spread(start, width) if self.kind == "int32" else splat(0, "int16", width)

    def add(self, elements: Expr) -> None:
        self._acc[0] = self._acc[0] + cast(elements, self.kind, self._width)

    def each(self, lanes: int, body: Callable[[Expr, int, int], None]) -> None:
        """body(sums as int32, offset, how many) for vectors of at most `lanes`."""
        width = min(lanes, self._width)
        total = self._script.let(self._acc[0])
        for offset in range(0, self._width, width):
            part = (
                total if width == self._width else shuffle([total], range(offset, offset + width))
            )
            if self.kind == "int16":
                part = cast(part, "int32", width) + spread(self._start, width)
            body(self._script.let(part), offset, width)


def spread(value: Expr, width: int) -> Expr:
    """A scalar in every lane."""
    return value if width == 1 else tirx.Broadcast(value, width)


def dot(index: Sequence[Expr], strides: Sequence[int]) -> Expr:
    """The offset of an element; axes without a stride cost nothing."""
    return sum((i * s for i, s in zip(index, strides, strict=False) if s), 0)
