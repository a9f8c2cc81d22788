"""The integer ops of sequences against their real forms, and at the ends of their ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from qir.ir.bounds import Bounds
from qir.ir.data import Data
from qir.ir.fixed import Dyadic, one_shift
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Attention,
    AttentionFixed,
    Hadamard,
    Interpolate,
    NormFixed,
    QuantizeRows,
    RmsNorm,
    Rope,
    RopeFixed,
    RoundRows,
    RowScale,
    ScaleRows,
)
from qir.ir.ops.sequence.matrices import signs
from qir.ir.types import F32, I8, I16, I32, Array, Int, Quant, Tensor

RNG = np.random.default_rng(3)


def value(name: str, shape: tuple[int, ...], storage: Int, scale: float) -> Value:
    return Value(name, Tensor(shape, Quant.per_tensor(storage, scale, 0)))


def real(name: str, array: Array) -> Value:
    return Value(name, Tensor(array.shape, F32))


def computed(op: Op, *operands: Array | None) -> Array:
    args = [None if a is None else torch.from_numpy(np.array(a, np.float32)) for a in operands]
    return np.asarray(op.compute(torch, *args))


def noise_ratio(reals: Array, found: Array) -> float:
    """Signal over error in decibels."""
    return 10 * math.log10(float((reals**2).sum() / ((reals - found) ** 2).sum()))


@pytest.mark.parametrize("storage", [I16, I32])
def test_rows_keep_their_own_scales(storage: Int) -> None:
    x = RNG.standard_normal((5, 64)) * 2.0 ** RNG.integers(4, storage.bits - 4, (5, 1))
    x = np.clip(x, storage.min, storage.max).astype(storage.carrier)
    v = value("x", x.shape, storage, 0.01)
    for block in (64, 16):
        scale_op = RowScale(v, block, names=("s",))
        scale = scale_op.evaluate(x)
        op = QuantizeRows(v, scale_op.result, block, names=("y",))
        codes = op.evaluate(x, scale)
        each = np.repeat((scale & 255) * 2.0 ** (scale >> 8), block, -1)
        back = codes * each * op.result.type.quant.scale.item()
        simulated = computed(RoundRows(real("x", x), block, names=("r",)), x * 0.01)
        step = np.repeat(np.abs(x).reshape(5, -1, block).max(-1), block, -1) * 0.01 / 127
        assert np.all(np.abs(back - x * 0.01) <= step * 0.52)
        # The grid of mantissas depends on the scale of x, so codes may differ: not their error.
        exact = x * 0.01
        assert abs(noise_ratio(exact, back) - noise_ratio(exact, simulated)) < 1
        assert np.abs(codes).reshape(5, -1, block).max(-1).min() >= 126


def test_rows_of_extremes() -> None:
    x = np.array([[-(2**31), 2**31 - 1], [0, 0], [1, -1], [-(2**31), 0]], np.int32)
    v = value("x", x.shape, I32, 1.0)
    scale_op = RowScale(v, 2, names=("s",))
    scale = scale_op.evaluate(x)
    codes = QuantizeRows(v, scale_op.result, 2, names=("y",)).evaluate(x, scale)
    assert codes.tolist() == [[-127, 127], [0, 0], [127, -127], [-127, 0]]
    low, high = scale_op.bound(Bounds.of_type(v.type)).ends
    assert low <= scale.min() and scale.max() <= high


def test_any_scale_is_harmless() -> None:
    """Codes stay in their range for scales that are none of the row."""
    x = RNG.integers(-(2**31), 2**31, (64, 8)).astype(np.int32)
    scale = RNG.integers(-(2**31), 2**31, (64, 1)).astype(np.int32)
    v = value("x", x.shape, I32, 1.0)
    s = Value("s", Tensor(scale.shape, I32))
    codes = QuantizeRows(v, s, 8, names=("y",)).evaluate(x, scale)
    assert np.abs(codes.astype(int)).max() <= 127


def scaled(residual: bool) -> tuple[ScaleRows, list[Array], Array]:
    acc = RNG.integers(-(2**20), 2**20, (6, 10)).astype(np.int32)
    w = 2.0 ** RNG.uniform(-14, -10, 10)
    x = Value("x", Tensor(acc.shape, Quant.per_axis(I32, w, 0, 1)))
    scale = (RNG.integers(-6, 3, (6, 1)) * 256 + RNG.integers(128, 256, (6, 1))).astype(np.int32)
    ratio = Dyadic.of(w / 0.5, 24)
    r = RNG.integers(-30000, 30000, (6, 10)).astype(np.int16)
    other = Dyadic.of(0.25 / 0.5, 31)
    bias = RNG.integers(-5000, 5000, 10)
    op = ScaleRows(
        x, Value("s", Tensor((6, 1), I32)), value("r", r.shape, I16, 0.25) if residual else None,
        Quant.per_tensor(I16, 0.5, 0), ratio.mult, ratio.shift, Data(bias),
        int(other.mult.array), int(other.shift.array), names=("y",),
    )  # fmt: skip
    reals = acc * w * (scale & 255) * 2.0 ** (scale >> 8) + bias * 0.5 / 256
    return op, [acc, scale, *([r] if residual else [None])], reals + (r * 0.25 if residual else 0)


@pytest.mark.parametrize("residual", [False, True])
def test_scaled_sums_are_rounded_once(residual: bool) -> None:
    op, operands, reals = scaled(residual)
    assert not list(op.faults())
    y = op.evaluate(*operands)
    assert np.all(np.abs(y - np.clip(reals / 0.5, I16.min, I16.max)) <= 0.5 + 0.01)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("size", [8, 100, 576])
def test_norms(centred: bool, size: int) -> None:
    s_x, s_y, eps = 1 / 512, 1 / 4096, 1e-5
    x = (RNG.standard_normal((7, size)) * [[1], [30], [0.5], [5], [2], [0], [60]] / s_x).round()
    x = np.clip(x, -(2**19), 2**19).astype(np.int32)
    gain, offset = RNG.uniform(0.5, 1.5, size), RNG.uniform(-1, 1, size)
    fraction = 3 if centred else 0
    mult, shift = one_shift(np.sqrt(size) * gain * 2.0**-22 / s_y)
    mean = Dyadic.of(2.0**fraction / size) if centred else None
    steps = Data(np.rint(offset / s_y * 2.0**shift).astype(np.int64)) if centred else None
    epsilon = max(1, round(eps * size / (s_x / 2**fraction) ** 2))
    op = NormFixed(
        value("x", x.shape, Int(20, True), s_x), Quant.per_tensor(I16, s_y, 0), Data(mult), steps,
        shift, epsilon, fraction, mean, names=("y",),
    )  # fmt: skip
    assert not list(op.faults())
    y = op.evaluate(x) * s_y
    wide = torch.from_numpy(x * s_x)
    if centred:
        arguments = ((size,), torch.from_numpy(gain), torch.from_numpy(offset), eps)
        expected = torch.nn.functional.layer_norm(wide, *arguments).numpy()
    else:
        root = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        expected = (wide * root * torch.from_numpy(gain)).numpy()
        layer = RmsNorm(real("x", x), real("g", gain), eps, names=("n",))
        assert np.allclose(computed(layer, x * s_x, gain), expected, atol=1e-4)
    assert np.max(np.abs(y - np.clip(expected, -8, 8))) <= s_y * 1.5 + 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("pairs", [4, 3])
def test_rotations(interleaved: bool, pairs: int) -> None:
    x = RNG.integers(-30000, 30000, (2, 5, 24)).astype(np.int16)
    angle = RNG.uniform(0, 6, (5, pairs))
    cos, sin = (np.rint(t * 2**14).astype(np.int16) for t in (np.cos(angle), np.sin(angle)))
    tables = [value(n, cos.shape, I16, 2.0**-14) for n in ("c", "s")]
    to = Quant.per_tensor(I16, 0.002, 0)
    op = RopeFixed(
        value("x", x.shape, I16, 0.001), *tables, 8, interleaved, to,
        Dyadic.of(0.001 * 2.0**-14 / 0.002), names=("y",),
    )  # fmt: skip
    assert not list(op.faults())
    y = op.evaluate(x, cos, sin) * 0.002
    layer = Rope(real("x", x), real("c", cos), real("s", sin), 8, interleaved, names=("r",))
    expected = computed(layer, x * 0.001, cos * 2.0**-14, sin * 2.0**-14)
    assert np.max(np.abs(y - expected)) <= 0.001 + 1e-5


@pytest.mark.parametrize(("size", "blocks"), [(1, 3), (64, 2), (12, 1), (20, 3), (144, 1)])
def test_hadamard(size: int, blocks: int) -> None:
    """Exact sums, whose lengths are those of the operand; times the same matrix again, products."""
    x = RNG.integers(-(1 << 15), 1 << 15, (2, 5, blocks * size)).astype(np.int16)
    op = Hadamard(value("x", x.shape, I16, 0.01), size, names=("y",))
    y = op.evaluate(x)
    h = signs(size).astype(np.int64)
    assert np.array_equal(h, h.T) and np.array_equal(h @ h, size * np.eye(size))
    parts = x.reshape(-1, size).astype(np.int64)
    assert np.array_equal(y.reshape(-1, size), parts @ h)
    layer = Hadamard(real("x", x), size, names=("r",))
    reals = computed(layer, x * 0.01)
    assert np.allclose(y * op.result.type.quant.scale.item(), reals, atol=1e-2)
    assert np.allclose((reals**2).sum(-1), ((x * 0.01) ** 2).sum(-1), rtol=1e-4)
    extreme = (np.sign(h[:, -1]) * -(1 << 15)).clip(max=(1 << 15) - 1).astype(np.int16)
    (bound,) = (e.bounds for e in op.extremes(Bounds.of_type(op.x.type)))
    sums = Hadamard(value("x", (size,), I16, 0.01), size, names=("y",)).evaluate(extreme)
    assert bound.ends[0] <= sums.min() and sums.max() <= bound.ends[1]


def test_curves() -> None:
    s_x, s_y = 8 / 32767, 8.5 / 32767
    grid = (np.arange(1025) * 64 - 32768) * s_x
    table = np.rint(grid / (1 + np.exp(-grid)) / s_y).astype(np.int16)
    x = np.arange(-32768, 32768).astype(np.int16)
    op = Interpolate(
        value("x", x.shape, I16, s_x), Data(table), Quant.per_tensor(I16, s_y, 0), names=("y",)
    )
    wide = x.astype(np.float64) * s_x
    reals = wide / (1 + np.exp(-wide))
    assert np.max(np.abs(op.evaluate(x) * s_y - reals)) < 3 * s_y


CASES = {
    "plain": {},
    "groups": {"kv_heads": 1},
    "causal": {"causal": True, "start": 3},
    "window": {"causal": True, "start": 3, "window": 2},
    "bias": {"bias": True},
    "visible": {"visible": True},
}


def attention_operands(
    options: Mapping[str, object], heads: int, kv: int, sizes: tuple[int, int, int]
) -> tuple[Array, Array, Array, Array, Array | None, Array | None]:
    """q, k, v, the scales of rows, bias and visible, of two samples; the second sees nothing."""
    n, m, d = sizes
    q, k, v = (
        RNG.integers(-127, 128, (2, rows, count * d)).astype(np.int8)
        for rows, count in ((n, heads), (m, kv), (m, kv))
    )
    scale = (
        RNG.integers(-8, -4, (2, n, heads)) * 256 + RNG.integers(128, 256, (2, n, heads))
    ).astype(np.int32)
    bias = (
        RNG.integers(-30000, 30000, (1, heads, n, m)).astype(np.int16)
        if "bias" in options
        else None
    )
    visible = (RNG.random((2, 1, 1, m)) < 0.6).astype(np.uint8) if "visible" in options else None
    if visible is not None:
        visible[1] = 0
    return q, k, v, scale, bias, visible


@pytest.mark.parametrize("case", CASES)
def test_attention(case: str) -> None:
    options = {"kv_heads": 2, "causal": False, "window": 0} | CASES[case]
    heads, kv, n, m, d = 4, int(options["kv_heads"]), 5, 8, 16
    q, k, v, scale, bias, visible = attention_operands(options, heads, kv, (n, m, d))
    start = np.int32(options["start"]) if "start" in options else None
    s_q, s_k, s_v, s_b = 0.002, 0.05, 0.03, 1e-4
    ratio = Dyadic.of(s_q * s_k / math.sqrt(d) * math.log2(math.e) * 2**12, 24)
    bias_ratio = None if bias is None else Dyadic.of(s_b * math.log2(math.e) * 2**12)
    operands = (
        None if bias is None else value("b", bias.shape, I16, s_b),
        None if visible is None else Value("m", Tensor(visible.shape, Int(1, False))),
        None if start is None else Value("at", Tensor((), I32)),
    )
    numbers = heads, kv, bool(options["causal"]), int(options["window"])
    op = AttentionFixed(
        value("q", q.shape, I8, s_q), Value("s", Tensor(scale.shape, I32)),
        value("k", k.shape, I8, s_k), value("v", v.shape, I8, s_v), *operands, *numbers,
        int(ratio.mult.array), int(ratio.shift.array), bias_ratio, names=("y",),
    )  # fmt: skip
    assert not list(op.faults())
    y = op.evaluate(q, scale, k, v, bias, visible, start) * (s_v / 256)
    each = np.repeat((scale & 255) * 2.0 ** (scale >> 8), d, -1) * s_q
    reals = [q * each, k * s_k, v * s_v]
    layer = Attention(
        *(real(n_, a) for n_, a in zip("qkv", reals, strict=True)),
        None if bias is None else real("b", bias), *operands[1:], *numbers[:2],
        1 / math.sqrt(d), *numbers[2:], names=("a",),
    )  # fmt: skip
    expected = computed(layer, *reals, None if bias is None else bias * s_b, visible, start)
    assert noise_ratio(expected, y) > 42
    assert visible is None or not y[1].any()
