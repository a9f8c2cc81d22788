"""What the rotary pairs of keys reach in every direction, on a few samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.ops import Attention
from qir.ir.types import Array
from qir.passes.calibrate.ranges import chunk_of, cut, rows_of, run_chunk
from qir.passes.transform.attention_chains import pairs_of

ANGLES = 16  # directions of a half turn
SHARE = 4  # chunks are this much smaller than those of calibration: each has ANGLES reaches


def pair_reach(
    graph: Graph, sample: tuple[Array, ...], heads: Sequence[Attention]
) -> Mapping[str, Array]:
    """max|x1 * cos(a) + x2 * sin(a)| of each head and pair for ANGLES angles a of a half turn, of
    the keys of these ops: (heads, pairs, ANGLES); of a channel alone |x1| for all.
    """
    size = {op.k.name: op.k.type.shape[-1] // op.kv_heads for op in heads}
    pairs = {op.k.name: pairs_of(graph, op.k, size[op.k.name]) for op in heads}
    angle = torch.arange(ANGLES, dtype=torch.float64) * (np.pi / ANGLES)
    cos, sin = torch.cos(angle).float(), torch.sin(angle).float()
    found: dict[str, Array] = {}

    def watch(value: Value, x: Any) -> None:
        if value.name not in pairs:
            return
        y = x.reshape(-1, x.shape[-1] // size[value.name], size[value.name])
        first = y[..., [p[0] for p in pairs[value.name]], None]
        second = y[..., [p[-1] for p in pairs[value.name]], None]
        is_alone = torch.tensor([len(p) == 1 for p in pairs[value.name]])[:, None]
        each = torch.where(is_alone, first, first * cos + second * sin).abs().amax(0)
        old = found.get(value.name)
        found[value.name] = each.numpy() if old is None else np.maximum(old, each.numpy())

    own = rows_of(graph.inputs[0])
    step = max(own, chunk_of(graph) // SHARE // own * own)
    for i in range(0, len(sample[0]), step):
        run_chunk(graph, cut(graph, sample, i, i + step), watch)
    return found
