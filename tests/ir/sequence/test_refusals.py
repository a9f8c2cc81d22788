"""What ops of sequences refuse."""

from __future__ import annotations

import pytest

from qir.ir.errors import VerifyError
from qir.ir.op import Value
from qir.ir.ops import Attention, Hadamard, Take
from qir.ir.ranges import prove_no_overflow
from qir.ir.text.parser import parse
from qir.ir.types import F32, I8, I64, Int, Quant, Tensor


def attention(window: int) -> Attention:
    q = Value("q", Tensor((1, 2, 8), F32))
    return Attention(q, q, q, None, None, None, 2, 2, 1.0, True, window, names=("y",))


@pytest.mark.parametrize("window", [-1, 1 << 31])
def test_windows_have_31_bits(window: int) -> None:
    assert attention((1 << 31) - 1).infer().shape == (1, 2, 8)
    with pytest.raises(VerifyError, match=f"window is {window}, 0 to 2147483647 is needed"):
        attention(window).infer()


@pytest.mark.parametrize(
    ("type_", "size", "why"),
    [
        (Tensor((2, 8), F32), 3, "blocks of 3, a divisor of the last axis is needed"),
        (Tensor((2, 1 << 14), F32), 1 << 14, "a divisor of the last axis is needed"),
        (Tensor((2, 6), F32), 6, "blocks of 6, a size that has a Hadamard matrix is needed"),
        (Tensor((2, 8), Quant.per_tensor(I8, 0.1, 3)), 8, "zero point 0 are needed"),
    ],
)
def test_hadamard(type_: Tensor, size: int, why: str) -> None:
    with pytest.raises(VerifyError, match=why):
        Hadamard(Value("x", type_), size, names=("y",)).infer()


def test_a_hadamard_of_wide_integers_overflows() -> None:
    graph = parse("""
        graph @wide stage=integer (%x: tensor<1x4096xq<i20, 0.5:0>>) {
          %y = hadamard(%x) {size = 4096} : tensor<1x4096xq<i32, 0.0078125:0>>
          return %y
        }
    """)
    with pytest.raises(VerifyError, match=r"sum reaches .-2147483648, 2147483648., i32 does not"):
        prove_no_overflow(graph)


def test_indices_have_at_most_63_bits_and_a_sign() -> None:
    table = Value("t", Tensor((3, 4), Quant.per_tensor(I8, 0.1, 0)))
    assert Take(table, Value("i", Tensor((5,), I64)), names=("y",)).infer().shape == (5, 4)
    wide = Value("i", Tensor((5,), Int(64, False)))
    with pytest.raises(VerifyError, match="at most 63 bits and a sign are needed"):
        Take(table, wide, names=("y",)).infer()
