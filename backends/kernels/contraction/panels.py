"""The blocks of a dense contraction: panels of weights; and multipliers, epilogue records.

weights        [panel][tap][part][row][vector][form][lane][k]
constants      multipliers [panel][tap][part][vector][lane], u8, where weights have groups; the
               numbers, i32, of a tail by rows that all channels have, and records
               [panel][vector], both at a multiple of a vector

Where vectors lie apart, each is a panel of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from qir.backends.kernels.contraction.bits import pack
from qir.backends.kernels.contraction.dense import DenseCode, Runs
from qir.backends.kernels.contraction.spec import Array, Constants
from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.plane import RANGE
from qir.backends.kernels.requantize.epilogue import ChannelConstants, records

CHAINED = 16
"""The most steps that are added up in int16: more saves nothing that counts."""
BLOCK = 1 << 20
"""Weights of which sums are computed at once."""


def dense_kernel(
    code: DenseCode, const: Constants, channels: ChannelConstants, shared: Mapping[str, int]
) -> Kernel:
    """The code with its blocks; see the module."""
    order = _order(code)
    mults = _mults(code, const, order).ljust(code.shared_at, b"\0")
    numbers = np.array(list(shared.values()), "<i4").tobytes()
    before = (mults + numbers).ljust(code.records_at, b"\0")
    constants = before + records(code.epilogue, channels, order, code.machine.lanes)
    return Kernel(code, constants, _weights(code, const.weights, order.reshape(-1)))


def longest_chain(
    runs: Runs, depth: int, weights: Array, x_range: tuple[int, int], most: int = CHAINED
) -> int:
    """The most steps whose sums of two products add up in int16, for any X in range: a power of
    two up to `most`, or 0 where no sum is certain to fit.

    Sums of a chain may wrap on the way, but a sum of two products must fit by itself.
    """
    steps = [_steps(part, depth) for part in _parts(runs, weights)]
    if not all(_fits(part, 1, x_range) for part in steps):
        return 0
    while most > 1 and not all(_fits(part, most, x_range) for part in steps):
        most //= 2
    return most


def _fits(steps: Array, chain: int, x_range: tuple[int, int]) -> bool:
    """Over (O, taps, steps, depth) weights, chains from the first step on; some channels at once,
    so that the first that does not fit is among the last that are looked at.
    """
    rows = max(1, BLOCK // max(steps[0].size, 1))
    blocks = (steps[first : first + rows] for first in range(0, len(steps), rows))
    return all(_fit(block, chain, x_range) for block in blocks)


def _fit(steps: Array, chain: int, x_range: tuple[int, int]) -> bool:
    count, depth = steps.shape[-2:]
    padded = np.zeros((*steps.shape[:-2], -(-count // chain) * chain, depth), np.float32)
    padded[..., :count, :] = steps
    chains = padded.reshape(-1, chain * depth)
    pairs = np.tile(np.repeat(np.eye(depth // 2, dtype=np.float32), 2, axis=0), (chain, 1))
    ends = [chains * np.float32(x) for x in x_range]  # exact: sums are far below 2**24
    low, high = RANGE["int16"]
    least, most = (end(*ends) @ pairs for end in (np.minimum, np.maximum))
    return bool(least.min() >= low and most.max() <= high)


def _parts(runs: Runs, weights: Array) -> Iterator[Array]:
    """(O, taps, elements) of each part of the runs."""
    flat = np.asarray(weights, np.int8).reshape(len(weights), runs.taps, runs.length)
    begin = 0
    for part in runs.parts:
        yield flat[:, :, begin : begin + part]
        begin += part


def _steps(part: Array, depth: int) -> Array:
    """(O, taps, steps, depth), with zeros where the last step is not full."""
    count = -(-part.shape[-1] // depth)
    padded = np.zeros((*part.shape[:2], count * depth), np.int8)
    padded[:, :, : part.shape[-1]] = part
    return padded.reshape(*part.shape[:2], count, depth)


def _order(code: DenseCode) -> Array:
    """(vectors, lanes) -> output channel, or -1 past the channels of a group."""
    share, lanes = code.share, code.machine.lanes
    width = lanes * code.together
    starts = np.minimum(np.arange(-(-share // width)) * width, max(share - width, 0))
    local = (starts[:, None] + np.arange(width)).reshape(-1)
    order = local + np.arange(code.groups)[:, None] * share
    return np.where(local < share, order, -1).reshape(-1, lanes)


def _weights(code: DenseCode, weights: Array, order: Array) -> bytes:
    dot, panels = code.machine, code.vectors // code.together
    packed = []
    for part in _parts(code.runs, weights):
        steps = _steps(part, dot.depth)
        lanes = np.where(order[:, None, None, None] >= 0, steps[np.maximum(order, 0)], np.int8(0))
        rows = lanes.reshape(panels, -1, *lanes.shape[1:]).transpose(0, 2, 3, 1, 4)
        bits = code.packing.bits
        packed.append(pack(rows.reshape(*rows.shape[:3], -1), bits))
    blob = np.concatenate(packed, axis=2)  # (panels, taps, rows, bytes)
    if dot.weight_offset and bits == 8:
        blob = blob + np.uint8(dot.weight_offset)  # as fewer bits are packed in any case
    return np.ascontiguousarray(blob).tobytes()


def _mults(code: DenseCode, const: Constants, order: Array) -> bytes:
    if const.group_mult is None:
        return b""
    mult = np.asarray(const.group_mult, np.uint8).reshape(code.y.channels, -1)
    lanes = np.where(order[..., None] >= 0, mult[np.maximum(order, 0)], np.uint8(0))
    panels = lanes.reshape(-1, code.together, code.machine.lanes, lanes.shape[-1])
    return np.ascontiguousarray(np.moveaxis(panels, -1, 1)).tobytes()
