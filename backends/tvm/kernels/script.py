"""Building blocks of loop kernels: nests, rows cut into vectors, casts, constants by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import CONSTANTS
from qir.backends.kernels.nest import Nest
from qir.backends.kernels.plane import BYTES
from qir.backends.tvm.compat import tirx
from qir.backends.tvm.kernels.writer import Expr, Writer


class Script(Writer):
    """A function with one loop over its units of work. `counts_zeros`: those that lead a number, in
    an instruction.
    """

    def __init__(self, counts_zeros: bool = False) -> None:
        super().__init__()
        self.counts_zeros = counts_zeros

    def operand(self, name: str, dtype: str, is_constant: bool) -> Expr:
        """A pointer to a tensor; of a constant, to bytes that are viewed as elements: C on
        big-endian machines turns the views.
        """
        if not is_constant:
            return self.pointer(name, dtype)
        return self.view(self.pointer(name, "int8"), dtype)

    def scratch(self, count: int, dtype: str) -> Expr:
        """A buffer on the stack."""
        buffer = tirx.decl_buffer((count,), dtype, "scratch")
        self._emit(tirx.AllocBuffer(buffer))
        return buffer

    @contextmanager
    def when(self, condition: Expr) -> Iterator[None]:
        """A block that runs only if the condition holds."""
        self._blocks.append([])
        yield
        body = self._blocks.pop()
        self._emit(
            tirx.IfThenElse(condition, body[0] if len(body) == 1 else tirx.SeqStmt(body), None)
        )

    @contextmanager
    def units(self) -> Iterator[Expr]:
        """The loop over [begin, end): the last two parameters."""
        begin, end = self.scalar("begin"), self.scalar("end")
        with self.loop(begin, end, "unit") as unit:
            yield unit

    @contextmanager
    def rows(self, nest: Nest, unit: Expr, inner: int = 1) -> Iterator[list[Expr]]:
        """The nest's loops without the last `inner` axes: the offset of each operand."""
        rest, piece = self.split(unit, nest.pieces)
        indices = []
        for size in reversed(nest.shape[: nest.cut]):
            rest, index = self.split(rest, size)
            indices.append(index)
        indices.reverse()
        start = (
            piece
            if isinstance(piece, int) and piece == 0
            else self.let(tirx.min(piece * nest.piece, nest.shape[nest.cut] - nest.piece))
        )
        offsets = [
            self.let(
                sum((i * s for i, s in zip(indices, steps, strict=False) if s), 0)
                + start * steps[nest.cut]
            )
            if steps[nest.cut] or any(steps[: nest.cut])
            else 0
            for steps in nest.strides
        ]
        loops = [(nest.piece, nest.cut)] + [
            (nest.shape[a], a) for a in range(nest.cut + 1, len(nest.shape))
        ]
        with self._nested(
            loops[: len(loops) - inner] if inner else loops, nest.strides, offsets
        ) as inner_offsets:
            yield inner_offsets

    @contextmanager
    def _nested(
        self,
        loops: Sequence[tuple[int, int]],
        strides: Sequence[Sequence[int]],
        offsets: list[Expr],
    ) -> Iterator[list[Expr]]:
        if not loops:
            yield offsets
            return
        size, axis = loops[0]
        with self.steps(size, "i") as i:
            inner_offsets = [
                o if not s[axis] else self.let(o + i * s[axis])
                for o, s in zip(offsets, strides, strict=True)
            ]
            with self._nested(loops[1:], strides, inner_offsets) as inner:
                yield inner

    def spans(self, length: int, lanes: int, body: Callable[[Expr, int], None]) -> None:
        """body(at, width) for vectors that cover 0 .. length; the last moves back until it fits."""
        width = 1 << (min(lanes, length).bit_length() - 1)
        with self.steps(length // width, "at") as i:
            body(i * width, width)
        if length % width:
            body(length - width, width)

    def take(self, buffer: Expr, at: Expr, step: int, lanes: int) -> Expr:
        """Elements at, at + step, ...; a step of 0 or 1 makes vectors."""
        if lanes == 1 or step == 1:
            return self.load(buffer, at, lanes)
        assert step == 0
        return tirx.Broadcast(self.load(buffer, at), lanes)


class ConstantBlock:
    """A block by the names of its fields."""

    def __init__(self, script: Script, fields: Fields, argument: str = CONSTANTS) -> None:
        self._script, self._fields = script, fields
        pointer = script.pointer(argument, "int8")
        self._views = {
            d: script.view(pointer, d) for d in sorted({d for _, d, _ in fields.entries})
        }

    def take(self, name: str, at: Expr = 0, step: int = 0, lanes: int = 1) -> Expr:
        """Elements of a field, from index `at`."""
        dtype = self._fields.dtype(name)
        return self._script.take(self._views[dtype], self.index(name) + at, step, lanes)

    def index(self, name: str) -> int:
        """That of the first element of a field in its view."""
        return self._fields.at(name) // BYTES[self._fields.dtype(name)]

    def view(self, dtype: str) -> Expr:
        """The block as elements of this dtype."""
        return self._views[dtype]


def width_of(vector_bytes: int, dtype: str) -> int:
    """Lanes of one vector of this dtype; 1 where kernels are plain loops."""
    return max(1, vector_bytes // BYTES[dtype])


def straight(steps: Sequence[int], lanes: int) -> int:
    """Lanes that operands with these inner strides allow: vectors need strides of 0 or 1."""
    return lanes if all(s in (0, 1) for s in steps) and steps[-1] == 1 else 1
