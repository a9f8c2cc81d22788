"""Rows of codes in TIR: the elements of a block, its scale, its codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from qir.backends.kernels.sequence.codes import LoadRows, ProductRows, RowCodesCode
from qir.backends.kernels.sequence.curve import CurveRows
from qir.backends.kernels.sequence.norm import NormRows
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script, straight, width_of
from qir.backends.tvm.kernels.sequence.arithmetic import (
    LONG,
    NearCoder,
    across,
    long,
    row_scale,
)
from qir.backends.tvm.kernels.sequence.curve import Curve
from qir.backends.tvm.kernels.sequence.norm import Norm
from qir.backends.tvm.kernels.writer import Expr, cast, splat

STACK_ALIGNMENT = 16  # bytes, of what TVM lays on the stack


class Elements(Protocol):
    """What gives the elements of a row."""

    def start(self, offsets: Sequence[Expr], constants: ConstantBlock, lanes: int) -> None: ...

    def ahead(self, first: Expr, count: int) -> None: ...

    def element(self, i: Expr, lanes: int) -> Expr: ...


class Load:
    """Elements of memory."""

    def __init__(self, w: Script, source: LoadRows, step: int) -> None:
        self.w, self.step, self.x = w, step, w.pointer("x", source.dtype)

    def start(self, offsets: Sequence[Expr], constants: ConstantBlock, lanes: int) -> None:
        self.at = offsets[0]

    def ahead(self, first: Expr, count: int) -> None:
        pass

    def element(self, i: Expr, lanes: int) -> Expr:
        w = self.w
        return w.let(cast(w.load(self.x, self.at + i * self.step, lanes), "int32", lanes))


class Product:
    """Products of elements, or of a curve over them."""

    def __init__(self, w: Script, source: ProductRows, steps: Sequence[int]) -> None:
        self.w, self.source, self.steps = w, source, steps
        self.a, self.b = w.pointer("a", source.a), w.operand("b", source.b, source.is_constant)
        self.curve = Curve(w, source.curve, steps[0], self.a) if source.curve else None

    def start(self, offsets: Sequence[Expr], constants: ConstantBlock, lanes: int) -> None:
        self.at = offsets
        if self.curve:
            self.curve.start(offsets, constants, lanes)

    def ahead(self, first: Expr, count: int) -> None:
        if self.curve:
            self.curve.ahead(first, count)

    def element(self, i: Expr, lanes: int) -> Expr:
        w, steps = self.w, self.steps
        if self.curve:
            a = self.curve.element(i, lanes)
        else:
            a = cast(w.take(self.a, self.at[0] + i * steps[0], steps[0], lanes), "int32", lanes)
        b = cast(w.take(self.b, self.at[1] + i * steps[1], steps[1], lanes), "int32", lanes)
        return w.let(a * b)


def elements(w: Script, code: RowCodesCode) -> Elements:
    """The elements of a code's source; its pointers are asked for."""
    source, steps = code.source, code.nest.steps
    match source:
        case NormRows():
            return Norm(w, source, code.nest.shape[-1], steps, code.in_pairs)
        case CurveRows():
            return Curve(w, source, steps[0])
        case ProductRows():
            return Product(w, source, steps)
    return Load(w, source, steps[0])


class _RowCodes:
    def __init__(self, code: RowCodesCode) -> None:
        self.code, self.script = code, Script(code.vector_bytes > 0)
        w, steps = self.script, code.nest.steps
        self.size, inputs = code.nest.shape[-1], len(code.source.operands)
        self.elements = elements(w, code)
        self.constants = ConstantBlock(w, code.fields)
        self.y, self.scale = w.pointer("y", "int8"), w.pointer("row_scale", "int32")
        self.wide = w.pointer("wide", code.source.dtype) if code.wide else None
        # Of elements where they wait for their scale.
        self.dtype = "int32" if code.source.dtype.startswith("u") else code.source.dtype
        self.at_y, self.at_scale, self.at_wide = range(inputs, inputs + 3)
        element_steps = [s for k, s in enumerate(steps) if k != self.at_scale]
        result_steps = [steps[0], steps[self.at_y], *steps[self.at_wide :]]
        is_straight = all(s in (0, 1) for s in element_steps) and (
            self.size == 1 or all(result_steps)
        )
        lanes = straight([1, 1], width_of(code.vector_bytes, "int32")) if is_straight else 1
        self.lanes = 1 << (min(lanes, self.size).bit_length() - 1)

    def build(self, symbol: str) -> PrimFunc:
        w, code = self.script, self.code
        if not isinstance(code.source, LoadRows):
            self.near = self._row()
        with w.units() as unit, w.rows(code.nest, unit) as offsets:
            self.offsets = offsets
            self.elements.start(offsets, self.constants, self.lanes)
            scale = row_scale(w, self._greatest())
            w.store(self.scale, offsets[self.at_scale], scale)
            coder = NearCoder(w, self.constants, scale, self.dtype)
            width = 2 * self.lanes if self.lanes > 1 else 1
            w.spans(self.size, width, lambda i, n: self._codes(coder, i, n))
        return w.finish(symbol)

    def _row(self) -> Expr:
        """Room for a row, aligned where vectors are wider than what a stack is aligned to."""
        if self.code.vector_bytes <= STACK_ALIGNMENT:
            return self.script.scratch(self.size, self.dtype)
        return self.script.aligned(self.size, self.dtype, self.code.vector_bytes)

    def _greatest(self) -> Expr:
        """Keeps the elements near; max |x| over them, int64."""
        w, lanes = self.script, self.lanes
        ends = w.registers(2, "int32", lanes)
        ends[0], ends[1] = splat(0, "int32", lanes), splat(0, "int32", lanes)

        def block(i: Expr, width: int) -> None:
            values = w.let(self.elements.element(i, width))
            ends[0], ends[1] = tirx.min(ends[0], values), tirx.max(ends[1], values)
            self._store_elements(i, values)

        self.elements.ahead(0, self.size)
        w.spans(self.size, lanes, block)
        low, high = across(w, tirx.min, ends[0], lanes), across(w, tirx.max, ends[1], lanes)
        return w.let(tirx.max(long(0) - cast(low, LONG, 1), cast(high, LONG, 1)))

    def _store_elements(self, i: Expr, values: Expr) -> None:
        w, code, lanes = self.script, self.code, self.lanes
        if isinstance(code.source, LoadRows):
            return
        w.store(self.near, i, cast(values, self.dtype, lanes), lanes)
        if self.wide is not None:
            at = self.offsets[self.at_wide] + i * code.nest.steps[self.at_wide]
            w.store(self.wide, at, cast(values, code.source.dtype, lanes), lanes)

    def _codes(self, coder: NearCoder, i: Expr, lanes: int) -> None:
        w = self.script
        at = self.offsets[self.at_y] + i * self.code.nest.steps[self.at_y]
        if isinstance(self.elements, Load):
            values = w.load(self.elements.x, self.elements.at + i * self.elements.step, lanes)
            values = cast(values, self.dtype, lanes)
        else:
            values = w.load(self.near, i, lanes)
        w.store(self.y, at, coder.codes(values, lanes), lanes)


def emit_row_codes(code: RowCodesCode, symbol: str) -> PrimFunc:
    """`void symbol(inputs of the source, constants, y, row_scale, [wide,] begin, end)`."""
    return _RowCodes(code).build(symbol)
