"""Contractions as plain scalar loops in TIR, for any machine LLVM or a C compiler knows."""

from __future__ import annotations

import numpy as np

from qir.backends.kernels.plain import PlainCode
from qir.backends.kernels.plane import Plane
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import Script
from qir.backends.tvm.kernels.writer import Expr


class _Plain:
    def __init__(self, code: PlainCode) -> None:
        self.code, self.spec, self.writer = code, code.spec, Script()
        w, spec = self.writer, code.spec
        self.x = w.pointer("x", spec.x.dtype)
        self.constants = w.pointer("constants", "int8")
        self.fields = w.view(self.constants, "int64")
        self.residual = w.pointer("residual", spec.residual.dtype) if spec.residual else None
        self.y = w.pointer("y", spec.y.dtype)
        self.begin, self.end = w.scalar("begin"), w.scalar("end")

    def build(self, symbol: str) -> PrimFunc:
        w, y = self.writer, self.spec.y
        with w.loop(self.begin, self.end, "unit") as unit:
            height = tirx.IntImm("int32", y.height)
            image, row = w.let(tirx.truncdiv(unit, height)), w.let(tirx.truncmod(unit, height))
            with w.steps(y.width, "column") as column, w.steps(y.channels, "o") as o:
                acc = self._sum(image, row, column, o)
                residual = None
                if self.spec.residual is not None:
                    residual = w.load(
                        self.residual, self._at(self.spec.residual, image, row, column) + o
                    )
                value = self._stored(acc, o, residual)
                w.store(self.y, self._at(y, image, row, column) + o, value)
        return w.finish(symbol)

    @staticmethod
    def _at(plane: Plane, image: Expr, row: Expr, column: Expr) -> Expr:
        return image * plane.pitch_n + row * plane.pitch_y + column * plane.pitch_x

    def _sum(self, image: Expr, row: Expr, column: Expr, o: Expr) -> Expr:
        spec, w = self.spec, self.writer
        _, ky, kx, inner = spec.weight_shape
        share = spec.y.channels // spec.groups
        group = tirx.truncdiv(o, tirx.IntImm("int32", share)) if spec.groups > 1 else 0
        corner = self._at(spec.x, image, row * spec.strides[0], column * spec.strides[1])
        corner = w.let(corner + group * inner)
        acc = w.registers(1, "int32", 1)
        acc[0] = tirx.const(0, "int32")
        with w.steps(ky, "ky") as a, w.steps(kx, "kx") as b, w.steps(inner, "i") as i:
            x = (
                corner
                + a * (spec.dilations[0] * spec.x.pitch_y)
                + b * (spec.dilations[1] * spec.x.pitch_x)
                + i
            )
            weight = o * (ky * kx * inner) + a * (kx * inner) + b * inner + i
            product = w.load(self.x, x).astype("int32") * w.load(self.constants, weight).astype(
                "int32"
            )
            acc[0] = acc[0] + product
        return acc[0]

    def _stored(self, acc: Expr, o: Expr, residual: Expr) -> Expr:
        code = self.code.epilogue
        if code.raw:
            return acc + self._field("bias", o).astype("int32")
        wide = acc.astype("int64") * self._field("mult", o) + self._field("add", o)
        if residual is not None:
            wide = wide + residual.astype("int64") * self._field("residual", o)
        shifted = tirx.shift_right(wide, self._field("shift", o)) + tirx.const(
            code.zero_point, "int64"
        )
        low, high = (tirx.const(v, "int64") for v in (code.low, code.high))
        return tirx.min(tirx.max(self.writer.let(shifted), low), high).astype(self.spec.y.dtype)

    def _field(self, name: str, o: Expr) -> Expr:
        at = self.code.records_at // 8 + self.spec.y.channels * self.code.fields.index(name)
        return self.writer.load(self.fields, at + o)


def emit_plain(code: PlainCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, [residual,] y, begin, end)`; one unit is one row of y."""
    assert int(np.prod(code.spec.y.shape)) < 2**31
    return _Plain(code).build(symbol)
