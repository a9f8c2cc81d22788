"""A sample of the damaged files; `python -m tests.frontends.onnx.fuzz` runs them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import helper

from tests.frontends.onnx.fuzz import check, zoo_files
from tests.frontends.onnx.isolated import Outcome
from tests.frontends.onnx.models import model, reals

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
