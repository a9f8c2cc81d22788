"""What one import may spend: nodes, bytes of constants, and time of folding.

A file of a few kilobytes can ask for any amount of work: constants that double, functions that call
each other, one huge Tile. Each limit is far over any real model, and grows with what the file
itself holds where real work does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qir.ir.errors import FrontendError

MAX_ELEMENTS = 1 << 31  # of one tensor: 8 GiB of floats, far over any real activation
MAX_NODES = 50_000  # nodes of the model, each call of a function with its body; 8 operands are one
FREE_BYTES = 256 << 20  # of constants made at import, beside BYTES_EACH for each byte of the file
BYTES_EACH = 8  # 4-bit weights become float32, and may be laid out anew once
FREE_NS = 15_000_000_000  # of estimated folding, beside NS_EACH for each byte of the file
NS_EACH = 50


class OverBudget(FrontendError):
    """The model asks for more than an import may spend: the import ends, further nodes unseen."""

    is_placed = False  # whether the text says at which node


@dataclass
class Budget:
    """The remaining budget of a model of `content` bytes, external data included."""

    content: int

    def __post_init__(self) -> None:
        self.nodes = MAX_NODES
        self.bytes = FREE_BYTES + BYTES_EACH * self.content
        self.nanoseconds = FREE_NS + NS_EACH * self.content

    def extend(self, content: int) -> None:
        """Add `content` bytes of external data to what the model holds."""
        self.content += content
        self.bytes += BYTES_EACH * content
        self.nanoseconds += NS_EACH * content

    def spend_nodes(self, operands: Iterable[int]) -> None:
        """Nodes of so many inputs and outputs each. Errors: OverBudget."""
        self.nodes -= sum(1 + count // 8 for count in operands)
        if self.nodes < 0:
            raise OverBudget(
                f"over {MAX_NODES} nodes, those of called functions included; fewer are needed"
            )

    def check_bytes(self, count: int, subject: str) -> None:
        """Errors: OverBudget when `count` more bytes of constants are over the limit."""
        if count > self.bytes:
            limit = FREE_BYTES + BYTES_EACH * self.content
            raise OverBudget(
                f"{subject} takes {count} bytes, and with all constants before it over {limit};"
                f" at most that is needed for a model of {self.content} bytes"
            )

    def spend_bytes(self, count: int, subject: str) -> None:
        """`count` bytes of a new constant. Errors: OverBudget."""
        self.check_bytes(count, subject)
        self.bytes -= count

    def spend_time(self, nanoseconds: int, subject: str) -> None:
        """Estimated work on constants. Errors: OverBudget."""
        self.nanoseconds -= nanoseconds
        if self.nanoseconds < 0:
            limit = (FREE_NS + NS_EACH * self.content) / 1e9
            raise OverBudget(
                f"{subject}: constant nodes up to here take over {limit:.0f} s to compute,"
                " less is needed",
                "fold the constants before (onnxsim, onnxruntime's basic optimizations)",
            )
