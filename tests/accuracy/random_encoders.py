"""Modules of transformers with random weights of the sizes that training leaves, and their inputs.

Outputs of random weights say how much a lowering loses, not how well a task is done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from qir.ir.types import Array
from tests.accuracy.packages import module

VOCABULARY = 200


@dataclass(frozen=True)
class Size:
    width: int
    layers: int
    heads: int
    hidden: int
    pixels: int
    patch: int
    tokens: int
    samples: int  # half of them calibrate


SIZES = {
    "small": Size(64, 2, 4, 128, 32, 8, 16, 64),
    "tiny": Size(192, 12, 3, 768, 224, 16, 64, 32),
    "base": Size(768, 12, 12, 3072, 224, 16, 128, 16),
}


class FirstOutput(nn.Module):
    """A module of transformers as one of arrays: its inputs by these names, its first output."""

    def __init__(self, wrapped: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.wrapped, self.names = wrapped, names

    def forward(self, *arrays: torch.Tensor) -> torch.Tensor:
        given = dict(zip(self.names, arrays, strict=True))
        first: torch.Tensor = self.wrapped(**given, return_dict=False)[0]
        return first


class IdsAndMask(FirstOutput):
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return super().forward(ids, mask)


class OneInput(FirstOutput):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


def first_output(wrapped: nn.Module, names: Sequence[str]) -> nn.Module:
    """The module of one or two inputs."""
    return (OneInput if len(names) == 1 else IdsAndMask)(wrapped, names).eval()


def made(name: str, size: str) -> tuple[nn.Module, tuple[Array, ...], Array]:
    """A module, its inputs, and the mask of the tokens that count, () for all."""
    torch.manual_seed(0)
    make, kind = MAKERS[name]
    shape = SIZES[size]
    wrapped = settled(make(module("transformers"), shape).eval())
    rng = np.random.default_rng(1)
    match kind:
        case "pixel_values":
            return first_output(wrapped, [kind]), (images(rng, shape),), np.ones(())
        case "input_features":
            mel = rng.standard_normal((shape.samples, MELS, 4 * shape.tokens)).astype(np.float32)
            return first_output(wrapped, [kind]), (mel,), np.ones(())
    ids, mask = texts(rng, shape)
    if kind == "input_ids":  # of padding, RoBERTa makes the mask and the positions of it
        return first_output(wrapped, [kind]), (ids,), mask
    return first_output(wrapped, ["input_ids", "attention_mask"]), (ids, mask), mask


def images(rng: np.random.Generator, shape: Size) -> Array:
    """Coarse structure and a little noise, (S, 3, H, W)."""
    coarse = rng.standard_normal((shape.samples, 3, shape.pixels // 8, shape.pixels // 8))
    large = coarse.repeat(8, 2).repeat(8, 3)
    return np.asarray(large + 0.3 * rng.standard_normal(large.shape), np.float32)


def texts(rng: np.random.Generator, shape: Size) -> tuple[Array, Array]:
    """Ids (S, N), common ones more often, of lengths from half of N on, padded with 1; the mask."""
    ids = np.minimum(rng.zipf(1.2, (shape.samples, shape.tokens)) + 2, VOCABULARY - 1)
    lengths = rng.integers(shape.tokens // 2, shape.tokens + 1, shape.samples)
    mask = (np.arange(shape.tokens) < lengths[:, None]).astype(np.int64)
    return np.where(mask, ids, 1).astype(np.int64), mask


@torch.no_grad()
def settled(wrapped: nn.Module) -> nn.Module:
    """The module with weights that keep variances, norms of unlike gains and some outliers, and
    small biases.
    """
    for part in wrapped.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if isinstance(part, nn.LayerNorm):
                parameter.normal_(0, 0.4) if name == "weight" else parameter.normal_(0, 0.2)
                if name == "weight":
                    parameter.exp_()
            elif isinstance(part, nn.Embedding):
                parameter.normal_(0, 0.5)
            elif name == "bias":
                parameter.normal_(0, 0.1)
            elif name == "weight":
                is_transposed = type(part).__name__ == "Conv1D"
                fan_in = parameter.shape[0] if is_transposed else parameter[0].numel()
                parameter.normal_(0, 1 / math.sqrt(fan_in))
            elif parameter.ndim > 1:  # tokens and positions
                parameter.normal_(0, 0.3)
    return wrapped


MELS = 16
Maker = Callable[[Any, Size], nn.Module]


def _common(s: Size) -> dict[str, Any]:
    return {
        "hidden_size": s.width, "num_hidden_layers": s.layers, "num_attention_heads": s.heads,
        "intermediate_size": s.hidden,
    }  # fmt: skip


def _image(s: Size) -> dict[str, Any]:
    return {"image_size": s.pixels, "patch_size": s.patch}


def _vit(t: Any, s: Size) -> nn.Module:
    return t.ViTForImageClassification(t.ViTConfig(**_common(s), **_image(s), num_labels=50))


def _deit(t: Any, s: Size) -> nn.Module:
    return t.DeiTForImageClassification(t.DeiTConfig(**_common(s), **_image(s), num_labels=50))


def _dinov2(t: Any, s: Size) -> nn.Module:
    ratio = s.hidden // s.width
    return t.Dinov2Model(t.Dinov2Config(**_common(s), **_image(s), mlp_ratio=ratio))


def _clip(t: Any, s: Size) -> nn.Module:
    return t.CLIPVisionModel(t.CLIPVisionConfig(**_common(s), **_image(s)))


def _swin(t: Any, s: Size) -> nn.Module:
    depths = [2, 2] if s.layers < 4 else [2, 2, 6, 2]
    width = s.width if s.layers < 4 else s.width // 2
    heads = [s.heads * 2**i for i in range(len(depths))]
    config = t.SwinConfig(
        image_size=s.pixels, patch_size=4, embed_dim=width, depths=depths, num_heads=heads,
        window_size=4 if s.pixels < 64 else 7, num_labels=50,
    )  # fmt: skip
    return t.SwinForImageClassification(config)


def _segformer(t: Any, s: Size) -> nn.Module:
    width = s.width // 2
    config = t.SegformerConfig(
        hidden_sizes=[width // 2, width, 2 * width, 3 * width], decoder_hidden_size=s.width,
        depths=[1, 1, 1, 1] if s.layers < 4 else [2, 2, 2, 2], num_attention_heads=[1, 1, 2, 2],
        num_labels=20,
    )  # fmt: skip
    return t.SegformerForSemanticSegmentation(config)


def _whisper(t: Any, s: Size) -> nn.Module:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = t.WhisperConfig(
        d_model=s.width, encoder_layers=s.layers, encoder_attention_heads=s.heads,
        encoder_ffn_dim=s.hidden, num_mel_bins=MELS, max_source_positions=2 * s.tokens,
        vocab_size=VOCABULARY, pad_token_id=1, bos_token_id=2, eos_token_id=2,
        decoder_start_token_id=2,
    )  # fmt: skip
    return WhisperEncoder(config)


def _bert(t: Any, s: Size) -> nn.Module:
    return t.BertModel(t.BertConfig(**_common(s), vocab_size=VOCABULARY))


def _distilbert(t: Any, s: Size) -> nn.Module:
    config = t.DistilBertConfig(
        dim=s.width, n_layers=s.layers, n_heads=s.heads, hidden_dim=s.hidden, vocab_size=VOCABULARY
    )
    return t.DistilBertModel(config)


def _roberta(t: Any, s: Size) -> nn.Module:
    config = t.RobertaConfig(
        **_common(s), vocab_size=VOCABULARY, pad_token_id=1, max_position_embeddings=s.tokens + 2
    )
    return t.RobertaModel(config)


def _gpt2(t: Any, s: Size) -> nn.Module:
    config = t.GPT2Config(
        n_embd=s.width, n_layer=s.layers, n_head=s.heads, n_inner=s.hidden, vocab_size=VOCABULARY,
        n_positions=s.tokens, use_cache=False,
    )  # fmt: skip
    return t.GPT2LMHeadModel(config)


MAKERS: dict[str, tuple[Maker, str]] = {
    "vit": (_vit, "pixel_values"),
    "deit": (_deit, "pixel_values"),
    "dinov2": (_dinov2, "pixel_values"),
    "clip": (_clip, "pixel_values"),
    "swin": (_swin, "pixel_values"),
    "segformer": (_segformer, "pixel_values"),
    "whisper": (_whisper, "input_features"),
    "bert": (_bert, "attention_mask"),
    "distilbert": (_distilbert, "attention_mask"),
    "roberta": (_roberta, "input_ids"),
    "gpt2": (_gpt2, "input_ids"),
}
"""How each is made, and its inputs: pixels, features, ids, or ids and a mask."""
NAMES = tuple(MAKERS)
