"""Damages model files in many ways: every import must give a graph or a FrontendError.

    python -m tests.frontends.onnx.fuzz --count 10000            # the zoo ($QIR_ZOO), two processes

Prints each failure with its seed, and the greatest memory; exits with 1 when there was any.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import onnx

from qir.frontends.onnx import import_onnx
from qir.ir.errors import FrontendError
from qir.ir.verify import verify

LIMIT_S = 20  # one import of a damaged model
LIMIT_BYTES = 2 << 30  # the whole process, torch and the file included
CHUNK = 100  # seeds for one task of a process
INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    255,
    1 << 16,
    1 << 31,
    -(1 << 31),
    1 << 40,
    (1 << 63) - 1,
    -(1 << 63),
)
REALS = (0.0, -1.0, 1e30, 1e-45, float("nan"), float("inf"), -float("inf"))

Mutation = Callable[[random.Random, Path], bytes]


@cache
def content(path: Path) -> bytes:
    return path.read_bytes()


@cache
def model(path: Path) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(content(path))


@cache
def structure(path: Path) -> tuple[tuple[int, int], ...]:
    """The byte ranges of the file that are not weights."""
    data, at, ranges = content(path), 0, []
    for tensor in model(path).graph.initializer:
        found = data.find(tensor.raw_data, at) if len(tensor.raw_data) > 64 else -1
        if found >= 0:
            ranges.append((at, found))
            at = found + len(tensor.raw_data)
    return tuple(r for r in (*ranges, (at, len(data))) if r[0] < r[1])


def flipped(rng: random.Random, path: Path) -> bytes:
    """Some bytes outside the weights changed."""
    data = bytearray(content(path))
    ranges = structure(path)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        first, last = rng.choices(ranges, [b - a for a, b in ranges])[0]
        data[rng.randrange(first, last)] = rng.randrange(256)
    return bytes(data)


def anywhere(rng: random.Random, path: Path) -> bytes:
    """Some bytes anywhere changed."""
    data = bytearray(content(path))
    for _ in range(rng.choice((1, 8, 64))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def truncated(rng: random.Random, path: Path) -> bytes:
    return content(path)[: rng.randrange(len(content(path)))]


def spliced(rng: random.Random, path: Path) -> bytes:
    """A stretch taken out, doubled, or replaced by noise."""
    data = content(path)
    first, last = rng.choices(structure(path))[0]
    a = rng.randrange(first, last)
    b = min(a + rng.randrange(1, 64), len(data))
    middle = rng.choice((b"", data[a:b] * 2, rng.randbytes(b - a)))
    return data[:a] + middle + data[b:]


def fields(rng: random.Random, path: Path) -> bytes:
    """Some fields of the model set to odd values."""
    new = onnx.ModelProto()
    new.CopyFrom(model(path))
    for _ in range(rng.choice((1, 1, 2, 5))):
        edit = rng.choice(EDITS)
        if new.graph.node and (new.graph.initializer or edit not in OF_CONSTANTS):
            edit(rng, new.graph)
    if rng.random() < 0.05:
        new.opset_import[0].version = rng.choice((0, 1, 6, 8, 11, 13, 21, 99, -1))
    return bytes(new.SerializeToString())


MUTATIONS: Sequence[Mutation] = (
    flipped,
    flipped,
    anywhere,
    truncated,
    spliced,
    fields,
    fields,
    fields,
)


def edit_dims(rng: random.Random, graph: Any) -> None:
    tensor = rng.choice(graph.initializer)
    if tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(INTEGERS)


def edit_type(rng: random.Random, graph: Any) -> None:
    rng.choice(graph.initializer).data_type = rng.randrange(30)


def edit_data(rng: random.Random, graph: Any) -> None:
    tensor = rng.choice(graph.initializer)
    match rng.randrange(3):
        case 0:
            tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
        case 1:
            tensor.raw_data = b"\xff\xff\xff\x7f" * (len(tensor.raw_data) // 4)  # NaN
        case _:
            tensor.ClearField("raw_data")


def edit_attribute(rng: random.Random, graph: Any) -> None:
    held = [a for n in graph.node for a in n.attribute]
    if not held:
        return
    attribute = rng.choice(held)
    match rng.randrange(4):
        case 0 if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(INTEGERS)
        case 1:
            attribute.i, attribute.f = rng.choice(INTEGERS), rng.choice(REALS)
            attribute.ints.extend(rng.choices(INTEGERS, k=rng.randrange(3)))
        case 2:
            attribute.type = rng.randrange(15)
        case _:
            attribute.name = rng.choice(("axis", "pads", "group", "to", "kernel_shape", "\ud7ff"))


def edit_node(rng: random.Random, graph: Any) -> None:
    node = rng.choice(graph.node)
    names = [n for other in graph.node for n in (*other.input, *other.output)]
    match rng.randrange(7):
        case 0:
            node.op_type = rng.choice(OPS)
        case 1 if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice((*names, "", "nowhere"))
        case 2 if node.output:
            node.output[rng.randrange(len(node.output))] = rng.choice((*names, ""))
        case 3:
            graph.node.remove(node)
        case 4:
            graph.node.append(node)
        case 5:
            node.input.extend(rng.choices(names, k=2))
        case _:
            del node.input[:], node.attribute[:]


def edit_input(rng: random.Random, graph: Any) -> None:
    info = rng.choice([*graph.input, *graph.output])
    dims = info.type.tensor_type.shape.dim
    match rng.randrange(4):
        case 0 if dims:
            rng.choice(dims).dim_value = rng.choice(INTEGERS)
        case 1:
            info.type.tensor_type.elem_type = rng.randrange(30)
        case 2:
            info.name = rng.choice(("", "x", graph.node[0].output[0]))
        case _ if dims:
            rng.choice(dims).dim_param = "n"


EDITS = (
    edit_dims, edit_type, edit_data, edit_attribute, edit_attribute, edit_node, edit_node,
    edit_input,
)  # fmt: skip
OF_CONSTANTS = (edit_dims, edit_type, edit_data)
OPS = (
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant",
    "ConstantOfShape", "Conv", "ConvTranspose", "DepthToSpace", "DequantizeLinear", "Expand",
    "Flatten", "Gather", "Gemm", "If", "InstanceNormalization", "LayerNormalization", "Loop", "LRN",
    "MatMul", "MatMulInteger", "MaxPool", "Nonsense", "Pad", "QLinearConv", "QuantizeLinear",
    "Range", "ReduceMean", "Reshape", "Resize", "Shape", "Slice", "Softmax", "SpaceToDepth",
    "Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Upsample", "Where",
)  # fmt: skip


def mutated(seed: int, paths: Sequence[Path]) -> bytes:
    """The damaged file of one seed."""
    rng = random.Random(seed)
    path = rng.choice(paths)
    return rng.choice(MUTATIONS)(rng, path)


def outcome(seed: int, paths: Sequence[Path]) -> str:
    """'graph', 'refused', or what else happened to the file of one seed."""
    try:
        damaged = mutated(seed, paths)
    except ValueError:
        return "no file"  # protobuf itself will not write it
    try:
        verify(import_onnx(damaged))
        return "graph"
    except FrontendError:
        return "refused"
    except (Exception, TooLong) as e:
        return f"{type(e).__name__}: {e}"


def check(seeds: Sequence[int], paths: Sequence[Path]) -> tuple[Counter[str], list[str], int]:
    """Outcomes, failures, and the greatest memory in bytes, of some seeds in this process."""
    counts: Counter[str] = Counter()
    failures = []
    for seed in seeds:
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(LIMIT_S)
        found = outcome(seed, paths)
        signal.alarm(0)
        known = found in ("graph", "refused", "no file")
        counts[found if known else "failed"] += 1
        if not known:
            failures.append(f"seed {seed}: {found}")
    return counts, failures, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class TooLong(BaseException):
    """An import is still at work after LIMIT_S; nothing in it may catch this."""


def _too_long(*_: object) -> None:
    raise TooLong(f"over {LIMIT_S} s")


def zoo_files(folder: Path, largest_bytes: int = 6 << 20) -> list[Path]:
    """The zoo's models that import; the largest ones only slow the search down."""
    files = sorted((folder / "models").glob("*.onnx"))
    return [f for f in files if f.stat().st_size <= largest_bytes and imports(f)]


def imports(path: Path) -> bool:
    try:
        import_onnx(path)
    except FrontendError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2)
    beside = Path(__file__).resolve().parents[4] / "shared" / "zoo"
    parser.add_argument("--zoo", type=Path, default=Path(os.environ.get("QIR_ZOO", beside)))
    given = parser.parse_args()
    paths = zoo_files(given.zoo)
    seeds = range(given.seed, given.seed + given.count)
    chunks = [seeds[i : i + CHUNK] for i in range(0, given.count, CHUNK)]
    total: Counter[str] = Counter()
    failures: list[str] = []
    most = 0
    with ProcessPoolExecutor(given.jobs) as pool:
        for counts, failed, memory in pool.map(check, chunks, [paths] * len(chunks)):
            total += counts
            failures += failed
            most = max(most, memory)
    print(f"{given.count} mutations of {len(paths)} files: {dict(total)}; most {most >> 20} MiB")
    print("\n".join(failures))
    return 1 if failures or most > LIMIT_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
