"""Convolutions over (N, H, W, C), weights output-first (O, kh, kw, I / groups)."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from qir.ir.bounds import Bounds, Extreme
from qir.ir.op import Value, op
from qir.ir.ops.accumulate import (
    accumulator,
    contraction_bound,
    contraction_extremes,
    exact_float,
    float_or_quantized,
)  # fmt: skip
from qir.ir.ops.kinds import Contraction, Layer
from qir.ir.ops.window import Pair, Sides, pad_torch, padded, window_fault, window_sizes, windows
from qir.ir.types import Array, Tensor

UNFOLDED = 1 << 18  # elements of unfolded windows at a time: what a cache holds


@op("conv")
class Conv(Layer):
    """acc[n,y,x,o] = bias[o] + sum over ky, kx, i of (x[n, y*s+ky*d-pad, x*s+kx*d-pad, g(o)*I+i] -
    zx) * (w[o,ky,kx,i] - zw)

    On floats zx = zw = 0. On quantized operands the result is the exact i32 accumulator, of scale
    sx * sw and
    zero point 0; bias is i32 of that same type. Padding adds nothing (it holds the real 0).
    Shapes: x (N, H, W, C), w (O, kh, kw, C / groups), bias (O,) -> (N, OH, OW, O); pad is (top,
            left, bottom, right).
    Needs:  the accumulator fits i32; proven from the actual weights (bound).
    """

    x: Value
    w: Value
    bias: Value | None
    stride: Pair
    pad: Sides
    dilation: Pair
    groups: int

    @property
    def kernel(self) -> Pair:
        return self.w.type.shape[1], self.w.type.shape[2]

    def infer(self) -> Tensor:
        x, w = self.x.type, self.w.type
        if x.rank != 4 or w.rank != 4:
            self.fail(f"x is {x}, w is {w}", "both of rank 4 are needed")
        if fault := window_fault(self.kernel, self.stride, self.pad, self.dilation):
            self.fail(fault, "positive sizes and pads of at least 0 are needed")
        o, g = w.shape[0], self.groups
        if g < 1 or x.shape[3] != w.shape[3] * g or o % g:
            self.fail(
                f"x has {x.shape[3]} channels, w is {list(w.shape)}, groups {g}",
                "C = I * groups, O % groups = 0",
            )
        oh, ow = window_sizes(
            x.shape[1], x.shape[2], self.kernel, self.stride, self.pad, self.dilation
        )
        if min(oh, ow) < 1:
            self.fail(
                f"kernel {self.kernel} on {x.shape[1]}x{x.shape[2]}",
                "a window inside the padded input is needed",
            )
        if self.bias is not None and self.bias.type.shape != (o,):
            self.fail(f"bias is {self.bias.type}", f"({o},) is needed")
        return Tensor(
            (x.shape[0], oh, ow, o), accumulator(self, self.x, self.w, self.bias, out_axis=3)
        )

    @property
    def is_depthwise(self) -> bool:
        return self.groups > 1 and self.w.type.shape[3] == 1

    def compute(self, torch: Any, x: Any, w: Any, bias: Any) -> Any:
        f = torch.nn.functional
        x = x.permute(0, 3, 1, 2)
        top, left, bottom, right = self.pad
        if (top, left) == (bottom, right):
            inner: tuple[int, int] = (top, left)
        else:
            x, inner = pad_torch(torch, x, self.pad, 0.0), (0, 0)
        w = w.permute(0, 3, 1, 2)
        y = f.conv2d(x, w, bias, self.stride, inner, self.dilation, self.groups)
        return y.permute(0, 2, 3, 1)

    def evaluate(self, x: Array, w: Array, bias: Array | None) -> Array:
        zx, zw = (v.type.quant.spread(v.type.shape)[1] for v in (self.x, self.w))
        weights = w.astype(np.int64) - zw
        reach = max(int(zx) - int(x.min(initial=0)), int(x.max(initial=0)) - int(zx), 0)
        sums = np.abs(weights).sum(axis=(1, 2, 3))
        exact = exact_float(reach * int(sums.max(initial=0)))
        centred = padded(x.astype(exact) - exact.type(zx), self.pad, 0)
        work = self._depthwise if self.is_depthwise else self._grouped
        acc = work(centred, weights.astype(exact))
        return acc if bias is None else acc + bias.astype(np.int32)

    def _depthwise(self, x: Array, w: Array) -> Array:
        n, oh, ow, o = self.result.type.shape
        each = o // self.groups
        acc = np.empty((n, oh, ow, o), np.int32)
        total, product = (np.empty((oh, ow, o), x.dtype) for _ in range(2))
        for image in range(n):  # one image at a time stays in the cache
            view = windows(x[image : image + 1], self.kernel, self.stride, self.dilation)[0]
            total[...] = 0
            for ky in range(self.kernel[0]):
                for kx in range(self.kernel[1]):
                    tap = view[:, :, ky, kx]
                    np.multiply(tap.repeat(each, 2) if each > 1 else tap, w[:, ky, kx, 0], product)
                    total += product
            acc[image] = total
        return acc

    def _grouped(self, x: Array, w: Array) -> Array:
        n, oh, ow, o = self.result.type.shape
        g, inner, depth = self.groups, w.shape[3], prod(w.shape[1:])
        acc = np.empty((n, oh, ow, o), np.int32)
        step = max(1, UNFOLDED // max(1, oh * ow * depth))
        for i in range(0, n, step):  # a few images at a time keep the unfolded windows small
            view = windows(x[i : i + step], self.kernel, self.stride, self.dilation)
            for k in range(g):
                here = slice(k * o // g, (k + 1) * o // g)
                rows = view[..., k * inner : (k + 1) * inner].reshape(len(view) * oh * ow, depth)
                sums = rows @ w[here].reshape(o // g, depth).T
                acc[i : i + step, ..., here] = sums.reshape(len(view), oh, ow, o // g)
        return acc

    def bound(self, x: Any, w: Any, bias: Any) -> Bounds:
        return contraction_bound(self.x, self.w, self.bias, x, w, bias, padded=any(self.pad))

    def extremes(self, x: Any, w: Any, bias: Any) -> Iterator[Extreme]:
        yield from contraction_extremes(self.x, self.w, self.bias, x, w, bias, padded=any(self.pad))


@op("conv_transpose")
class ConvTranspose(Contraction):
    """y[n, y*s+ky*d-top, x*s+kx*d-left, o] += x[n,y,x,i] * w[o,ky,kx,i], + bias[o]; summed over
    every y, x, ky, kx, i.

    Shapes: x (N, H, W, C), w (O, kh, kw, C / groups), bias (O,) -> (N, OH, OW, O),
            OH = (H - 1) * stride + dilation * (kh - 1) + 1 + extra - pads; pad is (top, left,
            bottom, right).
    Source: ONNX ConvTranspose; lowered to pad with stride-1 zeros between, then conv with the
            turned kernel.
    """

    x: Value
    w: Value
    bias: Value | None
    stride: Pair
    pad: Sides
    extra: Pair
    dilation: Pair
    groups: int

    def infer(self) -> Tensor:
        x, w = self.x.type, self.w.type
        if x.rank != 4 or w.rank != 4:
            self.fail(f"x is {x}, w is {w}", "both of rank 4 are needed")
        if x.shape[3] != w.shape[3] * self.groups or w.shape[0] % self.groups:
            self.fail(
                f"x has {x.shape[3]} channels, w is {list(w.shape)}, groups {self.groups}",
                "C = I * groups",
            )
        if self.bias is not None and self.bias.type.shape != (w.shape[0],):
            self.fail(f"bias is {self.bias.type}", f"({w.shape[0]},) is needed")
        float_or_quantized(self, self.x, self.w)
        reach = [(s - 1) * st + d * (k - 1) + 1 + e - p for s, st, d, k, e, p in zip(
            x.shape[1:3], self.stride, self.dilation, w.shape[1:3], self.extra,
            (self.pad[0] + self.pad[2], self.pad[1] + self.pad[3]), strict=True)]  # fmt: skip
        if min(reach) < 1:
            self.fail(f"output {reach[0]}x{reach[1]}", "at least 1x1 is needed")
        return Tensor((x.shape[0], reach[0], reach[1], w.shape[0]), x.elem)

    def compute(self, torch: Any, x: Any, w: Any, bias: Any) -> Any:
        o, kh, kw, i = self.w.type.shape
        g = self.groups
        # torch wants (C, O / groups, kh, kw), C = groups * I
        weights = (
            w.reshape(g, o // g, kh, kw, i).permute(0, 4, 1, 2, 3).reshape(g * i, o // g, kh, kw)
        )
        f = torch.nn.functional
        y = f.conv_transpose2d(
            x.permute(0, 3, 1, 2), weights, None, self.stride, 0, 0, g, self.dilation
        )
        y = f.pad(y, (0, self.extra[1], 0, self.extra[0]))
        top, left, bottom, right = self.pad
        y = y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right].permute(0, 2, 3, 1)
        return y if bias is None else y + bias
