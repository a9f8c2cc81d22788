"""Costs of bits: sizes, bit operations, averages, and limits on them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qir.ir.errors import PassError
from qir.passes.bits.choice import Bits, Choice, LayerChoices

SIZE = "size_bytes"
BOPS = "bops"
LATENCY = "latency_us"
WEIGHT_BITS = "weight_bits"
ACTIVATION_BITS = "activation_bits"


@dataclass(frozen=True)
class LayerWork:
    """How much a layer holds and does, counted: weights, multiplications, elements read."""

    parameters: int
    macs: int
    activations: int

    def costs(self, bits: Bits) -> dict[str, float]:
        """The costs of the layer in each resource that follows from counts.

            size_bytes = parameters * (w / 8 + 1 / group)    bops = macs * w * a
            weight_bits = parameters * w             activation_bits = activations * a

        A group of weights has one byte for its scale.
        Source: HAWQ-V3, arXiv:2011.10680 (size, bops); MixDQ, arXiv:2405.17873 (the
        sums of bits, which `average_limits` bounds).
        """
        return {
            SIZE: self.parameters * (bits.weight / 8 + (1 / bits.group if bits.group else 0)),
            BOPS: self.macs * bits.weight * bits.activation,
            WEIGHT_BITS: self.parameters * bits.weight,
            ACTIVATION_BITS: self.activations * bits.activation,
        }


def omega(mean_trace: float, squared_error: float) -> float:
    """The loss of storing a layer's weights in few bits, to second order.

        Omega = mean trace of the Hessian * ||Q(W) - W||^2

    Source: HAWQ-V2, arXiv:1911.03852; HAWQ-V3, arXiv:2011.10680.
    """
    return mean_trace * squared_error


def measured_layer(
    name: str,
    losses: Mapping[Bits, float],
    work: LayerWork,
    latency_us: Mapping[Bits, float] | None = None,
) -> LayerChoices:
    """A layer whose choices are the bits for which a loss was measured.

    Errors: PassError if a latency is missing for one of them.
    """
    choices = []
    for bits, loss in losses.items():
        costs = work.costs(bits)
        if latency_us is not None:
            if bits not in latency_us:
                raise PassError(f"layer {name}: no latency for {bits}, one for each is needed")
            costs[LATENCY] = latency_us[bits]
        choices.append(Choice(bits, loss, costs))
    return LayerChoices(name, tuple(choices))


def average_limits(
    layer_works: Iterable[LayerWork], weight: float | None = None, activation: float | None = None
) -> dict[str, float]:
    """The limits that keep average widths at or below these.

        sum(parameters * w) <= weight * sum(parameters); the same for the elements read

    Source: MixDQ, arXiv:2405.17873 (average weighted by parameters).
    """
    layer_works, limits = list(layer_works), dict[str, float]()
    if weight is not None:
        limits[WEIGHT_BITS] = weight * sum(work.parameters for work in layer_works)
    if activation is not None:
        limits[ACTIVATION_BITS] = activation * sum(work.activations for work in layer_works)
    return limits


def bound_at(layers: Sequence[LayerChoices], resource: str, share: float) -> float:
    """The limit at a share of the way from the cheapest choices to the most expensive.

        (1 - share) * least + share * most

    Source: HAWQ-V3's notebook ILP.ipynb (limits .25, .5, .75 between 4 and 8 bits everywhere).
    """
    costs = [[cost_of(layer, choice, resource) for choice in layer.choices] for layer in layers]
    least, most = math.fsum(map(min, costs)), math.fsum(map(max, costs))
    return (1 - share) * least + share * most


def cost_of(layer: LayerChoices, choice: Choice, resource: str) -> float:
    """The cost of a choice in a resource.

    Errors: PassError if that is not known.
    """
    if resource not in choice.costs:
        resources = ", ".join(choice.costs) or "none"
        raise PassError(
            f"layer {layer.name}: no {resource} of {choice.bits}, a number is needed",
            hint=f"resources known of it: {resources}",
        )
    return choice.costs[resource]
