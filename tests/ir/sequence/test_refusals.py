"""What ops of sequences refuse."""

from __future__ import annotations

import pytest

from qir.ir.errors import VerifyError
from qir.ir.op import Value
from qir.ir.ops import Attention, Take
from qir.ir.types import F32, I8, I64, Int, Quant, Tensor


def attention(window: int) -> Attention:
    q = Value("q", Tensor((1, 2, 8), F32))
    return Attention(q, q, q, None, None, None, 2, 2, 1.0, True, window, names=("y",))


@pytest.mark.parametrize("window", [-1, 1 << 31])
def test_windows_have_31_bits(window: int) -> None:
    assert attention((1 << 31) - 1).infer().shape == (1, 2, 8)
    with pytest.raises(VerifyError, match=f"window is {window}, 0 to 2147483647 is needed"):
        attention(window).infer()


def test_indices_have_at_most_63_bits_and_a_sign() -> None:
    table = Value("t", Tensor((3, 4), Quant.per_tensor(I8, 0.1, 0)))
    assert Take(table, Value("i", Tensor((5,), I64)), names=("y",)).infer().shape == (5, 4)
    wide = Value("i", Tensor((5,), Int(64, False)))
    with pytest.raises(VerifyError, match="at most 63 bits and a sign are needed"):
        Take(table, wide, names=("y",)).infer()
