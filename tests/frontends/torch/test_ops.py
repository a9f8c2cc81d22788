"""Every operator of the table against torch, family by family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.frontends.torch.agreement import Function, agree, agree_all, inputs, mnemonics, randomize
from tests.frontends.torch.small_modules import Attention, SelfAttention, prelu

IMAGE = (2, 6, 9, 8)
Tensor = torch.Tensor

MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    # convolutions
    "conv2d": (lambda: nn.Conv2d(6, 4, 3), IMAGE),
    "conv2d stride pad dilation": (lambda: nn.Conv2d(6, 4, (3, 2), (2, 1), (2, 1), (1, 2)), IMAGE),
    "conv2d groups": (lambda: nn.Conv2d(6, 4, 3, groups=2, bias=False), IMAGE),
    "conv2d depthwise": (lambda: nn.Conv2d(6, 12, 3, padding=1, groups=6), IMAGE),
    "conv2d same": (lambda: nn.Conv2d(6, 4, (4, 3), padding="same", dilation=(1, 2)), IMAGE),
    "conv2d valid": (lambda: nn.Conv2d(6, 4, 3, padding="valid"), IMAGE),
    "conv2d reflect": (lambda: nn.Conv2d(6, 4, 3, padding=2, padding_mode="reflect"), IMAGE),
    "conv2d replicate": (lambda: nn.Conv2d(6, 4, 3, padding=1, padding_mode="replicate"), IMAGE),
    "conv2d circular": (lambda: nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular"), IMAGE),
    "conv2d unbatched": (lambda: nn.Conv2d(6, 4, 3), IMAGE[1:]),
    "conv1d": (lambda: nn.Conv1d(6, 4, 3, 2, 1, 2), (2, 6, 17)),
    "conv1d depthwise": (lambda: nn.Conv1d(6, 6, 5, padding="same", groups=6), (2, 6, 17)),
    "conv1d unbatched": (lambda: nn.Conv1d(6, 4, 3), (6, 17)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(6, 4, 3, 2, 1, 1), IMAGE),
    "conv_transpose2d groups": (
        lambda: nn.ConvTranspose2d(6, 4, (2, 3), (3, 2), groups=2, dilation=2),
        IMAGE,
    ),
    "conv_transpose2d no bias": (lambda: nn.ConvTranspose2d(6, 4, 2, 2, bias=False), IMAGE),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(6, 4, 4, 2, 1), (2, 6, 11)),
    # matrices
    "linear": (lambda: nn.Linear(8, 5), IMAGE),
    "linear vector": (lambda: nn.Linear(8, 5, bias=False), (8,)),
    "attention": (lambda: Attention(8), (2, 5, 8)),
    "multi-head attention": (lambda: SelfAttention(8), (2, 5, 8)),
    "weight norm": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 5)),
        (3, 8),
    ),
    # normalizations
    "batch_norm2d": (lambda: randomize(nn.BatchNorm2d(6)), IMAGE),
    "batch_norm2d plain": (lambda: randomize(nn.BatchNorm2d(6, affine=False)), IMAGE),
    "batch_norm1d": (lambda: randomize(nn.BatchNorm1d(6)), (4, 6)),
    "batch_norm1d signal": (lambda: randomize(nn.BatchNorm1d(6)), (4, 6, 7)),
    "layer_norm": (lambda: randomize(nn.LayerNorm(8)), IMAGE),
    "layer_norm two axes": (lambda: nn.LayerNorm((9, 8)), IMAGE),
    "layer_norm plain": (lambda: nn.LayerNorm(8, elementwise_affine=False), IMAGE),
    "group_norm": (lambda: randomize(nn.GroupNorm(3, 6)), IMAGE),
    "group_norm plain": (lambda: nn.GroupNorm(2, 6, affine=False), (2, 6)),
    "instance_norm": (lambda: randomize(nn.InstanceNorm2d(6, affine=True)), IMAGE),
    "instance_norm running": (
        lambda: randomize(nn.InstanceNorm2d(6, track_running_stats=True)),
        IMAGE,
    ),
    "rms_norm": (lambda: nn.RMSNorm(8), IMAGE),
    # activations with parameters
    "prelu": (lambda: nn.PReLU(), IMAGE),
    "prelu channels": (lambda: prelu(6), IMAGE),
    "rrelu": (lambda: nn.RReLU(), IMAGE),
    # the rest that comes as a module
    "dropout": (lambda: nn.Sequential(nn.Dropout(), nn.Dropout2d()), IMAGE),
    "identity": (lambda: nn.Sequential(nn.Identity(), nn.ReLU()), IMAGE),
    "flatten unflatten": (
        lambda: nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (6, 72)), nn.ReLU()),
        IMAGE,
    ),
    "zero pad": (lambda: nn.ZeroPad2d((1, 2, 0, 3)), IMAGE),
    "channel shuffle": (lambda: nn.ChannelShuffle(3), IMAGE),
    "upsample": (lambda: nn.UpsamplingBilinear2d(scale_factor=2), IMAGE),
}

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu in place": lambda x: F.relu_(x * 2),
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -2, 3),
    "clamp": lambda x: x.clamp(-1, 2),
    "clamp min": lambda x: x.clamp(min=-1),
    "clamp max": lambda x: torch.clamp_max(x, 1),
    "clamp min 0": lambda x: torch.clamp_min(x, 0),
    "clip": lambda x: torch.clip(x, max=0.5),
    "clamp tensors": lambda x: x.clamp(torch.tensor(-1.0), torch.tensor(1.0)),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "threshold at": lambda x: F.threshold(x, 0.5, 0.5),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": lambda x: F.elu(x, 0.7),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 1.7),
    "softplus": F.softplus,
    "softplus beta": lambda x: F.softplus(x, beta=2.5),
    "mish": F.mish,
    "logsigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "glu": lambda x: F.glu(x, 1),
    "softmax": lambda x: x.softmax(-1),
    "softmax channels": lambda x: x.softmax(1),
    "log_softmax": lambda x: F.log_softmax(x * 50, 1),
    "softmin": lambda x: F.softmin(x, 2),
    "hard swish by hand": lambda x: x * F.relu6(x + 3) / 6,
    "dropout": lambda x: F.dropout(x, 0.3, training=False) + 1,
    "normalize": lambda x: F.normalize(x, dim=1),
}

ARITHMETIC: dict[str, Callable[[Tensor], Tensor]] = {
    "add number": lambda x: x + 1,
    "add alpha": lambda x: torch.add(x, x, alpha=3),
    "add number alpha": lambda x: torch.add(x, 2, alpha=3),
    "sub": lambda x: x - 1.5,
    "rsub": lambda x: 1 - x,
    "mul": lambda x: 3 * x,
    "div": lambda x: x / 7,
    "div by": lambda x: 1 / (x.abs() + 1),
    "neg": lambda x: -x,
    "abs exp": lambda x: torch.exp(-x.abs()),
    "log": lambda x: torch.log(x.abs() + 1),
    "log1p expm1": lambda x: torch.log1p(torch.expm1(x.abs())),
    "sqrt": lambda x: torch.sqrt(x.abs() + 1),
    "rsqrt": lambda x: torch.rsqrt(x.abs() + 1),
    "reciprocal": lambda x: torch.reciprocal(x.abs() + 1),
    "erf": torch.erf,
    "square": torch.square,
    "pow 2": lambda x: x**2,
    "pow 3": lambda x: x**3,
    "pow half": lambda x: (x.abs() + 1) ** 0.5,
    "pow -half": lambda x: (x.abs() + 1) ** -0.5,
    "pow -1": lambda x: (x.abs() + 1) ** -1,
    "pow 1": lambda x: (x + 1) ** 1,
    "pow of a number": lambda x: 2 ** (x / 4),
    "pow tensor": lambda x: (x.abs() + 1) ** (x / 9),
    "maximum": lambda x: torch.maximum(x, x.flip(0)),
    "minimum": lambda x: torch.min(x, x.flip(0)),
    "broadcast": lambda x: x * x.mean((2, 3), keepdim=True) + x[:, :1],
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5),
    "in place": lambda x: (x * 1).add_(1).mul_(2).sub_(3).div_(4),
    "lerp": lambda x: torch.lerp(x, x * 2, 0.25),
    "lerp tensor": lambda x: torch.lerp(x, x * 2, torch.sigmoid(x)),
    "where": lambda x: torch.where(torch.arange(8) % 2 == 0, x, x * 2),
    "where number": lambda x: torch.where(torch.arange(8) > 3, x, 1.5),
    "masked_fill": lambda x: x.masked_fill(torch.arange(8) > 3, -7),
}


def assigned_slice(x: Tensor) -> Tensor:
    """Assignments to parts of a tensor: torch makes scatters of them."""
    y = x.clone()
    y[:, 0] = y[:, 1] * 2
    y[:, 2:4] = 5.0
    y[..., -1:] = y[..., :1] - 1
    return y


SHAPES: dict[str, Callable[[Tensor], Any]] = {
    "view": lambda x: x.view(x.shape[0], -1) + 0,
    "view zero": lambda x: x.reshape(12, -1, 4),
    "flatten": lambda x: x.flatten(1, 2),
    "unflatten": lambda x: x.unflatten(1, (2, -1)),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "transpose": lambda x: x.transpose(1, -1),
    "mT": lambda x: x.mT,
    "t": lambda x: x[0, 0].t(),
    "movedim": lambda x: x.movedim(1, -1),
    "movedim many": lambda x: x.movedim((0, 1), (2, 0)),
    "squeeze": lambda x: x[:1, :1].squeeze(),
    "squeeze one": lambda x: x[:1, :1].squeeze(1),
    "squeeze many": lambda x: x[:1, :1].squeeze((0, 2)),
    "unsqueeze": lambda x: x.unsqueeze(-1).unsqueeze(0),
    "expand": lambda x: x[:, :1].expand(-1, 5, -1, -1),
    "expand rank": lambda x: x[0].expand(3, 6, 9, 8),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "repeat rank": lambda x: x.repeat(2, 1, 1, 1, 1),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "tile": lambda x: x.tile(2),
    "cat": lambda x: torch.cat([x, x * 2, x[:, :1]], 1),
    "cat one": lambda x: torch.cat([x], 1) * 2,
    "stack": lambda x: torch.stack([x, x + 1], 2),
    "split": lambda x: x.split(4, 1),
    "split sizes": lambda x: x.split([1, 2, 3], 1),
    "chunk": lambda x: x.chunk(4, 1),
    "unbind": lambda x: x.unbind(0),
    "tensor_split": lambda x: x.tensor_split(3, 1),
    "slice": lambda x: x[:, 1:-1, ::2, 3:],
    "slice beyond": lambda x: x[:, -100:100],
    "narrow": lambda x: x.narrow(2, 3, 4),
    "select": lambda x: x[:, -1],
    "index_select": lambda x: x.index_select(1, torch.tensor([2, 0, 2])),
    "index": lambda x: x[:, [2, 0, -1]],
    "index matrix": lambda x: x[:, :, torch.tensor([[0, 1], [2, 3]])],
    "index mask": lambda x: x[:, torch.tensor([True, False, True, True, False, False])],
    "index pairs": lambda x: x[:, torch.tensor([[0], [2]]), torch.tensor([1, -1])],
    "index all": lambda x: x[torch.tensor([0]), [1], [2], [3]],
    "index mask matrix": lambda x: x[torch.ones(2, 6, dtype=torch.bool).triu(1)],
    "unfold": lambda x: F.unfold(x, 3, stride=2),
    "assign slice": assigned_slice,
    "flip": lambda x: x.flip(1, 3),
    "roll": lambda x: x.roll((1, -2), (2, 3)),
    "roll all": lambda x: x.roll(5),
    "channel shuffle": lambda x: x.view(2, 3, 2, 9, 8).transpose(1, 2).reshape(2, 6, 9, 8),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x[:, :4], 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x[:, :, :8], 2),
    "unfold patches": lambda x: x[:, :, :8].reshape(2, 6, 4, 2, 4, 2).permute(0, 2, 4, 1, 3, 5),
    "pad": lambda x: F.pad(x, (1, 2, 0, 3, 1, 1), value=0.5),
    "pad negative": lambda x: F.pad(x, (-1, 2, 1, -2)),
    "pad reflect": lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"),
    "pad replicate": lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"),
    "pad circular": lambda x: F.pad(x, (1, 2, 3, 0), mode="circular"),
    "pad reflect 1d": lambda x: F.pad(x[0], (3, 2), mode="reflect"),
    "contiguous": lambda x: x.permute(0, 2, 1, 3).contiguous().clone().detach() * 1,
    "same type": lambda x: x.to(torch.float32).float() * 1,
    "view as": lambda x: (x[0] * 1).view_as(x[1]).expand_as(x),
    "einsum": lambda x: torch.einsum("nchw,nkhw->nck", x, x),
    "constants": lambda x: x + torch.arange(8.0) * torch.ones(9, 1) + torch.full((1,), 2.0),
}

REDUCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "mean": lambda x: x.mean(),
    "mean dims": lambda x: x.mean((2, 3)),
    "mean keep": lambda x: x.mean(-1, keepdim=True),
    "sum": lambda x: x.sum(),
    "sum dims": lambda x: x.sum((1, 3), keepdim=True),
    "amax": lambda x: x.amax((2, 3)),
    "max": lambda x: x.max(),
    "max values": lambda x: x.max(1).values,
    "amin": lambda x: x.amin(1),
    "min values": lambda x: x.min(1, keepdim=True)[0],
    "var": lambda x: x.var(1),
    "var biased": lambda x: x.var((2, 3), unbiased=False),
    "std": lambda x: x.std(1, keepdim=True),
    "var_mean": lambda x: torch.var_mean(x, 1),
    "norm": lambda x: x.norm(dim=1),
    "norm 1": lambda x: torch.linalg.vector_norm(x, 1, dim=1),
    "norm inf": lambda x: torch.linalg.vector_norm(x, float("inf")),
    "logsumexp": lambda x: torch.logsumexp(x, 1),
}

POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda x: F.max_pool2d(x, 2),
    "max stride pad": lambda x: F.max_pool2d(x, 3, (2, 1), 1),
    "max ceil": lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True),
    "max ceil pad": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "max ceil cut": lambda x: F.max_pool2d(x, 2, 3, 1, ceil_mode=True),
    "max dilation": lambda x: F.max_pool2d(x, (3, 2), 1, (1, 0), (2, 3)),
    "max 1d": lambda x: F.max_pool1d(x[0], 3, 2, 1),
    "max unbatched": lambda x: F.max_pool2d(x[0], 2),
    "avg": lambda x: F.avg_pool2d(x, 2),
    "avg pad": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "avg uncounted": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg ceil": lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True),
    "avg ceil pad": lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    "avg ceil uncounted": lambda x: F.avg_pool2d(x, 4, 3, 2, True, count_include_pad=False),
    "avg divisor": lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5),
    "avg divisor ceil": lambda x: F.avg_pool2d(x, 3, 2, 1, True, divisor_override=4),
    "avg 1d": lambda x: F.avg_pool1d(x[0], 3, 2, 1),
    "adaptive avg 1": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive avg": lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
    "adaptive avg same": lambda x: F.adaptive_avg_pool2d(x, (None, 2)),
    "adaptive avg 1d": lambda x: F.adaptive_avg_pool1d(x[0], 4),
    "adaptive max 1": lambda x: F.adaptive_max_pool2d(x, 1),
    "adaptive max": lambda x: F.adaptive_max_pool2d(x, (3, 2)),
    "adaptive max 1d": lambda x: F.adaptive_max_pool1d(x[0], 2),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest size": lambda x: F.interpolate(x, (7, 13)),
    "nearest fraction": lambda x: F.interpolate(x, scale_factor=1.7),
    "nearest exact": lambda x: F.interpolate(x, (5, 17), mode="nearest-exact"),
    "nearest 1d": lambda x: F.interpolate(x[0], scale_factor=3),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear size": lambda x: F.interpolate(x, (5, 13), mode="bilinear"),
    "bilinear corners": lambda x: F.interpolate(x, (4, 17), mode="bilinear", align_corners=True),
    "bilinear to 1": lambda x: F.interpolate(x, (1, 8), mode="bilinear", align_corners=True),
    "bilinear fraction": lambda x: F.interpolate(x, scale_factor=(1.3, 0.6), mode="bilinear"),
    "bilinear recomputed": lambda x: F.interpolate(
        x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True
    ),
    "linear 1d": lambda x: F.interpolate(x[0], scale_factor=2, mode="linear"),
}

MATRICES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mm": lambda a, b: a[0, 0] @ b[0, 0].T,
    "bmm": lambda a, b: torch.bmm(a[0], b[0].mT),
    "matmul": lambda a, b: a @ b.mT,
    "matmul broadcast": lambda a, b: a @ b[0, 0].T,
    "matmul vector": lambda a, b: a @ b[0, 0, 0],
    "vector matmul": lambda a, b: a[0, 0, 0] @ b[0].mT,
    "dot": lambda a, b: a[0, 0, 0] @ b[0, 0, 0],
    "matmul constant": lambda a, b: a @ torch.ones(8, 3) + b[0, 0, 0, 0],
    "constant matmul": lambda a, b: torch.ones(3, 9) @ a + b[0, 0, 0],
    "addmm": lambda a, b: torch.addmm(b[0, 0], a[0, 0], torch.ones(8, 8), beta=2, alpha=0.5),
    "addmm bias": lambda a, b: (
        torch.addmm(torch.ones(3), a[0, 0], torch.ones(8, 3)) + b[0, 0, 0, 0]
    ),
    "baddbmm": lambda a, b: torch.baddbmm(b[0], a[0], torch.ones(6, 8, 8)),
    "linear computed": lambda a, b: F.linear(a, b[0, 0], b[0, 0, :, 0]),
    "attention": lambda a, b: F.scaled_dot_product_attention(a, b, b),
    "attention mask": lambda a, b: F.scaled_dot_product_attention(
        a, b, b, attn_mask=torch.ones(9, 9).triu() * -5, scale=0.3
    ),
}


FAMILIES = {
    "activations": ACTIVATIONS,
    "arithmetic": ARITHMETIC,
    "shapes": SHAPES,
    "reductions": REDUCTIONS,
    "pools and resizes": POOLS,
}


def test_modules() -> None:
    torch.manual_seed(0)
    modules = {name: make().eval() for name, (make, _) in MODULES.items()}
    agree_all(modules, inputs(*(shape for _, shape in MODULES.values())))


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family: str) -> None:
    functions = FAMILIES[family]
    agree_all(
        {name: Function(function) for name, function in functions.items()},
        inputs(*[IMAGE] * len(functions)),
    )


def test_matrices() -> None:
    functions = {
        name: Function(lambda ab, function=function: function(ab[0], ab[1]))
        for name, function in MATRICES.items()
    }
    agree_all(functions, inputs(*[(2, *IMAGE)] * len(functions)))


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (F.hardswish, ["hard_swish"]),
        (F.silu, ["silu"]),
        (lambda x: F.gelu(x, approximate="tanh"), ["gelu"]),
        (F.selu, ["elu"]),
        (lambda x: F.max_pool2d(x, 2), ["transpose", "max_pool", "transpose"]),
        (lambda x: F.adaptive_avg_pool2d(x, 1), ["transpose", "reduce_mean", "transpose"]),
        (lambda x: x.softmax(-1), ["softmax"]),
        (lambda x: F.layer_norm(x, (8,)), ["layer_norm"]),
        (lambda x: F.dropout(x, 0.5, False).contiguous().detach().clone() * 2, ["mul"]),
    ],
)
def test_stays_whole(function: Callable[[Tensor], Tensor], wanted: list[str]) -> None:
    assert mnemonics(agree(Function(function), inputs(IMAGE))) == wanted


def test_constants_fold() -> None:
    """Arithmetic on parameters and buffers alone is done at import."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.rand(6, 1, 1))
            self.register_buffer("offset", torch.rand(6))

        def forward(self, x: Tensor) -> Tensor:
            gain = torch.exp(self.gain) * 2 + torch.arange(6.0).view(6, 1, 1)
            y: Tensor = x * gain + self.offset.flip(0)[None, :, None, None]
            return y

    assert mnemonics(agree(Scaled(), inputs(IMAGE))) == ["mul", "add"]
