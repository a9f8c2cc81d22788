"""Language models: a sequence for each of eight threads, prompts split at random, wrong ids too."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

import qir
from qir.ir.errors import DataError
from qir.ir.types import Array
from qir.language_net import LanguageNet
from tests.float_decoders import float_graph, random_decoder

READERS, ROOM, CHUNK, VOCABULARY = 8, 20, 6, 40


def save(folder: Path) -> Path:
    """A small decoder's artifact."""
    graph = float_graph(random_decoder(), 1, ROOM)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (8, ROOM))
    net = qir.compile_lm(graph, calibration=ids, max_tokens=ROOM, prefill=CHUNK, name="decoder")
    return net.save(folder / "decoder.qir")


def check(path: Path, count: int) -> str:
    """`count` prompts in all: half read by a net without threads, half by one with two."""
    path = save(path.parent)
    for threads in (1, 2):
        net = qir.load(path, threads=threads)
        assert isinstance(net, LanguageNet)
        prompts = np.random.default_rng(threads).integers(0, VOCABULARY, (READERS, ROOM))
        logits = [net.logits(prompt) for prompt in prompts]
        wrong: list[str] = []

        def read(i: int) -> None:
            rng = np.random.default_rng(i)
            for _ in range(count // 2 // READERS):
                wrong.extend(_faults(net, prompts[i], logits[i], rng))  # noqa: B023  (joined below)

        readers = [threading.Thread(target=read, args=(i,)) for i in range(READERS)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert not wrong, f"{len(wrong)} wrong, the first: {wrong[0]}"
        net.close()
    return "right logits"


def _faults(net: LanguageNet, prompt: Array, logits: Array, rng: np.random.Generator) -> list[str]:
    """What one reading of a prompt in random parts gets wrong; wrong ids must leave it as it is."""
    sequence, faults, at = net.new_sequence(), [], 0
    while at < ROOM:
        for ids in ([VOCABULARY], [0] * (ROOM - at + 1)):  # no such id; no room for as many
            before = sequence.memory.copy()
            try:
                net.prefill(ids, sequence)
            except DataError:
                pass
            else:
                faults.append(f"{len(ids)} ids up to {max(ids)} are read at {at}")
            if not np.array_equal(before, sequence.memory) or sequence.length != at:
                faults.append(f"refused ids change the sequence at {at}")
        step = int(rng.integers(1, ROOM - at + 1))
        if not np.array_equal(net.prefill(prompt[at : at + step], sequence), logits[at + step - 1]):
            faults.append(f"logits of {at}..{at + step}")
        at += step
    return faults
