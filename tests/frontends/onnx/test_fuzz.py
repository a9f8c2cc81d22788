"""A sample of the damaged files; `python -m tests.frontends.onnx.fuzz` runs them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import helper

from qir.frontends.onnx import import_onnx
from qir.ir.errors import FrontendError
from tests.frontends.onnx.fuzz import check, explode, zoo_files
from tests.frontends.onnx.isolated import Outcome
from tests.frontends.onnx.models import agrees, model, reals

SEEDS = range(150)


def test_damaged_zoo_files_give_an_error_or_a_graph(zoo: ModuleType) -> None:
    paths = zoo_files(Path(zoo.HERE), largest_bytes=1 << 20)
    assert_all_end_well(check(SEEDS, paths))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A model that needs no zoo: convolution, pool, shape arithmetic, gemm."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Shape", ["p"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Concat", ["n", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["p", "to"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["y"], transB=1),
    ]
    constants = {
        "w": reals(8, 3, 3, 3), "b": reals(8), "zero": np.array([0]), "rest": np.array([-1]),
        "g": reals(10, 128),
    }  # fmt: skip
    path = tmp_path / "small.onnx"
    path.write_bytes(model(nodes, {"x": ("n", 3, 8, 8)}, ["y"], constants).SerializeToString())
    return path


def test_a_damaged_small_model_gives_an_error_or_a_graph(small: Path) -> None:
    assert_all_end_well(check(SEEDS, [small]))


def assert_all_end_well(results: Sequence[Outcome]) -> None:
    assert not [r for r in results if r.failed]
    counts = Counter(r.text for r in results)
    assert counts["refused"] > counts["graph"] > 0


@pytest.mark.parametrize(
    "name",
    ["concat doubles 60", "range of small steps", "tile 4611686018427387904", "nested 10,000",
     "100,000 dims of data", "sparse of 70 dims", "sparse outside", "sparse initializer",
     "a heavy function", "Erf of 16 million", "a reversal", "a pipe beside the model",
     "a pipe as the model", "a link to /dev/zero", "a hole of 1 TiB", "products of 4096"],
)  # fmt: skip
def test_bombs_are_refused(name: str) -> None:
    result = explode(name)
    assert result.text == "refused", result
    assert result.bytes < 1 << 30


@pytest.mark.parametrize(
    ("content", "kind", "hint"),
    [
        (b"\x1c\0\0\0TFL3", "a TensorFlow Lite model", "tf2onnx"),
        (b"PK\x03\x04....", "a zip archive, as torch.save, Keras and .pt2 write", "torch.onnx"),
        (b"\x80\x02}q", "a Python pickle, as torch.save writes it", "torch.onnx.export"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "tf2onnx"),
        (b"GGUF\3", "a GGUF file", "torch.onnx.export"),
        (b"graph @g() {", "a graph in qir's text form", "name it .qir"),
        (b"version https://git-lfs.github.com", "a pointer of Git LFS", "git lfs pull"),
    ],
)
def test_other_formats_are_named(content: bytes, kind: str, hint: str) -> None:
    with pytest.raises(FrontendError) as e:
        import_onnx(content)
    assert e.value.text.startswith(f"model: {kind}")
    assert e.value.text.endswith(", an ONNX model is needed")
    assert hint in (e.value.hint or "")


def test_a_small_gather_from_a_large_table_is_folded() -> None:
    table, ids = reals(512, 768), np.arange(128)[None]
    nodes = [
        helper.make_node("Gather", ["t", "i"], ["p"]),
        helper.make_node("Add", ["x", "p"], ["y"]),
    ]
    proto = model(nodes, {"x": (1, 128, 768)}, ["y"], {"t": table, "i": ids})
    agrees(proto, reals(1, 128, 768, seed=1), within=1e-6)
