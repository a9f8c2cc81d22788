"""Weights of few bits, unpacked in registers; their layout is kernels/contraction/bits.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qir.backends.kernels.contraction.bits import Field
from qir.backends.tvm.compat import tirx
from qir.backends.tvm.kernels.writer import Expr, cast_bits, splat

WORD = 4  # bytes; vectors of no more are one integer of a scalar machine


def unpack(
    load: Callable[[int], Expr],
    fields: Sequence[Field],
    size: int,
    is_raised: bool = False,
    lane: str = "uint8",
) -> Expr:
    """The `size` weights of one step as i8, or as they are kept (2**(bits-1) larger) as u8.

    load(row) is `size` bytes of a packed row. `lane`: the dtype that the machine shifts well.
    """
    bits = sum(f.width for f in fields)
    if bits == 8:
        return load(fields[0].row)
    lane = "uint32" if size <= WORD else lane
    lanes = size if lane == "uint8" else size // 4
    codes = None
    for f in fields:
        part = _shift(_as(load(f.row), lane, lanes), f.shift - f.at, lane, lanes)
        mask = splat(_every_byte(((1 << f.width) - 1) << f.at, lane), lane, lanes)
        part = tirx.bitwise_and(part, mask)
        codes = part if codes is None else tirx.bitwise_or(codes, part)
    if is_raised:
        return _as(codes, "uint8", size)
    less = 1 << (bits - 1)
    if size > WORD:
        return _as(codes, "int8", size) - splat(less, "int8", size)
    # 128 - less is added, which carries into no other byte; flipping bit 7 takes off the 128
    raised = codes + splat(_every_byte(0x80 - less, lane), lane, lanes)
    return _as(tirx.bitwise_xor(raised, splat(_every_byte(0x80, lane), lane, lanes)), "int8", size)


def _as(value: Expr, dtype: str, lanes: int) -> Expr:
    return cast_bits(value, dtype if lanes == 1 else f"{dtype}x{lanes}")


def _shift(value: Expr, right: int, lane: str, lanes: int) -> Expr:
    if right == 0:
        return value
    by = splat(abs(right), lane, lanes)
    return tirx.shift_right(value, by) if right > 0 else tirx.shift_left(value, by)


def _every_byte(value: int, lane: str) -> int:
    return value if lane == "uint8" else value * 0x01010101
