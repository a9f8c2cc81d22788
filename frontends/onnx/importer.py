"""import_onnx: converts a model node by node, and collects all faults into one error."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import NodeProto

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import ConstantOperand, Operand
from qir.frontends.onnx.quantized.inputs import with_scales
from qir.frontends.onnx.read.budget import OverBudget
from qir.frontends.onnx.read.constants import constant, dense
from qir.frontends.onnx.read.fold import FOLDED, fold
from qir.frontends.onnx.read.functions import FunctionLibrary
from qir.frontends.onnx.read.inputs import input_types
from qir.frontends.onnx.read.load import DEFAULT_DOMAINS, Model, load, versions
from qir.frontends.onnx.read.names import sanitized
from qir.frontends.onnx.read.order import node_text, ordered, reads_of
from qir.frontends.onnx.table import hint_for, lookup
from qir.frontends.onnx.writer import GraphWriter
from qir.ir.errors import FrontendError, QirError, listed, printable
from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.verify import verify

# What damaged attributes, sizes and texts make Python and NumPy raise: faults of the node.
DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RecursionError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
Scope = ChainMap[str, Operand | None]  # None: a result of a node that was refused
Opsets = Mapping[str, int]


def import_onnx(
    model: str | Path | bytes | onnx.ModelProto,
    *,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """The model as a graph at stage "imported", inputs and outputs in the model's own layout.

    A free first dimension is fixed to `batch` (1 by default); `shapes` gives whole shapes of inputs
    by name. All floats become f32; integer inputs take the scale with which the model reads them.
    Quantized models keep their scales and zero points, dynamically quantized ones their weights'.
    Errors: FrontendError for a model that is damaged, or that holds nodes qir has no op for; all of
            them in one error: op, name in the model, reason, and the nearest supported form.
    """
    onnx_model = load(model)
    try:
        return _Importer(onnx_model).run(batch, shapes)
    except FrontendError:
        raise
    except QirError as e:
        raise FrontendError(e.after(onnx_model.file), e.hint) from e
    except DAMAGE as e:
        raise FrontendError(
            f"{onnx_model.file}: damaged ({type(e).__name__}: {e}), a valid ONNX model is needed"
        ) from e


class _Importer:
    """The state of one import: the writer that collects the graph, and the faults so far."""

    def __init__(self, model: Model) -> None:
        self.model = model
        stem = Path(model.file).stem if model.folder is not None else model.proto.graph.name
        builder = Builder(sanitized(stem or "model"), "imported")
        self.budget = model.budget
        self.writer = GraphWriter(model.file, builder, model.budget)
        self.library = FunctionLibrary(model.proto.functions, model.file)
        self.faults: list[str] = []
        self.softmax_inputs: set[str] = set()  # of the graph being read: for Softmax nodes alone
        self.reads: set[str] = set()  # every name that a node or an output reads

    def run(self, batch: int | None, shapes: Mapping[str, Sequence[int]] | None) -> Graph:
        proto = self.model.proto.graph
        for item in (*proto.input, *proto.output, *proto.initializer):
            if not isinstance(item.name, str):
                raise FrontendError(
                    f"{self.model.file}: name {item.name!r} is no UTF-8, text is needed"
                )
        scope = self.constants(proto, ChainMap())
        infos = [i for i in proto.input if i.name not in scope]
        types = input_types(infos, batch, shapes, self.model.file)
        for name, type_ in with_scales(types, proto.node, scope).items():
            scope[name] = self.writer.builder.input(sanitized(name), type_)
        self.nodes(proto.node, scope, [o.name for o in proto.output], self.model.opsets)
        outputs = [self.output(o.name, scope) for o in proto.output]
        if self.faults:
            count = f"{len(self.faults)} node{'s' * (len(self.faults) > 1)}"
            head = f"{self.model.file}: {count} cannot be imported"
            raise FrontendError(listed(head, self.faults))
        graph = self.writer.builder.finish(
            [o for o in outputs if o is not None], [printable(o.name) for o in proto.output]
        ).without_dead_code()
        verify(graph)
        return graph

    def output(self, name: str, scope: Scope) -> Value | None:
        if name not in scope:
            where = f"{self.model.file} output {name!r}"
            raise FrontendError(f"{where}: defined nowhere, a definition is needed")
        operand = scope[name]
        return self.writer.constant(operand) if isinstance(operand, ConstantOperand) else operand

    def constants(self, proto: Any, outer: Scope) -> Scope:
        """A new scope inside `outer` with the initializers of `proto`."""
        scope = outer.new_child()
        arrays = [(t.name, self.model.array(t)) for t in proto.initializer]
        arrays += [(t.values.name, dense(t, self.model)) for t in proto.sparse_initializer]
        for name, array in arrays:
            if name in scope.maps[0]:
                where = f"{self.model.file} initializer {name!r}"
                raise FrontendError(f"{where}: defined twice, once is needed")
            scope[name] = ConstantOperand(array, name)
        return scope

    def nodes(
        self, nodes: Sequence[NodeProto], scope: Scope, outputs: Iterable[str], opsets: Opsets
    ) -> None:
        """Import `nodes` in order, each result into `scope`."""
        self.budget.spend_nodes(len(n.input) + len(n.output) for n in nodes)
        in_order = ordered(nodes, scope, self.model.file)
        self.reads.update(*(reads_of(n) for n in in_order), outputs)
        others = {n for node in nodes if node.op_type != "Softmax" for n in reads_of(node)}
        scores = {n for node in nodes if node.op_type == "Softmax" for n in node.input}
        outer, self.softmax_inputs = self.softmax_inputs, scores - others - set(outputs)
        for node in in_order:
            results = [*self.node(node, scope, opsets), *[None] * len(node.output)]
            scope.update((n, r) for n, r in zip(node.output, results, strict=False) if n)
        self.softmax_inputs = outer

    def node(self, node: NodeProto, scope: Scope, opsets: Opsets) -> Sequence[Operand | None]:
        """The results of one node; a refusal is recorded, with unknown results."""
        try:
            return self._results(node, scope, opsets)
        except OverBudget as e:
            if e.is_placed:
                raise
            error = OverBudget(e.after(f"{self.model.file}: {node_text(node)}"), e.hint)
            error.is_placed = True
            raise error from e
        except QirError as e:
            hint = f" (hint: {e.hint})" if e.hint else ""
            self.faults.append(f"{node_text(node)}: {e.text}{hint}")
        except DAMAGE as e:
            self.faults.append(
                f"{node_text(node)}: {type(e).__name__}: {e}, a valid node is needed"
            )
        return []

    def _results(self, node: NodeProto, scope: Scope, opsets: Opsets) -> Sequence[Operand | None]:
        """The results of a constant, a branch, a function, a fold, or an op of the table."""
        operands = [scope[name] if name else None for name in node.input]
        domain = "" if node.domain in DEFAULT_DOMAINS else node.domain
        version = opsets.get(domain, 1)
        if function := self.library.get(domain, node.op_type):
            return self.call(node, function, operands)
        if not domain and node.op_type == "Constant":
            return [constant(node, self.model)]
        if not domain and node.op_type == "If":
            return self.branch(node, operands, scope, opsets)
        has_refusal = any(o is None for o, name in zip(operands, node.input, strict=True) if name)
        arrays = [
            o.array if isinstance(o, ConstantOperand) and o.quant is None else None
            for o in operands
        ]
        is_constant = all(a is not None or not n for a, n in zip(arrays, node.input, strict=True))
        can_fold = not domain and node.op_type in FOLDED
        if can_fold and is_constant:
            arrays_out = fold(node, arrays, version, self.budget)
            return [
                ConstantOperand(a, name) for a, name in zip(arrays_out, node.output, strict=True)
            ]
        convert = lookup(domain, node.op_type)
        if convert is None and not (has_refusal and can_fold):
            raise FrontendError("no such op in qir", hint_for(domain, node.op_type))
        if convert is None or has_refusal:
            return []
        feeds = next(iter(node.output), "") in self.softmax_inputs
        result = convert(ImportContext(node, operands, version, self.writer, feeds))
        results = result if isinstance(result, tuple) else (result,)
        for at, name in enumerate(node.output):
            if at >= len(results) and name in self.reads:
                raise FrontendError(f"output {at} ({name!r}) is used, only the first can be")
        return results

    def branch(
        self, node: NodeProto, operands: Sequence[Operand | None], scope: Scope, opsets: Opsets
    ) -> Sequence[Operand | None]:
        """The results of the branch that a constant condition takes; the other is not looked at."""
        if not operands or operands[0] is None:
            return []
        if not isinstance(operands[0], ConstantOperand) or operands[0].array.size != 1:
            raise FrontendError(
                "the condition is computed at run time, a constant is needed",
                "give all dimensions of the inputs (batch, shapes), so that it can be folded",
            )
        branch_name = "then_branch" if operands[0].array.reshape(-1)[0] else "else_branch"
        graphs = [a.g for a in node.attribute if a.name == branch_name and a.HasField("g")]
        if len(graphs) != 1:
            raise FrontendError(f"{len(graphs)} graphs {branch_name}, one is needed")
        inner = self.constants(graphs[0], scope)
        names = [o.name for o in graphs[0].output]
        self.nodes(graphs[0].node, inner, names, opsets)
        return [inner[n] for n in names]

    def call(
        self, node: NodeProto, function: Any, operands: Sequence[Operand | None]
    ) -> Sequence[Operand | None]:
        """The results of a function of the model's own, its body imported in place."""
        with self.library.inside(function):
            padded = [*operands, *[None] * len(function.input)]
            scope: Scope = ChainMap(dict(zip(function.input, padded, strict=False)))
            body = self.library.body(function, node)
            opsets = versions(function.opset_import)
            self.nodes(body, scope, function.output, opsets)
        if missing := [n for n in function.output if n not in scope]:
            raise FrontendError(f"output {missing[0]!r} is defined nowhere, one is needed")
        return [scope[n] for n in function.output]
