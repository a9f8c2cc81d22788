"""Packs int32 vectors to the stored dtype and stores just their valid lanes."""

from __future__ import annotations

from dataclasses import dataclass

from qir.backends.tvm.kernels.requantize.epilogue import VectorEpilogue
from qir.backends.tvm.kernels.writer import Expr, Writer, shuffle


@dataclass(frozen=True)
class _Piece:
    """`count` elements, from element `lane` of a packed vector to element `offset` of memory, which
    a machine may find when it runs."""

    lane: int
    offset: Expr
    count: int


class Stores:
    """Collects vectors with their element offsets; writes a packed vector whenever one is full."""

    def __init__(self, writer: Writer, buffer: Expr, base: Expr, epilogue: VectorEpilogue) -> None:
        self._writer, self._buffer, self._base = writer, buffer, base
        self._epilogue, self._together = epilogue, epilogue.together
        self._lanes = epilogue.dot.lanes
        self._waiting: list[tuple[object, Expr, int]] = []

    def add(self, value: Expr, offset: Expr, count: int) -> None:
        """The first `count` lanes of `value` belong at `offset`."""
        self._waiting.append((value, offset, count))
        if len(self._waiting) == self._together:
            self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
        values = [value for value, _, _ in self._waiting]
        values += values[-1:] * (self._together - len(values))
        packed = self._writer.let(self._epilogue.pack(values), "packed")
        pieces = [_Piece(i * self._lanes, at, n) for i, (_, at, n) in enumerate(self._waiting)]
        for piece in _merge(pieces):
            store_lanes(
                self._writer,
                self._buffer,
                self._base,
                packed,
                self._lanes * self._together,
                piece.lane,
                piece.offset,
                piece.count,
            )
        self._waiting = []


def store_lanes(
    writer: Writer,
    buffer: Expr,
    base: Expr,
    packed: Expr,
    total: int,
    lane: int,
    offset: Expr,
    count: int,
) -> None:
    """Lanes [lane, lane + count) of a vector of `total`, in powers of two: no other is written."""
    start = 0
    while start < count:
        size = 1 << ((count - start).bit_length() - 1)
        first = lane + start
        part = packed if size == total else shuffle([packed], range(first, first + size))
        writer.store(buffer, base + offset + start, part, size)
        start += size


def _merge(pieces: list[_Piece]) -> list[_Piece]:
    """Neighbours both in the vector and in memory become one."""
    runs = pieces[:1]
    for piece in pieces[1:]:
        last = runs[-1]
        is_known = isinstance(last.offset, int) and isinstance(piece.offset, int)
        if is_known and (last.lane + last.count, last.offset + last.count) == (
            piece.lane,
            piece.offset,
        ):
            runs[-1] = _Piece(last.lane, last.offset, last.count + piece.count)
        else:
            runs.append(piece)
    return runs
