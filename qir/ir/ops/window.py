"""Windows that slide over the height and width of (N, H, W, C): shapes, padding and the windows
themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from qir.ir.types import Array

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


def window_sizes(
    height: int, width: int, kernel: Pair, stride: Pair, pad: Sides, dilation: Pair
) -> Pair:
    """(OH, OW): out = floor((in + pads - dilation * (kernel - 1) - 1) / stride) + 1, pads (top,
    left, bottom, right).
    """
    sizes = zip(
        (height, width), (pad[0] + pad[2], pad[1] + pad[3]), kernel, stride, dilation, strict=True
    )
    out = [(size + pads - d * (k - 1) - 1) // s + 1 for size, pads, k, s, d in sizes]
    return out[0], out[1]


def ceil_padding(size: int, sides: Pair, reach: int, stride: int) -> int:
    """The padding after an axis, beyond its `sides`, that makes the number of windows round up, as
    ceil_mode says.

    out = ceil((size + sides - reach) / stride) + 1, less 1 where the last window would start in
    that padding: (out - 1) * stride >= size + the side before.
    Source: ATen/native/Pool.h, pooling_output_shape_pad_lr; ONNX MaxPool and AveragePool since
    opset 10.
    """
    out = -(-(size + sum(sides) - reach) // stride) + 1
    if (out - 1) * stride >= size + sides[0]:
        out -= 1
    return max((out - 1) * stride + reach - size - sum(sides), 0)


def window_fault(kernel: Pair, stride: Pair, pad: Sides, dilation: Pair) -> str | None:
    """Why these attributes make no window, or None."""
    if len(kernel) != 2 or len(stride) != 2 or len(pad) != 4 or len(dilation) != 2:
        return f"kernel {kernel}, stride {stride}, pad {pad}, dilation {dilation}"
    if min(*kernel, *stride, *dilation) < 1 or min(pad) < 0:
        return f"kernel {kernel}, stride {stride}, pad {pad}, dilation {dilation}"
    return None


def padded(x: Array, pad: Sides, fill: int | float) -> Array:
    """x (N, H, W, C) with `fill` around height and width."""
    if not any(pad):
        return x
    top, left, bottom, right = pad
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)


def windows(x: Array, kernel: Pair, stride: Pair, dilation: Pair) -> Array:
    """A view (N, OH, OW, kh, kw, C) of x (N, H, W, C), no padding."""
    n, h, w, c = x.shape
    oh, ow = window_sizes(h, w, kernel, stride, (0, 0, 0, 0), dilation)
    sn, sh, sw, sc = x.strides
    return as_strided(
        x,
        (n, oh, ow, *kernel, c),
        (sn, sh * stride[0], sw * stride[1], sh * dilation[0], sw * dilation[1], sc),
        writeable=False,
    )


def pad_torch(torch: Any, x: Any, pad: Sides, fill: float) -> Any:
    """x (N, C, H, W) with `fill` around height and width."""
    top, left, bottom, right = pad
    return torch.nn.functional.pad(x, (left, right, top, bottom), value=fill) if any(pad) else x
