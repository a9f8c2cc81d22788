"""Decoders of transformers, unedited: as integers, and behind caches bit for bit. Of all families:
python -m tests.passes.sequences.test_families.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from qir.arguments import scales_of
from qir.backends import find
from qir.ir.graph import Graph
from qir.ir.interpret import dequantize_outputs, interpret
from qir.ir.states import StateMemory
from qir.ir.types import Array
from qir.models import imported
from qir.passes.infra.last_row import with_last_row
from qir.passes.infra.manager import Manager, Miss
from qir.passes.infra.retime import with_cache
from qir.passes.infra.tasks import quiet
from qir.quantize import Quantizer
from qir.stages import Stages

transformers = pytest.importorskip("transformers")
TOKENS, VOCABULARY = 8, 64
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": VOCABULARY,
    "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
WIDE = {**SIZES, "intermediate_size": 48}
GROUPED = {**WIDE, "num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 8,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "Bloom": {"hidden_size": 32, "n_layer": 1, "n_head": 4, "vocab_size": VOCABULARY},
    "Falcon": SIZES,
    "GPTNeoX": {**WIDE, "rotary_pct": 0.25},
    "Gemma": {**GROUPED, "head_dim": 8},
    "Llama": {**GROUPED, "rope_parameters": LLAMA3},
    "Mistral": {**GROUPED, "sliding_window": 3},
    "Mpt": {"d_model": 32, "n_layers": 1, "n_heads": 4, "max_seq_len": 16, "vocab_size": 64},
    "OPT": {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "Phi": {**WIDE, "partial_rotary_factor": 0.5},
    "Phi3": GROUPED,
    "Qwen3": {**GROUPED, "head_dim": 8},
}


def built(family: str) -> Any:
    """A module of one layer, with weights that keep variances, and gains that are not 1."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family])
    net = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 1:
                p.add_(0.2 * torch.randn(p.shape))
            else:
                p.normal_(0, p.shape[-1] ** -0.5)
    return net


def integers(net: Any, ids: Array) -> Graph:
    quantizer = Quantizer(8, None, None, find("cpu"), None, None, quiet, scales_of("auto"), None)
    stages = Stages(imported(net, [ids[:1]]), iter([ids]), quantizer, Manager())
    stages.run(())
    return stages.newest


def decibels(family: str) -> float:
    """The SNR of the logits of a module; its entries are checked against the whole graph."""
    net = built(family)
    ids = np.random.default_rng(0).integers(3, VOCABULARY, (6, TOKENS))
    whole, x = integers(net, ids), ids[-1:]
    with torch.no_grad():
        wanted = net(torch.from_numpy(x)).logits.numpy()
    (found,) = dequantize_outputs(whole, interpret(whole, [x.astype(np.int32)]))
    decode, read = (with_cache(whole, n, TOKENS) for n in (1, 3))
    assert not isinstance(decode, Miss) and not isinstance(read, Miss)
    assert not isinstance(with_last_row(read), Miss)
    memory = StateMemory(decode)
    for at in range(TOKENS):
        (logits,) = memory.call(decode, [x[:, at : at + 1].astype(np.int32), np.int32(at)])
        rest = list(memory.arrays.values())
        assert np.array_equal(dequantize_outputs(decode, [logits, *rest])[0][0, 0], found[0, at])
    return float(10 * np.log10(np.sum(wanted**2) / np.sum((found - wanted) ** 2)))


@pytest.mark.parametrize("family", ["GPTNeoX", "Mistral", "Mpt", "OPT", "Qwen3"])
def test_decoders(family: str) -> None:
    assert decibels(family) > 25


if __name__ == "__main__":
    for name in FAMILIES:
        print(f"{name} {decibels(name):.1f} dB", flush=True)
