"""Contractions of 16-bit integers in TIR: outputs in vectors, several pixels at once."""

from __future__ import annotations

from qir.backends.kernels.contraction.wide import WideCode
from qir.backends.kernels.kernel import WEIGHTS
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.pool import place
from qir.backends.tvm.kernels.requantize.scaling import Scaler
from qir.backends.tvm.kernels.script import ConstantBlock, Script, width_of
from qir.backends.tvm.kernels.sums import dot
from qir.backends.tvm.kernels.writer import Expr, cast, splat

PIXELS = 4  # of a row, that one load of weights serves


class _Wide:
    def __init__(self, code: WideCode) -> None:
        self.code, self.script = code, Script()
        w = self.script
        self.x = w.pointer("x", code.x.dtype)
        self.weights = ConstantBlock(w, code.weights, WEIGHTS)
        self.constants = ConstantBlock(w, code.fields)
        self.residual = w.pointer("residual", code.residual.dtype) if code.residual else None
        self.y = w.pointer("y", code.y.dtype)

    def build(self, symbol: str) -> PrimFunc:
        w, code = self.script, self.code
        pixels = min(PIXELS, code.y.width)
        inputs, outputs = code.share
        lanes = width_of(code.vector_bytes, "int32") if code.params[3] in (0, 1) else 1
        depthwise = inputs == outputs == 1
        with w.units() as unit:
            image, row = w.split(unit, code.y.height)
            with w.steps(-(-code.y.width // pixels), "column") as block:
                first = w.let(tirx.min(block * pixels, code.y.width - pixels))
                at = (image, row, first)
                if depthwise:
                    w.spans(code.y.channels, lanes, lambda o, n: self._tile(at, pixels, o, o, 1, n))
                else:
                    self._groups(at, pixels, lanes)
        return w.finish(symbol)

    def _groups(self, at: tuple[Expr, ...], pixels: int, lanes: int) -> None:
        inputs, outputs = self.code.share
        with self.script.steps(self.code.groups, "group") as g:
            self.script.spans(
                outputs,
                lanes,
                lambda o, n: self._tile(at, pixels, g * outputs + o, g * inputs, 0, n),
            )

    def _tile(
        self, at: tuple[Expr, ...], pixels: int, o: Expr, c: Expr, side: int, width: int
    ) -> None:
        """`pixels` x `width` outputs from channel o on; x from channel c, and on if `side`."""
        w, code = self.script, self.code
        image, row, first = at
        sy, sx = code.strides
        corner = w.let(place(code.x, image, row * sy, first * sx) + c)
        acc = w.registers(pixels, "int32", width)
        for p in range(pixels):
            acc[p] = splat(0, "int32", width)
        (ky, kx), (dy, dx), inputs = code.kernel, code.dilations, code.share[0]
        with w.steps(ky, "ky") as a, w.steps(kx, "kx") as b, w.steps(inputs, "i") as i:
            tap = w.let(((a * kx + b) * inputs + i) * code.y.channels + o)
            weight = w.let(cast(self.weights.take("weights", tap, 1, width), "int32", width))
            from_x = w.let(corner + a * (dy * code.x.pitch_y) + b * (dx * code.x.pitch_x) + i)
            for p in range(pixels):
                x = w.take(self.x, from_x + p * sx * code.x.pitch_x, side, width)
                acc[p] = acc[p] + cast(x, "int32", width) * weight
        bias = w.let(self.constants.take("bias", o, 1, width))
        for p in range(pixels):
            self._store((image, row, first + p), o, acc[p] + bias, width)

    def _store(self, at: tuple[Expr, ...], o: Expr, value: Expr, width: int) -> None:
        w, code = self.script, self.code
        if code.scaling:
            terms = [w.let(value)]
            if code.residual:
                elements = w.load(self.residual, place(code.residual, *at) + o, width)
                terms.append(w.let(cast(elements, "int32", width)))
            param = dot((*at, o), code.params)
            value = Scaler(w, code.scaling, self.constants).stored(
                terms, param, code.params[3], width
            )
        w.store(self.y, place(code.y, *at) + o, value, width)


def emit_wide(code: WideCode, symbol: str) -> PrimFunc:
    """`void symbol(x, weights, constants, [residual,] y, begin, end)`."""
    return _Wide(code).build(symbol)
