"""Mutated text is a graph that keeps the rules, or an error of ours; never anything else."""

from __future__ import annotations

import random
import re
from pathlib import Path

from qir.ir.errors import QirError
from qir.ir.text.parser import parse
from qir.ir.verify import verify

CASES = Path(__file__).resolve().parents[1] / "cases" / "passes"
TOKENS = [
    "0",
    "-1",
    "99999999999999999999",
    "nan",
    "inf",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ",",
    ":",
    "%",
    "@",
    "#",
    '"',
    "q<u8,",
    "f32",
    "none",
    "tensor<",
]


def mutated(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    kind = rng.randrange(4)
    if kind == 0:
        return text[:at] + rng.choice(TOKENS) + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at + rng.randint(1, 6) :]
    if kind == 2:
        return text[:at] + chr(rng.randrange(32, 300)) + text[at + 1 :]
    return text[: at + 1]


def test_every_mutation_is_a_graph_or_an_error_of_ours() -> None:
    rng = random.Random(0)
    texts = [re.split(r"^// ----", f.read_text(), flags=re.M)[0] for f in sorted(CASES.glob("*"))]
    refused = 0
    for _ in range(1000):
        try:
            verify(parse(mutated(rng.choice(texts), rng)))
        except QirError:
            refused += 1
    assert 500 < refused < 1000
