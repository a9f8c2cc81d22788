"""The answer of a process that builds kernels; shared by both sides, so free of TVM."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Built:
    """Objects, or what prevented them; the kernels searched for floats; TVM's version.

    `texts`: (symbol, C function) in place of objects, for targets whose generator is "c".
    """

    objects: tuple[bytes, ...]
    checked: tuple[str, ...]
    faults: tuple[str, ...]
    version: str
    texts: tuple[tuple[str, str], ...] = ()
