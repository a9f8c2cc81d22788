"""Pipelines: the order of passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import qir.passes.quantize.rescue_groups
import qir.passes.rounding
import qir.passes.transform.blocks.caches
import qir.passes.transform.blocks.sort_channels
import qir.passes.transform.depth.group_layers
import qir.passes.transform.depth.skip_layers
import qir.passes.transform.outliers.inject_outliers
import qir.passes.transform.outliers.rotate_products  # noqa: F401  (placed by requests)
from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.bits.choice import Bits
from qir.passes.calibrate.ranges import Ranges
from qir.passes.canonicalize.affine_to_conv import AffineToConv
from qir.passes.canonicalize.drop_identities import DropIdentities
from qir.passes.canonicalize.fold_affine import FoldAffine
from qir.passes.canonicalize.fold_batch_norm import FoldBatchNorm
from qir.passes.canonicalize.fold_constants import FoldConstants
from qir.passes.canonicalize.fold_pad import FoldPad
from qir.passes.canonicalize.layout.keep_tokens import KeepTokens
from qir.passes.canonicalize.layout.merge_moves import MergeMoves
from qir.passes.canonicalize.layout.move_dequantize import MoveDequantize
from qir.passes.canonicalize.layout.move_quantize import MoveQuantize
from qir.passes.canonicalize.layout.move_transposes import MoveTransposes
from qir.passes.canonicalize.layout.permute_columns import PermuteColumns
from qir.passes.canonicalize.lower_conv_transpose import LowerConvTranspose
from qir.passes.canonicalize.matmul_to_linear import MatmulToLinear
from qir.passes.canonicalize.merge_equal_ops import MergeEqualOps
from qir.passes.canonicalize.pool_to_reduce import PoolToReduce
from qir.passes.canonicalize.recognize.attention import RecognizeAttention
from qir.passes.canonicalize.recognize.clip import RecognizeClip
from qir.passes.canonicalize.recognize.gelu import RecognizeGelu
from qir.passes.canonicalize.recognize.layer_norm import RecognizeLayerNorm
from qir.passes.canonicalize.recognize.leaky_relu import RecognizeLeakyRelu
from qir.passes.canonicalize.recognize.rms_norm import RecognizeRmsNorm
from qir.passes.canonicalize.recognize.rope import RecognizeRope
from qir.passes.canonicalize.recognize.sigmoid import RecognizeSigmoid
from qir.passes.canonicalize.recognize.softmax import RecognizeSoftmax
from qir.passes.canonicalize.recognize.swish import RecognizeSwish
from qir.passes.canonicalize.remove_dead_code import RemoveDeadCode
from qir.passes.infra.manager import Pass, Pipeline
from qir.passes.integer.to_integer import ToInteger
from qir.passes.quantize.correct_bias import CorrectBias, CorrectChannels
from qir.passes.quantize.place_rows import is_wide
from qir.passes.quantize.quantize_graph import QuantizeGraph
from qir.passes.transform.channel_ranges import ReachOnDemand
from qir.passes.transform.equalize_attention import EqualizeAttention
from qir.passes.transform.equalize_channels import EqualizeChannels
from qir.passes.transform.equalize_norms import EqualizeNorms
from qir.passes.transform.move_concats import MoveConcats
from qir.passes.transform.outliers.methods import Outliers, outlier_passes
from qir.passes.transform.repeat_masked import RepeatMasked
from qir.passes.transform.split_linear import SplitLinear

EIGHT = Bits(8, 8)

CANONICALIZE = Pipeline(
    "canonicalize",
    "canonical",
    (
        # one graph, whatever the model's author or exporter wrote
        FoldConstants(),
        DropIdentities(),
        MergeEqualOps(),
        MatmulToLinear(),
        KeepTokens(),
        # layers of transformers, however their heads are split: before layouts are assigned
        RecognizeRope(),
        RecognizeAttention(),
        # channels last: before the patterns below, which look along the last axis
        MoveTransposes(),
        MergeMoves(),
        DropIdentities(),
        FoldBatchNorm(),
        # names for functions that were written out: before their constants are folded away
        RecognizeClip(),
        RecognizeSigmoid(),
        RecognizeSwish(),
        RecognizeGelu(),
        RecognizeLayerNorm(),
        RecognizeRmsNorm(),
        RecognizeSoftmax(),
        RecognizeLeakyRelu(),
        # fewer ops around the layers that do the work
        LowerConvTranspose(),
        FoldPad(),
        PoolToReduce(),
        FoldAffine(),
        # what the passes above left over
        MoveTransposes(),
        MoveDequantize(),
        MoveQuantize(),
        DropIdentities(),
        MergeMoves(),
        DropIdentities(),
        PermuteColumns(),
        AffineToConv(),
        FoldConstants(),
        MergeEqualOps(),
        RemoveDeadCode(),
    ),
    rounds=8,  # two do for most models: the second finds nothing to do
)

TO_INTEGER = Pipeline("to-integer", "integer", (ToInteger(),))


def lower(graph: Graph | None = None) -> tuple[Pass, ...]:
    """Passes that write out ops in others that have integer forms: beside ops of sequences linear
    ops are one for each value.
    """
    return (SplitLinear(),) if graph is not None and is_wide(graph) else ()


def transform(
    graph: Graph | None = None,
    sample: tuple[Array, ...] = (),
    outliers: Outliers | None = Outliers.AUTO,
    weight_bits: int = 8,
    is_static: bool = False,
    row_bits: int = 8,
) -> Pipeline:
    """Float passes that make a canonical graph kinder to quantization, before calibration: those of
    `lower`, then those that look at data, on `sample`: one array for each input, any number of
    samples.

    Of a graph with ops of sequences `outliers` are treated; the rest: how its linear ops are
    quantized: bits of weights, whether their inputs have calibrated scales, else bits of rows.
    """
    reach = ReachOnDemand(graph, sample) if graph is not None and sample else {}
    concats = MoveConcats(sample, reach)
    passes: list[Pass] = [
        *lower(graph),
        RepeatMasked(reach),
        concats,
        EqualizeChannels(halves=reach),
    ]
    if graph is not None and is_wide(graph):
        passes += outlier_passes(outliers, sample, weight_bits, is_static, row_bits)
        passes += [EqualizeNorms(sample), EqualizeAttention(sample)]
    return Pipeline("transform", "transformed", tuple(passes))


def quantize(
    ranges: Ranges | None,
    bits: Bits = EIGHT,
    layers: Mapping[str, Bits] | None = None,
    reference: Graph | None = None,
    sample: tuple[Array, ...] = (),
    rounding: Sequence[Pass] = (),
    rows: Sequence[Pass] = (),
) -> Pipeline:
    """Rows with scales of their own, where passes for that are given; pairs on the edges of a float
    graph, by its calibrated ranges; then weights rounded again where passes for that are given;
    then, when the float graph and a sample are given, biases that make up for the rounded weights,
    and under 8 bits scales too. For layers of rows no reference is given: a correction is judged by
    running all that follows its layer, which takes minutes for a language model.

    `bits` hold for all layers but those of which `layers` says others.
    """
    pairs = QuantizeGraph(
        ranges,
        bits.weight,
        bits.activation,
        group=bits.group,
        floating=bits.floating,
        bits=layers or {},
        sample=sample,
    )
    widths = [w for b in (bits, *pairs.bits.values()) for w in (b.weight, b.activation)]
    is_floating = any(b.floating for b in (bits, *pairs.bits.values()))  # scales are exponents
    has_few = min(widths) < EIGHT.weight and not is_floating
    correct = CorrectChannels if has_few else CorrectBias
    return Pipeline("quantize", "simulated", (*rows, pairs, *rounding, correct(reference, sample)))
