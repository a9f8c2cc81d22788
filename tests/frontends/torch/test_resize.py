"""Interpolation at sizes and scales of every kind, element by element as torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from qir.frontends.torch import import_torch
from qir.frontends.torch.ops.resize import cubic_matrix, pairs, sources
from qir.ir.errors import FrontendError
from tests.frontends.torch.agreement import Function, agree, inputs

SIZES = st.integers(1, 24)
SCALES = st.one_of(st.none(), st.floats(0.2, 4.5), st.sampled_from([1.0, 2.0, 0.5, 1.04, 2.05]))


def reference(size: int, out: int, scale: float | None, mode: str, **more: Any) -> Any:
    """torch's matrix of one axis: what it does to each unit vector."""
    op = {
        "nearest": torch.ops.aten.upsample_nearest1d,
        "nearest-exact": torch.ops.aten._upsample_nearest_exact1d,
        "nearest-2d": torch.ops.aten.upsample_nearest2d,
        "nearest-exact-2d": torch.ops.aten._upsample_nearest_exact2d,
        "linear": torch.ops.aten.upsample_linear1d,
    }.get(mode)
    units = torch.eye(size)[None]
    if op is None:
        wide = units[..., None, :]
        y = torch.ops.aten.upsample_bicubic2d(wide, [1, out], more["align"], None, scale)[:, :, 0]
    elif mode == "linear":
        y = op(units, [out], more["align"], scale)
    elif mode.endswith("2d"):
        y = op(units[..., None], [out, 1], scale, 1.0)[..., 0]
    else:
        y = op(units, [out], scale)
    return y[0].T.numpy()


@settings(max_examples=300, deadline=None)
@given(SIZES, SIZES, SCALES, st.booleans(), st.booleans())
def test_nearest_takes_the_elements_that_torch_takes(
    size: int, out: int, scale: float | None, is_exact: bool, is_plane: bool
) -> None:
    mode = ("nearest-exact" if is_exact else "nearest") + "-2d" * is_plane
    expected = reference(size, out, scale, mode).argmax(1)
    np.testing.assert_array_equal(sources(size, out, scale, is_exact, is_plane), expected)


@settings(max_examples=200, deadline=None)
@given(SIZES, SIZES, SCALES, st.booleans())
def test_linear_and_cubic_weigh_as_torch_weighs(
    size: int, out: int, scale: float | None, align: bool
) -> None:
    index, weight = pairs(size, out, scale, align)
    matrix = np.zeros((out, size))
    np.add.at(matrix, (np.arange(out)[:, None], index), weight)
    expected = reference(size, out, scale, "linear", align=align)
    np.testing.assert_allclose(matrix, expected, atol=2e-6)
    expected = reference(size, out, scale, "cubic", align=align)
    np.testing.assert_allclose(cubic_matrix(size, out, scale, align), expected, atol=5e-6)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("factor", [2.05, 2.0, 1.04, 0.5, (1.3, 2.1)], ids=str)
def test_nearest_by_scales(mode: str, factor: Any) -> None:
    agree(
        Function(lambda x: F.interpolate(x, scale_factor=factor, mode=mode)), inputs((1, 2, 10, 12))
    )


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_two_axes(mode: str, align: bool) -> None:
    x = inputs((2, 3, 7, 5))
    agree(Function(lambda x: F.interpolate(x, (13, 4), mode=mode, align_corners=align)), x)
    agree(Function(lambda x: F.interpolate(x, scale_factor=1.7, mode=mode, align_corners=align)), x)
    by_size = {"scale_factor": 1.7, "recompute_scale_factor": True}
    agree(Function(lambda x: F.interpolate(x, mode=mode, align_corners=align, **by_size)), x)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialias_is_refused(mode: str) -> None:
    module = Function(lambda x: F.interpolate(x, (3, 3), mode=mode, antialias=True))
    with pytest.raises(FrontendError, match=f"interpolate\\(mode='{mode}', antialias=False\\)"):
        import_torch(module, inputs((1, 2, 8, 8)))
