"""Counting instructions under QEMU: exact, the same each time, and nothing missed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qir.backends.proofs.disassembly import functions
from tests.bench.emulated import counted, linked
from tests.bench.instructions import count, kernel_table, markdown
from tests.small_graphs import artifact, residual_network, stored_inputs

TARGETS = ["aarch64-dotprod", "hexagon-v68"]

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None,
    reason="qemu-aarch64: not found; apt-get install qemu-user llvm-22",
)


@pytest.mark.parametrize("name", TARGETS)
def test_a_count_is_the_same_each_time_and_grows_with_the_cases(name: str) -> None:
    made, case = artifact(name), stored_inputs(residual_network())
    _, once = counted(made, [case])
    _, again = counted(made, [case])
    _, thrice = counted(made, [case] * 3)
    assert once == again
    kernels = [f for f in functions(linked(made), made.target) if f.name.startswith("qir_small")]
    places = {i.packet for f in kernels for i in f.instructions}
    assert {at: n for at, n in thrice.items() if at in places} == {
        at: 3 * n for at, n in once.items() if at in places
    }


def test_every_instruction_that_qemu_ran_is_counted(tmp_path: Path) -> None:
    """Against QEMU's own log of every block, with one instruction in each."""
    made, case = artifact("aarch64-dotprod"), stored_inputs(residual_network())
    _, found = counted(made, [case])
    runner, given, log = tmp_path / "runner", tmp_path / "in", tmp_path / "log"
    runner.write_bytes(linked(made))
    runner.chmod(0o755)
    given.write_bytes((1).to_bytes(4, "little") + b"".join(x.tobytes() for x in case))
    trace = ["-singlestep", "-d", "exec,nochain", "-D", str(log)]
    with given.open("rb") as stdin:
        subprocess.run([*made.target.emulator, *trace, str(runner)], stdin=stdin,
                       stdout=subprocess.DEVNULL, check=True)  # fmt: skip
    with log.open() as lines:
        assert sum(line.startswith("Trace") for line in lines) == sum(found.values())


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_reported(name: str) -> None:
    graph = residual_network()
    built = count(artifact(name), graph, list(stored_inputs(graph)))
    every = built.total()
    assert every.macs == artifact(name).program.macs
    assert built.contractions.instructions < every.instructions
    assert (every.packets < every.instructions) == (name == "hexagon-v68")
    depths = {c.depth for c in built.counts if c.macs}
    assert depths == {27, 144, 1024}
    (line,) = list(markdown([built]))[2:]
    assert re.match(rf"\| small \| {name} \| [\d,]+ \| [\d,]+ \|", line)
    assert kernel_table(built).row_count > 5
