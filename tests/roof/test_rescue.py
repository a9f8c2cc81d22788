"""Scales by group for the layers that need them, from compile and from the command line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import qir
from qir.cli import main
from qir.ir.ops import ScaleGroups
from qir.ir.text.file import save_graph
from qir.passes.quantize.rescue_groups import RescueGroups
from tests.passes.quantize.test_rescue_groups import data, grouped, net

BEFORE_GPTQ = ("rescue-groups,gptq", ("gptq", RescueGroups(group=32)))
LONG = [pytest.param(rounding, marks=pytest.mark.full) for rounding in BEFORE_GPTQ]


@pytest.mark.parametrize("rounding", ["rescue-groups", *LONG])
def test_compile_rescues_a_layer(rounding: object) -> None:
    options = {"rounding": rounding, "bits": (4, 8), "target": "c"}
    with ThreadPoolExecutor(1) as pool:  # starting processes takes longer than the work
        compiled = qir.compile(net(), calibration=data(1), executor=pool, **options)
    simulated = compiled.stages["simulated"]
    assert grouped(simulated) == ["l2"]
    (scaled,) = [op for op in simulated.ops if isinstance(op, ScaleGroups)]
    assert scaled.w.type.quant.storage.bits == 4
    assert scaled.block == (64 if isinstance(rounding, str) else 32)


def test_the_command_line_rescues_a_layer(tmp_path: Path) -> None:
    save_graph(net(), tmp_path / "net.qir")
    np.save(tmp_path / "data.npy", data(1))
    files = [str(tmp_path / name) for name in ("net.qir", "data.npy", "out.qir")]
    options = ["--target", "c", "--rounding", "rescue-groups"]
    assert main(["compile", files[0], "--calibration", files[1], "-o", files[2], *options]) == 0
    (integer,) = qir.load(files[2]).stages.values()
    assert sum(isinstance(op, ScaleGroups) for op in integer.ops) == 1


def test_a_name_among_several_that_is_none() -> None:
    with pytest.raises(qir.PassError, match="rounding 'up': not known, one of adaround"):
        qir.compile(net(), calibration=data(1), rounding="rescue-groups,up", target="c")
