"""The example of a chat: a Hugging Face folder is compiled, talked to, and loaded the next time."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tree import ROOT

MODULES = ("transformers", "tokenizers", "safetensors")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in MODULES),
    reason="transformers is absent: pip install transformers",
)
WORDS = [f"w{i}" for i in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaMA of random weights and a tokenizer of 60 words."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    home = tmp_path_factory.mktemp("llama")
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(home)
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, WORDS[0]))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(home / "tokenizer.json"))
    values = np.random.default_rng(0).choice(WORDS, 1200)
    (home / "text.txt").write_text(" ".join(values))
    assert json.loads((home / "config.json").read_text())["model_type"] == "llama"
    return home


def test_it_talks_and_remembers(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "docs/examples/chat.py"), str(folder)]
    for _ in range(2):  # the second time from chat.qir
        done = subprocess.run(
            [*command, str(folder / "text.txt")],
            input="w3 w14\nw15\n", capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        lines = done.stdout.splitlines()
        assert [len(line.split()) for line in lines] == [100, 100]
        assert {word for line in lines for word in line.split()} <= set(WORDS)
    assert (tmp_path / "chat.qir" / "manifest.json").exists()
