"""The kernel of softmax in fixed point, over the last axis.

    softmax(x: View, exp_table, zero_point, mult, shift, low, high, y: View, features)
        d = max(x) - x;  e = exp_table[d];  S = sum(e);  n = 31 - bit_length(S);  m = S << n
        r = seed[(m >> 23) - 128], then twice  r = (r * (2**31 - ((m * r) >> 31))) >> 30
        p = (e * r) >> (31 - n);  y = clamp(((p * mult + 2**(shift-1)) >> shift) + zero_point)

Arguments ("x", "constants", "y"). seed[i] = floor(2**69 / ((2 * (i + 128) + 1) * 2**30)).
Needs: S < 2**31; exp_table non-negative, its first entry the greatest; mult in [0, 2**31).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.view import View

SEEDS = 128


@dataclass(frozen=True)
class SoftmaxCode(NestCode):
    """The nest's operands: x, y; its last axis is the row."""

    x: str
    y: str
    low: int
    high: int
    nest: Nest

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    @property
    def fields(self) -> Fields:
        numbers = tuple((name, "int64", 1) for name in ("mult", "half", "shift", "zero"))
        return Fields((("exp", "int32", 256), ("seed", "int64", SEEDS), *numbers))


def softmax(
    x: View,
    exp_table: Array,
    zero_point: int,
    mult: int,
    shift: int,
    low: int,
    high: int,
    y: View,
    features: frozenset[str],
) -> Kernel:
    """Probabilities along the last axis; the same code on every machine, so far."""
    table = np.asarray(exp_table, np.int64)
    _check(x, y, table, mult, shift)
    loops = nest(x.shape, (x.strides, y.strides), inner=1)
    code = SoftmaxCode(x.dtype, y.dtype, low, high, loops)
    seeds = [(1 << 69) // ((2 * (i + SEEDS) + 1) << 30) for i in range(SEEDS)]
    exp = np.zeros(256, np.int64)
    exp[: table.size] = table
    values = {"exp": exp, "seed": np.array(seeds, np.int64), "zero": np.int64(zero_point)}
    values |= {"mult": np.int64(mult), "half": np.int64(1 << (shift - 1)), "shift": np.int64(shift)}
    return Kernel(code, code.fields.pack(values))  # type: ignore[arg-type]


def _check(x: View, y: View, table: Array, mult: int, shift: int) -> None:
    if x.item != 1 or x.shape != y.shape or not x.shape:
        raise ValueError(
            f"softmax: x is {x.dtype} {list(x.shape)}, y {list(y.shape)};"
            " 8 bits, one shape and an axis are needed"
        )
    falls = table.min() >= 0 and table[0] >= 1 and table[0] == table.max() and table.size <= 256
    if not falls or int(table.max()) * x.shape[-1] >= 2**31:
        raise ValueError(
            f"softmax: {x.shape[-1]} exponentials in [{table.min()}, {table.max()}],"
            " the first the greatest and a sum under 2**31 are needed"
        )
    if not (0 <= mult < 2**31 and 1 <= shift <= 62):
        raise ValueError(
            f"softmax: mult {mult}, shift {shift}; 0 to 2**31 - 1 and 1 to 62 are needed"
        )
