"""What the programs of one artifact share: constants, and the places of states."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from qir.backends.kernels import SLACK
from qir.backends.kernels.kernel import Code
from qir.backends.lowering.memory import aligned
from qir.backends.lowering.program import StateBuffer, size_bytes
from qir.backends.lowering.weights import WeightBlob
from qir.ir.graph import Graph
from qir.ir.states import initial, shared_states


@dataclass
class Shared:
    """`weights`: of all programs; `states`, in the order of their offsets, in `state_bytes`.

    `symbols`: the names of the kernels so far, for programs of one machine.
    """

    weights: WeightBlob
    states: tuple[StateBuffer, ...] = ()
    state_bytes: int = 0
    symbols: dict[Code, str] = field(default_factory=dict)

    @staticmethod
    def of(graphs: Iterable[Graph], alignment: int) -> Shared:
        """Errors: VerifyError when one name is of states of two types."""
        states, at = [], 0
        for value in shared_states(graphs):
            states.append(StateBuffer(value, at, initial(value)))
            at += aligned(size_bytes(value), alignment)
        return Shared(WeightBlob(alignment), tuple(states), at + SLACK if states else 0)

    def for_machine(self) -> Shared:
        """The same for programs of another machine, whose kernels are named anew."""
        return Shared(self.weights, self.states, self.state_bytes)

    def offset(self, name: str) -> int:
        """The offset of the state of this name."""
        return next(s.offset for s in self.states if s.value.name == name)
