"""Checkpoints on disk: the module that was saved, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qir.frontends.torch import load_checkpoint
from qir.ir.errors import FrontendError
from qir.models import language_model


def test_a_folder_gives_the_module_that_was_saved(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "vocab_size": 30}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads)).eval()
    model.save_pretrained(tmp_path / "net")
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    found = language_model(tmp_path / "net")
    assert not found.training
    assert torch.equal(found(ids).logits, model(ids).logits)
    (tmp_path / "net" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(FrontendError, match="net: transformers cannot load it"):
        load_checkpoint(tmp_path / "net")


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FrontendError, match=r"no config\.json in it, .* is needed"):
        load_checkpoint(tmp_path)
    with pytest.raises(FrontendError, match=r"none\.gguf: no such file, a model is needed"):
        load_checkpoint(tmp_path / "none.gguf")
    assert language_model(7) == 7
