"""From a form to stored integers: constants, requantize, lookup, softmax_fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qir.ir.data import Data
from qir.ir.errors import VerifyError
from qir.ir.fixed import Dyadic, Rounding, dyadic_of
from qir.ir.op import Loc, Op, Value
from qir.ir.ops import (
    Constant,
    Dequantize,
    Interpolate,
    Lookup,
    Quantize,
    Requantize,
    ScaleRows,
    SoftmaxFixed,
)
from qir.ir.ops.kinds import Contraction
from qir.ir.ops.quantize import quantized
from qir.ir.ops.sequence.rows import FRACTION, MULT_BITS
from qir.ir.types import I32, Array, Quant
from qir.passes.integer.forms import (
    NOWHERE,
    Fixed,
    Form,
    Lowering,
    Made,
    NoInteger,
    RowSum,
    Stored,
    Sum,
    Table,
    Term,
)  # fmt: skip
from qir.passes.integer.rules import BYTE, WORD, Answer, Kind, Needs, Operand, Rule, rule

SUM_BITS = 30  # mantissas where several products are added in 64 bits
TIE_BITS = 24  # after the point, 22 of them bilinear's: ratios with more are taken never to tie
TERM_STEPS = 1 << 24  # a constant term is held in steps of at most 2**-16 of the result's


@rule(Constant)
class Constants(Rule):
    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        if op.result.type.is_float:
            return Answer(Kind.FIXED, is_known=True)
        return Answer(Kind.STORED, elem=op.result.type.elem, is_known=True)

    def lower(self, op: Constant, at: Lowering, answer: Answer) -> Form:
        if answer.kind is Kind.FIXED:
            return Fixed(op.value.array.astype(np.float64))
        return Stored(at.emit(op, op.names[0], op.loc), is_known=True)


@rule(Dequantize)
class Dequantizes(Rule):
    """dequantize(x) -> x"""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        (x,) = operands
        return Answer(Kind.STORED, x.source, x.elem, x.is_known, WORD)

    def lower(self, op: Dequantize, at: Lowering, answer: Answer) -> Form:
        return at.forms[op.x.name]


@rule(Quantize)
class Quantizes(Rule):
    """quantize(form) -> the stored value, by whatever op stores such a form in one rounding"""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        assert isinstance(op, Quantize)
        (x,) = operands
        if x.kind is not Kind.FIXED and not op.to.is_per_tensor and not _is_of_channels(x, op.to):
            raise NoInteger(
                f"quantized along axis {op.to.axis}: one scale is needed for activations, or one"
                " zero point and sums along the last axis"
            )
        if x.kind is Kind.MADE and op.rounding is Rounding.FLOOR:
            raise NoInteger("rounding = floor of a result that is rounded half up")
        return Answer(Kind.STORED, elem=op.to, is_known=x.kind is Kind.FIXED, bits=WORD)

    def lower(self, op: Quantize, at: Lowering, answer: Answer) -> Form:
        return store(at.forms[op.x.name], op, at)


def _is_of_channels(x: Operand, to: Quant) -> bool:
    """Whether one requantize stores it so: a multiplier for each channel of a sum."""
    is_last = to.axis == len(x.shape) - 1 and to.block is None
    return is_last and to.has_one_zero_point and x.kind in (Kind.SUM, Kind.CLAMPED)


def store(form: Form, op: Quantize, at: Lowering) -> Stored:
    to, loc = op.to, op.loc
    name = op.x.name if op.x.name not in at.stored_names else op.names[0]
    if isinstance(form, Stored) and form.value.type.elem == to:
        return form
    at.stored_names.add(name)
    if isinstance(form, Fixed):
        integers = quantized(form.reals.reshape(op.x.type.shape), to, op.rounding)
        return Stored(at.emit(Constant.of(integers, to), name, loc), is_known=True)
    match form:
        case Stored(value):
            return Stored(requantized(Sum((Term(value),), loc=loc), to, op.rounding, name, at))
        case Sum():
            form = form if form.loc != NOWHERE else replace(form, loc=loc)
            return Stored(requantized(form, to, op.rounding, name, at))
        case Table(source, _, (low, high)):
            clamped = Sum((Term(source),), None, low, high, form.loc)
            return Stored(requantized(clamped, to, op.rounding, name, at))
        case Table():
            table = quantized(form.reals.T, to, op.rounding)
            if table.shape[0] == 1:
                table = table[0]
            is_wide = form.source.type.quant.storage.bits > BYTE
            kind = Interpolate if is_wide else Lookup
            return Stored(at.emit(kind(form.source, Data(table), to), name, form.loc))
        case Made(make, at_loc):
            return Stored(at.emit(make(to), name, at_loc))
        case RowSum():
            return Stored(at.emit(scaled_rows(form, to), name, form.loc))
    raise NoInteger(f"{type(form).__name__} cannot be stored")


def requantized(form: Sum, to: Quant, tie: Rounding, name: str, at: Lowering) -> Value:
    """sum -> requantize with one dyadic number for each term, all of one shift

    Half up, but ties of real numbers are rounded as the quantize says: those of a mean over 2**n
    elements that keeps its scale are many. A contraction's are half up, as its fused kernels.
    Floor is no rule of ties, and is kept always.
    """
    terms = list(form.terms)
    if form.offset is not None:
        terms.append(Term(offset_constant(form.offset, to, f"{name}_offset", form.loc, at)))
    xs = tuple(t.value for t in terms)
    try:
        ratios = [ratio(t, to) for t in terms]
        mult, shift = multipliers(ratios)
    except VerifyError as e:
        raise NoInteger(f"scales of {', '.join(map(str, xs))} against {to}: {e.text}") from e
    low, high = (stored_end(end, to, tie) for end in (form.low, form.high))
    fuses = any(isinstance(at.builder.producer(x), Contraction) for x in xs)
    is_floor = tie is Rounding.FLOOR
    rounding = tie if is_floor or (can_tie(ratios) and not fuses) else Rounding.HALF_UP
    return at.emit(Requantize(xs, to, mult, shift, low, high, rounding), name, form.loc)


def stored_end(real: float, to: Quant, rounding: Rounding) -> int:
    """The end of a clamp in steps; an infinite one is that of the storage."""
    if np.isinf(real):
        return to.storage.min if real < 0 else to.storage.max
    pairs = np.unique([to.scale.array.reshape(-1), to.zero_point.array.reshape(-1)], axis=1)
    each = [Quant.per_tensor(to.storage, scale, int(zero)) for scale, zero in pairs.T]
    ends = {int(quantized(np.asarray(real), one, rounding)) for one in each}
    if len(ends) > 1:
        raise NoInteger(f"clamped to {real:g} along axis {to.axis}, one scale is needed")
    return ends.pop()


def ratio(term: Term, to: Quant) -> Array:
    """Steps of `to` in one step of the term, for each channel or place."""
    scale = term.value.type.quant.scale.array
    axis = term.value.type.quant.axis
    if axis is not None and axis != term.value.type.rank - 1:
        raise NoInteger(f"{term.value} is quantized along axis {axis}, the last is needed")
    steps = np.asarray(term.sign * scale / to.scale.array)
    return steps if term.factor is None else np.asarray(steps * term.factor)


def multipliers(ratios: list[Array]) -> tuple[tuple[Data, ...], Data]:
    if len(ratios) == 1:
        one = Dyadic.of(ratios[0])
        return (one.mult,), one.shift
    every = Dyadic.with_common_shift(*ratios, bits=SUM_BITS)
    return tuple(d.mult for d in every), every[0].shift


def can_tie(ratios: list[Array]) -> bool:
    """Whether a sum of whole numbers times `ratios` can be halfway between two whole numbers: all
    have few bits after the point, and one has some. A quotient of calibrated scales has many.
    """
    can = np.array(True)
    is_integer = np.array(True)
    for r in ratios:
        can = can & (r * 2**TIE_BITS == np.rint(r * 2**TIE_BITS))
        is_integer = is_integer & (r == np.rint(r))
    return bool(np.any(can & ~is_integer))


def offset_constant(reals: Array, to: Quant, name: str, loc: Loc, at: Lowering) -> Value:
    """Constant reals as i32 in steps so fine that their rounding does not show."""
    largest = float(np.abs(reals).max(initial=0))
    step = max(float(to.scale.array.min()) / TERM_STEPS * 256, largest / (1 << 30))
    quant = Quant.per_tensor(I32, float(np.float32(step)), 0)
    integers = np.rint(reals / float(quant.scale.array)).astype(np.int32)
    return at.emit(Constant.of(integers, quant), name, loc)


def scaled_rows(form: RowSum, to: Quant) -> ScaleRows:
    """A sum of rows -> scale_rows, which rounds it, its bias and its residual at once.

    Errors: NoInteger for a residual of steps over 2**22 times those of the result.
    """
    step, bias, residual = float(to.scale.array), None, (0, FRACTION + 1)
    mult, shift = mantissas(form.sums.type.quant.scale.array / step)
    if form.bias is not None:
        bias = Data(np.rint(form.bias / step * (1 << FRACTION)).astype(np.int64))
    if form.residual is not None:
        residual = dyadic_of(float(form.residual.type.quant.scale.array) / step)
    if residual[1] <= FRACTION:
        raise NoInteger(
            f"a residual of type {form.residual and form.residual.type} is in steps over 2**22"
            f" times those of {to}"
        )
    return ScaleRows(
        form.sums, form.scale, form.residual, to, Data(mult), Data(shift), bias, *residual
    )


def mantissas(ratios: Array) -> tuple[Array, Array]:
    """(mult, shift): mult / 2**shift nearest to positive ratios of any size, mult of 24 bits."""
    part, exponent = np.frexp(ratios)
    mult = np.floor(np.ldexp(part, MULT_BITS) + 0.5).astype(np.int64)
    over = mult >> MULT_BITS
    return mult >> over, (MULT_BITS - exponent - over).astype(np.int64)


def fixed_softmax(x: Value, to: Quant) -> SoftmaxFixed:
    """softmax -> softmax_fixed; k is the largest with C * 2**k < 2**31."""
    k = 31 - x.type.shape[-1].bit_length()
    scale = float(x.type.quant.scale.array)
    steps = np.arange(1 << x.type.quant.storage.bits)
    table = np.floor(np.exp(-scale * steps) * 2.0**k + 0.5).astype(np.int32)
    return SoftmaxFixed(x, Data(table), to, Dyadic.of(2.0**-30 / float(to.scale.array)))
