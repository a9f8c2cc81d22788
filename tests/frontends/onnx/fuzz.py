"""Damages model files in many ways: every import must give a graph or a FrontendError.

    python -m tests.frontends.onnx.fuzz                # 20,000 damaged files of the zoo, and bombs
    python -m tests.frontends.onnx.fuzz --count 200 --bombs 0 --seed 7

Each import has 60 s and 2 GiB, in a child process. Prints each failure with its seed or name;
exits with 1 when there was any.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import onnx

from qir.frontends.onnx import import_onnx
from qir.ir.errors import FrontendError
from tests.frontends.onnx.bombs import bombs
from tests.frontends.onnx.isolated import Outcome, imported, outcomes

CHUNK = 200  # seeds for one child process
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
    attributes = [a for n in graph.node for a in n.attribute]
    if not attributes:
        return
    attribute = rng.choice(attributes)
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
    return imported(damaged)


def check(seeds: Sequence[int], paths: Sequence[Path]) -> list[Outcome]:
    """The outcomes of some seeds, whose index is the seed."""
    results = outcomes(len(seeds), lambda k: outcome(seeds[k], paths), CHUNK)
    return [replace(r, index=seeds[r.index]) for r in results]


def explode(name: str) -> Outcome:
    """The outcome of one bomb, in a child of its own."""
    make = dict(bombs())[name]
    with tempfile.TemporaryDirectory() as folder:
        model = make(Path(folder))
        return next(outcomes(1, lambda _: imported(model), 1))


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
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--bombs", type=int, default=10_000, help="how many of them, at most")
    parser.add_argument("--jobs", type=int, default=2)
    beside = Path(__file__).resolve().parents[4] / "shared" / "zoo"
    parser.add_argument("--zoo", type=Path, default=Path(os.environ.get("QIR_ZOO", beside)))
    args = parser.parse_args()
    paths = zoo_files(args.zoo)
    seeds = range(args.seed, args.seed + args.count)
    chunks = [seeds[i : i + CHUNK] for i in range(0, args.count, CHUNK)]
    names = [name for name, _ in bombs()][: args.bombs]
    with ProcessPoolExecutor(args.jobs) as pool:
        damaged = [r for part in pool.map(check, chunks, [paths] * len(chunks)) for r in part]
        exploded = list(pool.map(explode, names))
    labels = [f"seed {r.index}" for r in damaged] + names
    for what, results in ((f"mutations of {len(paths)} files", damaged), ("bombs", exploded)):
        if results:
            print(summary(what, results))
    failures = [
        f"{label}: {r.text}"
        for label, r in zip(labels, [*damaged, *exploded], strict=True)
        if r.failed
    ]
    print("\n".join(failures))
    return 1 if failures else 0


def summary(what: str, results: Sequence[Outcome]) -> str:
    counts = Counter("failed" if r.failed else r.text for r in results)
    slowest = max(r.seconds for r in results)
    most = max(r.bytes for r in results) >> 20
    return f"{len(results)} {what}: {dict(counts)}; slowest {slowest:.1f} s, most {most} MiB"


if __name__ == "__main__":
    sys.exit(main())
