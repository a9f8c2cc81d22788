"""Models in a few bytes that ask for absurd work: one function for each kind."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from qir.ir.types import Array

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
    function_protos = [
        helper.make_function(DOMAIN, "F0", ["x"], ["y"], [node(body, ["x"], ["y"])], OPSETS)
    ]
    for level in range(1, depth + 1):
        names = ["x", *(f"m{k}" for k in range(width - 1)), "y"]
        calls = [
            node(f"F{level - 1}", [a], [b], domain=DOMAIN) for a, b in itertools.pairwise(names)
        ]
        function_protos.append(
            helper.make_function(DOMAIN, f"F{level}", ["x"], ["y"], calls, OPSETS)
        )
    return proto(
        [node(f"F{depth}", ["x"], ["y"], domain=DOMAIN)], {}, function_protos
    ).SerializeToString()


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
    constants_by_name = {f"c{k}": c for k, c in enumerate(constants)}
    return proto(
        [node(op, ["x", *constants_by_name], ["y"], **a)], constants_by_name, shape=shape
    ).SerializeToString()


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
