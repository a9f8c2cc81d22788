"""The border in NumPy against the one in C, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from qir import runtime
from qir.backends import build
from qir.ir.fixed import Rounding
from qir.ir.op import Value
from qir.ir.ops import Reshape
from qir.ir.ops import quantize as definition
from qir.ir.types import I4, I8, I16, I32, U3, U7, U8, Int, Quant, Tensor
from qir.runtime.border import dequantized, quantized
from tests.small_graphs import Small

STORAGES: tuple[Int, ...] = (U8, I8, I16, I4, U3, U7, I32)
SHAPE = (6, 500)


def session() -> runtime.Session:
    """Inputs of every storage that come out as they are: the borders alone."""
    b = Small("border")
    kinds = [Quant.per_tensor(s, 0.37, z) for s in STORAGES for z in (s.min, s.max, 1)]
    xs = [b.input(f"x{i}", Tensor(SHAPE, q)) for i, q in enumerate(kinds)]
    ys: list[Value] = [b.add(Reshape(x, SHAPE)) for x in xs]
    return runtime.Session(runtime.from_files(build(b.finish(ys), "x86-64").files))


def reals(scale: float) -> np.ndarray:  # type: ignore[type-arg]
    """Values near and far, ties, and what is no number."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=SHAPE) * scale).astype(np.float32)
    x[1] = (rng.integers(-300, 300, SHAPE[1]) + 0.5).astype(np.float32) * np.float32(0.37)
    x[2] = rng.choice([np.inf, -np.inf, 3e38, -3e38, -0.0, 1e-42], SHAPE[1]).astype(np.float32)
    x[3] = np.nan
    return x


def test_both_borders_give_the_same_bits() -> None:
    made = session()
    for scale in (0.1, 10.0, 1e5, 1e9):
        x = reals(scale)
        expected = made(*[x] * len(made.inputs))
        for port, out, w in zip(made.inputs, made.outputs, expected, strict=True):
            actual = dequantized(out, quantized(port, x))
            assert actual.dtype == w.dtype and np.array_equal(actual, w), (port, scale)


def test_scales_by_channel_go_along_their_axis() -> None:
    rng = np.random.default_rng(1)
    for axis, count in enumerate(SHAPE):
        q = Quant.per_axis(I8, rng.uniform(1e-3, 3, count), rng.integers(-9, 9, count), axis)
        scale, zero = tuple(map(float, q.scale.array)), tuple(map(int, q.zero_point.array))
        port = runtime.Port("x", np.dtype(np.int8), SHAPE, -128, 127, scale, zero, axis)
        for x in map(reals, (1.0, 100.0)):
            x[3] = 0  # the definition says nothing of NaN
            stored = quantized(port, x)
            assert np.array_equal(stored, definition.quantized(x, q, Rounding.HALF_EVEN))
            assert np.array_equal(dequantized(port, stored), definition.dequantized(stored, q))


def test_plain_integers_pass_unchanged() -> None:
    port = runtime.Port("x", np.dtype(np.int32), (2,), -5, 5, None, None, None)
    x = np.array([1, 2], np.int32)
    assert quantized(port, x) is x and dequantized(port, x) is x


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_bytes_are_little_endian(dtype: str) -> None:
    storage = np.iinfo(dtype)
    port = runtime.Port(
        "x", np.dtype(dtype), (2,), int(storage.min), int(storage.max), None, None, None
    )
    x = np.array([storage.min, storage.max], dtype)
    assert port.encode(x) == x.astype(x.dtype.newbyteorder("<")).tobytes()
    assert np.array_equal(port.decode(b"?" + port.encode(x), 1), x)
