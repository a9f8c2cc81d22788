"""Compiles the codes of kernels to objects."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qir.backends.targets.generators import generator_of
from qir.backends.toolchain import service
from qir.backends.toolchain.built import Built
from qir.ir.errors import LowerError, listed
from qir.ir.target import Target

if TYPE_CHECKING:
    from qir.backends.kernels.kernel import Code

ENOUGH = 24
"""Kernels from which a second process is worth it."""


@dataclass(frozen=True)
class Compiled:
    """The objects, by file name; the kernels proven to hold no float; the compiler's version.

    `texts`: the kernels as C functions, by symbol, in place of objects where the generator's are
    texts.
    """

    objects: Mapping[str, bytes]
    checked: tuple[str, ...]
    version: str
    texts: Mapping[str, str]


def compile_kernels(codes: Mapping[str, Code], target: Target) -> Compiled:
    """Objects that define every symbol. The same codes give the same bytes, on any number of cores.

    Errors: LowerError that names the kernels that cannot be built, or that hold floats.
    """
    symbols = sorted(codes)
    count = 1 if len(symbols) < ENOUGH else 2
    # Every other kernel: neighbours cost alike, so both halves take as long.
    shares = [{s: codes[s] for s in symbols[i::count]} for i in range(count)]
    described = generator_of(target).machine(target)
    return _join(service.answers([_question(described, share) for share in shares]))


def _question(described: Mapping[str, object], share: Mapping[str, Code]) -> bytes:
    try:
        return pickle.dumps((described, share))
    except Exception as e:
        faults = list(_unpicklable(share)) or [str(e)]
        head = f"kernels: {len(faults)} cannot be pickled, which is needed to build them elsewhere"
        raise LowerError(listed(head, faults)) from e


def _unpicklable(share: Mapping[str, Code]) -> Iterator[str]:
    for symbol, code in share.items():
        try:
            pickle.dumps(code)
        except Exception as e:  # a code of any class may raise anything
            yield f"{symbol}: {type(e).__name__}: {e}"


def _join(parts: Sequence[Built]) -> Compiled:
    faults = [fault for part in parts for fault in part.faults]
    if faults:
        raise LowerError(listed(f"kernels: {len(faults)} faults in their code", faults))
    every = [content for part in parts for content in part.objects]
    objects = {f"kernels{i}.o": content for i, content in enumerate(every)}
    texts = {symbol: text for part in parts for symbol, text in part.texts}
    checked = tuple(s for part in parts for s in part.checked)
    return Compiled(objects, checked, parts[0].version, dict(sorted(texts.items())))
