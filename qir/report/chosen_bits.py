"""Mixed precision in a report: the bits of each layer, the measures behind them, and the front."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """A number, named after the bits, measure, resource or pair of measures it belongs to."""

    of: str
    value: float


@dataclass(frozen=True)
class LayerBits:
    """One layer: its bits, and for each choice the loss and the microseconds.

    measures: sensitivities that do not depend on the bits.
    """

    layer: str
    bits: str
    parameters: int
    losses: tuple[Measured, ...]
    micros: tuple[Measured, ...]
    measures: tuple[Measured, ...]

    @property
    def weight_bits(self) -> int:
        return int(self.bits[1:].partition("a")[0].partition("g")[0])


@dataclass(frozen=True)
class FrontPoint:
    """A Pareto-optimal assignment: its cost in the swept resource, and its loss."""

    cost: float
    loss: float


@dataclass(frozen=True)
class ChosenBits:
    """The choice of bits.

    request: the requested limits; measure: the unit of losses; used, limits: of each resource.
    front: assignments at other limits on `swept`; agreement: rank correlations of the measures.
    """

    request: str
    measure: str
    layers: tuple[LayerBits, ...]
    used: tuple[Measured, ...]
    limits: tuple[Measured, ...]
    swept: str
    loss: float
    front: tuple[FrontPoint, ...]
    agreement: tuple[Measured, ...]

    @property
    def average_bits(self) -> float:
        """Bits of a weight, over all weights."""
        total = sum(layer.parameters for layer in self.layers)
        return sum(layer.parameters * layer.weight_bits for layer in self.layers) / max(total, 1)


def widest(assignment: ChosenBits, kind: str) -> tuple[Measured, ...]:
    """The numbers of one kind (losses, micros, measures) of the layer that has most of them: the
    columns of a table of all layers."""
    columns: tuple[Measured, ...] = max(
        (getattr(c, kind) for c in assignment.layers), key=len, default=()
    )
    return columns
