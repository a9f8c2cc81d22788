"""How keys and values are stored, for a report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Caches:
    """`format`: of keys and of values; `bits` a value, with the numbers that a block shares.

    tried: the formats that were looked at, each with its bits and how far it moves the outputs on
           calibration data, nats.
    """

    format: str
    bits: float
    tried: tuple[tuple[str, float, float], ...] = ()

    def lines(self) -> tuple[str, ...]:
        """Facts for a reader."""
        facts = [f"keys and values: {self.format}, {self.bits:.4g} bits a value"]
        if self.tried:
            formats = "; ".join(
                f"{name} {1000 * divergence:.3g} mnat" for name, _, divergence in self.tried
            )
            facts.append(f"formats tried: {formats}")
        return tuple(facts)
