"""What a network was made less deep by, for a report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Depth:
    """removed: sub-layers that are left out, by kind and number as in `mlp 5`, in the order they
             were chosen, each with the distance of the outputs from the full network's after it;
    distance: its name; sublayers: how many there were.
    groups:  layers that run side by side, by their numbers among those that are left; bypass: the
             members whose attention an MLP reads beside its own, -1 for all.
    """

    removed: tuple[tuple[str, float], ...] = ()
    distance: str = ""
    sublayers: int = 0
    groups: tuple[tuple[int, ...], ...] = ()
    bypass: int = 0

    def lines(self) -> tuple[str, ...]:
        """Facts for a reader."""
        facts = []
        if self.removed:
            names = ", ".join(name for name, _ in self.removed)
            facts.append(
                f"{len(self.removed)} of {self.sublayers} sub-layers are left out: {names}"
            )
        if self.groups:
            groups = ", ".join("+".join(map(str, group)) for group in self.groups)
            bypass = "all" if self.bypass < 0 else self.bypass
            facts.append(f"layers side by side: {groups}, bypass {bypass}")
        return tuple(facts)
