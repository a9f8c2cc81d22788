"""Modules of transformers, unedited, of a few layers with random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

try:
    import transformers
    from transformers.models.whisper.modeling_whisper import WhisperEncoder
except ImportError:
    pytest.skip("transformers is absent, pip install transformers", allow_module_level=True)

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE = {**SIZES, "intermediate_size": 48}
TEXT = {"vocab_size": 64, "max_position_embeddings": 64}
GROUPED = {**WIDE, **TEXT, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
IMAGE = {"image_size": 32, "patch_size": 8}


@dataclass(frozen=True)
class Case:
    """A module, its settings, and which inputs it takes; ops that it counts beside attention."""

    module: Any
    config: Any
    settings: Mapping[str, Any]
    inputs: Callable[[], dict[str, torch.Tensor]]
    counts: Mapping[str, int] = field(default_factory=dict)
    layers: int = 2
    moves: int = 0  # transposes and reshapes: at the border, or of windows

    def built(self, attention: str) -> torch.nn.Module:
        torch.manual_seed(0)
        config = self.config(**self.settings, attn_implementation=attention)
        net: torch.nn.Module = self.module(config).eval()
        for parameter in net.parameters():  # biases and gains that are not 0 and 1
            torch.nn.init.normal_(parameter, std=0.3)
        return net


def tokens(batch: int = 2) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.randint(3, 60, (batch, 10))}


def masked() -> dict[str, torch.Tensor]:
    mask = torch.ones(2, 10, dtype=torch.int64)
    mask[1, -3:] = 0
    return {**tokens(), "attention_mask": mask}


def padded() -> dict[str, torch.Tensor]:
    ids = tokens()
    ids["input_ids"][1, -3:] = 1
    return ids


def image() -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(1, 3, 32, 32)}


def sound() -> dict[str, torch.Tensor]:
    return {"input_features": torch.randn(1, 8, 40)}


LLAMA = {"rope": 4, "rms_norm": 5, "silu": 2, "linear": 15, "take": 1}
BERT = {"layer_norm": 5, "gelu": 2, "linear": 13, "take": 1}
VISION = {"layer_norm": 5, "gelu": 2, "conv": 1}

CASES = {
    "bert": Case(
        transformers.BertModel, transformers.BertConfig, {**WIDE, **TEXT}, tokens, BERT, moves=1
    ),
    "bert-mask": Case(
        transformers.BertModel, transformers.BertConfig, {**WIDE, **TEXT}, masked,
        {**BERT, "take": 2}, moves=2,
    ),
    "distilbert": Case(
        transformers.DistilBertModel, transformers.DistilBertConfig,
        {**TEXT, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}, tokens,
        {**BERT, "linear": 12},
    ),
    "roberta": Case(
        transformers.RobertaModel, transformers.RobertaConfig, {**WIDE, **TEXT}, padded,
        {**BERT, "take": 2, "within": 1, "positions": 1}, moves=1,
    ),
    "gpt2": Case(
        transformers.GPT2LMHeadModel, transformers.GPT2Config,
        {"vocab_size": 64, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4,
         "bos_token_id": 1, "eos_token_id": 2},
        tokens, {**BERT, "linear": 9},
    ),
    "llama": Case(transformers.LlamaForCausalLM, transformers.LlamaConfig, GROUPED, tokens, LLAMA),
    "llama-mask": Case(
        transformers.LlamaForCausalLM, transformers.LlamaConfig, GROUPED, masked,
        {**LLAMA, "take": 2}, moves=1,
    ),
    "mistral": Case(
        transformers.MistralForCausalLM, transformers.MistralConfig,
        {**GROUPED, "sliding_window": 4}, tokens, LLAMA,
    ),
    "qwen2": Case(transformers.Qwen2ForCausalLM, transformers.Qwen2Config, GROUPED, tokens, LLAMA),
    "vit": Case(
        transformers.ViTModel, transformers.ViTConfig, {**WIDE, **IMAGE}, image, VISION, moves=3
    ),
    "deit": Case(
        transformers.DeiTModel, transformers.DeiTConfig, {**WIDE, **IMAGE}, image, VISION, moves=3
    ),
    "dinov2": Case(
        transformers.Dinov2Model, transformers.Dinov2Config, {**SIZES, **IMAGE}, image, VISION,
        moves=3,
    ),
    "clip": Case(
        transformers.CLIPVisionModel, transformers.CLIPVisionConfig, {**WIDE, **IMAGE}, image,
        {"layer_norm": 6, "silu": 2, "conv": 1}, moves=3,
    ),
    "swin": Case(
        transformers.SwinModel, transformers.SwinConfig,
        {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2],
         "num_heads": [2, 4], "window_size": 4},
        image, {"gelu": 4}, layers=4, moves=33,
    ),
    "segformer": Case(
        transformers.SegformerModel, transformers.SegformerConfig,
        {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [4, 1], "hidden_sizes": [16, 32],
         "patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [1, 2],
         "mlp_ratios": [2, 2]},
        image, {"gelu": 2, "conv": 5}, moves=12,
    ),
    "whisper": Case(
        WhisperEncoder, transformers.WhisperConfig,
        {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 48,
         "num_mel_bins": 8, "max_source_positions": 20},
        sound, {"layer_norm": 5, "conv": 2}, moves=3,
    ),
}  # fmt: skip
