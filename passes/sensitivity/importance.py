"""Measures that need no bits: how much a layer changes its input, its weights' tail, relevance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array
from qir.passes.calibrate.ranges import chunk_of
from qir.passes.infra.tasks import Result
from qir.passes.sensitivity.output_loss import Distance, OutputLoss, loss_of
from qir.passes.sensitivity.probe import Probe, float_weights, for_samples, layers_to_quantize
from qir.passes.sensitivity.subject import Part, Runner, Subject

SIMILARITY_SAMPLES = 64
FAR = 1.0  # standard deviations


def weight_tails(graph: Graph) -> dict[str, float]:
    """ZD: the share of a layer's weights w with (w - mean) / std > 1; the fewer, the more a layer
    matters, as the paper has it.

    Source: Dumitru et al. 2024, arXiv:2406.17415, ZD.
    """
    tails = {}
    for name, layer in layers_to_quantize(graph).items():
        w = float_weights(graph, layer).astype(np.float64)
        tails[name] = float((w - w.mean() > FAR * w.std()).mean())
    return tails


def input_changes(subject: Subject, runner: Runner | None = None) -> dict[str, float]:
    """LIM: 1 - cosine of each layer's input and output.

    Where every layer's output has its input's shape, as between a transformer's blocks, the mean
    over samples of the cosine of the two. Else, for all layers, so that one network has one scale,
    the cosine of the samples' Gram matrices X X^T and Y Y^T, which need no common axes: linear CKA
    without centering, on at most SIMILARITY_SAMPLES samples.
    Source: Dumitru et al. 2024, arXiv:2406.17415, LIM; Gram matrices: Kornblith et al. 2019,
    arXiv:1905.00414, section 3.
    """
    few = subject.first(min(SIMILARITY_SAMPLES, chunk_of(subject.graph)))
    (result,) = (runner or Runner()).run(
        "input changes", few, similarities, [("all layers", (few.graph, few.sample))]
    )
    names = layers_to_quantize(subject.graph)
    return {n: float(1 - c) for n, c in zip(names, result["cosines"], strict=True)}


def similarities(graph: Graph, sample: tuple[Array, ...]) -> Result:
    """The task: the cosine of input and output of each layer, in the layers' order."""
    layers = layers_to_quantize(graph)
    is_same = all(op.x.type.shape == op.result.type.shape for op in layers.values())
    names = {v.name for op in layers.values() for v in (op.x, op.result)}
    activations: dict[str, torch.Tensor] = {}

    def watch(value: Value, x: Any) -> None:
        if value.name in names:
            rows = x.reshape(len(sample[0]), -1).double()
            activations[value.name] = rows if is_same else (rows @ rows.T).reshape(1, -1)

    with torch.no_grad():
        FloatProgram(for_samples(graph, len(sample[0])))(*sample, watch=watch)
    cosines = [
        torch.cosine_similarity(activations[op.x.name], activations[op.result.name]).mean()
        for op in layers.values()
    ]
    return {"cosines": torch.stack(cosines).numpy()}


def relevances(subject: Subject, runner: Runner | None = None) -> dict[str, float]:
    """The share of each layer in the relevance of all: mean over samples of sum |x * df/dx|.

    x is a layer's input; f the largest logit, the logarithm of the largest probability, or half
    the sum of squares of an output. Relevance propagated by the epsilon rule to x is x * df/dx
    for small epsilon, where all between is piecewise linear (ReLU, max pooling, sums).
    Source: Bach et al. 2015 (PLoS ONE 10(7), epsilon rule) in the form of Ancona et al. 2018,
    arXiv:1711.06104, proposition 1; per layer as in LRP-QViT, arXiv:2401.11243.
    """
    parts = subject.parts()
    kinds = loss_of(subject.graph, subject.sample)
    results = (runner or Runner()).run(
        "relevance", subject, relevance_of,
        [(f"part {i} of {len(parts)}", (part, kinds)) for i, part in enumerate(parts)],
    )  # fmt: skip
    total = sum(part.share * f["relevance"] for part, f in zip(parts, results, strict=True))
    names = layers_to_quantize(subject.graph)
    shares: Mapping[str, Any] = dict(zip(names, np.asarray(total), strict=True))
    total_relevance = sum(shares.values()) or 1.0
    return {name: float(share / total_relevance) for name, share in shares.items()}


def relevance_of(part: Part, kinds: OutputLoss) -> Result:
    """The task: sum |x * df/dx| of each layer, the mean over one chunk's samples."""
    probe = Probe(part.graph, len(part.at))
    leaves = probe.leaves(weights=False, inputs=True)
    activations: dict[str, torch.Tensor] = {}
    inputs = {op.x.name for op in probe.layers.values()}

    def watch(value: Value, x: Any) -> None:
        if value.name in inputs:
            activations[value.name] = x.detach()

    outputs = probe.run(part.arrays, leaves, watch)
    pairs = zip(kinds.distances, outputs, strict=True)
    score = torch.stack([_score(kind, y) for kind, y in pairs]).sum()
    slopes = torch.autograd.grad(score, list(leaves.inputs.values()), materialize_grads=True)
    each = [
        float((activations[op.x.name] * g).double().abs().sum()) / len(part.at)
        for op, g in zip(probe.layers.values(), slopes, strict=True)
    ]
    return {"relevance": np.array(each)}


def _score(kind: Distance, y: torch.Tensor) -> torch.Tensor:
    if kind is Distance.SQUARES:
        return y.square().sum() / 2
    largest = y.amax(-1)
    return (largest.log() if kind is Distance.PROBABILITIES else largest).sum()
