"""One engine in a process of its own: on request it reads a prompt, a token, or encodes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import qir
from qir.language_net import LanguageNet
from qir.measure.timing import measure
from tests.bench.language.models import PROMPT, ROOM, sentences

Call = Callable[[], object]


def main() -> None:
    """ENGINE PATH LENGTH THREADS: for each line "PART SECONDS" on stdin, a timing on stdout."""
    engine, path, length, threads = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-int(threads) :])
    calls = loaded(engine, Path(path), int(length), int(threads))
    for line in sys.stdin:
        part, seconds = line.split()
        timing = measure(calls[part], float(seconds))
        print(json.dumps(vars(timing)), flush=True)


def loaded(engine: str, path: Path, length: int, threads: int) -> Mapping[str, Call]:
    """What an engine can be asked for."""
    if engine == "qir":
        return _qir(path, length, threads)
    if engine.startswith("llama.cpp"):
        return _llama(path, threads)
    return _onnx(engine.split()[0], path, length, threads)


def _prompt(vocabulary: int, length: int) -> Any:
    return np.random.default_rng(0).integers(3, vocabulary, length)


def _qir(path: Path, length: int, threads: int) -> Mapping[str, Call]:
    net = qir.load(path, threads)
    if not isinstance(net, LanguageNet):
        inputs = [x[:1] for x in sentences(length)]
        return {"encode": lambda: net(*inputs)}
    prompt, sequence = _prompt(net.vocabulary, length), net.new_sequence()

    def prefill() -> None:
        sequence.length = 0
        net.prefill(prompt, sequence)

    def decode() -> None:
        if not length <= sequence.length < net.max_tokens:
            prefill()
        net.decode(5, sequence)

    return {"prefill": prefill, "decode": decode}


def _llama(path: Path, threads: int) -> Mapping[str, Call]:
    import llama_cpp

    net = llama_cpp.Llama(
        str(path), n_ctx=ROOM, n_batch=PROMPT, n_threads=threads, n_threads_batch=threads,
        verbose=False,
    )  # fmt: skip
    prompt = _prompt(net.n_vocab(), PROMPT).tolist()

    def prefill() -> None:
        net.reset()
        net.eval(prompt)

    def decode() -> None:
        if not PROMPT <= net.n_tokens < ROOM:
            prefill()
        net.eval([5])

    return {"prefill": prefill, "decode": decode}


def _onnx(engine: str, path: Path, length: int, threads: int) -> Mapping[str, Call]:
    if engine == "ort":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feeds = _feeds([(i.name, i.type) for i in session.get_inputs()], length)
        call: Call = lambda: session.run(None, feeds)  # noqa: E731
    else:
        import openvino

        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_PRECISION_HINT": "f32"}  # fmt: skip
        request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
        feeds = _feeds([(i.get_any_name(), "") for i in request.model_inputs], length)
        call = lambda: request.infer(feeds, share_inputs=True)  # noqa: E731
    return {"prefill": call, "encode": call}


def _feeds(inputs: list[tuple[str, str]], length: int) -> dict[str, Any]:
    if len(inputs) == 1:  # a decoder of characters
        return {inputs[0][0]: _prompt(65, length)[None].astype(np.int64)}
    return dict(zip((name for name, _ in inputs), (x[:1] for x in sentences(length)), strict=True))


if __name__ == "__main__":
    main()
