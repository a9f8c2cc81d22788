"""Second moments of what each layer reads: all that rounding for a layer's outputs needs to know.

With xq what a layer reads in the quantized network and x in the reference, over all windows,
  sum |W' xq + b' - W x - b|**2 = tr (W' - T) H (W' - T)' + what no W' changes,
H = sum xq xq', T = W (sum x xq') inverse(H), all about the means where b' is free. Where a layer
compensates for its own rounding alone, x is xq, and T = W.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qir.ir.ops import Conv
from qir.ir.ops.kinds import Layer
from qir.ir.types import Array
from qir.passes.quantize.stored_weights import StoredWeights, ratio_of
from qir.passes.rounding.forward import CutValues, Programs, Stretch

TINY = 1e-12  # for a diagonal of nothing
DIGITS = 1e-9  # of the squares that are subtracted from each other
DAMPING = 0.01  # of the mean of H's diagonal, as in GPTQ


@dataclass(frozen=True)
class LayerProblem:
    """The weights of a layer, and the moments of its inputs, by group of the convolution.

    own = mean xq xq', cross = mean x xq', own_of_float = mean x x' (G, K, K), about the means where
    there is a bias; mean of xq, and of x (G, K).
    shrinkage: of the off-diagonal part of `own`, towards zero.
    ridge:     strength of the ridge of the regression of x on xq; inf: T = W.
    """

    weights: StoredWeights
    own: Array
    cross: Array
    own_of_float: Array
    mean: Array
    mean_of_float: Array
    shrinkage: float = 0.0
    ridge: float = 0.0

    @property
    def is_alone(self) -> bool:
        """Whether the layer compensates for its own rounding alone: x is xq."""
        return np.array_equal(self.own, self.cross)

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
        moment = (1 - self.shrinkage) * self.own + self.shrinkage * eye * diagonal[:, None]
        return np.asarray(moment + eye * (DAMPING * spread + self._least)[:, None, None])

    @property
    def _least(self) -> Array:
        """(G,) what differences of float64 sums, and a diagonal of nothing, are taken for."""
        spread = np.diagonal(self.own, axis1=1, axis2=2).mean(1)
        return np.asarray(DIGITS * (spread + (self.mean**2).mean(1)) + TINY)

    @property
    def target(self) -> Array:
        """T (G, O / G, K): the best real weights for what the quantized network brings,

            T = W + W (cross - own) inverse(own + ridge * diag(own)),

        the nearer to the float ones the less the moments are believed.
        """
        floats = self.rows(self.weights.floats)
        if np.isinf(self.ridge):
            return floats
        diagonal, eye = np.diagonal(self.own, axis1=1, axis2=2), np.eye(self.own.shape[-1])
        moment = self.own + eye * (self.ridge * diagonal + self._least[:, None])[:, None]
        correction = floats @ (self.cross - self.own)
        return np.asarray(
            floats + np.linalg.solve(moment, correction.swapaxes(1, 2)).swapaxes(1, 2)
        )

    def result(self, integers: Array, change: Array | None = None) -> Mapping[str, Array]:
        """New constants: the integers (G, O / G, K), scales times `change` (G, O / G, 1) and what
        keeps the deviation of each channel unless it is alone, and the bias that keeps its mean.
        """
        w, steps = self.weights, self.steps
        stored = w.checked(integers.reshape(w.stored.shape).astype(w.stored.dtype))
        constants = {w.constant: stored}
        if w.groups is not None and w.groups.name:
            constants[w.groups.name] = w.groups.mult.astype(np.uint8)
        if w.has_channel_scales:
            times = np.ones(self.channels(w.scale).shape) if change is None else change
            scale = w.scaled(times.reshape(-1) * self._lost(self.rows(stored) * steps * times))
            steps = steps * self.channels(scale / w.scale)
            constants[f"{w.constant}.scale"] = scale
        if w.bias is not None:
            had = self.rows(w.floats) @ self.mean_of_float[..., None]
            has = (self.rows(stored) * steps) @ self.mean[..., None]
            constants[w.bias_name] = (w.bias + (had - has).reshape(-1)).astype(np.float32)
        return constants

    def _lost(self, rows: Array) -> Array:
        """(O,) the factor that restores the deviation of each channel of these weights."""
        if self.is_alone:
            return np.ones(rows.shape[0] * rows.shape[1])
        target = _deviation(self.rows(self.weights.floats), self.own_of_float)
        return ratio_of(_deviation(rows, self.own), target)


def _deviation(rows: Array, moments: Array) -> Array:
    """(O,) of the outputs of rows (G, O / G, K) for inputs with these moments."""
    squares = ((rows @ moments) * rows).sum(-1)
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)).reshape(-1))


NAMES = "own", "mean", "count", "cross", "own_of_float", "mean_of_float"  # alone: the first three


def moment_names(layer: str) -> list[str]:
    """The names of a layer's sums, in the order of NAMES."""
    return [f"{layer}.{kind}" for kind in NAMES]


SIDES = "seen ", "float "  # of the walk: the simulated graph, and the float one


def layer_problem(weights: StoredWeights, sums: Sequence[Mapping[str, Array]]) -> LayerProblem:
    """The moments of a layer out of the sums of all parts of the samples."""
    names = [name for name in moment_names(weights.layer) if name in sums[0]]
    own_moment, mean, count, *of_floats = (
        np.asarray(sum(part[name] for part in sums)) for name in names
    )
    own_moment, mean = own_moment / count, mean / count
    cross, own_of_float, of_float = [x / count for x in of_floats] or (own_moment, own_moment, mean)
    if weights.bias is not None:
        own_moment = own_moment - mean[..., :, None] * mean[..., None, :]
        cross = cross - of_float[..., :, None] * mean[..., None, :]
        own_of_float = own_of_float - of_float[..., :, None] * of_float[..., None, :]
    return LayerProblem(weights, own_moment, cross, own_of_float, mean, of_float)


def moments(
    simulated: Stretch,
    reference: Stretch,
    layers: tuple[Layer, ...],
    floats: Mapping[str, str],
    cut_values: CutValues,
    cut_floats: CutValues,
    at_once: int,
) -> Mapping[str, Array]:
    """Sums over the samples and windows of these layers, by moment_names; and the values at the end
    of both stretches, by a side and their names.

    layers: as they are in the simulated graph.
    floats: what a layer reads in the reference, by the layer's name; where it has none the layer is
            fitted to its own rounding alone.
    cut_values: those at the start of a stretch, for all samples; cut_floats: the reference's.
    at_once: samples that run together; sums of floats depend on it.
    """
    total: dict[str, Array] = {}
    ends: dict[str, list[Array]] = {}
    caches: tuple[Programs, Programs] = {}, {}
    count = len(next(iter(cut_values.values())))
    for i in range(0, count, at_once):
        pairs = (simulated, cut_values), (reference, cut_floats)
        chunks = [{name: x[i : i + at_once] for name, x in start.items()} for _, start in pairs]
        quantized, float_values = (
            one.run(chunk, programs)
            for (one, _), chunk, programs in zip(pairs, chunks, caches, strict=True)
        )
        for op in layers:
            of_float = float_values[floats[op.names[0]]] if op.names[0] in floats else None
            for name, x in _sums(op, quantized[op.x.name], of_float).items():
                key = f"{op.names[0]}.{name}"
                total[key] = total[key] + x if key in total else x
        tensors = quantized, float_values
        for side, one, chunk, values in zip(
            SIDES, (simulated, reference), chunks, tensors, strict=True
        ):
            for name, x in one.next_cut(chunk, values).items():
                ends.setdefault(f"{side}{name}", []).append(x)
    return total | {name: np.concatenate(parts) for name, parts in ends.items()}


def _sums(op: Layer, x: Any, of_float: Any) -> dict[str, Array]:
    quantized = windows_of(op, x.double())
    moment = quantized.transpose(1, 2) @ quantized
    sums = [moment, quantized.sum(1), torch.tensor(quantized.shape[1])]
    if of_float is not None:
        floats = windows_of(op, of_float.double())
        transposed = floats.transpose(1, 2)
        sums += [transposed @ quantized, transposed @ floats, floats.sum(1)]
    return {name: y.numpy() for name, y in zip(NAMES, sums, strict=False)}


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
