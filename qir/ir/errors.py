"""The errors of qir: one class for each party at fault, one way to write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SHOWN = 20  # faults listed in one error; the rest are counted


class QirError(Exception):
    """Any error that qir raises on purpose: one line of what, where, found, needed; a hint on the
    next.

    Source: this project (docs/errors.md).
    """

    def __init__(self, text: str, hint: str | None = None) -> None:
        self.text, self.hint = text, hint
        super().__init__(text if hint is None else f"{text}\nhint: {hint}")

    def __reduce__(self) -> tuple[type[QirError], tuple[str, str | None]]:
        return type(self), (self.text, self.hint)


class ParseError(QirError):
    """The text of a graph is not in qir's text form."""


class FrontendError(QirError):
    """The model cannot be imported."""


class VerifyError(QirError):
    """A rule of the language is broken."""


class PassError(QirError):
    """A pass broke the graph or its own claim."""


class LowerError(QirError):
    """The target cannot run the graph as integers."""


class ArtifactError(QirError):
    """An artifact is damaged, incomplete, or not for this machine."""


class DataError(QirError):
    """Inputs or calibration data are not what the graph takes."""


def listed(head: str, faults: Iterable[str], shown: int = SHOWN) -> str:
    """`head`, then one fault a line, at most `shown` of them and a count of the rest."""
    every: Sequence[str] = list(faults)
    lines = [head, *(f"  {fault}" for fault in every[:shown])]
    if len(every) > shown:
        lines.append(f"  ... and {len(every) - shown} more")
    return "\n".join(lines)
