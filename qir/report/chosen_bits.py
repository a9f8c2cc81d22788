"""What a report says of mixed precision: the bits of each layer, what they were chosen by, and
what else could be had."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """A number and what it is of: of bits, a measure, a resource or two measures."""

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
    """An assignment that no other beats: what it uses of the swept resource, and what it loses."""

    cost: float
    loss: float


@dataclass(frozen=True)
class ChosenBits:
    """The choice of bits.

    request: the limits asked for; measure: what losses are; used, limits: of each resource.
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


def widest(chosen: ChosenBits, kind: str) -> tuple[Measured, ...]:
    """The numbers of one kind (losses, micros, measures) of the layer that has most of them: the
    columns of a table of all layers."""
    found: tuple[Measured, ...] = max(
        (getattr(c, kind) for c in chosen.layers), key=len, default=()
    )
    return found
