"""The errors of the runtime; it stands alone, so they are its own."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 20  # faults listed in one error; the rest are counted


class RuntimeFault(Exception):
    """Any error the runtime raises on purpose: what, where, found, needed; a hint below."""

    def __init__(self, text: str, hint: str | None = None) -> None:
        self.text, self.hint = text, hint
        super().__init__(text if hint is None else f"{text}\nhint: {hint}")

    def __reduce__(self) -> tuple[type[RuntimeFault], tuple[str, str | None]]:
        return type(self), (self.text, self.hint)


class ArtifactError(RuntimeFault):
    """An artifact is damaged, incomplete, or not for this machine."""


class MachineError(ArtifactError):
    """An artifact is whole, and for another machine than this one."""


class DataError(RuntimeFault):
    """Inputs are not what the artifact takes."""


def listed(head: str, faults: Iterable[str], shown: int = SHOWN) -> str:
    """`head`, then one fault a line, at most `shown` of them and a count of the rest."""
    every = list(faults)
    lines = [head, *(f"  {fault}" for fault in every[:shown])]
    if len(every) > shown:
        lines.append(f"  ... and {len(every) - shown} more")
    return "\n".join(lines)
