"""docs/add_an_op.md, word for word: a copy of the source gets an op, and a model of it runs as
integers; the files that this takes are counted.
"""

from __future__ import annotations

from pathlib import Path

from tests.docs.copies import apply, copied, run, section

MOST_FILES = 3

SCRIPT = """
import numpy as np, torch
import qir
from qir.models import imported
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.ops import Sinh
from qir.ir.text.parser import parse
from qir.passes import pipelines
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager

class Net(torch.nn.Module):
    def forward(self, x):
        return torch.sinh(x).transpose(1, 2).contiguous().relu()

x = np.random.default_rng(0).uniform(-2, 2, (64, 3, 4)).astype("f4")
graph = imported(Net().eval(), torch.from_numpy(x[:1]))
assert any(isinstance(op, Sinh) for op in graph.ops), graph
assert parse(str(graph)) == graph
manager = Manager(check=True)
graph = manager.run(graph, pipelines.CANONICALIZE)
graph = manager.run(graph, pipelines.quantize(calibrate(graph, x)))
net = manager.run(graph, pipelines.TO_INTEGER)
assert [op.mnemonic for op in net.ops if op.mnemonic not in ("transpose", "reshape")] == ["lookup"]
(y,) = dequantize_outputs(net, interpret(net, quantize_inputs(net, [x[:1]])))
error = np.abs(y - np.maximum(np.sinh(x[:1]), 0).transpose(0, 2, 1)).max()
assert error < 0.05, error
print("sinh", error)
"""


def test_a_function_of_one_real_takes_three_files(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    files = apply(copy, section("add_an_op.md", "## 1. A function of one real"))
    print(f"{len(files)} files: {', '.join(files)}")
    (copy / "use.py").write_text(SCRIPT)
    done = run(copy, "use.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("sinh")
    assert len(files) <= MOST_FILES
