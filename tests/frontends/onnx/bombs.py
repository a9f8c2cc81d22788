"""Small files that ask for absurd work: each kind in a few sizes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from onnx import TensorProto

from tests.frontends.onnx.bomb_models import (
    attribute,
    branches,
    constant_chain,
    cycle,
    dims,
    functions,
    grown,
    heavy_function,
    i,
    many_initializers,
    many_inputs,
    many_nodes,
    many_operands,
    many_outputs,
    messages,
    nested,
    node,
    products,
    proto,
    ranged,
    resized,
    slow_fold,
    sparse,
    sparse_initializer,
    text,
    undefined,
    unknown_ops,
)

Bomb = Callable[[Path], bytes | Path]  # from an empty folder to a model: bytes, or a file there


def external(folder: Path, location: str, **entries: str) -> Path:
    """A model in `folder` with a tensor of 4 floats at `location`."""
    model = proto([node("Add", ["x", "c"], ["y"])], shape=[4])
    tensor = model.graph.initializer.add(
        name="c", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "w.bin")
    return external(folder, "w.bin")


def pipe_as_model(folder: Path) -> Path:
    os.mkfifo(folder / "model.onnx")
    return folder / "model.onnx"


def link(folder: Path, to: str) -> Path:
    (folder / "w.bin").symlink_to(to)
    return external(folder, "w.bin")


def hole(folder: Path, **entries: str) -> Path:
    """External data in a file of 1 TiB without blocks."""
    with (folder / "w.bin").open("wb") as file:
        file.truncate(1 << 40)
    return external(folder, "w.bin", **entries)


def same_region(folder: Path, count: int) -> Path:
    """Many tensors that all are the same large part of one file without blocks."""
    with (folder / "w.bin").open("wb") as file:
        file.truncate(1 << 28)
    names = [f"c{k}" for k in range(count)]
    model = proto([node("Sum", ["x", *names], ["y"])])
    for name in names:
        tensor = model.graph.initializer.add(
            name=name, data_type=TensorProto.FLOAT, dims=[1 << 26],
            data_location=TensorProto.EXTERNAL,
        )  # fmt: skip
        tensor.external_data.add(key="location", value="w.bin")
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _bytes(make: Callable[..., bytes], *args: object, **named: object) -> Bomb:
    return lambda folder: make(*args, **named)


def _file(make: Callable[..., Path], *args: object, **named: str) -> Bomb:
    return lambda folder: make(folder, *args, **named)


def bombs() -> Iterator[tuple[str, Bomb]]:
    """All bombs by name."""
    huge = (1 << 62, 1 << 40, (1 << 31) - 1, 1 << 26)
    for count in (12, 22, 31, 60):
        yield f"concat doubles {count}", _bytes(constant_chain, "Concat", count, 2, axis=0)
    yield "concat grows tenfold", _bytes(constant_chain, "Concat", 30, 10, axis=1)
    for n in huge:
        yield f"constant of shape {n}", _bytes(grown, "ConstantOfShape", i(n))
        yield f"expand to {n}", _bytes(grown, "Expand", i(n))
        yield f"tile {n}", _bytes(grown, "Tile", i(n))
        yield f"range to {n}", _bytes(ranged, n, 1.0)
        yield f"dims {n}", _bytes(dims, [n])
        yield f"sparse {n}", _bytes(sparse, [n], i(0))
    for op in ("ConstantOfShape", "Expand", "Tile"):
        yield f"{op} of 16 million, 100 times", _bytes(grown, op, i(4096, 4096), 100)
    yield "shape of 100,000 sizes", _bytes(grown, "ConstantOfShape", np.full(100_000, 1 << 60))
    yield "range of small steps", _bytes(ranged, 1000, 1e-30)
    yield "range of nothing", _bytes(ranged, 1000, 0.0)
    yield "range backwards", _bytes(ranged, 1000, -1.0)
    yield from _work()
    yield from _counts()
    yield from _dimensions()
    yield from _attributes()
    yield from _external()
    yield from _wire()


def _work() -> Iterator[tuple[str, Bomb]]:
    """Little text, much to compute or to unfold."""
    for op in ("Erf", "Softplus", "IsNaN", "NonZero", "Sin"):
        yield f"{op} of 4 million, 100 times", _bytes(slow_fold, op, (1 << 22) - 8, 100)
        yield f"{op} of 16 million", _bytes(slow_fold, op, 1 << 24, 1)
    for n in (1024, 4096):
        yield f"products of {n}", _bytes(products, n, 100)
    for depth, width in ((40, 2), (30, 3), (16, 2), (31, 1), (100, 1), (5, 1000)):
        yield f"functions {depth} deep, {width} wide", _bytes(functions, depth, width)
    yield "a heavy function", _bytes(heavy_function, 1000, 1 << 20)
    yield "unknown op in functions", _bytes(functions, 14, 2, "Nonsense")
    for depth, width in ((25, 1), (6, 4), (1, 10_000)):
        yield f"branches {depth} deep, {width} wide", _bytes(branches, depth, width)
    yield "nested 33", _bytes(nested, 32)
    yield "nested 10,000", _bytes(nested, 10_000)


def _counts() -> Iterator[tuple[str, Bomb]]:
    """Many of a thing."""
    for count in (50_000, 200_000):
        yield f"{count} nodes", _bytes(many_nodes, count)
        yield f"{count} initializers", _bytes(many_initializers, count)
        yield f"{count} unknown ops", _bytes(unknown_ops, count)
        yield f"{count} undefined", _bytes(undefined, count)
        yield f"cycle of {count}", _bytes(cycle, count)
        yield f"{count} inputs", _bytes(many_inputs, count)
    for op in ("Sum", "Max", "Mean"):
        yield f"{op} of a million", _bytes(many_operands, 1_000_000, op)
    yield "concat of a million", _bytes(many_operands, 1_000_000, "Concat", axis=0)
    yield "split into a million", _bytes(many_outputs, 1_000_000)


def _dimensions() -> Iterator[tuple[str, Bomb]]:
    yield "input of 100,000 dims", _bytes(many_inputs, 1, 100_000)
    yield "100,000 dims of data", _bytes(dims, [1 << 60] * 100_000)
    yield "100,000 dims of one", _bytes(dims, [1] * 100_000, float_data=[1.0])
    yield "negative dims", _bytes(dims, [-1, -1], float_data=[1.0])
    yield "dims of no data", _bytes(dims, [0, 1 << 62])
    yield "dims in int4", _bytes(dims, [1 << 40], data_type=TensorProto.INT4, int32_data=[1])
    yield "sparse of 70 dims", _bytes(sparse, [2] * 70, np.zeros((1, 70), np.int64))
    yield "sparse outside", _bytes(sparse, [4], i(1 << 40))
    yield "sparse initializer", _bytes(sparse_initializer, [1 << 40])


def _wire() -> Iterator[tuple[str, Bomb]]:
    """Long texts, and messages of nothing."""
    for where in ("op", "node", "attribute", "input", "output", "dimension", "domain", "graph"):
        yield f"long {where}", _bytes(text, 30_000_000, where)
    for name, path, number in (
        ("nodes", (7,), 1), ("initializers", (7,), 5), ("inputs", (7,), 11),
        ("attributes", (7, 1), 5), ("tensors", (7, 1, 5), 10), ("functions", (), 25),
        ("dimensions", (7, 11, 2, 1, 2), 1), ("opsets", (), 8), ("metadata", (), 14),
    ):  # fmt: skip
        yield f"25 million empty {name}", _bytes(messages, path, number, 25_000_000)


def _attributes() -> Iterator[tuple[str, Bomb]]:
    image = (1, 1, 4, 4)
    big = 1 << 30
    yield "pads", _bytes(attribute, "Pad", image, [i(*[big] * 8)], mode="constant")
    yield "pads by reflection", _bytes(attribute, "Pad", image, [i(*[big] * 8)], mode="reflect")
    yield "pads by copies", _bytes(attribute, "Pad", image, [i(0, 0, 0, big, 0, 0, 0, 0)])
    yield "a window", _bytes(attribute, "MaxPool", image, kernel_shape=[big, big])
    yield (
        "a padded window",
        _bytes(attribute, "AveragePool", image, kernel_shape=[big, big], pads=[big] * 4),
    )
    for op in ("AveragePool", "MaxPool", "LpPool"):
        far = {"kernel_shape": [1 << 28, 1], "pads": [1 << 27, 0, 1 << 27, 0]}
        yield f"a tall {op}", _bytes(attribute, op, image, **far)
        yield f"a long {op}", _bytes(attribute, op, (1, 1, big), kernel_shape=[2])
    yield "an LRN of 2**28", _bytes(attribute, "LRN", image, size=1 << 28)
    yield "an LRN", _bytes(attribute, "LRN", image, size=1 << 40)
    yield "a power", _bytes(attribute, "LpPool", image, kernel_shape=[2, 2], p=1 << 60)
    yield "parts", _bytes(attribute, "Split", image, num_outputs=1 << 40)
    yield "a block", _bytes(attribute, "DepthToSpace", image, blocksize=1 << 40)
    yield "repeats", _bytes(attribute, "Tile", image, [i(big, big, big, big)])
    yield "an expansion", _bytes(attribute, "Expand", image, [i(big, big, 4, 4)])
    yield "a reshape", _bytes(attribute, "Reshape", image, [np.full(1_000_000, 1, np.int64)])
    yield "a long list", _bytes(attribute, "Transpose", image, perm=list(range(1_000_000)))
    yield "a reversal", _bytes(attribute, "Slice", (big,), [i(-1), i(-big - 1), i(0), i(-1)])
    yield "a mask", _bytes(attribute, "Dropout", (big,))
    yield "groups", _bytes(attribute, "GroupNormalization", image, num_groups=1 << 60)
    yield "an index", _bytes(attribute, "Gather", image, [np.zeros(1 << 22, np.int64)], axis=3)
    for mode in ("nearest", "linear", "cubic"):
        yield f"{mode} up", _bytes(resized, image, (1, 1, 1, 5e8), mode=mode)
        yield f"{mode} down", _bytes(resized, (1, 1, 1, big), (1, 1, 1, 1e-9), mode=mode)
        yield f"{mode} up twice", _bytes(resized, image, (1, 1, 3e5, 3e5), mode=mode)


def _external() -> Iterator[tuple[str, Bomb]]:
    yield "a pipe beside the model", _file(pipe)
    yield "a pipe as the model", _file(pipe_as_model)
    yield "a folder as the model", lambda folder: folder
    yield "a device as the model", lambda folder: Path("/dev/zero")
    for to in ("/dev/zero", "/dev/stdin", "/etc/passwd", "w.bin", "../../..", "/proc/self/mem"):
        yield f"a link to {to}", _file(link, to)
    for location in ("/dev/zero", "../../../etc/passwd", ".", "", "a\0b", "x" * 5000, "none"):
        yield f"data at {location[:20]!r}", _file(external, location)
    yield "a hole", _file(hole)
    yield "a hole of 1 TiB", _file(hole, length=str(1 << 40))
    for offset, length in (("-1", "16"), ("0", "-1"), ("1e3", "16"), ("9" * 5000, "16")):
        yield f"bytes {offset[:9]} {length}", _file(hole, offset=offset, length=length)
    yield "one region, 100 tensors", _file(same_region, 100)
