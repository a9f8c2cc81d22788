"""All targets by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from qir.backends.targets import arm, c, hexagon, host, riscv, x86
from qir.ir.errors import LowerError
from qir.ir.target import Target

TARGETS: tuple[Callable[[], Target], ...] = (
    host.host,
    lambda: x86.AVX512_VNNI,
    lambda: x86.AVX_VNNI,
    lambda: x86.AVX2,
    lambda: x86.BASELINE,
    lambda: x86.ANY,
    lambda: arm.BASELINE,
    lambda: arm.DOTPROD,
    lambda: arm.I8MM,
    lambda: arm.ANY,
    lambda: arm.ARMV7,
    lambda: arm.CORTEX_M4,
    lambda: arm.CORTEX_M7,
    lambda: arm.CORTEX_M33,
    lambda: arm.CORTEX_M55,
    lambda: hexagon.V66,
    lambda: hexagon.V68,
    lambda: hexagon.V69,
    lambda: hexagon.V73,
    lambda: riscv.RV64GCV,
    c.portable,
)
"""Every target there is; functions, because one depends on the machine."""


def find(name: str | Target) -> Target:
    """The target of this name or alias; a Target passes through.

    Errors: LowerError that lists the targets there are.
    """
    if isinstance(name, Target):
        return name
    targets = [make() for make in TARGETS]
    every = ", ".join(target.name for target in targets)
    if not isinstance(name, str):
        raise LowerError(f"target: {name!r} given, a Target or one of {every} is needed")
    for target in targets:
        if name in target.names:
            return target
    near = difflib.get_close_matches(name, [n for t in targets for n in t.names], 1)
    hint = f"did you mean {near[0]}?" if near else None
    label = name if name and name.isprintable() else repr(name)
    raise LowerError(f"target {label}: unknown, one of {every} is needed", hint)
