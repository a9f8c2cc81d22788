"""One walk over the layers of a simulated graph that corrects their channels, and judges each
segment of them at the outputs, on samples held back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.ops import Concat, Constant, Dequantize, Quantize, Reshape, Transpose
from qir.ir.ops.kinds import Layer
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array
from qir.passes.calibrate.ranges import chunk_of, cut, rows_of, run_chunk
from qir.passes.infra.manager import Miss, Record
from qir.passes.quantize.stored_weights import StoredWeights, ratio_of

SEGMENTS = 16  # of layers in order, each judged as one
CERTAIN = 4.0  # squared standard errors of a mean that its shift is less by


@dataclass(frozen=True)
class ChannelMoments:
    """Of each channel: the mean in each run (runs, C), the standard deviation over all (C,)."""

    means: Array
    std: Array

    @property
    def mean(self) -> Array:
        return np.asarray(self.means.mean(0))


@dataclass(frozen=True)
class Correction:
    """(C,) each: y * times + shift; `scale` is that of the stored weights then, if it moves."""

    times: Array
    shift: Array
    scale: Array | None = None

    def apply(self, y: Any) -> None:
        """In place: what follows sees it."""
        y *= torch.from_numpy(self.times.astype(np.float32))
        y += torch.from_numpy(self.shift.astype(np.float32))


@dataclass(frozen=True)
class SampleGraph:
    """A part of the sample, and the simulated graph that takes all of it at once."""

    graph: Graph
    sample: tuple[Array, ...]


@dataclass
class WalkState:
    """A simulated graph half run: the values that later ops need, and those that are judged."""

    program: FloatProgram
    env: dict[str, Any]
    judged: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> WalkState:
        return WalkState(self.program, dict(self.env), dict(self.judged))


class CorrectionWalk:
    """One walk over the layers, segment by segment, on samples to fit and samples to judge."""

    def __init__(
        self,
        reference: Graph,
        fit: SampleGraph,
        judge: SampleGraph,
        scaled: Mapping[str, StoredWeights],
    ) -> None:
        self.target_moments, self.scaled = channels_of(reference, fit.sample), scaled
        self.runs = len(fit.sample[0]) // rows_of(reference.inputs[0])
        self.fit, self.judge = _begun(fit), _begun(judge)
        pairs = dict.fromkeys(zip(ends_of(judge.graph), ends_of(reference), strict=True))
        self.ends = [simulated for simulated, _ in pairs]
        self.targets = _values(reference, judge.sample, [real for _, real in pairs])
        self.results: dict[str, Correction] = {}

    def run(self, record: Record) -> Mapping[str, Correction]:
        """The corrections that are kept."""
        with torch.no_grad():
            least = self._error(self.judge.copy(), 0)
            for start, stop in self._segments():
                fit, judge = self.fit.copy(), self.judge.copy()
                trial = self._fitted(fit, start, stop)
                self._advance(judge, start, stop, trial)
                error = self._error(judge.copy(), stop)
                if error < least:
                    least, self.fit, self.judge = error, fit, judge
                    self.results.update(trial)
                    continue
                record.misses.append(Miss("held-back outputs are worse with it", next(iter(trial))))
                self._advance(self.fit, start, stop, {})
                self._advance(self.judge, start, stop, {})
        return self.results

    def _segments(self) -> Iterator[tuple[int, int]]:
        """The places of the ops of each segment, from its first layer to the next one's."""
        graph = self.fit.program.graph
        layers = [
            i
            for i, op in enumerate(graph.ops)
            if isinstance(op, Layer) and own_bias(graph, op) and op.names[0] in self.target_moments
        ]
        count = min(SEGMENTS, len(layers))
        starts = [layers[len(layers) * k // count] for k in range(count)]
        yield from (
            zip([0, *starts[1:]], [*starts[1:], len(graph.ops)], strict=True) if count else ()
        )

    def _fitted(self, state: WalkState, start: int, stop: int) -> Mapping[str, Correction]:
        """The correction of each layer of a segment, with all layers before it corrected."""
        graph = self.fit.program.graph
        free = {
            op.names[0]
            for op in graph.ops[start:stop]
            if isinstance(op, Layer) and own_bias(graph, op)
        }
        corrections: dict[str, Correction] = {}

        def correct(value: Value, y: Any) -> None:
            if value.name in free and (target := self.target_moments.get(value.name)) is not None:
                rows = y.reshape(self.runs, -1, y.shape[-1]).double()
                std = rows.reshape(-1, y.shape[-1]).std(0, correction=0).numpy()
                has = ChannelMoments(rows.mean(1).numpy(), std)
                corrections[value.name] = correction(has, target, self.scaled.get(value.name))
                corrections[value.name].apply(y)

        state.program.advance(state.env, start, stop, correct)
        return corrections

    def _advance(
        self, state: WalkState, start: int, stop: int, corrections: Mapping[str, Correction]
    ) -> None:
        """Run the ops with these corrections, and keep the values that are judged."""

        def watch(value: Value, y: Any) -> None:
            if value.name in corrections:
                corrections[value.name].apply(y)
            if value.name in self.ends:
                state.judged[value.name] = y

        state.program.advance(state.env, start, stop, watch)

    def _error(self, state: WalkState, start: int) -> float:
        """The sum over the judged values of ||value - float one||**2 / ||float one||**2, the ops
        from `start` run to the end.
        """
        self._advance(state, start, len(state.program.graph.ops), {})
        total = 0.0
        for name, target in zip(self.ends, self.targets, strict=True):
            power = float((target**2).sum())
            noise = float(((state.judged[name].double() - target) ** 2).sum())
            total += noise / power if power else 0.0
        return total


def _begun(part: SampleGraph) -> WalkState:
    program = FloatProgram(part.graph)
    return WalkState(program, program.begin(part.sample))


def _values(graph: Graph, sample: tuple[Array, ...], names: Sequence[str]) -> list[Any]:
    """These values of a float graph on the sample, float64, runs joined along the first axis."""
    parts: dict[str, list[Any]] = {name: [] for name in names}

    def watch(value: Value, y: Any) -> None:
        if value.name in parts:
            parts[value.name].append(y.double())

    size = chunk_of(graph)
    for i in range(0, len(sample[0]), size):
        run_chunk(graph, cut(graph, sample, i, i + size), watch)
    return [torch.cat(parts[name]) for name in names]


def correction(
    has: ChannelMoments, target: ChannelMoments, weights: StoredWeights | None
) -> Correction:
    """What takes the channels that a layer has to the target's: of deviation too where `weights`
    have scales that move; else means alone, as far as they are certain.
    """
    if weights is None:
        errors = target.means - has.means
        return Correction(np.ones(errors.shape[1]), certain(errors))
    scale = weights.scaled(ratio_of(has.std, target.std))
    times = scale / weights.scale
    return Correction(times, target.mean - times * has.mean, scale)


def certain(errors: Array) -> Array:
    """e * max(0, 1 - CERTAIN * v / e**2) for the mean e of the rows (runs, C) and its variance v;
    0 of a single run.
    """
    count = len(errors)
    mean = errors.mean(0)
    if count < 2:
        return np.zeros_like(mean)
    variance = errors.var(0, ddof=1) / count
    share = 1 - CERTAIN * variance / np.maximum(mean**2, np.finfo(np.float64).tiny)
    return np.asarray(mean * np.maximum(share, 0.0))


def ends_of(graph: Graph) -> list[str]:
    """The values that outputs are judged by: what they join, each by itself, since values of unlike
    size may lie side by side in one output. As many, in one order, for a float graph and its
    simulation: what is joined twice, in a simulation at scales of their own, is there twice.
    """
    return [name for v in graph.outputs for name in _pieces(graph, v)]


def _pieces(graph: Graph, value: Value) -> Iterator[str]:
    op = graph.producers.get(value.name)
    if isinstance(op, Dequantize):
        pair = graph.producers.get(op.x.name)
        op = graph.producers.get(pair.x.name) if isinstance(pair, Quantize) else op
    match op:
        case Concat():
            for x in op.xs:
                yield from _pieces(graph, x)
        case Reshape() | Transpose():
            yield from _pieces(graph, op.x)
        case _:
            yield value.name


def own_bias(graph: Graph, op: Layer) -> bool:
    """Whether the bias may be changed: none yet, or a float constant (not a model's integers)."""
    return op.bias is None or isinstance(graph.producers.get(op.bias.name), Constant)


def channels_of(graph: Graph, sample: tuple[Array, ...]) -> Mapping[str, ChannelMoments]:
    """Of the result of each contraction, by name."""
    sizes = {op.names[0]: op.result.type.size for op in graph.ops if isinstance(op, Layer)}
    means: dict[str, list[Array]] = {}
    squares: dict[str, list[Array]] = {}

    def watch(value: Value, x: Any) -> None:
        if (size := sizes.get(value.name)) is not None:
            rows = x.reshape(x.numel() // size, -1, x.shape[-1]).double()
            means.setdefault(value.name, []).append(rows.mean(1).numpy())
            squares.setdefault(value.name, []).append((rows**2).mean(1).numpy())

    size = chunk_of(graph)
    for i in range(0, len(sample[0]), size):
        run_chunk(graph, cut(graph, sample, i, i + size), watch)
    channels = {}
    for name, parts in means.items():
        mean, square = np.concatenate(parts), np.concatenate(squares[name]).mean(0)
        channels[name] = ChannelMoments(mean, np.sqrt(np.maximum(square - mean.mean(0) ** 2, 0.0)))
    return channels
