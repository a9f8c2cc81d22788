"""From a contraction and its numbers to the code to build, the weights and constants it reads.

A built kernel is `void symbol(x, weights, constants, [residual,] y, int32 begin, int32 end)`: the
units of work [begin, end) of [0, `Kernel.units`). Different units write different elements, except
that tiles and rows which moved back to fit write some once more, with the same values.

Needs: weights and constants at a multiple of the target's alignment; SLACK readable bytes (of any
content) after the last element of x and of the residual. Only the elements of y are written. x,
residual and y must not overlap, but the residual may be y itself: every store depends on its own
load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qir.backends.kernels.contraction.bits import PLANES
from qir.backends.kernels.contraction.dense import Packing, can_hold, plan_dense, runs_of
from qir.backends.kernels.contraction.depthwise import (
    depthwise_kernel,
    plan_depthwise,
    spread_depthwise,
)
from qir.backends.kernels.contraction.join import fold_pixels, join_rows
from qir.backends.kernels.contraction.panels import CHAINED, dense_kernel, longest_chain
from qir.backends.kernels.contraction.plain import PlainCode, plain_kernel
from qir.backends.kernels.contraction.row_tail import plan_row_tail
from qir.backends.kernels.contraction.spec import Array, Constants, ContractionSpec
from qir.backends.kernels.contraction.tiling import Tile
from qir.backends.kernels.dots import DOTS, PLAIN, Dot, Scheme, usable
from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.plane import RANGE
from qir.backends.kernels.requantize.epilogue import plan_epilogue
from qir.ir.ops.sequence.rows import FRACTION

SLACK = 128
"""Bytes that must be readable after the end of every activation buffer."""


def prepare(
    spec: ContractionSpec,
    const: Constants,
    features: frozenset[str],
    dot: str | None = None,
    tile: Tile | None = None,
) -> Kernel:
    """The best kernel of a CPU with these LLVM features; `dot` and `tile` overrule the choice.

    Errors: ValueError where the contract of `contraction` is broken: the acc, a mult or a shift.
    """
    const = _checked(spec, const)
    for candidate in [DOTS[dot]] if dot else usable(features):
        if candidate is PLAIN:
            break
        fuller = fold_pixels(join_rows(spec), const, candidate.lanes)
        kernel = _on_vectors(*fuller, features, candidate, tile)
        if kernel is not None:
            return kernel
    return _plain(spec, const)


def _on_vectors(
    spec: ContractionSpec,
    const: Constants,
    features: frozenset[str],
    dot: Dot,
    tile: Tile | None,
) -> Kernel | None:
    """The kernel around one dot instruction; None where it is not exact or does not apply."""
    if spec.is_depthwise and (const.block or not dot.is_sparse):
        return None
    bias, x_range = _as_read(spec, const, dot)
    packing = None
    if not spec.is_depthwise:
        packing = _packing(spec, const, dot, x_range)
        if packing is None or not can_hold(spec, dot, packing):
            return None
    fuses = dot.fuses is not None and dot.fuses in features
    is_narrow = _are_narrow(spec, dot)
    epilogue, channels = plan_epilogue(spec, const, bias, x_range, fuses, dot.scheme, is_narrow)
    shared: Mapping[str, int] = {}
    if spec.rows is not None:
        tail, numbers = plan_row_tail(spec.rows, spec.y.channels, const)
        spec, epilogue = replace(spec, rows=tail), replace(epilogue, rows=tuple(numbers.channels))
        channels, shared = replace(channels, rows=numbers.channels), numbers.shared
    if epilogue.wide and dot.scheme is Scheme.HALVES:
        return None
    if spec.is_depthwise:
        sparse = plan_depthwise(spec, epilogue, dot, const.bits)
        kernel = depthwise_kernel(sparse, const.weights, channels)
        panels = spread_depthwise(sparse, const.weights)
        return kernel if not dot.pair_sums or _pairs_fit(panels, x_range) else None
    shift = const.rows.residual[1] - FRACTION if const.rows else 0
    code = plan_dense(spec, epilogue, dot, tile, packing, shift)
    if dot.weight_offset and not code.aligned:
        return None
    return dense_kernel(code, const, channels, shared)


def _are_narrow(spec: ContractionSpec, dot: Dot) -> bool:
    """Whether records are narrow: of dense contractions, on vectors that can be cut. Depthwise
    ones have few products for each record, so that its unpacking would show.
    """
    return not spec.is_depthwise and dot.lanes > 1 and not dot.aligned


def _packing(
    spec: ContractionSpec, const: Constants, dot: Dot, x_range: tuple[int, int]
) -> Packing | None:
    """How the dot takes these weights; None where sums of two products need more than int16."""
    bits = const.bits
    if not dot.pair_sums:
        return Packing(bits, const.block)
    chains = dot.nibbles or (dot.chains and (bits < 8 or const.block > 0))
    x_range = (0, 15) if dot.nibbles else x_range
    runs = runs_of(spec, const.block)
    chain = longest_chain(runs, dot.depth, const.weights, x_range, CHAINED if chains else 1)
    return Packing(bits, const.block, chain if chains else 0) if chain else None


def _plain(spec: ContractionSpec, const: Constants) -> Kernel:
    if spec.rows is not None:
        raise ValueError("contraction: scales of rows need a dot instruction on vectors")
    x_range = const.x_range or RANGE[spec.x.dtype]
    epilogue, channels = plan_epilogue(spec, const, const.bias, x_range)
    epilogue = replace(epilogue, wide=True, zero_point=const.zero_point)
    code = PlainCode(spec, epilogue, const.bits, const.block)
    channels = replace(channels, add=_unfolded(spec, const))
    return plain_kernel(code, const, channels)


def _checked(spec: ContractionSpec, const: Constants) -> Constants:
    weights = np.asarray(const.weights)
    if weights.shape != spec.weight_shape or weights.dtype != np.int8:
        raise ValueError(
            f"contraction: weights are {weights.dtype} {weights.shape}, "
            f"int8 {spec.weight_shape} is needed"
        )
    half = 1 << (const.bits - 1)
    if const.bits not in PLANES or weights.min() < -half or weights.max() >= half:
        raise ValueError(
            f"contraction: weights span [{weights.min()}, {weights.max()}] in {const.bits} bits;"
            f" signed integers of {sorted(PLANES)} bits are needed"
        )
    shape = None if const.group_mult is None else np.shape(const.group_mult)
    need = (*weights.shape[:3], -(-weights.shape[3] // const.block)) if const.block else None
    if shape != need:
        raise ValueError(f"contraction: multipliers by group are {shape}, {need} is needed")
    bias = np.broadcast_to(np.asarray(const.bias, np.int64), (spec.y.channels,))
    return replace(const, weights=weights, bias=bias)


def _as_read(spec: ContractionSpec, const: Constants, dot: Dot) -> tuple[Array, tuple[int, int]]:
    """Bias and range of X as the dot reads it: an i8 X with its top bit flipped is X + 128."""
    low, high = const.x_range or RANGE[spec.x.dtype]
    if dot.x in (None, spec.x.dtype):
        return const.bias, (low, high)
    more = 128 if dot.x == "uint8" else -128
    sums = const.scaled_weights.reshape(spec.y.channels, -1).sum(1, dtype=np.int64)
    return const.bias - more * sums, (low + more, high + more)


def _pairs_fit(panels: Array, x_range: tuple[int, int]) -> bool:
    """Sums of two adjacent products fit in int16, for the i8 weights in the order of the dots."""
    wide = panels.astype(np.int32)
    ends = np.stack([wide * x_range[0], wide * x_range[1]]).reshape(2, -1, 2)
    low, high = RANGE["int16"]
    return bool(ends.min(0).sum(1).min() >= low and ends.max(0).sum(1).max() <= high)


def _unfolded(spec: ContractionSpec, const: Constants) -> Array:
    """bias * mult + half - zr * residual_mult, without the zero point."""
    mult, shift, r_mult = (
        np.asarray(v, np.int64) for v in (const.mult, const.shift, const.residual_mult)
    )
    residual = const.residual_zero_point * r_mult if spec.residual else 0
    add = const.bias * mult + (np.int64(1) << (shift - 1)) - residual
    return np.broadcast_to(add, (spec.y.channels,))
