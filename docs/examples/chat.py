"""Compile a language model of a Hugging Face folder to integers, and continue what is typed.

    python docs/examples/chat.py FOLDER TEXT.txt

FOLDER holds the model and its tokenizer.json (of a LLaMA, such as SmolLM2-135M); TEXT.txt is text
like that which it is to read, for calibration. The program is written to chat.qir, and read from
there the next time. Needs transformers and tokenizers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import qir
from qir.language_net import LanguageNet

ROOM, SAMPLES = 512, 8  # tokens of a conversation; sequences of the text


def compiled(folder: Path, text: Path, tokenizer: Tokenizer, to: Path) -> LanguageNet:
    """The net of the model in a folder."""
    import torch
    from transformers import AutoModelForCausalLM

    class Logits(torch.nn.Module):
        """From ids to logits, without the caches of Python."""

        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(ids, use_cache=False).logits
            return logits

    ids = np.array(tokenizer.encode(text.read_text()).ids[: SAMPLES * ROOM])
    net = qir.compile_lm(Logits().eval(), calibration=ids, max_tokens=ROOM, name="chat")
    net.save(to)
    return net


def chat(net: LanguageNet, tokenizer: Tokenizer) -> None:
    """Continue every line from standard input, up to its end, with all that was said before."""
    sequence = net.new_sequence()
    while line := sys.stdin.readline():
        ids = tokenizer.encode(line.rstrip("\n")).ids
        room = net.max_tokens - sequence.length - len(ids)
        if room < 1:
            print("(the room for this conversation is used up)")
            return
        said: list[int] = []
        for token in net.generate(ids, min(room, 100), temperature=0.7, sequence=sequence):
            before = tokenizer.decode(said)
            said.append(token)
            print(tokenizer.decode(said)[len(before) :], end="", flush=True)
        print()


def main() -> None:
    folder, text, saved = Path(sys.argv[1]), Path(sys.argv[2]), Path("chat.qir")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    net = qir.load(saved) if saved.exists() else compiled(folder, text, tokenizer, saved)
    assert isinstance(net, LanguageNet), f"{saved} is no language model"
    chat(net, tokenizer)


if __name__ == "__main__":
    main()
