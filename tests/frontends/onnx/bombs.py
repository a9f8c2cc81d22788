"""Small files that ask for absurd work: one function for each kind, each with a few sizes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from qir.ir.types import Array

Bomb = Callable[[Path], bytes | Path]  # from an empty folder to a model: bytes, or a file there
DOMAIN = "own"
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]


def proto(
    nodes: Sequence[NodeProto],
    constants: dict[str, Array] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    shape: Sequence[int | str] = (1,),
    output: str = "y",
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes), "bomb",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=OPSETS, functions=functions, ir_version=9)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: object) -> NodeProto:
    domain = str(attributes.pop("domain", ""))
    return helper.make_node(op, list(inputs), list(outputs), domain=domain, **attributes)


def i(*values: int) -> Array:
    return np.array(values, np.int64)


def constant_chain(op: str, count: int, width: int, **attributes: object) -> bytes:
    """Constants that grow: each node reads the one before it `width` times."""
    nodes = [node(op, [f"a{k}"] * width, [f"a{k + 1}"], **attributes) for k in range(count)]
    nodes += [node("ReduceMax", [f"a{count}"], ["r"], keepdims=0), node("Add", ["x", "r"], ["y"])]
    return proto(nodes, {"a0": np.ones((2, 2), np.float32)}).SerializeToString()


def grown(op: str, size: Array, count: int = 1) -> bytes:
    """`count` constants of a size that another constant names, all of them live."""
    first = {"Expand": ["one", "n"], "Tile": ["one", "n"], "ConstantOfShape": ["n"]}[op]
    nodes = [node(op, first, [f"c{k}"]) for k in range(count)]
    nodes += [node("ReduceMax", [f"c{k}"], [f"r{k}"], keepdims=0) for k in range(count)]
    nodes += [node("Sum", ["x", *(f"r{k}" for k in range(count))], ["y"])]
    ones = np.ones((1,) * min(size.size, 64), np.float32)
    return proto(nodes, {"n": size, "one": ones}).SerializeToString()


def ranged(limit: int, step: float) -> bytes:
    nodes = [node("Range", ["a", "b", "c"], ["r"]), node("ReduceMax", ["r"], ["m"], keepdims=0)]
    nodes.append(node("Add", ["x", "m"], ["y"]))
    constants = {"a": np.float32(0), "b": np.float32(limit), "c": np.float32(step)}
    return proto(nodes, constants).SerializeToString()


def slow_fold(op: str, size: int, count: int) -> bytes:
    """Folds that are loops in Python, on as many elements as the limits let in."""
    nodes = [node("ConstantOfShape", ["n"], ["a0"])]
    nodes += [node(op, [f"a{k}"], [f"a{k + 1}"]) for k in range(count)]
    nodes += [
        node("ReduceMax", [f"a{count}"], ["r"], keepdims=0), node("Add", ["x", "r"], ["y"])
    ]  # fmt: skip
    return proto(nodes, {"n": i(size)}).SerializeToString()


def products(size: int, count: int) -> bytes:
    """A chain of products of constant square matrices."""
    nodes = [node("ConstantOfShape", ["n"], ["a0"])]
    nodes += [node("MatMul", [f"a{k}"] * 2, [f"a{k + 1}"]) for k in range(count)]
    nodes += [
        node("ReduceMax", [f"a{count}"], ["r"], keepdims=0), node("Add", ["x", "r"], ["y"])
    ]  # fmt: skip
    return proto(nodes, {"n": i(size, size)}).SerializeToString()


def functions(depth: int, width: int, body: str = "Relu") -> bytes:
    """Functions that call the one before them `width` times."""
    found = [helper.make_function(DOMAIN, "F0", ["x"], ["y"], [node(body, ["x"], ["y"])], OPSETS)]
    for level in range(1, depth + 1):
        names = ["x", *(f"m{k}" for k in range(width - 1)), "y"]
        calls = [
            node(f"F{level - 1}", [a], [b], domain=DOMAIN) for a, b in itertools.pairwise(names)
        ]
        found.append(helper.make_function(DOMAIN, f"F{level}", ["x"], ["y"], calls, OPSETS))
    return proto([node(f"F{depth}", ["x"], ["y"], domain=DOMAIN)], {}, found).SerializeToString()


def heavy_function(calls: int, elements: int) -> bytes:
    """A function that holds a large constant, called many times."""
    value = numpy_helper.from_array(np.ones(elements, np.float32))
    body = [node("Constant", [], ["c"], value=value), node("ReduceMax", ["c"], ["r"], keepdims=0)]
    body.append(node("Add", ["x", "r"], ["y"]))
    own = helper.make_function(DOMAIN, "F", ["x"], ["y"], body, OPSETS)
    names = ["x", *(f"m{k}" for k in range(calls - 1)), "y"]
    chain = [node("F", [a], [b], domain=DOMAIN) for a, b in itertools.pairwise(names)]
    return proto(chain, {}, [own]).SerializeToString()


def branches(depth: int, width: int) -> bytes:
    """If within If, `width` of them side by side on each level."""

    other = helper.make_graph([node("Identity", ["x"], ["o"])], "o", [], [])

    def body(level: int, name: str) -> onnx.GraphProto:
        nodes = [node("Identity", ["x"], [f"{name}y"])]
        if level:
            nodes = []
            for k in range(width):
                inner = body(level - 1, f"{name}{k}_")
                nodes.append(
                    node("If", ["t"], [f"{name}v{k}"], then_branch=inner, else_branch=other)
                )
            nodes.append(node("Sum", [f"{name}v{k}" for k in range(width)], [f"{name}y"]))
        return helper.make_graph(nodes, "b", [], [helper.make_empty_tensor_value_info(f"{name}y")])

    top = body(depth, "")
    return proto(top.node, {"t": np.array(True)}).SerializeToString()


def many_nodes(count: int, op: str = "Relu") -> bytes:
    names = ["x", *(f"v{k}" for k in range(count - 1)), "y"]
    nodes = [node(op, [a], [b]) for a, b in itertools.pairwise(names)]
    return proto(nodes).SerializeToString()


def many_operands(count: int, op: str, **attributes: object) -> bytes:
    return proto([node(op, ["x"] * count, ["y"], **attributes)]).SerializeToString()


def many_outputs(count: int) -> bytes:
    outputs = [f"o{k}" for k in range(count)]
    nodes = [node("Split", ["x"], outputs, axis=0), node("Sum", outputs, ["y"])]
    return proto(nodes, shape=[count]).SerializeToString()


def many_inputs(count: int, rank: int = 1) -> bytes:
    model = proto([node("Relu", ["x"], ["y"])])
    for k in range(count):
        info = helper.make_tensor_value_info(f"i{k}", TensorProto.FLOAT, [1] * rank)
        model.graph.input.append(info)
    return model.SerializeToString()


def many_initializers(count: int) -> bytes:
    one = {f"c{k}": np.ones(1, np.float32) for k in range(count)}
    return proto([node("Relu", ["x"], ["y"])], one).SerializeToString()


def undefined(count: int) -> bytes:
    """Faults without end: each node reads what nobody defines."""
    nodes = [node("Add", [f"n{k}", "x"], [f"v{k}"]) for k in range(count)]
    return proto([*nodes, node("Relu", ["x"], ["y"])]).SerializeToString()


def unknown_ops(count: int) -> bytes:
    nodes = [node(f"Op{k}", ["x"], [f"v{k}"]) for k in range(count)]
    return proto([*nodes, node("Relu", ["x"], ["y"])]).SerializeToString()


def cycle(count: int) -> bytes:
    nodes = [node("Relu", [f"v{(k + 1) % count}"], [f"v{k}"]) for k in range(count)]
    return proto([*nodes, node("Relu", ["v0"], ["y"])]).SerializeToString()


def dims(sizes: Sequence[int], **fields: object) -> bytes:
    """An initializer that says it has `sizes`, with little or no data."""
    model = proto([node("Add", ["x", "c"], ["y"])])
    tensor = model.graph.initializer.add(name="c", data_type=TensorProto.FLOAT, dims=sizes)
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    return model.SerializeToString()


def sparse(sizes: Sequence[int], index: Array) -> bytes:
    value = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(index.shape[:1], np.float32), "values"),
        numpy_helper.from_array(index, "indices"),
        list(sizes),
    )
    nodes = [node("Constant", [], ["c"], sparse_value=value), node("Add", ["x", "c"], ["y"])]
    return proto(nodes).SerializeToString()


def sparse_initializer(sizes: Sequence[int]) -> bytes:
    model = proto([node("Add", ["x", "c"], ["y"])])
    values = numpy_helper.from_array(np.ones(1, np.float32), "c")
    one = helper.make_sparse_tensor(values, numpy_helper.from_array(i(0), "k"), list(sizes))
    model.graph.sparse_initializer.append(one)
    return model.SerializeToString()


def attribute(op: str, shape: Sequence[int], constants: Sequence[Array] = (), **a: object) -> bytes:
    """One node on x of `shape`, with an absurd attribute or constant."""
    named = {f"c{k}": c for k, c in enumerate(constants)}
    return proto([node(op, ["x", *named], ["y"], **a)], named, shape=shape).SerializeToString()


def resized(shape: Sequence[int], scales: Sequence[float], **attributes: object) -> bytes:
    nodes = [node("Resize", ["x", "", "s"], ["y"], **attributes)]
    return proto(nodes, {"s": np.array(scales, np.float32)}, shape=shape).SerializeToString()


def text(size: int, where: str) -> bytes:
    """A name or text of many characters, control characters among them."""
    long = "\x1b[2J" + "a" * size
    model = proto([node("LeakyRelu", ["x"], ["y"], name="n")])
    match where:
        case "op":
            model.graph.node[0].op_type = long
        case "node":
            model.graph.node[0].name = long
        case "attribute":
            model.graph.node[0].attribute.append(helper.make_attribute("alpha", long))
        case "input":
            model.graph.input[0].name = model.graph.node[0].input[0] = long
        case "output":
            model.graph.output[0].name = model.graph.node[0].output[0] = long
        case "dimension":
            dim = model.graph.input[0].type.tensor_type.shape.dim.add()
            dim.dim_param = long
        case "domain":
            model.graph.node[0].domain = long
        case "graph":
            model.graph.name = long
    return model.SerializeToString()


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


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def messages(path: Sequence[int], number: int, count: int) -> bytes:
    """`count` empty messages of field `number`, within the fields of `path`."""
    data = (varint(number << 3 | 2) + b"\0") * count
    for outer in reversed(path):
        data = field(outer, data)
    return data


def nested(depth: int) -> bytes:
    """Messages within messages: graph, node, attribute, graph ..."""
    data = b""
    for _ in range(depth):
        data = field(1, field(5, field(6, data)))
    return field(7, data)


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
    yield "input of 100,000 dims", _bytes(many_inputs, 1, 100_000)
    yield "100,000 dims of data", _bytes(dims, [1 << 60] * 100_000)
    yield "100,000 dims of one", _bytes(dims, [1] * 100_000, float_data=[1.0])
    yield "negative dims", _bytes(dims, [-1, -1], float_data=[1.0])
    yield "dims of no data", _bytes(dims, [0, 1 << 62])
    yield "dims in int4", _bytes(dims, [1 << 40], data_type=TensorProto.INT4, int32_data=[1])
    yield "sparse of 70 dims", _bytes(sparse, [2] * 70, np.zeros((1, 70), np.int64))
    yield "sparse outside", _bytes(sparse, [4], i(1 << 40))
    yield "sparse initializer", _bytes(sparse_initializer, [1 << 40])
    yield from _attributes()
    for where in ("op", "node", "attribute", "input", "output", "dimension", "domain", "graph"):
        yield f"long {where}", _bytes(text, 30_000_000, where)
    yield from _external()
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
