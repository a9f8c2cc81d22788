"""Random tensors in memory, random scales, and how a kernel is called on them and checked."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.random import Generator

from qir.backends.kernels.contraction.prepare import SLACK
from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.plane import RANGE, Plane
from qir.backends.kernels.requantize.scale import Scale
from qir.backends.kernels.view import View
from qir.ir import fixed
from qir.ir.fixed import Rounding

Array = np.ndarray[Any, Any]
BYTES = ("uint8", "int8")
ALL = ("uint8", "int8", "uint16", "int16", "int32")


@dataclass
class Held:
    """A tensor in a buffer of its own, with slack after it; `items` shows its elements."""

    buffer: Array
    items: Array

    @property
    def address(self) -> int:
        return int(self.items.__array_interface__["data"][0])


@dataclass
class Case:
    """A kernel, what it reads by argument name, what it writes, and what must then be there."""

    kernel: Kernel
    inputs: dict[str, Held]
    y: Held
    want: Array


Make = Callable[[Generator, frozenset[str]], Case]


def held(rng: Generator, view: View, slack: int = SLACK) -> Held:
    """Random elements, now and then only the extremes of the dtype, around a view."""
    reach = [(s - 1) * t for s, t in zip(view.shape, view.strides, strict=True)]
    first = sum(-r for r in reach if r < 0)
    count = first + sum(r for r in reach if r > 0) + 1
    item = view.item
    raw = rng.integers(0, 256, count * item + slack + 64 + item, dtype=np.uint8)
    start = -raw.ctypes.data % 64 + item * int(rng.integers(0, 3))
    whole = raw[start : start + (raw.size - start) // item * item].view(view.dtype)
    if rng.random() < 0.3:
        whole[:] = rng.choice(RANGE[view.dtype], whole.size)
    strides = [item * t for t in view.strides]
    items = np.lib.stride_tricks.as_strided(whole[first:], view.shape, strides)
    return Held(whole, items)


def spread(rng: Generator, dtype: str, shape: tuple[int, ...], near: bool = False) -> View:
    """Packed, or with gaps, other orders of axes and flips; `near` keeps the last axis."""
    kind = rng.random()
    if kind < 0.4:
        return View.packed(dtype, shape)
    order = list(range(len(shape)))
    if not near and kind < 0.7:
        rng.shuffle(order)
    strides, step = [0] * len(shape), 1
    for k, axis in enumerate(reversed(order)):
        gap = int(rng.integers(0, 3)) if (k or not near) and rng.random() < 0.4 else 0
        strides[axis] = step + gap
        step = strides[axis] * shape[axis]
        if not near and rng.random() < 0.1:
            strides[axis] = -strides[axis]
    return View(dtype, shape, tuple(strides))


def pick(rng: Generator, *values: Any) -> Any:
    return values[int(rng.integers(0, len(values)))]


def sizes(rng: Generator, rank: int, limit: int = 3000) -> tuple[int, ...]:
    shape = tuple(int(pick(rng, 1, 2, 3, 5, 8, 16, 17, 33, 64, 70, 130)) for _ in range(rank))
    return shape if prod(shape) <= limit else sizes(rng, rank, limit)


def plane(rng: Generator, dtype: str, shape: tuple[int, int, int, int]) -> Plane:
    packed = Plane.packed(dtype, *shape)
    if rng.random() < 0.5:
        return packed
    x = shape[3] + int(pick(rng, 0, 0, 5))
    y = shape[2] * x + int(pick(rng, 0, 7))
    return replace(packed, pitch_x=x, pitch_y=y, pitch_n=y * shape[1] + int(pick(rng, 0, 9)))


def zero(rng: Generator, dtype: str) -> int:
    low, high = RANGE[dtype]
    return int(rng.integers(max(low, -40000), min(high, 40000) + 1))


def scale_for(rng: Generator, shape: tuple[int, ...], dtype: str, bits: list[int]) -> Scale:
    """Multipliers that fill the range of the result, or are wild within what the language allows.

    `bits` holds the size of each term: |sum| + 2**(shift-1) must stay below 2**63.
    """
    low, high = RANGE[dtype]
    out_bits = {1: 8, 2: 16, 4: 31}[np.dtype(dtype).itemsize]
    common = [s if rng.random() < 0.5 else 1 for s in shape]
    arrays = pick(rng, (), (), tuple(shape[-1:]), tuple(common))
    room = 62 - max(bits) - (len(bits) > 1)
    width = min(31, room)
    mult = [rng.integers(2 ** (width - 1), 2**width, arrays) for _ in bits]
    shift = np.clip(max(bits) + width - out_bits + rng.integers(-3, 2, arrays), 1, 62)
    kind = rng.random()
    if kind < 0.1:
        mult = [rng.integers(-(2**width) + 1, 2**width, arrays) for _ in bits]
    elif kind < 0.2:
        mult = [np.asarray(pick(rng, 0, 1, 2**width - 1, -(2**width) + 1)) for _ in bits]
    elif kind < 0.35:  # ties
        mult = [np.asarray(2 ** (width - 1)) * pick(rng, 1, -1) for _ in bits]
        shift = width - 1 + rng.integers(0, 5, arrays)
    if kind > 0.35 and rng.random() < 0.25:
        shift = rng.integers(1, 62, arrays)
    if rng.random() < 0.2:
        mult[0] = mult[0] + np.zeros(shape, np.int64)
    z = int(rng.integers(low, high + 1)) if dtype != "int32" or rng.random() < 0.2 else 0
    ends = (
        sorted(int(v) for v in rng.integers(low, high + 1, 2))
        if rng.random() < 0.3
        else [low, high]
    )
    rounding = pick(rng, *[Rounding.HALF_UP] * 6, *Rounding)
    return Scale(tuple(mult), shift, z, ends[0], ends[1], rounding)


def scaled(scale: Scale, terms: list[Array], dtype: str) -> Array:
    """The definition: qir.ir.fixed on int64."""
    total = sum(
        (t.astype(np.int64) * m for t, m in zip(terms, scale.mult, strict=True)), np.int64(0)
    )
    y = fixed.shift_right(total, np.asarray(scale.shift), fixed.Rounding(scale.rounding.value))
    return np.clip(y + scale.zero_point, scale.low, scale.high).astype(dtype)


def run_walled(library: ctypes.CDLL, symbol: str, case: Case) -> str:
    """Like `run_case`, with memory that ends where the contract lets it end, on both sides.

    A kernel may read SLACK bytes past its inputs and blocks, nothing before them, and nothing
    around y.
    """
    faults = []
    for at_end in (True, False):
        y = _walled(case.y, 0, at_end)
        walled_inputs = {name: _walled(x, SLACK, at_end) for name, x in case.inputs.items()}
        addresses = {name: x.address for name, x in walled_inputs.items()} | {"y": y.address}
        blocks = {n: _walled_block(b, at_end) for n, b in case.kernel.blocks.items() if b}
        addresses |= {name: block.ctypes.data for name, block in blocks.items()}
        pointers = [ctypes.c_void_p(addresses[name]) for name in case.kernel.arguments]
        getattr(library, symbol)(*pointers, 0, case.kernel.units)
        if not np.array_equal(y.items, case.want):
            faults.append(f"{symbol}: walled at the {'end' if at_end else 'start'}, it differs")
    return "\n".join(faults)


def _walled(x: Held, slack: int, at_end: bool) -> Held:
    """The same elements between walls."""
    reach = [(n - 1) * s for n, s in zip(x.items.shape, x.items.strides, strict=True)]
    before = -sum(r for r in reach if r < 0)
    size = before + sum(r for r in reach if r > 0) + x.items.itemsize
    raw = np.frombuffer(ctypes.string_at(x.address - before, size), np.uint8)
    memory = between_walls(size, slack, at_end)
    memory[:] = raw
    first = memory[before:].view(x.items.dtype)
    items = np.lib.stride_tricks.as_strided(first, x.items.shape, x.items.strides)
    return Held(memory, items)


def _walled_block(content: bytes, at_end: bool) -> Array:
    memory = between_walls(-(-len(content) // 64) * 64, SLACK, at_end)
    memory[: len(content)] = np.frombuffer(content, np.uint8)
    return memory


def between_walls(size: int, slack: int, at_end: bool) -> Array:
    """`size` bytes that touch the page before them, or but for `slack` bytes the one after; a
    touch of either page is a crash.
    """
    page = mmap.PAGESIZE
    room = -(-(size + slack) // page) * page
    raw = np.frombuffer(mmap.mmap(-1, room + 2 * page), np.uint8)
    protect = ctypes.CDLL(None).mprotect
    for at in (0, page + room):
        assert protect(ctypes.c_void_p(raw.ctypes.data + at), page, 0) == 0
    start = page + (room - slack - size if at_end else 0)
    return raw[start : start + size]


def aligned(rng: Generator, content: bytes) -> Array:
    """These bytes at a multiple of 64, with others around them."""
    around = held(rng, View.packed("uint8", (max(len(content), 1),)), slack=256).buffer
    block = around[-around.ctypes.data % 64 :]
    block[: len(content)] = np.frombuffer(content, np.uint8)
    return block


def out(rng: Generator, view: View) -> Held:
    return held(rng, view)


def run_case(rng: Generator, library: ctypes.CDLL, symbol: str, case: Case) -> str:
    """Empty when every element is right and nothing else was written."""
    kernel = case.kernel
    blocks = {name: aligned(rng, content) for name, content in kernel.blocks.items()}
    addresses = {name: block.ctypes.data for name, block in blocks.items()}
    addresses |= {name: x.address for name, x in case.inputs.items()} | {"y": case.y.address}
    pointers = [ctypes.c_void_p(addresses[name]) for name in kernel.arguments]
    expected = case.y.buffer.copy()
    offset = (case.y.address - case.y.buffer.ctypes.data) // case.y.buffer.itemsize
    np.lib.stride_tricks.as_strided(expected[offset:], case.y.items.shape, case.y.items.strides)[
        ...
    ] = case.want
    cut = int(rng.integers(0, kernel.units + 1))
    for begin, end in ((cut, kernel.units), (0, cut)):
        getattr(library, symbol)(*pointers, begin, end)
    if np.array_equal(case.y.buffer, expected):
        return ""
    wrong = case.y.buffer != expected
    first = int(np.argmax(wrong)) - offset
    return f"{symbol}: {int(wrong.sum())} of {wrong.size} differ, first {first}: {kernel.code}"


def broadcast(rng: Generator, dtype: str, shape: tuple[int, ...]) -> View:
    part = tuple(1 if rng.random() < 0.15 else s for s in shape)
    if rng.random() < 0.1:
        part = part[int(rng.integers(0, len(part) + 1)) :]
    return spread(rng, dtype, part)
