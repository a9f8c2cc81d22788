"""The errors of qir: one class for each party at fault, one way to write them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

SHOWN = 20  # faults listed in one error; the rest are counted
LONGEST_LINE = 2000  # characters of one line of an error; a name in a model may have a million
CONTROLS = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, bidirectional marks, surrogates, separators


def printable(text: str) -> str:
    """`text` as one line that is safe on a terminal: control characters as escapes, cut when long.

    Names and texts of models come from outside: an ESC in one would move the cursor, a line feed
    would start a line of its own.
    """
    head = text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 100]
    tail = "" if head is text else f"... ({len(text)} characters) ...{text[-50:]}"
    line = head + tail
    if line.isascii() and line.isprintable():
        return line
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in CONTROLS else c
        for c in line
    )


class QirError(Exception):
    """Any error that qir raises on purpose: one line of what, where, found, needed; a hint on the
    next. Only `listed` gives several lines: a line feed in a text from outside is escaped, as all
    control characters are.

    Source: this project (docs/reference/errors.md).
    """

    def __init__(self, text: str | Sequence[str], hint: str | None = None) -> None:
        self.lines = tuple(map(printable, (text,) if isinstance(text, str) else text))
        self.text = "\n".join(self.lines)
        self.hint = None if hint is None else printable(hint)
        super().__init__(self.text if hint is None else f"{self.text}\nhint: {self.hint}")

    def after(self, where: str) -> tuple[str, ...]:
        """The lines, the first with `where` before it."""
        return f"{where}: {self.lines[0]}", *self.lines[1:]

    def __reduce__(self) -> tuple[type[QirError], tuple[tuple[str, ...], str | None]]:
        return type(self), (self.lines, self.hint)


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


def listed(head: str, faults: Iterable[str], most: int = SHOWN) -> tuple[str, ...]:
    """The lines of an error: `head`, then at most `most` faults, and a count of the rest."""
    every = tuple(faults)
    rest = (f"  ... and {len(every) - most} more",) if len(every) > most else ()
    return head, *(f"  {fault}" for fault in every[:most]), *rest
