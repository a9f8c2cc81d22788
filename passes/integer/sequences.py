"""Ops of sequences: rows with scales at run time, norms, rotations, embeddings, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from qir.ir.bounds import Bounds
from qir.ir.data import Data
from qir.ir.fixed import Dyadic, one_shift
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Attention,
    AttentionFixed,
    Embed,
    Hadamard,
    LayerNorm,
    NormFixed,
    Positions,
    QuantizeRowBlocks,
    QuantizeRows,
    RmsNorm,
    Rope,
    RopeFixed,
    RoundRowBlocks,
    RoundRows,
    RowScale,
    Take,
    Within,
)
from qir.ir.ops.sequence.attention import SCORE_BITS
from qir.ir.ops.sequence.norm import UNIT_BITS
from qir.ir.types import I16, I32, Int, Quant
from qir.passes.integer.forms import Fixed, Form, Lowering, Made, NoInteger, Rows, Stored, Sum, Term
from qir.passes.integer.rules import (
    BYTE,
    LONG,
    WORD,
    Answer,
    Kind,
    Needs,
    Operand,
    Rule,
    rule,
    stored_operands,
)
from qir.passes.integer.storing import mantissas

NORM_BITS = 24  # of what a norm reads
MOST_FRACTION = 16  # bits that a norm keeps below a step of its operand
LONGEST_SHIFT = 46  # of a norm: an offset of 2**15 steps times 2**46 fits 64 bits
STEPS_OF_ONE = (1 << 15) - 1  # of cosines and sines


@rule(RoundRows)
class RowScales(Rule):
    """round_rows(x) -> rows(quantize_rows(x, row_scale(x))), of stored x or an exact product"""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        (x,) = operands
        if x.kind is Kind.SUM and x.is_exact:
            return Answer(Kind.ROWS, bits=LONG)
        return stored_operands(operands, LONG) or Answer(Kind.ROWS, bits=LONG)

    def lower(self, op: Op, at: Lowering, answer: Answer) -> Form:
        assert isinstance(op, RoundRows)
        x, name = rows_of(op.x, at), op.names[0]
        scale = at.emit(RowScale(x, op.block), at.free(f"{name}_scale"), op.loc)
        codes = at.emit(QuantizeRows(x, scale, op.block), at.free(f"{name}_codes"), op.loc)
        return Rows(codes, scale, op.block)


def rows_of(x: Value, at: Lowering) -> Value:
    """The integers of x: stored, or an exact product."""
    form = at.forms[x.name]
    return form.terms[0].value if isinstance(form, Sum) else at.stored(x, LONG)


@rule(RoundRowBlocks)
class RowBlocks(RowScales):
    """round_row_blocks(x) -> rows(quantize_row_blocks(x, row_scale(x)))"""

    def lower(self, op: Op, at: Lowering, answer: Answer) -> Form:
        assert isinstance(op, RoundRowBlocks)
        x, name, width = rows_of(op.x, at), op.names[0], op.x.type.shape[-1]
        scale = at.emit(RowScale(x, width), at.free(f"{name}_scale"), op.loc)
        codes = QuantizeRowBlocks(x, scale, op.block, op.bits, op.spread)
        return Rows(at.emit(codes, at.free(f"{name}_codes"), op.loc), scale, width)


@rule(RmsNorm, LayerNorm)
class Norms(Rule):
    """norm(x) -> norm_fixed on stored x, with the most fraction bits whose proof holds"""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        x, *parameters = operands
        for p in parameters:
            if not p.is_known:
                raise NoInteger(f"operand {p.value} is computed, a constant is needed")
        return stored_operands([x], NORM_BITS) or Answer(Kind.MADE, bits=NORM_BITS)

    def lower(self, op: RmsNorm | LayerNorm, at: Lowering, answer: Answer) -> Form:
        return Made(partial(fixed_norm, op, at.stored(op.x, NORM_BITS), at), op.loc)


def fixed_norm(op: RmsNorm | LayerNorm, x: Value, at: Lowering, to: Quant) -> NormFixed:
    """The norm with as many fraction bits as the proof of overflow leaves room for."""
    size, step = x.type.shape[-1], float(to.scale.array)
    gain = np.ones(()) if op.gain is None else at.reals(op.gain)
    offset = at.reals(op.offset) if isinstance(op, LayerNorm) and op.offset is not None else None
    ratio = np.sqrt(size) * gain * 2.0**-UNIT_BITS / step
    mult, shift = one_shift(ratio)
    if shift > LONGEST_SHIFT:
        mult, shift = np.rint(np.ldexp(ratio, LONGEST_SHIFT)).astype(np.int64), LONGEST_SHIFT
    steps = None
    if offset is not None:
        steps = Data(np.rint(np.ldexp(offset / step, shift)).astype(np.int64))
    most = MOST_FRACTION if isinstance(op, LayerNorm) else 0
    for fraction in range(most, -1, -1):
        unit = float(x.type.quant.scale.array) / 2**fraction
        epsilon = max(1, round(op.epsilon * size / unit**2))
        mean = Dyadic.of(2.0**fraction / size) if isinstance(op, LayerNorm) else None
        norm = NormFixed(x, to, Data(mult), steps, shift, epsilon, fraction, mean)
        if epsilon < 1 << 61 and all(e.fits for e in norm.extremes(Bounds.of_type(x.type))):
            return norm
    raise NoInteger(f"rows of {size} elements of {x.type.elem}: sums of their squares overflow")


@rule(Rope)
class Rotations(Rule):
    """rope(x) -> rope_fixed on stored x, cosines and sines in steps of 1 / (2**15 - 1)"""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        x, *tables = operands
        for table in tables:
            if not table.is_known:
                raise NoInteger(f"operand {table.value} is computed, a constant is needed")
        return stored_operands([x], WORD) or Answer(Kind.MADE, bits=WORD)

    def lower(self, op: Rope, at: Lowering, answer: Answer) -> Form:
        x = at.stored(op.x, WORD)
        unit = Quant.per_tensor(I16, 1 / STEPS_OF_ONE, 0)
        cos, sin = (at.constant(table, unit) for table in (op.cos, op.sin))

        def make(to: Quant) -> Op:
            ratio = Dyadic.of(float(x.type.quant.scale.array * unit.scale.array / to.scale.array))
            return RopeFixed(x, cos, sin, op.size, op.interleaved, to, ratio)

        return Made(make, op.loc)


@rule(Hadamard)
class Hadamards(Rule):
    """hadamard(x) -> sum(hadamard on stored x), exact"""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        assert isinstance(op, Hadamard)
        bits = I32.bits - op.size.bit_length()  # size * 2**(bits - 1) is below 2**31
        return stored_operands(operands, bits) or Answer(Kind.SUM, bits=bits, is_exact=True)

    def lower(self, op: Hadamard, at: Lowering, answer: Answer) -> Form:
        sums = at.accumulator(replace(op, x=at.stored(op.x, answer.bits)), op)
        return Sum((Term(sums),), loc=op.loc)


@rule(Take)
class Embeddings(Rule):
    """take(table, index) -> embed of stored rows, or take of the table in the result's steps; of a
    table of plain integers the same take
    """

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        table, index = operands
        if not index.is_stored or not isinstance(index.value.type.elem, Int):
            raise NoInteger(f"index {index.value} is {index.kind.value}, integers are needed")
        if not table.is_known:
            raise NoInteger(f"table {table.value} is computed, a constant is needed")
        if table.is_stored and isinstance(table.elem, Int):
            return Answer(Kind.STORED, elem=table.elem)
        return Answer(Kind.MADE)

    def lower(self, op: Take, at: Lowering, answer: Answer) -> Form:
        index, form = at.stored(op.index, LONG), at.forms[op.table.name]
        if answer.kind is Kind.STORED:
            return Stored(at.emit(Take(at.stored(op.table, LONG), index), op.names[0], op.loc))
        if isinstance(form, Stored):
            return Made(partial(embedded, form.value, index), op.loc)
        return Made(lambda to: Take(at.constant(op.table, to), index), op.loc)


@rule(Positions, Within)
class Ids(Rule):
    """What is made of ids stays as it is."""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        (x,) = operands
        if not x.is_stored:
            raise NoInteger(f"operand {x.value} is {x.kind.value}, integers are needed")
        return Answer(Kind.STORED, elem=op.results[0].type.elem)

    def lower(self, op: Positions | Within, at: Lowering, answer: Answer) -> Form:
        copy = op.on(at.stored(op.operands[0], LONG))
        return Stored(at.emit(copy, op.names[0], op.loc))


def embedded(table: Value, index: Value, to: Quant) -> Embed:
    """Rows of a stored table in the steps of the result."""
    ratio = table.type.quant.scale.array / float(to.scale.array)
    mult, shift = one_shift(np.broadcast_to(ratio, table.type.shape[:1]))
    return Embed(table, index, to, Data(mult), shift)


@rule(Attention)
class Attentions(Rule):
    """attention(rows, k, v) -> sum(attention_fixed on codes of q, k and v stored in 8 bits)"""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        assert isinstance(op, Attention)
        q, k, v, *rest = operands
        if q.kind is not Kind.ROWS:
            raise NoInteger(f"operand {q.value} is {q.kind.value}, rows are needed (place-rows)")
        floats = [i for i, o in enumerate(rest, 3) if o.value.type.is_float]
        places = tuple(i for i in (1, 2) if not operands[i].is_stored)
        places += tuple(i for i in floats if not (operands[i].is_stored or operands[i].is_known))
        if places:
            return Needs(places)
        stored_operands([k, v], BYTE)
        stored_operands([operands[i] for i in floats if operands[i].is_stored], WORD)
        return Answer(Kind.SUM, bits=BYTE, is_exact=True)

    def lower(self, op: Attention, at: Lowering, answer: Answer) -> Form:
        rows = at.forms[op.q.name]
        if not isinstance(rows, Rows) or rows.block * op.heads != op.q.type.shape[-1]:
            raise NoInteger(f"operand {op.q}: a scale for each head is needed (place-rows)")
        k, v = at.stored(op.k), at.stored(op.v)
        bias = None if op.bias is None else self._bias(op.bias, at)
        visible, start = (None if x is None else at.stored(x, LONG) for x in (op.visible, op.start))
        unit = math.log2(math.e) * (1 << SCORE_BITS)
        scale = float(rows.codes.type.quant.scale.array * k.type.quant.scale.array)
        mult, shift = (int(x) for x in mantissas(np.asarray(scale * op.scale * unit)))
        ratio = None if bias is None else Dyadic.of(float(bias.type.quant.scale.array) * unit)
        attention = AttentionFixed(
            rows.codes, rows.scale, k, v, bias, visible, start, op.heads, op.kv_heads, op.causal,
            op.window, mult, shift, ratio,
        )  # fmt: skip
        return Sum((Term(at.accumulator(attention, op)),), loc=op.loc)

    @staticmethod
    def _bias(bias: Value, at: Lowering) -> Value:
        """The integers of a bias; of a constant one in 16 bits, where it is not too low to see."""
        form = at.forms[bias.name]
        if not isinstance(form, Fixed):
            return at.stored(bias, WORD)
        reals = np.maximum(form.reals, LEAST_BIAS)
        top = float(np.abs(reals).max(initial=0)) or 1.0
        return at.constant(bias, Quant.per_tensor(I16, float(np.float32(top / I16.max)), 0))


LEAST_BIAS = -64.0  # hides a key: of a weight of e**-64 no bit is left
