"""The kernels of a program as one portable C99 text, for targets whose generator is "c"."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from qir.backends.c.calls import local
from qir.backends.c.template import FOLDER
from qir.backends.lowering.program import LoweredProgram, Step
from qir.ir.errors import LowerError, listed

WIDTH = 100
TAKEN = re.compile(r"\b(?:(?:min|max|clamp|shl)_[iu]\d+|[iu]\d+_at)(?=\()")
"""Calls of the functions in backends/c/templates/portable.c."""

COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
FLOAT = re.compile(
    r"\b(?:float|double)\b"
    r"|(?<![\w.])(?:\d+\.\d*\w*|\.\d\w*|\d+[eE][+-]?\d\w*|0[xX][\da-fA-F.]+[pP]\w*)"
)
"""The types and constants of C that are no integers."""


ASSUMED = """\
/* What is assumed of the machine, beside bytes of 8 bits: an array of negative size is an error.
 * Conversions to narrower signed types keep the low bits, as all compilers have it. */
typedef char needs_int_of_32_bits[sizeof(int) >= 4 ? 1 : -1];
typedef char needs_arithmetic_shift_to_the_right[(-1 >> 1) == -1 ? 1 : -1];
typedef char needs_twos_complement[(int8_t)0xFF == -1 ? 1 : -1];"""


def kernels(programs: Sequence[LoweredProgram], texts: Mapping[str, str]) -> str:
    """The assumptions, the small functions in use, then every kernel below a comment."""
    parts = [ASSUMED, *_helpers(texts.values())]
    every = [(local(p), i, s) for p in programs for i, s in enumerate(p.steps)]
    for symbol in dict.fromkeys(step.symbol for _, _, step in every):
        steps = [(f"{entry}{i}", s) for entry, i, s in every if s.symbol == symbol]
        parts.append(comment(_description(symbol, steps)) + "\n" + texts[symbol].rstrip())
    return "\n\n".join(parts)


def floats(text: str) -> list[str]:
    """Every token of C for a float in `text`, comments aside; none is the proof."""
    return sorted(set(FLOAT.findall(COMMENT.sub(" ", text))))


def check_integer_only(name: str, text: str) -> None:
    """Errors: LowerError that lists the floats of a C file."""
    if matches := floats(text):
        raise LowerError(listed(f"{name}: floats in the C text, none is allowed", matches))


def printable(text: str) -> str:
    """Text that can stand in a C comment, whatever a model calls its ops."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    for bad, good in (("*/", "* /"), ("/*", "/ *"), ("\\", "/"), ("??", "? ?")):
        plain = plain.replace(bad, good)
    return plain


def comment(text: str) -> str:
    """A C comment with this text, cut into lines."""
    lines = textwrap.wrap(printable(text), WIDTH - 6, break_on_hyphens=False)
    return "/* " + "\n * ".join(lines) + " */"


def _description(symbol: str, steps: list[tuple[str, Step]]) -> str:
    """The description of a kernel: the first of its steps, its arguments, and the steps that share
    it.
    """
    first = steps[0][1]
    shapes = ", ".join(f"{a.name}: {a.about.split(' of ')[0]}" for a in first.arguments)
    numbers = ", ".join(i for i, _ in steps)
    also = f" Steps {numbers}." if len(steps) > 1 else f" Step {numbers}."
    return f"{symbol}: {first.title}; {shapes}; units: {first.units}.{also}"


def _helpers(texts: Iterable[str]) -> list[str]:
    """The functions of portable.c that the kernels call, in their order there."""
    calls = {name for text in texts for name in TAKEN.findall(text)}
    content = (FOLDER / "portable.c").read_text()
    starts = [m.start() for m in re.finditer(r"^(?:/\*[^\n]*\n)?static ", content, re.MULTILINE)]
    helpers = {}
    for begin, end in pairwise([*starts, len(content)]):
        text = content[begin:end].strip()
        helpers[TAKEN.findall(text)[0]] = text
    if missing := calls - set(helpers):
        raise LowerError(f"kernels: {', '.join(sorted(missing))} not in portable.c, all are needed")
    return [text for name, text in helpers.items() if name in calls]
