"""Resize in every mode at sizes drawn at random, as onnx's reference and ONNX Runtime."""

from __future__ import annotations

import itertools
import random

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from qir.frontends.onnx import import_onnx
from qir.ir.torch_executor import run_float
from tests.frontends.onnx.models import model, reals, runtime

COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
)  # fmt: skip
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
KINDS = [("nearest", r) for r in ROUNDINGS] + [("linear", ""), ("cubic", "")]


def resize(
    mode: str, rounding: str, coordinates: str, old: tuple[int, int], new: tuple[int, int]
) -> onnx.ModelProto:
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if rounding:
        attributes["nearest_mode"] = rounding
    constants = {"sizes": np.array([1, 2, *new], np.int64)}
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)
    return model([node], {"x": (1, 2, *old)}, ["y"], constants, opset=19)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize(("mode", "rounding"), KINDS)
def test_random_sizes(mode: str, rounding: str, coordinates: str) -> None:
    rng = random.Random(f"{mode} {rounding} {coordinates}")
    for _ in range(6):
        old, new = ((rng.randint(2, 12), rng.randint(2, 12)) for _ in range(2))
        proto = resize(mode, rounding, coordinates, old, new)
        x = reals(1, 2, *old)
        (y,) = run_float(import_onnx(proto), [x])
        expected = ReferenceEvaluator(proto).run(None, {"x": x})[0]
        named = f"{old} to {new}"
        if mode == "nearest":  # a coordinate on a tie: each computes it in floats of its own
            also = runtime(proto, x)[0]
            close = np.isclose(y, expected) | np.isclose(y, also)
            assert close.all(), named
        else:
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4, err_msg=named)


@pytest.mark.parametrize(
    "factors", list(itertools.product((0.5, 1.0, 2.0, 3.0), repeat=2)), ids=str
)
def test_nearest_by_whole_factors_is_exact(factors: tuple[float, float]) -> None:
    constants = {"scales": np.array([1, 1, *factors], np.float32)}
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest",
                   coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    proto = model([node], {"x": (1, 2, 6, 8)}, ["y"], constants)
    x = reals(1, 2, 6, 8)
    (y,) = run_float(import_onnx(proto), [x])
    np.testing.assert_array_equal(y, runtime(proto, x)[0])


@pytest.mark.parametrize(("scale", "is_shared"), [(1.5, False), (1.6, True)])
def test_aligned_corners_of_fractional_lengths_follow_the_specification(
    scale: float, is_shared: bool
) -> None:
    """length_resized = scale * length, 7.5 of 5 elements, as onnx's reference has it. ONNX Runtime
    takes the 7 of the result, which is another function; where the length is whole they agree.
    """
    constants = {"scales": np.array([1, 1, scale, scale], np.float32)}
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear",
                            coordinate_transformation_mode="align_corners")  # fmt: skip
    proto = model([node], {"x": (1, 2, 5, 5)}, ["y"], constants, opset=19)
    x = reals(1, 2, 5, 5)
    (y,) = run_float(import_onnx(proto), [x])
    expected = ReferenceEvaluator(proto).run(None, {"x": x})[0]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    assert np.allclose(y, runtime(proto, x)[0], rtol=1e-4, atol=1e-4) is is_shared
