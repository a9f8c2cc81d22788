"""What kernels refuse, and what they say about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qir.backends.kernels.bilinear import bilinear
from qir.backends.kernels.contraction.spec import ContractionSpec
from qir.backends.kernels.contraction.wide import wide
from qir.backends.kernels.elementwise import multiply, requantize
from qir.backends.kernels.lookup import lookup
from qir.backends.kernels.matmul import matmul
from qir.backends.kernels.move import copy, fill, frame, gather
from qir.backends.kernels.plane import Plane
from qir.backends.kernels.pool import PoolWindow, max_pool, sum_pool
from qir.backends.kernels.reduce import reduce_max, reduce_sum
from qir.backends.kernels.requantize.scale import Scale
from qir.backends.kernels.softmax import softmax
from qir.backends.kernels.view import View

ANY: frozenset[str] = frozenset()
A = View.packed("uint8", (4, 6))
SUM = View.packed("int32", (4, 6))
P = Plane.packed("uint8", 1, 4, 4, 3)
S = Scale((1 << 30,), 31, 0, 0, 255)
TABLE = np.arange(256, dtype=np.uint8)
EXP = np.array([8, 4, 2, 1], np.int32)
INDEX, HALVES = np.zeros((4, 2), np.int64), np.full((4, 2), 1024)
W = np.ones((3, 1, 1, 3), np.int64)


def scaled(scale: Scale) -> Callable[[], object]:
    return lambda: requantize([A], [0], scale, A, ANY)


def resized(**other: object) -> Callable[[], object]:
    numbers = {"rows": INDEX, "columns": INDEX, "u": HALVES, "v": HALVES} | other
    y = Plane.packed("int32", 1, 4, 4, 3)
    return lambda: bilinear(P, y, zero_point=0, features=ANY, **numbers)  # type: ignore[arg-type]


def softened(table: np.ndarray = EXP, mult: int = 1 << 30, x: View = A) -> Callable[[], object]:  # type: ignore[type-arg]
    return lambda: softmax(x, table, 0, mult, 52, 0, 255, A, ANY)


def widened(
    w: np.ndarray = W, x: Plane = P, y: str = "int32", **other: object
) -> Callable[[], object]:  # type: ignore[type-arg]
    return lambda: wide(x, Plane.packed(y, 1, 4, 4, 3), w, 0, ANY, **other)  # type: ignore[arg-type]


# ruff: noqa: E501

REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: View("float32", (1,), (1,)), "view: dtype is float32, one of uint8, int8, uint16, int16, int32, uint32, int64 is needed"),
    (lambda: View("int8", (1, 2), (1,)), "view: 1 strides for shape [1, 2], 2 are needed"),
    (lambda: View.packed("int8", (2, 0)), "view: shape is [2, 0], at least 1 each is needed"),
    (lambda: A.expanded((3, 4, 5)), "view: [4, 6] does not broadcast to [3, 4, 5]"),
    (lambda: A.expanded((6,)), "view: [4, 6] does not broadcast to [6]"),
    (lambda: copy(A, SUM, ANY), "copy: x is uint8 [4, 6], y int32 [4, 6]; one type is needed"),
    (lambda: fill(A, 256, ANY), "fill: value 256, 0 to 255 is needed for uint8"),
    (lambda: frame(P, (0, 0, 0, 0), -1, ANY), "frame: value -1, 0 to 255 is needed for uint8"),
    (lambda: frame(P, (1, 1, 1, 1), 0, ANY), "frame: pixels are 3 elements apart, rows 12; pad (1, 1, 1, 1) needs 3 and 18"),
    (lambda: gather([1], "uint8", A, ANY), "gather: 1 offsets of uint8, y is uint8 of rank 2; they must agree"),
    (lambda: gather([1, np.arange(5)], "uint8", A, ANY), "gather: [5] offsets on axis 1, [6] are needed"),
    (lambda: gather([1, np.arange(6) ** 2 << 30], "uint8", A, ANY), "gather: elements from the first to the last of x: 26843545604, fewer than 2**31 are needed for 32-bit indices"),
    (lambda: multiply(A, A, (0, 0), A, ANY), "multiply: y is uint8, int32 is needed without a scale"),
    (lambda: lookup(SUM, TABLE, 0, A, ANY), "lookup: x is int32 [4, 6], y [4, 6]; 8 bits and one shape are needed"),
    (lambda: lookup(A, TABLE, 0, SUM, ANY), "lookup: table is uint8 [256], int32 for 1 or 6 channels is needed"),
    (lambda: max_pool(P, replace(P, dtype="int8"), PoolWindow((2, 2)), ANY), "max_pool: x is uint8, y int8; one dtype is needed"),
    (lambda: sum_pool(P, P, PoolWindow((1, 1)), 0, ANY), "sum_pool: y is uint8, int32 is needed without a scale"),
    (lambda: max_pool(P, Plane.packed("uint8", 2, 4, 4, 3), PoolWindow((1, 1)), ANY), "max_pool: x is [1, 4, 4, 3], y [2, 4, 4, 3]; one batch and channels are needed"),
    (lambda: max_pool(P, P, PoolWindow((1, 1), (1, 2)), ANY), "max_pool: a window of width 4 holds no element of x, one is needed"),
    (lambda: reduce_max(A, (0,), View.packed("int8", (1, 6)), ANY), "reduce_max: x is uint8, y int8; one dtype is needed"),
    (lambda: reduce_sum(A, (0,), 1 << 29, View.packed("int32", (1, 6)), ANY), "reduce_sum: 4 zero points of 536870912, a sum of 32 bits is needed"),
    (lambda: reduce_sum(A, (0,), 0, View.packed("uint8", (1, 6)), ANY), "reduce_sum: y is uint8, int32 is needed without a scale"),
    (lambda: reduce_sum(A, (1,), 0, View.packed("int32", (1, 6)), ANY), "reduce_sum: y is [1, 6], [4, 1] is needed"),
    (softened(x=SUM), "softmax: x is int32 [4, 6], y [4, 6]; 8 bits, one shape and an axis are needed"),
    (softened(EXP[::-1]), "softmax: 6 exponentials in [1, 8], the first the greatest and a sum under 2**31 are needed"),
    (softened(mult=-1), "softmax: mult -1, shift 52; 0 to 2**31 - 1 and 1 to 62 are needed"),
    (lambda: bilinear(P, P, INDEX, INDEX, HALVES, HALVES, 0, ANY), "bilinear: y is uint8, int32 is needed without a scale"),
    (lambda: bilinear(P, Plane.packed("int32", 1, 4, 4, 5), INDEX, INDEX, HALVES, HALVES, 0, ANY), "bilinear: x is [1, 4, 4, 3], y [1, 4, 4, 5]; one batch and channels are needed"),
    (resized(rows=INDEX[1:]), "bilinear: index [3, 2], weight [4, 2]; [4, 2] is needed"),
    (resized(columns=INDEX + 4), "bilinear: index [4, 4], 0 to 3 is needed"),
    (resized(u=HALVES + 1), "bilinear: weights of sums 2050 to 2050, 2048 is needed"),
    (lambda: matmul(A, A, (0, 0), SUM, ANY), "matmul: a is [4, 6], b [4, 6], y [4, 6]; [M, K], [K, N] and [M, N] are needed"),
    (lambda: matmul(A, A.transposed((1, 0)), (0, 0), View.packed("int8", (4, 4)), ANY), "matmul: y is int8, int32 is needed without a scale"),
    (widened(y="uint8"), "wide: y is uint8, int32 is needed without a scale"),
    (widened(residual=P), "wide: a residual without a scale, one is needed to add it"),
    (widened(W[:, :, :, :2]), "wide: weights are [3, 1, 1, 2], [3, 1, 1, 3] is needed"),
    (widened(W << 15), "wide: x is uint8, weights [32768, 32768]; 16 bits are needed"),
    (widened(x=replace(P, batch=2)), "wide: x is [2, 4, 4, 3], residual None, y [1, 4, 4, 3]; one batch, and the shape of y, are needed"),
    (lambda: wide(P, replace(P, dtype="int32", pitch_n=48), W, 1 << 31, ANY), "wide: bias [2147483648, 2147483648], 32 bits are needed"),
    (lambda: ContractionSpec(P, replace(P, dtype="uint16")), "contraction: y or residual is uint16, uint8, int8 or int16 is needed"),
    (widened(strides=(1, 2)), "wide: x has width 4, 7 needed for 4 outputs"),
    (scaled(replace(S, mult=(1, 1))), "scale: 2 multipliers, 1 are needed"),
    (scaled(replace(S, shift=63)), "scale: shifts [63, 63], 1 to 62 are needed"),
    (scaled(replace(S, mult=(-(2**31),))), "scale: multiplier 2147483648, under 2**31 is needed"),
    (scaled(replace(S, low=-1)), "scale: clamp [-1, 255] is not a range of uint8"),
    (scaled(replace(S, shift=np.full(5, 31))), "scale: [(), (5,), ()] do not broadcast to [4, 6]"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


def test_a_code_without_a_writer() -> None:
    from qir.backends.tvm.kernels.registry import emit

    with pytest.raises(
        LookupError, match=r"^kernel k: no TIR for int, one of AttentionCode, .* is needed$"
    ):
        emit(7, "k")
