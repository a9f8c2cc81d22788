"""Products of two activations in TIR: columns of b in vectors, several rows of a at once."""

from __future__ import annotations

from qir.backends.kernels.matmul import MatMulCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.requantize.scaling import Scaler
from qir.backends.tvm.kernels.script import ConstantBlock, Script, straight, width_of
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, cast

ROWS = 4  # of a, that one load of b serves


class _MatMul:
    def __init__(self, code: MatMulCode) -> None:
        self.code, self.script = code, Script()
        w = self.script
        self.a, self.b = w.pointer("a", code.dtypes[0]), w.pointer("b", code.dtypes[1])
        self.constants = ConstantBlock(w, code.fields)
        self.y = w.pointer("y", code.y)

    def build(self, symbol: str) -> PrimFunc:
        w, code = self.script, self.code
        m, n = code.nest.shape[-2:]
        steps = code.nest.steps
        rows = min(ROWS, m)
        lanes = straight(steps[1:], width_of(code.vector_bytes, "int32")) if steps[1] == 1 else 1
        blocks = -(-m // rows)
        with (
            w.units() as unit,
            w.rows(code.nest, unit, inner=2) as offsets,
            w.steps(blocks, "m") as block,
        ):
            first = w.let(tirx.min(block * rows, m - rows)) if m % rows else block * rows
            row_offsets = [
                o + first * s[-2] for o, s in zip(offsets, code.nest.strides, strict=True)
            ]
            row_offsets = [w.let(o) for o in row_offsets]
            w.spans(n, lanes, lambda at, width: self._tile(row_offsets, rows, at, width))
        return w.finish(symbol)

    def _tile(self, offsets: list[Expr], rows: int, at: Expr, width: int) -> None:
        w, code = self.script, self.code
        k, a_step, b_step = code.depth
        down, (_, b_side, p_side, y_side) = [s[-2] for s in code.nest.strides], code.nest.steps
        zero_a, zero_b = (w.let(self.constants.take(f"zero_{name}")) for name in "ab")
        acc = w.registers(rows, "int32", width)
        for i in range(rows):
            acc[i] = spread(tirx.const(0, "int32"), width)
        with w.steps(k, "k") as depth:
            right = cast(
                w.load(self.b, offsets[1] + at * b_side + depth * b_step, width), "int32", width
            )
            right = w.let(right - spread(zero_b, width))
            for i in range(rows):
                left = (
                    cast(w.load(self.a, offsets[0] + i * down[0] + depth * a_step), "int32", 1)
                    - zero_a
                )
                acc[i] = acc[i] + spread(left, width) * right
        for i in range(rows):
            value = w.let(acc[i])
            if code.scaling:
                scaler = Scaler(w, code.scaling, self.constants)
                value = scaler.stored(
                    [value], offsets[2] + i * down[2] + at * p_side, p_side, width
                )
            w.store(self.y, offsets[3] + i * down[3] + at * y_side, value, width)


def emit_matmul(code: MatMulCode, symbol: str) -> PrimFunc:
    """`void symbol(a, b, constants, y, begin, end)`."""
    return _MatMul(code).build(symbol)
