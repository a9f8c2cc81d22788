"""Elementwise kernels in TIR."""

from __future__ import annotations

from qir.backends.kernels.elementwise import ElementwiseCode
from qir.backends.tvm.compat import PrimFunc
from qir.backends.tvm.kernels.requantize.scaling import Scaler
from qir.backends.tvm.kernels.script import ConstantBlock, Script, straight, width_of
from qir.backends.tvm.kernels.writer import Expr, cast


def emit_elementwise(code: ElementwiseCode, symbol: str) -> PrimFunc:
    """`void symbol(x0, ..., constants, y, begin, end)`."""
    w = Script()
    xs = [w.pointer(f"x{i}", dtype) for i, dtype in enumerate(code.dtypes)]
    constants = ConstantBlock(w, code.fields)
    y = w.pointer("y", code.scaling.dtype if code.scaling else "int32")
    steps = code.nest.steps
    lanes = straight(steps, width_of(code.vector_bytes, "int32"))

    def row(offsets: list[Expr], at: Expr, width: int) -> None:
        elements = [
            w.let(cast(w.take(x, o + at * s, s, width), "int32", width))
            for x, o, s in zip(xs, offsets, steps, strict=False)
        ]
        terms = elements
        if code.product:
            zeros = [constants.take(f"zero_{name}", 0, 0, width) for name in "ab"]
            terms = [(elements[0] - zeros[0]) * (elements[1] - zeros[1])]
        value = terms[0]
        if code.scaling:
            param = offsets[-2] + at * steps[-2]
            value = Scaler(w, code.scaling, constants).stored(terms, param, steps[-2], width)
        w.store(y, offsets[-1] + at * steps[-1], value, width)

    with w.units() as unit, w.rows(code.nest, unit) as offsets:
        w.spans(code.nest.row, lanes, lambda at, width: row(offsets, at, width))
    return w.finish(symbol)
