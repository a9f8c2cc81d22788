"""Runs artifacts in memory of exactly the sizes they state, with pages around it that nobody may
touch: `python -m tests.backends.artifact.walled`; a byte too far is a SIGSEGV.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np

from qir import runtime
from qir.backends import build
from qir.ir.graph import Graph
from qir.ir.interpret import interpret
from qir.ir.types import Array
from qir.runtime.library import Library
from tests.random_graphs import random_graph, random_inputs
from tests.small_graphs import residual_network, side_by_side, two_branches

POINTER = ctypes.c_void_p
SEEDS = (5, 11)


def walled(size: int, alignment: int, at_end: bool) -> Array:
    """`size` bytes of noise that end at a wall, or begin at one; as near as the alignment lets."""
    page = mmap.PAGESIZE
    rounded = -(-max(size, 1) // alignment) * alignment
    inner = -(-rounded // page) * page
    pages = mmap.mmap(-1, inner + 2 * page)
    noise = np.random.default_rng(size).integers(0, 256, inner, np.uint8)
    array = np.frombuffer(pages, np.uint8)
    array[page : page + inner] = noise
    for wall in (0, page + inner):
        address = POINTER(array.ctypes.data + wall)
        assert ctypes.CDLL(None).mprotect(address, ctypes.c_size_t(page), mmap.PROT_READ * 0) == 0
    start = page + inner - rounded if at_end else page
    return array[start : start + size]


def check(graph: Graph, loaded: runtime.Loaded, at_end: bool) -> None:
    """NAME_run between walls gives what the interpreter gives; weights may not be written."""
    m, library = loaded.manifest, Library(loaded)
    run = library.function("run", [POINTER] * 5)
    inputs = random_inputs(graph, np.random.default_rng(1), extreme=at_end)
    ports = runtime.Program(loaded)
    slack, align = m["input_slack"], m["alignment"]
    places = [walled(p.size_bytes + slack, 1, at_end) for p in ports.inputs]
    for place, x in zip(places, inputs, strict=True):
        place[: len(place) - slack] = np.frombuffer(np.ascontiguousarray(x).tobytes(), np.uint8)
    outputs = [walled(p.size_bytes, p.dtype.itemsize, at_end) for p in ports.outputs]
    workspace = walled(m["workspace_bytes"], align, at_end)
    weights = walled(m["weights_bytes"], align, at_end)
    weights[:] = np.frombuffer(loaded.files[m["weights"]], np.uint8)
    pointers = [(POINTER * len(xs))(*(x.ctypes.data for x in xs)) for xs in (places, outputs)]
    assert run(*pointers, workspace.ctypes.data, weights.ctypes.data, None) == 0
    for port, y, expected in zip(ports.outputs, outputs, interpret(graph, inputs), strict=True):
        assert np.array_equal(y.view(port.dtype).reshape(port.shape), expected), port.name
    assert weights.tobytes() == bytes(loaded.files[m["weights"]])


def main() -> None:
    graph = side_by_side(residual_network(), two_branches(), *map(random_graph, SEEDS))
    for target in sys.argv[1:] or ["cpu"]:
        loaded = runtime.from_files(build(graph, target).files)
        for at_end in (True, False):
            check(graph, loaded, at_end)
    print("right")


if __name__ == "__main__":
    main()
