"""Quantize/dequantize pairs on the edges of a float graph, and weights as stored integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from qir.ir.errors import PassError, listed
from qir.ir.fixed import Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.op import Loc, Op, Value
from qir.ir.ops import Constant, Dequantize, Quantize, RoundRowBlocks, ScaleGroups, Take
from qir.ir.ops.kinds import Layer
from qir.ir.rows import CODE_TOP, code_top
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import U8, Array, Quant
from qir.passes.bits.choice import Bits
from qir.passes.calibrate.ranges import Ranges
from qir.passes.infra.manager import Claim, Miss, Pass, Record, changes, register
from qir.passes.integer.rules import BYTE, Sharing
from qir.passes.quantize.channel_scales import channel_quants
from qir.passes.quantize.joins import in_u8, split_concats
from qir.passes.quantize.place_rows import ROWS, is_wide
from qir.passes.quantize.placement import QuantizationPlan, plan_quantization
from qir.passes.quantize.repeats import with_shared_ranges
from qir.passes.quantize.scales import (
    choose_quants,
    constant,
    group_range,
    is_of_zeros,
    of_zeros,
    quant_of_range,
)
from qir.passes.quantize.tables import is_stored_by_row, is_tied
from qir.passes.quantize.weights import (
    IntegerWeights,
    quantize_weights,
    requantized_weights,
    storage_of,
)
from qir.passes.quantize.widths import Widths, activation_widths


@register
@dataclass(frozen=True)
class QuantizeGraph(Pass):
    """x -> dequantize(quantize(x)) on every edge that integers need; w -> dequantize(constant).

    Existing pairs keep their scales and zero points. Activations: asymmetric, one scale, 0 exact.
    Weights: symmetric, a scale for each output channel unless `per_channel` is false, or for each
    `group` of so many input channels, with `floating` a power of two; `clip_weights` holds for
    those of less than 8 bits. `bits` says other widths for single layers, by their names. Outputs
    whose channels are of unlike range on `sample` have a scale for each.
    Changes: values are rounded to their scales and clamped to the calibrated ranges.
    Errors: PassError that names the edges without a pair when `ranges` is not given, and the
    names in `bits` that are no layers.
    Source: Jacob et al. 2018, arXiv:1712.05877; placement for one rounding per add: this project.
    """

    name: ClassVar[str] = "quantize-graph"
    claim: ClassVar[Claim] = changes("values are rounded and clamped to their quantization")
    stages: ClassVar[tuple[str, ...]] = (*FLOAT_STAGES, "simulated")
    leaves: ClassVar[str] = "simulated"

    ranges: Ranges | None = None
    weight_bits: int = 8
    activation_bits: int = 8
    per_channel: bool = True
    clip_weights: bool = False
    group: int = 0
    floating: bool = False
    bits: Mapping[str, Bits] = field(default_factory=dict, hash=False)
    sample: tuple[Array, ...] = ()

    def run(self, graph: Graph, record: Record) -> Graph:
        plan = plan_quantization(graph, self._split_concats(graph, record))
        _check_names(graph, self.bits)
        for width in (self.activation_bits, *(b.activation for b in self.bits.values())):
            storage_of(width, is_signed=False)
        self._check_activations(graph, plan)
        widths = activation_widths(plan, self.bits, self.activation_bits)
        ranges = self.ranges and with_shared_ranges(graph, self.ranges)
        quants = {**choose_quants(plan, ranges, widths), **self._of_channels(plan, record)}
        emission = Emission(graph, plan, quants, widths, replace(self, ranges=ranges))
        new = emission.run()
        record.rewrites = emission.count
        return new.at_stage("simulated")

    def _check_activations(self, graph: Graph, plan: QuantizationPlan) -> None:
        """Errors: PassError for activations of other than 8 bits, or in blocks, without rows: in a
        wide graph without rows in front of any layer, or of a layer that is named.
        """
        layers = {op.names[0]: op for op in graph.ops if isinstance(op, Layer)}
        rows = {n for n, op in layers.items() if isinstance(graph.producers.get(op.x.name), ROWS)}
        requests = {"": Bits(BYTE, self.activation_bits)} if not rows else {}
        requests |= {name: bits for name, bits in self.bits.items() if name not in rows}
        for name, bits in requests.items():
            if bits.block or (plan.is_wide and bits.activation != BYTE):
                subject = f"layer {name}" if name else "layers"
                raise PassError(
                    f"quantize-graph: activations of {bits}, {subject} without rows: 8 bits and no"
                    " blocks are needed",
                    hint="scales=\"token\" gives linear ops rows; (4, 8) or 'w4g32a8' store weights"
                    " in fewer bits",
                )

    def _split_concats(self, graph: Graph, record: Record) -> set[str]:
        """Concats whose operands keep scales of their own."""
        if self.ranges is None or is_wide(graph):
            return set()
        misses: list[Miss] = []
        concats = split_concats(graph, self.ranges, misses)
        record.misses += misses
        record.warnings += [f"concat %{miss.at}: {miss.why}" for miss in misses]
        return concats

    def _of_channels(self, plan: QuantizationPlan, record: Record) -> Mapping[str, Quant]:
        """Of outputs whose channels have scales of their own."""
        if self.ranges is None or plan.is_wide:
            return {}
        misses: list[Miss] = []
        quants = channel_quants(plan, self.ranges, self.sample, misses)
        record.misses += misses
        record.warnings += [f"output %{miss.at}: {miss.why}" for miss in misses]
        return quants


def _check_names(graph: Graph, bits: Mapping[str, Bits]) -> None:
    layers = {op.names[0] for op in graph.ops if isinstance(op, Layer)}
    unknown = [f"{name}: {bits[name]}" for name in bits if name not in layers]
    if unknown:
        raise PassError(
            listed(f"quantize-graph: bits for {len(unknown)} that are no layers", unknown),
            hint="the layers are named by the results of convolutions and linear ops",
        )


@dataclass
class Emission:
    """One walk that writes the new graph: ops on dequantized operands, pairs behind results."""

    graph: Graph
    plan: QuantizationPlan
    quants: Mapping[str, Quant]
    widths: Widths
    options: QuantizeGraph
    values: dict[str, Value] = field(default_factory=dict)
    reals: dict[str, Value] = field(default_factory=dict)  # before their pairs
    quant: dict[str, Quant] = field(default_factory=dict)  # of each stored value, by its old name
    narrow: dict[tuple[str, int], Value] = field(default_factory=dict)
    tables: dict[str, Value] = field(default_factory=dict)  # stored rows of a table or tied weights
    count: int = 0

    def run(self) -> Graph:
        self.builder = Builder(self.graph.name, "simulated")
        for v in self.graph.inputs:
            self.values[v.name] = self.reals[v.name] = self.builder.input(v.name, v.type)
            self._pair(v.name, None)
        for op in self.graph.ops:
            new = op.rebind(lambda v: self.values[v.name])
            if isinstance(op, Constant):
                new = self._clamped(op)
            if isinstance(op, Quantize):
                new = self._of_reals(op, new)
            new = self._with_operands(op, new)
            for old, value in zip(op.results, self.builder.add_all(new), strict=True):
                self.values[old.name] = self.reals[old.name] = value
                self._note(op, old.name)
                self._pair(old.name, op)
        outputs = [self.values[v.name] for v in self.graph.outputs]
        after = self.builder.finish(outputs, self.graph.output_names).with_states_of(self.graph)
        return after.without_dead_code()

    def _with_operands(self, op: Op, new: Op) -> Op:
        """The op on what it reads otherwise than as it is stored."""
        if isinstance(op, Take) and is_stored_by_row(self.graph, op.table):
            new = replace(op, table=self._table(op.table, op.loc), index=new.operands[1])
        if isinstance(op, Layer):
            new = self._with_weights(op, self._with_input(op, new))
        if op.names[0] in self.plan.split_concats:
            new = self._in_one_storage(op, new)
        elif self.plan.answers[op.names[0]].sharing is not Sharing.NONE:
            new = self._with_edges(op, new)
        return new

    def _clamped(self, op: Constant) -> Op:
        """A constant where it matters: an offset of -3e38 would leave no digits to others."""
        ends = self.options.ranges and self.options.ranges.limits.get(op.names[0])
        if not ends or not op.result.type.is_float:
            return op
        elements = op.value.array
        return replace(op, value=Constant.of(np.clip(elements, *ends), op.elem).value)

    def _of_reals(self, op: Quantize, new: Op) -> Op:
        """The model's own quantize of a value with another quantization reads it before its pair:
        one rounding.
        """
        if self.quant.get(op.x.name) in (None, op.to):
            return new
        return replace(op, x=self.reals[op.x.name])

    def _note(self, op: Op, name: str) -> None:
        """Remember how a stored value is quantized."""
        answer, plan = self.plan.answers[op.names[0]], self.plan
        if isinstance(op, Dequantize):
            self.quant[name] = op.x.type.quant
        elif answer.sharing is Sharing.ALIKE and len(op.operands) == 1:
            if op.operands[0].name in self.quant:
                self.quant[name] = self.quant[op.operands[0].name]
        elif name in plan.model_quants:
            self.quant[name] = plan.model_quants[name]
        elif name in self.quants and plan.values[name].is_stored:
            self.quant[name] = self.quants[name]

    def _pair(self, name: str, op: Op | None) -> None:
        if name in self.plan.pairs:
            self.quant[name] = self.quants[name]
            self.values[name] = self._through(name, self.values[name], self.quants[name], op)

    def _through(self, name: str, value: Value, quant: Quant, op: Op | None) -> Value:
        """dequantize(quantize(value))"""
        self.count += 1
        loc = (op.loc if op is not None else Loc()).touched(QuantizeGraph.name)
        pair = Quantize(value, quant, Rounding.HALF_EVEN, loc=loc)
        stored = self.builder.add(pair, f"{name}_q")
        return self.builder.add(Dequantize(stored, loc=loc), f"{name}_dq")

    def _with_edges(self, op: Op, new: Op) -> Op:
        """Requantize operands of another quantization than the result's by a pair of their own."""
        quant = self.quants.get(op.names[0])
        if quant is None:
            return new
        operands = [
            self._through(f"{op.names[0]}_{i}", x, quant, op)
            if (op.names[0], v.name) in self.plan.edges and self.quant.get(v.name) != quant
            else x
            for i, (v, x) in enumerate(zip(op.operands, new.operands, strict=True))
        ]
        return new.on(*operands)

    def _in_one_storage(self, op: Op, new: Op) -> Op:
        """The operands of a concat that keep their scales, in u8 where their storages differ."""
        quants = [self.quant.get(v.name) for v in op.operands]
        if len({quant.storage for quant in quants if quant is not None}) < 2:
            return new
        operands = [
            x if q is None or q.storage == U8 else self._through(f"{v.name}_u8", x, in_u8(q), op)
            for v, x, q in zip(op.operands, new.operands, quants, strict=True)
        ]
        return new.on(*operands)

    def _with_input(self, op: Layer, new: Op) -> Op:
        """Requantize an input that is stored in more bits than this layer reads by another pair."""
        assert isinstance(new, Layer)
        quant = self._read_quant(op)
        if quant is None or quant == self.quant.get(op.x.name):
            return new
        key = op.x.name, quant.storage.bits
        if key not in self.narrow:
            self.narrow[key] = self._through(f"{op.x.name}_u{key[1]}", new.x, quant, op)
        return replace(new, x=self.narrow[key])

    def _read_quant(self, op: Layer) -> Quant | None:
        """The quantization that a layer reads its input in, None where it is not stored."""
        width = self.widths.reads.get(op.names[0])
        if width is None or op.x.name not in self.quants or self.options.ranges is None:
            return self.quant.get(op.x.name)
        low, high = group_range(self.plan, self.options.ranges, [op.x.name], 1 << width)
        quant = quant_of_range(low, high, width)
        if is_of_zeros(quant):
            return of_zeros(quant.storage, float(self.quants[op.x.name].scale.array))
        return quant

    def _with_weights(self, op: Layer, new: Op) -> Op:
        assert isinstance(new, Layer)
        layer_bits = self.options.bits.get(op.names[0], Bits(BYTE, BYTE))
        if is_tied(self.graph, op.w) and (layer_bits.weight, layer_bits.group) == (BYTE, 0):
            return replace(new, w=self._table(op.w, op.loc))
        stored = self._stored_weights(op)
        if stored is None:
            return new
        self.count += 1
        place = op.loc.touched(QuantizeGraph.name)
        w = add_weights(self.builder, stored, op.w.name, place)
        return replace(new, w=self.builder.add(Dequantize(w, loc=place), f"{op.w.name}_dq"))

    def _table(self, table: Value, loc: Loc) -> Value:
        """Rows of 8 bits with a scale for each, one constant for all that read them."""
        if table.name not in self.tables:
            rows = constant(self.graph, table)
            assert rows is not None
            integers = quantize_weights(rows, BYTE, True, False, None, 1.0)
            self.count += 1
            place = loc.touched(QuantizeGraph.name)
            stored = add_weights(self.builder, integers, table.name, place)
            self.tables[table.name] = self.builder.add(
                Dequantize(stored, loc=place), f"{table.name}_dq"
            )
        return self.tables[table.name]

    def _stored_weights(self, op: Layer) -> IntegerWeights | None:
        """Float weights rounded, stored ones as layers take them; None where nothing is to do."""
        w, bias = (constant(self.graph, v) for v in (op.w, op.bias))
        x = self._read_quant(op)
        x_scale, reach = (1.0, 255) if x is None else (float(x.scale.array), 2**x.storage.bits - 1)
        rows = self.graph.producers.get(op.x.name)
        if isinstance(rows, ROWS):  # a bias is added behind the scale of the row
            bias, reach = None, CODE_TOP
        if isinstance(rows, RoundRowBlocks):
            reach = code_top(rows.bits) << rows.spread
        if w is None:
            wrapped = self.graph.producers.get(op.w.name)
            source = wrapped.x.name if isinstance(wrapped, Dequantize) else ""
            stored = self.graph.producers.get(source)
            if not isinstance(stored, Constant):
                return None
            return requantized_weights(stored, bias, x_scale, reach)
        o = self.options
        usual = Bits(o.weight_bits, o.activation_bits, o.group, o.floating)
        bits = o.bits.get(op.names[0], usual)
        clip = o.clip_weights and bits.weight < BYTE
        return quantize_weights(
            w, bits.weight, o.per_channel, clip, bias, x_scale, bits.group, reach, bits.floating
        )


def add_weights(builder: Builder, integers: IntegerWeights, name: str, loc: Loc) -> Value:
    """Append stored weights, times the integers of their groups where they have some."""
    stored = builder.add(replace(integers.weights, loc=loc), f"{name}_q")
    if integers.mult is None:
        return stored
    mult = builder.add(replace(integers.mult, loc=loc), f"{name}_groups")
    return builder.add(ScaleGroups(stored, mult, integers.block, loc=loc), f"{name}_scaled")
