"""Rows in bytes: what every format keeps of its integers."""

from __future__ import annotations

import numpy as np
import pytest

from qir.ir.errors import VerifyError
from qir.ir.op import Value
from qir.ir.ops import PackRows, UnpackRows
from qir.ir.ops.sequence import blocks
from qir.ir.types import I8, I16, U8, Bfp, Int, Packing, Quant, Span, Tensor

CASES: list[tuple[Packing, Int]] = [
    *((Bfp(4, 8, block, 2), I8) for block in (16, 32, 64)),
    *((Bfp(bits, 8, 16, 2), I16) for bits in (4, 6, 8)),
    (Bfp(8, 8, 64, 2), I8),
    *((Span(bits, block, 2), I8) for bits in (4, 6) for block in (16, 64)),
]


def drawn(storage: Int) -> np.ndarray:
    """Rows of all sizes, some of them extreme."""
    rng = np.random.default_rng(0)
    x = rng.integers(storage.min, storage.max + 1, (3, 40, 64)) >> rng.integers(0, 16, (3, 40, 1))
    x[0, 0], x[0, 1], x[0, 2] = storage.min, storage.max, 0
    x[0, 3, ::2], x[0, 3, 1::2] = storage.min, storage.max
    return x.astype(storage.carrier)


@pytest.mark.parametrize(("packing", "storage"), CASES, ids=str)
def test_what_is_kept(packing: Packing, storage: Int) -> None:
    x, bits = drawn(storage), blocks.bits_of(packing)
    data = blocks.pack(x, packing, storage)
    assert data.dtype == np.uint8 and data.shape[-1] == blocks.packed_bytes(packing, 64)
    y = blocks.unpack(data, packing, 64, storage)
    parts = x.astype(np.int64).reshape(3, 40, -1, packing.block)
    off = np.abs(y.reshape(parts.shape) - parts).max(-1)
    if isinstance(packing, Bfp):
        unit = 2.0 ** np.maximum(
            np.floor(np.log2(np.maximum(np.abs(parts).max(-1), 1))) - bits + 2, 0
        )
        assert (off <= unit).all()  # half of it, but where the greatest code is clipped
    else:
        step = blocks.steps(bits)[parts.max(-1) - parts.min(-1)] / 8
        assert (off <= step / 2 + 0.5).all()
    assert np.array_equal(blocks.unpack(data, packing, 64, storage), y)


def test_the_formula_of_block_floating_point() -> None:
    """E = floor(log2(max|x|)), u = 2**(E - p + 2), q = clip(round(x / u)), as the paper has it."""
    x, p = drawn(I16), 4
    y = blocks.unpack(blocks.pack(x, Bfp(p, 8, 32, 2), I16), Bfp(p, 8, 32, 2), 64, I16)
    parts = x.reshape(-1, 32).astype(np.float64)
    top = np.abs(parts).max(1, keepdims=True)
    unit = np.exp2(np.clip(np.floor(np.log2(np.maximum(top, 1))) - p + 2, 0, 16 - p))
    q = np.clip(np.floor(parts / unit + 0.5), -(2 ** (p - 1)), 2 ** (p - 1) - 1)
    assert np.array_equal(y.reshape(-1, 32), q * unit)


def test_dots_of_blocks_are_integer_dots_and_sums_of_exponents() -> None:
    x, packing = drawn(I16)[0], Bfp(6, 8, 16, 1)
    data = blocks.pack(x, packing, I16)
    y = blocks.unpack(data, packing, 64, I16)
    t = data[:, 48:].astype(np.int64)
    codes = (y.reshape(40, 4, 16) >> t[..., None]).astype(np.int64)
    q = np.random.default_rng(1).integers(-127, 128, 64)
    dots = (codes * q.reshape(4, 16)).sum(-1)
    assert np.array_equal((dots << t).sum(-1), y @ q)


@pytest.mark.parametrize("packing", [Bfp(4, 8, 16, 2), Span(4, 16, 2)], ids=str)
def test_any_bytes_are_integers_of_the_storage(packing: Packing) -> None:
    data = np.random.default_rng(2).integers(0, 256, (5, 7, blocks.packed_bytes(packing, 64)))
    y = blocks.unpack(data.astype(np.uint8), packing, 64, I8)
    assert y.min() >= I8.min and y.max() <= I8.max


ELEM = Quant.per_tensor(I8, 0.1, 0)


def value(shape: tuple[int, ...], elem: Quant | Int = ELEM) -> Value:
    return Value("x", Tensor(shape, elem))


@pytest.mark.parametrize(
    ("packing", "shape", "why"),
    [
        (Bfp(5, 8, 16, 2), (1, 2, 64), "codes of 5 bits, 4, 6 or, of bfp, 8 are needed"),
        (Span(8, 16, 2), (1, 2, 64), "codes of 8 bits, 4, 6 or, of bfp, 8 are needed"),
        (Bfp(4, 4, 16, 2), (1, 2, 64), "exponents of 4 bits, 8 are needed"),
        (Bfp(4, 8, 24, 2), (1, 2, 64), r"64 channels in blocks of 24, blocks of 2 \* n are"),
        (Bfp(6, 8, 2, 2), (1, 2, 64), r"64 channels in blocks of 2, blocks of 4 \* n are"),
        (Bfp(4, 8, 16, 1), (1, 2, 64), "blocks along axis 1 of .*, the last is needed"),
    ],
)
def test_what_cannot_be_packed(packing: Packing, shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(VerifyError, match=why):
        PackRows(value(shape), packing, names=("y",)).infer()


def test_spans_are_of_8_bits() -> None:
    x = value((1, 2, 64), Quant.per_tensor(I16, 0.1, 0))
    with pytest.raises(
        VerifyError, match="integers are i16, signed ones of 4 to 8 bits are needed"
    ):
        PackRows(x, Span(4, 16, 2), names=("y",)).infer()


def test_what_cannot_be_unpacked() -> None:
    packing = Bfp(4, 8, 16, 2)
    with pytest.raises(VerifyError, match="u8 rows of 36 bytes are needed"):
        UnpackRows(value((1, 2, 35), U8), None, packing, 64, 0, ELEM, names=("y",)).infer()
    start = Value("start", Tensor((2,), Int(32, True)))
    with pytest.raises(VerifyError, match="count 1, one start is needed"):
        UnpackRows(value((1, 2, 36), U8), start, packing, 64, 1, ELEM, names=("y",)).infer()
