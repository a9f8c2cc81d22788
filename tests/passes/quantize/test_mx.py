"""Microscaling tensors: the formula of the specification, and block floating point as its case."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qir import mx
from qir.ir.errors import DataError
from qir.ir.op import Value
from qir.ir.ops import Constant, RoundBlocks
from qir.ir.torch_executor import run_op
from qir.ir.types import F32, I8, Bfp, Tensor
from qir.passes.bits.choice import Bits
from qir.passes.quantize.weights import quantize_weights

REALS = st.floats(-(2.0**99), 2.0**99, width=32)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, (2, 70), elements=REALS), st.sampled_from([4, 8]))
def test_the_specification(x: np.ndarray, bits: int) -> None:
    quantized = mx.encode(x, bits)
    assert quantized.elements.shape == x.shape and quantized.exponents.shape == (2, 3)
    for row, elements, exponents in zip(
        x.astype(float), quantized.elements, quantized.exponents, strict=True
    ):
        for b, byte in enumerate(exponents):
            part = row[32 * b : 32 * (b + 1)]
            shared = int(byte) - 127
            if part.any():
                assert shared == max(np.floor(np.log2(np.abs(part).max())), -127)
            fraction = 2.0 ** (bits - 2)
            expected = np.clip(
                np.floor(part / 2.0**shared * fraction + 0.5), -2 * fraction, 2 * fraction - 1
            )
            assert np.array_equal(elements[32 * b : 32 * (b + 1)], expected)
    again = mx.encode(quantized.reals, bits)
    assert np.abs(again.reals - quantized.reals).max() <= np.abs(quantized.reals).max() * 2.0 ** (
        3 - bits
    )


@pytest.mark.parametrize("bits", [4, 8])
def test_it_is_block_floating_point(bits: int) -> None:
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    made, packing = mx.encode(x, bits), Bfp(bits, 8, 32, 1)
    op = RoundBlocks(Value("x", Tensor(x.shape, F32)), packing, names=("y",))
    assert np.array_equal(run_op(op, [x]), made.reals.astype(np.float32))
    constant = Constant.of(made.elements.astype(I8.carrier), made.quant)
    scale, zero = made.quant.spread(x.shape)
    assert np.array_equal((constant.value.array - zero) * scale, made.reals)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_weights_in_block_floating_point(bits: int) -> None:
    """Scales of groups are powers of two; reals are those of MX where exponents are near."""
    w = np.random.default_rng(1).standard_normal((5, 96)) * np.array([1, 2, 3, 4, 5])[:, None]
    quantized = quantize_weights(w, bits, True, False, None, 1.0, 32, 127, floating=True)
    assert quantized.mult is not None and quantized.block == 32
    for scales in (quantized.weights.elem.scale.array, quantized.mult.value.array):  # type: ignore[union-attr]
        assert (np.frexp(scales.astype(float))[0] == 0.5).all()
    if bits != 6:
        assert np.array_equal(quantized.reals, mx.encode(w, bits).reals)
    stored = quantize_weights(w, bits, True, False, None, 1.0, 96, 127, floating=True)
    assert stored.mult is None
    unit = np.exp2(np.floor(np.log2(np.abs(w).max(1))) - bits + 2)
    assert np.array_equal(stored.weights.elem.scale.array, unit)  # type: ignore[union-attr]
    assert (np.abs(stored.reals - w) <= unit[:, None]).all()


def test_exponents_far_apart_stay_within_what_sums_hold() -> None:
    w = np.ones((2, 64)) * np.repeat([1.0, 2.0**-20], 32)
    quantized = quantize_weights(w, 8, True, False, None, 1.0, 32, 127, floating=True)
    assert quantized.mult is not None and quantized.mult.value.array.max() == 128
    assert np.array_equal(quantized.reals[:, :32], w[:, :32]) and not quantized.reals[:, 32:].any()


def test_texts_of_block_floating_point() -> None:
    assert Bits.parse("bfp4") == Bits.parse("w4b32a8") == Bits(4, 8, 32, True)
    assert str(Bits(8, 8, 64, True)) == "w8b64a8" and Bits.parse("w8b64a8").floating


def test_blocks_that_are_no_numbers() -> None:
    x = np.ones(64)
    x[40] = np.inf
    quantized = mx.encode(x, 8)
    assert quantized.exponents.tolist() == [127, 255]
    assert np.isnan(quantized.reals[32:]).all() and (quantized.reals[:32] == 1).all()
    with pytest.raises(DataError, match="whole blocks of 32 are needed"):
        _ = quantized.quant


@pytest.mark.parametrize(
    ("elements", "exponents", "bits", "why"),
    [
        (np.zeros(32, np.int8), np.zeros(1, np.uint8), 6, "elements of 6 bits, 4 or 8 are needed"),
        (np.zeros(33, np.int8), np.zeros(1, np.uint8), 8, r"uint8\[2\] is needed"),
        (np.full(32, 8, np.int8), np.zeros(1, np.uint8), 4, r"int8 in \[-8, 7\] is needed"),
    ],
)
def test_what_is_none(elements: np.ndarray, exponents: np.ndarray, bits: int, why: str) -> None:
    with pytest.raises(DataError, match=why):
        mx.MxTensor(elements, exponents, bits)


def test_scalars_have_no_blocks() -> None:
    with pytest.raises(DataError, match="rows in 4 or 8 are needed"):
        mx.encode(1.0, 8)
