"""What contractions refuse, and what their build promises: no float, the same bytes, an end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qir.backends.kernels import Constants, ContractionSpec, Plane, prepare
from tests.backends.kernels.contraction_cases import features, target

X, Y = Plane.packed("uint8", 1, 4, 4, 8), Plane.packed("uint8", 1, 2, 2, 16)
SPEC = ContractionSpec(X, Y, (3, 3))
GOOD = Constants(np.ones(SPEC.weight_shape, np.int8), np.zeros(16), 2**30, 38)


def test_a_plane_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="dtype is float32, one of uint8, int8, uint16, int16, "):
        Plane.packed("float32", 1, 1, 1, 1)
    with pytest.raises(ValueError, match=r"shape is \(1, 0, 1, 1\), every size must be at least 1"):
        Plane.packed("uint8", 1, 0, 1, 1)
    with pytest.raises(ValueError, match="pitch_x is 7, 8 channels need more"):
        replace(X, pitch_x=7)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kernel": (4, 3)}, "x has height 4, 5 needed for 2 outputs"),
        ({"strides": (1, 2)}, "x has width 4, 5 needed for 2 outputs"),
        ({"x": replace(X, dtype="int16")}, "x is int16, uint8 or int8 is needed"),
        ({"x": replace(X, batch=2)}, "x has batch 2, y 1"),
        ({"groups": 3}, "8 to 16 channels do not divide into 3 groups"),
        ({"residual": X}, r"residual has shape \(1, 4, 4, 8\), y \(1, 2, 2, 16\)"),
        ({"residual": replace(Y, dtype="int32")}, "residual int32 into uint8 is not defined"),
        ({"low": 9, "high": 3}, r"clamp \[9, 3\] is not a range of uint8"),
        ({"groups": 3, "kernel": (4, 3)}, "x has height 4.*; 8 to 16 channels"),
    ],
)
def test_a_contraction_names_every_fault(change: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(SPEC, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mult": 2**31}, "mult 2147483648, shift 38.*mults in .* are needed"),
        ({"shift": 0}, "shift 0.*a shift in .1, 62. are needed"),
        ({"weights": np.ones((16, 3, 3, 8), np.int16)}, "weights are int16 .*, int8 .* is needed"),
        ({"weights": np.ones((16, 3, 8, 3), np.int8)}, r"int8 \(16, 3, 3, 8\), int8|is needed"),
    ],
)
def test_constants_are_checked(change: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        prepare(SPEC, replace(GOOD, **change), features("avx2"))  # type: ignore[arg-type]


def test_an_accumulator_that_may_overflow_is_refused() -> None:
    x = Plane.packed("uint8", 1, 1, 1, 70_000)
    spec = ContractionSpec(x, Plane.packed("uint8", 1, 1, 1, 1))
    weights = np.full(spec.weight_shape, 127, np.int8)
    with pytest.raises(
        ValueError, match=r"accumulator spans \[0, 2266950000\], 32 bits are needed"
    ):
        prepare(spec, Constants(weights, np.zeros(1), 2**30, 38), features("avx2"))


def test_pair_sums_are_used_only_when_they_fit() -> None:
    for size, dot in ((64, "avx2_pairs"), (65, "avx2_nibbles")):
        weights = np.full(SPEC.weight_shape, size, np.int8)
        assert prepare(SPEC, replace(GOOD, weights=weights), features("avx2")).code.dot == dot
    narrow = replace(GOOD, weights=np.full(SPEC.weight_shape, 127, np.int8), x_range=(0, 128))
    assert prepare(SPEC, narrow, features("avx2")).code.dot == "avx2_pairs"


@pytest.mark.parametrize(
    ("pixels", "channels", "block", "dot"),
    [
        (8, 512, 0, "avx2_wide"),
        (7, 512, 0, "avx2_nibbles"),  # too few pixels to widen weights for
        (16, 2048, 0, "avx2_wide"),
        (16, 2052, 0, "avx2_nibbles"),  # more than 32 KB of them
        (16, 512, 32, "avx2_nibbles"),
    ],
)
def test_weights_are_widened_where_many_pixels_share_few(
    pixels: int, channels: int, block: int, dot: str
) -> None:
    x = Plane.packed("uint8", 1, 1, pixels, channels)
    spec = ContractionSpec(x, Plane.packed("uint8", 1, 1, pixels, 8))
    weights = np.full(spec.weight_shape, 100, np.int8)
    mult = np.ones((8, 1, 1, channels // block), np.uint8) if block else None
    const = Constants(weights, np.zeros(8), 2**30, 38, group_mult=mult, block=block)
    assert prepare(spec, const, features("avx2")).code.dot == dot


@pytest.mark.parametrize("family", ["vnni512", "vnni256", "avx2", "plain"])
def test_a_build_is_repeatable_and_holds_no_float(family: str) -> None:
    from qir.backends.tvm.build import build_object
    from qir.backends.tvm.integer_only import integer_only
    from qir.backends.tvm.kernels.registry import emit

    code = prepare(SPEC, GOOD, features(family)).code
    assert integer_only(emit(code, "k")) == []
    first, second = (build_object({"k": emit(code, "k")}, target(family)) for _ in range(2))
    assert first == second


def test_a_planted_float_is_found() -> None:
    import tvm

    from qir.backends.tvm.integer_only import integer_only
    from qir.backends.tvm.kernels.writer import Writer

    writer = Writer()
    y, end = writer.pointer("y", "int32"), writer.scalar("end")
    half = tvm.tirx.const(0.5, "float32")
    writer.store(y, 0, (end.astype("float32") * half).astype("int32"))
    found = integer_only(writer.finish("k"))
    assert any("Cast" in f for f in found)
    assert any("FloatImm" in f for f in found)
    assert any("Mul of type float32" in f for f in found)


def test_code_generation_has_a_time_limit() -> None:
    from qir.backends.tvm.build import CodegenTimeout, build_object
    from qir.backends.tvm.kernels.registry import emit

    code = prepare(SPEC, GOOD, features("vnni512")).code
    with pytest.raises(CodegenTimeout, match="code generation of k: not done after 0 s"):
        build_object({"k": emit(code, "k")}, target("vnni512"), limit_seconds=0)


def test_a_function_the_compiler_refuses_is_named() -> None:
    from qir.backends.tvm.build import build_object
    from qir.backends.tvm.kernels.writer import Writer, call, splat

    writer = Writer()
    y = writer.pointer("y", "int32")
    bytes_ = splat(0, "int32", 16)
    writer.store(y, 0, call("llvm.x86.avx512.vpdpbusd.512", "int32x16", bytes_, bytes_, bytes_), 16)
    with pytest.raises(RuntimeError, match="code generation of bad: "):
        build_object({"bad": writer.finish("bad")}, target("vnni512"))
