"""The table from torch operators to import rules, and the alternatives for unsupported ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

Apply = Callable[..., Any]
A = TypeVar("A", bound=Apply)


class Unsupported(Exception):
    """A node that cannot be imported: what was found and needed. The importer collects them."""

    def __init__(self, fault: str, requirement: str) -> None:
        super().__init__(f"{fault}, {requirement}")


@dataclass(frozen=True)
class ImportRule:
    """How one operator imports: `apply(ctx, *args, **kwargs)`, parameters as in its ATen schema.

    With `folds`, a node whose operands are all constants is run by torch at import instead.
    """

    apply: Apply
    folds: bool


RULES: dict[str, ImportRule] = {}


def imports(*names: str, folds: bool = True) -> Callable[[A], A]:
    """Declare the function below as the rule of the operators `names`, as torch prints them."""

    def declare(apply: A) -> A:
        for name in names:
            assert name not in RULES, f"{name} has two rules"
            RULES[name] = ImportRule(apply, folds)
        return apply

    return declare


# Operators people meet and qir has no counterpart of: the nearest form that imports.
NEAREST = {
    "aten.conv3d": "conv2d",
    "aten.conv_transpose3d": "conv_transpose2d",
    "aten.max_pool3d": "max_pool2d",
    "aten.max_pool3d_with_indices": "max_pool2d",
    "aten.avg_pool3d": "avg_pool2d",
    "aten.adaptive_avg_pool3d": "adaptive_avg_pool2d",
    "aten.upsample_trilinear3d": "interpolate(mode='bilinear')",
    "aten.upsample_nearest3d": "interpolate(mode='nearest')",
    "aten._upsample_bicubic2d_aa": "interpolate(mode='bicubic', antialias=False)",
    "aten._upsample_bilinear2d_aa": "interpolate(mode='bilinear', antialias=False)",
    "aten.grid_sampler": "interpolate to a fixed size",
    "aten.grid_sampler_2d": "interpolate to a fixed size",
    "aten.scatter": "cat of slices",
    "aten.index_put": "cat of slices instead of assignment by index",
    "aten.topk": "the output before topk",
    "aten.sort": "the output before sort",
    "aten.argmax": "the output before argmax",
    "aten.argmin": "the output before argmin",
    "aten.nonzero": "a fixed number of elements",
    "aten.sin": "tanh or sigmoid",
    "aten.cos": "tanh or sigmoid",
    "aten.sign": "tanh of a large multiple, or clamp",
    "aten.round": "the model before it was rounded: quantization rounds",
    "aten.floor": "the model before it was rounded: quantization rounds",
    "aten.ceil": "the model before it was rounded: quantization rounds",
    "aten._local_scalar_dense": "a tensor in place of its item()",
    "aten._cdist_forward": "matmul of the two sets",
    "aten.prod": "exp(sum(log(x)))",
    "aten._fft_r2c": "a conv1d by the constant Fourier basis",
    "torchvision.nms": "the boxes before nms",
    "torchvision.deform_conv2d": "conv2d",
    "torchvision.roi_align": "interpolate of a fixed slice",
}


def nearest(name: str) -> str:
    """The alternative to the operator `name`, which has no rule."""
    stem = name.rsplit(".", 1)[0]
    if stem in NEAREST:
        return NEAREST[stem]
    packets = {rule.split(".")[1] for rule in RULES}
    close = get_close_matches(stem.split(".")[-1], sorted(packets), n=1, cutoff=0.65)
    return close[0] if close else "a composition of the ops in docs/reference/ops.md"


def is_known(name: str) -> bool:
    """Whether the table has a rule for the operator, or a hint that says it has none."""
    return name in RULES or name.rsplit(".", 1)[0] in NEAREST
