"""Sizes near the limit of 32-bit indices: what is taken is right, what is not is refused.

Memory of gigabytes is only reserved: kernels run their last units, which touch its end.
"""

from __future__ import annotations

import ctypes
import mmap
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qir.backends import find, lower
from qir.backends.kernels import Constants, ContractionSpec, Plane, prepare
from qir.backends.kernels.contraction.dense import plan_dense
from qir.backends.kernels.contraction.plain import FIELDS, PlainCode
from qir.backends.kernels.dots import DOTS
from qir.backends.kernels.elementwise import requantize
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.move import copy, frame, gather
from qir.backends.kernels.requantize.epilogue import Epilogue
from qir.backends.kernels.requantize.scale import Scale
from qir.backends.kernels.view import View
from qir.ir.errors import LowerError
from qir.ir.fixed import Dyadic, Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.ops import Requantize
from qir.ir.types import U8, Quant, Tensor
from tests.backends.kernels.contraction_cases import features, has, link, target

# ruff: noqa: E501

MOST = 2**31 - 1
NORESERVE = 0x4000  # of Linux; mmap names it from Python 3.13 on
WIDE = Epilogue("int8", -128, 127, wide=True)
NONE: frozenset[str] = frozenset()


def row(channels: int, dtype: str = "uint8") -> Plane:
    return Plane.packed(dtype, 1, 1, 1, channels)


def plain(inputs: int, outputs: int, bits: int = 8) -> PlainCode:
    return PlainCode(ContractionSpec(row(inputs), row(outputs, "int8")), WIDE, bits)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Plane.packed("uint8", 1, 1, 1, MOST),
        lambda: Plane.packed("int32", 2, 2**15, 2**15 - 1, 1),
        lambda: View.packed("int16", (MOST,)),
        lambda: View("uint8", (2**16, 2**15), (-(2**15), 1)),
        lambda: View("uint8", (2**16, 2**16, 2), (0, 0, 1)),
        lambda: Fields((("table", "int32", 2**29 - 16),)),
        lambda: plain(4096, 128256),  # a language model's last layer
        lambda: plain(2**15, 2**15),
        lambda: plain(4096, 128256, bits=4),
        lambda: plan_dense(ContractionSpec(row(4096), row(128256)), WIDE, DOTS["vnni512"]),
    ],
)
def test_what_int32_can_index_is_taken(make: Callable[[], object]) -> None:
    assert make() is not None


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Plane.packed("uint8", 1, 1, 1, MOST + 1), "plane: elements from the first to the last: 2147483648"),
        (lambda: Plane.packed("int32", 2, 2**15, 2**15, 1), "plane: elements from the first to the last: 2147483648"),
        (lambda: Plane("uint8", 3, 1, 1, 1, 2**30, 1, 1), "plane: elements from the first to the last: 2147483649"),
        (lambda: View.packed("int16", (MOST + 1,)), "view: elements from the first to the last: 2147483648"),
        (lambda: View("uint8", (3,), (-(2**30),)), "view: elements from the first to the last: 2147483649"),
        (lambda: Fields((("table", "int32", 2**29),)), "constants: bytes of the block: 2147483648"),
        (lambda: plain(2**15, 2**16), "contraction: bytes of the weights: 2147483648"),
        (lambda: plain(2**14, 2**15, bits=4), "contraction: bits of the weights: 2147483648"),
        (lambda: plan_dense(ContractionSpec(row(2**15), row(2**16)), WIDE, DOTS["avx2_wide"]), "contraction: bytes of the weights: 21"),
        (lambda: frame(Plane("uint8", 2, 1, 1, 1, 2**31 - 5, 3, 1), (1, 1, 1, 1), 0, NONE), "frame: elements of the plane: 2147483652"),
        (lambda: gather([2**30], "uint8", View.packed("uint8", (3,)), NONE), "gather: elements from the first to the last of x: 2147483649"),
    ],
)  # fmt: skip
def test_what_int32_cannot_index_is_refused(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text) + r"\d*, fewer than 2\*\*31 are needed"):
        make()


def test_units_that_int32_cannot_count_are_refused() -> None:
    class Code:
        units = MOST + 1
        arguments = ()

    with pytest.raises(ValueError, match=r"Code: units of work: 2147483648, fewer than 2\*\*31"):
        Kernel(Code())


def requantized(shape: tuple[int, ...]) -> Graph:
    b = Builder("large", "integer")
    q = Quant.per_tensor(U8, 0.5, 0)
    x = b.input("x", Tensor(shape, q))
    number = Dyadic.of(1.0)
    y = Requantize((x,), q, (number.mult,), number.shift, 0, 255, Rounding.HALF_UP)
    return b.finish([b.add(y, "y")])


def test_a_tensor_that_kernels_cannot_index_is_named() -> None:
    assert lower(requantized((1, 2**15, 2**16 - 1)), find("c")).steps
    with pytest.raises(LowerError) as e:
        lower(requantized((1, 2**15, 2**16)), find("c"))
    first, hint = str(e.value).splitlines()
    assert first == (
        "graph @large: %x: elements of uint8: 2147483648, fewer than 2**31 are needed for 32-bit"
        " indices"
    )
    assert hint == "hint: a smaller batch, or the model cut in two, may fit"


def test_memory_that_pointers_do_not_reach_is_refused() -> None:
    b = Builder("deep", "integer")
    q = Quant.per_tensor(U8, 0.5, 0)
    x = b.input("x", Tensor((2**30,), q))
    number = Dyadic.of(1.0)
    values = [x]
    for i in range(4):
        op = Requantize((values[-1],), q, (number.mult,), number.shift, 0, 255, Rounding.HALF_UP)
        values.append(b.add(op, f"y{i}"))
    graph = b.finish(values[-1:])
    assert lower(graph, find("x86-64")).workspace_bytes > 2**31
    why = r"program deep: workspace of \d+ bytes, fewer than 2\*\*31 are needed on armv7"
    with pytest.raises(LowerError, match=why):
        lower(graph, find("armv7"))


def reserved(size: int) -> np.ndarray:  # type: ignore[type-arg]
    """Zeros that take memory only where they are touched."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
    return np.frombuffer(mmap.mmap(-1, size + 4096, flags=flags), np.uint8)


def last_units(
    kernel: Kernel,
    family: str,
    folder: Path,
    x: np.ndarray,
    y: np.ndarray,
    units: int,  # type: ignore[type-arg]
) -> None:
    from qir.backends.tvm.build import build_object
    from qir.backends.tvm.kernels.registry import emit

    library = link(build_object({"k": emit(kernel.code, "k")}, target(family)), folder)
    blocks = {"x": x, "x0": x, "y": y}
    for name in kernel.arguments:
        if name not in blocks:
            content = np.frombuffer(kernel.blocks[name], np.uint8)
            block = reserved(content.size)
            block.setflags(write=True)
            block[: content.size] = content
            blocks[name] = block
    pointers = [ctypes.c_void_p(blocks[name].ctypes.data) for name in kernel.arguments]
    library.k(*pointers, kernel.units - units, kernel.units)


@pytest.mark.parametrize("family", ["plain", "avx2", "vnni512"])
def test_the_last_elements_of_two_gigabytes(family: str, tmp_path: Path) -> None:
    if not has(family):
        pytest.skip(f"this CPU lacks {family}")
    rng = np.random.default_rng(7)
    x, y = reserved(MOST), reserved(MOST)
    end = rng.integers(0, 256, 4096, np.uint8)
    x[MOST - 4096 : MOST] = end
    view = View.packed("uint8", (MOST,))
    (tmp_path / "a").mkdir()
    last_units(copy(view, view, features(family)), family, tmp_path / "a", x, y, 1)
    assert np.array_equal(y[MOST - 4096 : MOST], end)

    kernel = requantize([view], [3], Scale((3 << 29,), 31, 5, 0, 255), view, features(family))
    (tmp_path / "b").mkdir()
    last_units(kernel, family, tmp_path / "b", x, y, 1)
    expected = np.clip(((end[-1000:].astype(int) - 3) * 3 + 2 >> 2) + 5, 0, 255)
    assert np.array_equal(y[MOST - 1000 : MOST], expected)

    pixels, channels = 2**27 - 1, 16
    weights = rng.integers(-128, 128, (channels, 1, 1, channels)).astype(np.int8)
    const = Constants(weights, np.zeros(channels), 1 << 30, np.full(channels, 38), 100)
    plane = Plane.packed("uint8", 1, pixels, 1, channels)
    (tmp_path / "c").mkdir()
    kernel = prepare(ContractionSpec(plane, plane), const, features(family))
    last_units(kernel, family, tmp_path / "c", x, y, min(kernel.units, 64))
    stop = pixels * channels
    tail = x[stop - 32 * channels : stop].reshape(32, channels).astype(int)
    sums = tail @ weights.reshape(channels, channels).T.astype(int)
    expected = np.clip((sums * 2**30 + 2**37 >> 38) + 100, 0, 255)
    assert np.array_equal(y[stop - 32 * channels : stop].reshape(32, channels), expected)


def test_weights_of_more_than_a_gigabyte(tmp_path: Path) -> None:
    """Plain kernels index bytes of 8-bit weights: the last channel is right past 2**30."""
    inputs, outputs = 4096, 300_000
    code = plain(inputs, outputs)
    assert code.weight_bits // 8 > 2**30
    from qir.backends.tvm.build import build_object
    from qir.backends.tvm.kernels.registry import emit

    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, inputs + 128).astype(np.uint8)
    packed, y = reserved(code.weight_bytes), np.zeros(outputs, np.int8)
    weights = rng.integers(-128, 128, inputs).astype(np.int8)
    packed[(outputs - 1) * inputs : outputs * inputs] = weights.view(np.uint8)
    fields = np.zeros(code.constant_bytes, np.uint8)
    for name, number in {"mult": 1 << 30, "add": 1 << 43, "shift": 44}.items():
        kind = np.dtype(FIELDS[name])
        fields[code.field_at(name) :].view(kind)[outputs - 1] = number
    library = link(build_object({"k": emit(code, "k")}, target("plain")), tmp_path)
    library.k(*(ctypes.c_void_p(a.ctypes.data) for a in (x, packed, fields, y)), 0, 1)
    total = int(x[:inputs].astype(int) @ weights.astype(int))
    assert y[-1] == np.clip(total * 2**30 + 2**43 >> 44, -128, 127) != 0
