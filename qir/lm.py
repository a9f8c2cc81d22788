"""compile_lm: language model -> an artifact that reads prompts and writes tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qir.arguments import check_options, outliers_of, scales_of, state_folder
from qir.backends import targets
from qir.backends.artifact import artifact
from qir.backends.artifact.names import REPORT
from qir.backends.toolchain import service
from qir.backends.toolchain.link import toolchain
from qir.driver import check_golden
from qir.ir.errors import DataError, PassError
from qir.ir.graph import Graph
from qir.ir.states import limits
from qir.ir.target import Target
from qir.ir.types import Array
from qir.language_net import DECODE, LOGITS, PREFILL, SKIP, LanguageNet
from qir.loading import compiled
from qir.models import imported, is_torch, language_model, name_of
from qir.passes.calibrate.observers import Observer
from qir.passes.infra.last_row import with_last_row
from qir.passes.infra.manager import Manager, Miss
from qir.passes.infra.retime import with_cache
from qir.passes.infra.tasks import Tell, quiet
from qir.passes.rounding import Rounding
from qir.passes.transform.blocks.caches import plan_named
from qir.passes.transform.depth.requests import Concurrency, Shallower, Skip
from qir.passes.transform.depth.skip_decode import DecodeSkip, skip_decode, skipped_spans
from qir.quantize import BitsRequest, Quantizer
from qir.report.agreement import LogitsComparison
from qir.report.build import build_report
from qir.runtime import Session
from qir.stages import Stages

MOST_GOLDEN = 1 << 20  # logits among the golden outputs of an artifact


def compile_lm(
    model: Any,
    *,
    calibration: npt.ArrayLike,
    max_tokens: int,
    prefill: int = 64,
    target: str | Target = "cpu",
    bits: BitsRequest = 8,
    rounding: Rounding | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    name: str | None = None,
    observer: str | Observer | None = None,
    scales: str = "auto",
    outliers: str | None = "auto",
    concurrency: int | Concurrency | None = None,
    skip: float | Skip | DecodeSkip | None = None,
    kv: int | str | None = 8,
    state: str | Path | None = None,
    executor: Executor | None = None,
    check: bool = False,
    progress: Tell | None = None,
) -> LanguageNet:
    """Compile a language model to an integer-only program that reads prompts and writes tokens.

    model:        a causal decoder from token ids (1, N) to logits (1, N, V): a torch module, such
                  as Hugging Face's of a LLaMA, the path of its folder or of a .gguf file, or an
                  ONNX model.
    calibration:  token ids (S, N) of text, from which ranges are estimated; joined to sequences of
                  `max_tokens`.
    max_tokens:   the most tokens of a prompt and its continuation; caches have room for as many.
    prefill:      tokens of a prompt that are read at once.
    shapes:       shapes of the inputs of an ONNX model with free sizes, by input.
    skip:         as of `qir.compile`; or DecodeSkip(1.2): tokens that are written leave out layers.
    kv:           as of `qir.compile`: how caches hold keys and values.
    Other arguments are those of `qir.compile`.

    Errors: those of `qir.compile`; PassError for a model that is no causal decoder.
    """
    check_options(name, executor, (), progress)
    folder, row_scales, caches = state_folder(state), scales_of(scales), plan_named(kv)
    method = outliers_of(outliers)
    shallower = Shallower.of(None if isinstance(skip, DecodeSkip) else skip, concurrency)
    _check_counts(max_tokens, prefill)
    ids = _sequences(calibration, max_tokens)
    machine = targets.find(target)
    toolchain(machine)  # what is missing is said before the work
    service.start()  # it loads TVM beside that
    tell = progress or quiet
    quantizer = Quantizer(
        bits, observer, rounding, machine, folder, executor, tell, row_scales, method
    )
    net = language_model(model)
    graph = imported(net, [ids[:1]] if is_torch(net) else None, None, shapes)
    _check_inputs(graph, max_tokens, ids)
    manager = Manager(check=check, watch=lambda step, i, of: tell(f"pass {step}", i, of))
    stages = Stages(graph, iter([ids]), quantizer, manager, caches, shallower)
    stages.run(())
    chunk = min(prefill, max_tokens)
    decode, logits = (_cached(stages.newest, tokens, max_tokens) for tokens in (1, chunk))
    last = _entry(stages.newest, with_last_row(logits))
    entries = {DECODE: decode, PREFILL: last, LOGITS: logits}
    if isinstance(skip, DecodeSkip):
        spans = skipped_spans(stages.graphs["transformed"], skip.speedup)
        entries[SKIP] = _entry(stages.newest, skip_decode(entries[DECODE], spans))
    return _build(name or name_of(model, graph), machine, stages, entries, ids, tell)


def _check_counts(max_tokens: int, prefill: int) -> None:
    """Errors: DataError for what is no number of tokens."""
    for name, value, least in (("max_tokens", max_tokens, 2), ("prefill", prefill, 2)):
        if type(value) is not int or not least <= value < 1 << 31:
            raise DataError(f"{name}: {value!r} given, an integer from {least} on is needed")


def _sequences(calibration: npt.ArrayLike, length: int) -> Array:
    """Tokens (S, length), of those given one after the other; repeated where they are fewer.

    Errors: DataError for what is no array of ids.
    """
    tokens: Any = calibration
    ids = np.asarray(tokens.detach().cpu() if hasattr(tokens, "detach") else tokens)
    if ids.dtype.kind not in "iu" or not ids.size or ids.min() < 0:
        raise DataError(
            f"calibration: {ids.dtype}{list(ids.shape)} given, token ids (S, N) from 0 on are"
            " needed",
            "a tokenizer makes ids of text like that which the model is to read",
        )
    count = max(1, ids.size // length)
    return np.resize(ids.reshape(-1), (count, length)).astype(np.int64)


def _check_inputs(graph: Graph, tokens: int, ids: Array) -> None:
    """Errors: DataError for a model of other inputs, or ids that it does not know."""
    inputs = [str(v.type) for v in graph.inputs]
    if len(graph.inputs) != 1 or graph.inputs[0].type.shape != (1, tokens):
        raise DataError(
            f"model: inputs {', '.join(inputs)}, ids of shape [1, {tokens}] are needed",
            "of an ONNX model, shapes={'input_ids': (1, max_tokens)} sets a free size",
        )
    for limit in limits(graph):
        if int(ids.max()) > limit.high:
            raise DataError(
                f"calibration: ids reach {ids.max()}, [0, {limit.high}] is needed",
                "the tokenizer is to be the model's own",
            )


def _cached(graph: Graph, tokens: int, most: int) -> Graph:
    return _entry(graph, with_cache(graph, tokens, most))


def _entry(graph: Graph, entry: Graph | Miss) -> Graph:
    if isinstance(entry, Miss):
        raise PassError(
            f"graph @{graph.name}, value %{entry.at}: {entry.why}",
            "compile_lm takes causal decoders; qir.compile takes others, for one number of tokens",
        )
    return entry


def _build(
    name: str,
    machine: Target,
    stages: Stages,
    entries: Mapping[str, Graph],
    ids: Array,
    tell: Tell,
) -> LanguageNet:
    """The artifact of the entries, with its report."""
    tell("kernels", 0, 1)
    output = artifact.build(entries, machine, name, _golden(entries, ids[0]))
    tell("kernels", 1, 1)
    records = stages.manager.records
    logits = LogitsComparison()
    report = build_report(output, entries, records, output.intermediates, stages.noise(logits.add))
    report = replace(report, agreement=logits.agreement(), **stages.outcomes())
    files = output.with_file(REPORT, report.without_times().to_json().encode()).files
    net = compiled(files, stages.graphs, report, entries)
    assert isinstance(net, LanguageNet)  # by its entries
    if isinstance(net.session, Session):
        check_golden(net.session)
    return net


def _golden(entries: Mapping[str, Graph], ids: Array) -> list[tuple[str, list[Array]]]:
    """A chunk at the start, the tokens after it, and the last one that there is room for; all
    logits of a chunk where they are not many.
    """
    every, last = entries[LOGITS].outputs[0].type, len(ids) - 1
    dtype, chunk = entries[PREFILL].inputs[0].type.elem.carrier, every.shape[1]
    calls: list[tuple[str, int, list[int]]] = [(PREFILL, chunk, [0, chunk - 1])]
    places = sorted({min(chunk, last), min(chunk + 1, last), last})
    calls += [(entry, 1, [at]) for entry in (DECODE, SKIP) if entry in entries for at in places]
    if every.size <= MOST_GOLDEN:
        calls.append((LOGITS, chunk, [0]))
    return [
        (entry, [ids[None, at[0] : at[0] + n].astype(dtype), *(np.array(i, np.int32) for i in at)])
        for entry, n, at in calls
    ]
