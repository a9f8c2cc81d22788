"""Contractions as plain scalar loops in TIR, for any machine LLVM or a C compiler knows."""

from __future__ import annotations

from qir.backends.kernels.contraction.plain import FIELDS, PlainCode
from qir.backends.kernels.kernel import CONSTANTS, WEIGHTS
from qir.backends.kernels.plane import BYTES, Plane
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import Script
from qir.backends.tvm.kernels.writer import Expr, Registers


class _Plain:
    def __init__(self, code: PlainCode) -> None:
        self.code, self.spec, self.writer = code, code.spec, Script()
        w, spec = self.writer, code.spec
        self.x = w.pointer("x", spec.x.dtype)
        self.weights = w.pointer(WEIGHTS, "int8" if code.bits == 8 else "uint8")
        constants = w.pointer(CONSTANTS, "int8")  # bytes: C on big-endian machines turns the views
        kinds = {FIELDS[name] for name in code.fields}
        self.views = {d: w.view(constants, d) for d in sorted(kinds)}
        if code.block:
            self.mults = w.view(constants, "uint8")
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
        with w.steps(ky, "ky") as a, w.steps(kx, "kx") as b:
            x = (
                corner
                + a * (spec.dilations[0] * spec.x.pitch_y)
                + b * (spec.dilations[1] * spec.x.pitch_x)
            )
            tap = o * (ky * kx) + a * kx + b
            if self.code.block:
                self._add_parts(acc, x, tap)
            else:
                self._add(acc, x, tap * inner, inner)
        return acc[0]

    def _add(self, acc: Registers, x: Expr, first: Expr, count: Expr) -> None:
        """acc += the sum of `count` products, from weight `first` on."""
        w = self.writer
        with w.steps(count, "i") if isinstance(count, int) else w.loop(0, count, "i") as i:
            weight = streamed(w, self.weights, first + i, self.code.bits)
            product = w.load(self.x, x + i).astype("int32") * weight
            acc[0] = acc[0] + product

    def _add_parts(self, acc: Registers, x: Expr, tap: Expr) -> None:
        """acc += for each group of input channels, its sum times its multiplier."""
        w, code, inner = self.writer, self.code, self.spec.weight_shape[3]
        with w.steps(code.parts, "part") as part:
            channel = part * code.block
            count = min(code.block, inner)
            if inner % count:
                count = w.let(tirx.min(_int(count), inner - channel))
            share = w.registers(1, "int32", 1)
            share[0] = tirx.const(0, "int32")
            self._add(share, x + channel, tap * inner + channel, count)
            mult = w.load(self.mults, tap * code.parts + part)
            acc[0] = acc[0] + share[0] * mult.astype("int32")

    def _stored(self, acc: Expr, o: Expr, residual: Expr) -> Expr:
        code = self.code.epilogue
        if code.raw:
            return acc + self._field("bias", o) if code.biased else acc
        wide = acc.astype("int64") * self._long("mult", o) + self._long("add", o)
        if residual is not None:
            wide = wide + residual.astype("int64") * self._long("residual", o)
        shifted = tirx.shift_right(wide, self._long("shift", o)) + tirx.const(
            code.zero_point, "int64"
        )
        low, high = (tirx.const(v, "int64") for v in (code.low, code.high))
        return tirx.min(tirx.max(self.writer.let(shifted), low), high).astype(self.spec.y.dtype)

    def _field(self, name: str, o: Expr) -> Expr:
        dtype = FIELDS[name]
        return self.writer.load(self.views[dtype], self.code.field_at(name) // BYTES[dtype] + o)

    def _long(self, name: str, o: Expr) -> Expr:
        return self._field(name, o).astype("int64")


def streamed(w: Script, weights: Expr, index: Expr, bits: int) -> Expr:
    """The weight at `index`, int32; of fewer than 8 bits, out of the one or two bytes it is in."""
    if bits == 8:
        return w.load(weights, index).astype("int32")
    at = w.let(index * bits)
    first = tirx.shift_right(at, _int(3))
    word = w.load(weights, first).astype("int32")
    if 8 % bits:
        word = word + w.load(weights, first + 1).astype("int32") * 256
    shifted = tirx.shift_right(word, tirx.bitwise_and(at, _int(7)))
    return tirx.bitwise_and(shifted, _int((1 << bits) - 1)) - (1 << (bits - 1))


def _int(value: Expr) -> Expr:
    return tirx.IntImm("int32", value) if isinstance(value, int) else value


def emit_plain(code: PlainCode, symbol: str) -> PrimFunc:
    """`void symbol(x, weights, constants, [residual,] y, begin, end)`; one unit is one row of y."""
    return _Plain(code).build(symbol)
