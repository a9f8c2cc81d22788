"""The errors of the runtime, which imports nothing of qir."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

SHOWN = 20  # faults listed in one error; the rest are counted
CONTROLS = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, bidirectional marks, surrogates, separators


def printable(line: str) -> str:
    """`line` with its control characters as escapes: names in an artifact come from outside."""
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in CONTROLS else c
        for c in line
    )


class RuntimeFault(Exception):
    """Any error the runtime raises on purpose: what, where, found, needed, and a hint.

    It is one line, or those of `listed`: control characters in it are escaped.
    """

    def __init__(self, text: str | Sequence[str], hint: str | None = None) -> None:
        self.lines = tuple(map(printable, (text,) if isinstance(text, str) else text))
        self.text = "\n".join(self.lines)
        self.hint = None if hint is None else printable(hint)
        super().__init__(self.text if hint is None else f"{self.text}\nhint: {self.hint}")

    def __reduce__(self) -> tuple[type[RuntimeFault], tuple[tuple[str, ...], str | None]]:
        return type(self), (self.lines, self.hint)


class ArtifactError(RuntimeFault):
    """An artifact is damaged, incomplete, or not for this machine."""


class MachineError(ArtifactError):
    """An artifact is whole, and for another machine than this one."""


class DataError(RuntimeFault):
    """Inputs are not what the artifact takes."""


def listed(head: str, faults: Iterable[str], most: int = SHOWN) -> tuple[str, ...]:
    """The lines of an error: `head`, then at most `most` faults, and a count of the rest."""
    every = tuple(faults)
    rest = (f"  ... and {len(every) - most} more",) if len(every) > most else ()
    return head, *(f"  {fault}" for fault in every[:most]), *rest
