"""Second moments of what each layer reads: all that rounding for a layer's outputs needs to know.

With xq what a layer reads in the quantized network and x in the reference, over all windows,
  sum |W' xq + b' - W x - b|**2 = tr (W' - T) H (W' - T)' + what no W' changes,
H = sum xq xq', T = W (sum x xq') inverse(H), all about the means where b' is free. Where the layer
makes up for its own rounding alone the reference is the quantized network itself, and T = W.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.ops import Conv
from qir.ir.types import Array
from qir.passes.calibrate import chunk_of, run_chunk
from qir.passes.rounding.stored_weights import Layer, StoredWeights, layers_of

PARTS = 4  # tasks that the samples are cut into
AT_ONCE = 16  # samples whose float values are held
TINY = 1e-12  # for a diagonal of nothing
DIGITS = 1e-9  # of the squares that are subtracted from each other
DAMPING = 0.01  # of the mean of H's diagonal, as in GPTQ


@dataclass(frozen=True)
class LayerProblem:
    """The weights of a layer, and moments of what it reads, by group of the convolution.

    own = mean xq xq', cross = mean x xq' (G, K, K), about the means; mean of xq, and of x (G, K).
    shrinkage: of what `own` has off its diagonal, the part that is not believed.
    """

    weights: StoredWeights
    own: Array
    cross: Array
    mean: Array
    mean_of_float: Array
    shrinkage: float = 0.0

    def rows(self, x: Array) -> Array:
        """An array like the weights as (G, O / G, K)."""
        return np.ascontiguousarray(x).reshape(len(self.own), -1, self.own.shape[-1])

    def channels(self, x: Array) -> Array:
        """(O,) of channels as (G, O / G, 1)."""
        return x.reshape(len(self.own), -1, 1)

    def tensor(self, x: Array) -> Any:
        return torch.from_numpy(np.array(x, np.float32))

    @property
    def steps(self) -> Array:
        return self.rows(self.weights.step)

    @property
    def hessian(self) -> Array:
        """H = (1 - shrinkage) * own + shrinkage * diag(own), with DAMPING on its diagonal, and so
        much that differences of float64 sums are no more than it where an input never changes.
        """
        diagonal = np.diagonal(self.own, axis1=1, axis2=2)
        spread, eye = diagonal.mean(1), np.eye(self.own.shape[-1])
        least = DIGITS * (spread + (self.mean**2).mean(1)) + TINY
        own = (1 - self.shrinkage) * self.own + self.shrinkage * eye * diagonal[:, None]
        return np.asarray(own + eye * (DAMPING * spread + least)[:, None, None])

    @property
    def target(self) -> Array:
        """T (G, O / G, K): the best real weights for what the quantized network brings; damping
        pulls them to the float ones.
        """
        hessian, wanted = self.hessian, self.rows(self.weights.wanted)
        asked = wanted @ (self.cross + hessian - self.own)
        return np.linalg.solve(hessian, asked.swapaxes(1, 2)).swapaxes(1, 2)

    def result(self, whole: Array, change: Array | None = None) -> Mapping[str, Array]:
        """New constants: the integers (G, O / G, K), scales times `change` (G, O / G, 1), and the
        bias that keeps the mean.
        """
        w, steps = self.weights, self.steps
        stored = w.checked(whole.reshape(w.stored.shape).astype(w.stored.dtype))
        found = {w.constant: stored}
        if w.has_channel_scales:
            scale = w.scaled(np.ones(len(w.scale)) if change is None else change)
            steps = steps * self.channels(scale / w.scale)
            found[f"{w.constant}.scale"] = scale
        if w.bias is not None:
            had = self.rows(w.wanted) @ self.mean_of_float[..., None]
            has = (self.rows(stored) * steps) @ self.mean[..., None]
            found[w.bias_name] = (w.bias + (had - has).reshape(-1)).astype(np.float32)
        return found


def moment_names(layer: str) -> list[str]:
    """The names of a layer's sums: own, cross, mean, of_float, count."""
    return [f"{layer}.{what}" for what in ("own", "cross", "mean", "of_float", "count")]


def layer_problem(weights: StoredWeights, sums: Sequence[Mapping[str, Array]]) -> LayerProblem:
    """The moments of a layer out of the sums of all parts of the samples."""
    own, cross, mean, of_float, count = (
        sum(part[name] for part in sums) for name in moment_names(weights.layer)
    )
    own, cross, mean, of_float = (np.asarray(x) / count for x in (own, cross, mean, of_float))
    if weights.bias is not None:
        own = own - mean[..., :, None] * mean[..., None, :]
        cross = cross - of_float[..., :, None] * mean[..., None, :]
    return LayerProblem(weights, own, cross, mean, of_float)


def moments(
    graph: Graph, reference: Graph, layers: tuple[str, ...], sample: tuple[Array, ...]
) -> Mapping[str, Array]:
    """Sums over the samples and windows of these layers: own, cross, mean, of_float, count."""
    sums: dict[str, Array] = {}
    ops = {op.names[0]: op for op in layers_of(graph) if op.names[0] in layers}
    x_float = {op.x.name for op in layers_of(reference) if op.names[0] in layers}
    x_of = {op.names[0]: op.x.name for op in layers_of(reference)}
    readers: dict[str, list[Layer]] = {}
    for op in ops.values():
        readers.setdefault(op.x.name, []).append(op)
    held: dict[str, Any] = {}
    used: dict[str, int] = {}

    def hold(value: Value, x: Any) -> None:
        if value.name in x_float:
            held[value.name] = torch.cat([held[value.name], x]) if value.name in held else x

    def add(value: Value, x: Any) -> None:
        for op in readers.get(value.name, ()):
            layer, start = op.names[0], used.get(op.names[0], 0)
            used[layer] = start + len(x)
            of_float = held[x_of[layer]][start : used[layer]]
            for name, total in _sums(op, x, of_float).items():
                key = f"{layer}.{name}"
                sums[key] = sums[key] + total if key in sums else total

    own = graph.inputs[0].type.shape[0]
    size = max(own, min(chunk_of(graph), AT_ONCE) // own * own)
    for i in range(0, len(sample[0]), size):
        chunk = tuple(x[i : i + size] for x in sample)
        held.clear()
        used.clear()
        run_chunk(reference, chunk, hold)
        run_chunk(graph, chunk, add)
    return sums


def _sums(op: Layer, x: Any, of_float: Any) -> dict[str, Array]:
    quantized, floats = windows_of(op, x.double()), windows_of(op, of_float.double())
    turned = floats.transpose(1, 2)
    own = quantized.transpose(1, 2) @ quantized
    found = {
        "own": own,
        "cross": turned @ quantized,
        "mean": quantized.sum(1),
        "of_float": floats.sum(1),
        "count": torch.tensor(quantized.shape[1]),
    }
    return {name: y.numpy() for name, y in found.items()}


def windows_of(op: Layer, x: Any) -> Any:
    """What each output is a product with: (groups, windows, K), K in the order of the weights."""
    if not isinstance(op, Conv):
        return x.reshape(1, -1, x.shape[-1])
    (top, left, bottom, right), (sy, sx), (dy, dx) = op.pad, op.stride, op.dilation
    _, oh, ow, _ = op.result.type.shape
    x = torch.nn.functional.pad(x, (0, 0, left, right, top, bottom))
    taps = [
        x[:, ky * dy : ky * dy + (oh - 1) * sy + 1 : sy, kx * dx : kx * dx + (ow - 1) * sx + 1 : sx]
        for ky in range(op.kernel[0])
        for kx in range(op.kernel[1])
    ]
    each = [tap.reshape(-1, op.groups, tap.shape[-1] // op.groups) for tap in taps]
    return torch.stack(each, 2).flatten(2).transpose(0, 1)
