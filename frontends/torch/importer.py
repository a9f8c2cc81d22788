"""import_torch: converts a torch graph node by node, each by its rule in the table."""

from __future__ import annotations

import logging
import operator
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import torch
from torch.fx import Node

from qir.frontends.torch import ops
from qir.frontends.torch.context import (
    Complex,
    ImportContext,
    Labels,
    MissingResult,
    QuantizedConstant,
    symbol,
)
from qir.frontends.torch.export import TorchGraph, first_line, to_program
from qir.frontends.torch.table import RULES, Unsupported, nearest
from qir.ir.errors import FrontendError, QirError, listed
from qir.ir.graph import Builder, Graph
from qir.ir.op import Loc, Value
from qir.ir.types import F32, Tensor
from qir.ir.verify import verify

# The modules of rules: importing one declares its rules.
FAMILIES = tuple(
    import_module(f"{ops.__name__}.{found.name}") for found in iter_modules(ops.__path__)
)
FRAME = re.compile(r'File "([^"]+)", line (\d+)')
TORCH = str(Path(torch.__file__).parent)
CHECKS = ("aten._assert_", "aten.sym_constrain_range", "aten._assert_tensor_metadata")
SOFTMAX = ("aten.softmax.", "aten._softmax.", "aten._safe_softmax.")
MOVES = ("aten.view.", "aten.reshape.", "aten.clone.", "aten.contiguous.", "aten.expand.",
         "aten.unsqueeze.", "aten.squeeze.", "aten.permute.", "aten.transpose.", "aten.to.",
         "aten._to_copy.", "aten.type_as.")  # fmt: skip
UNKNOWN = object()  # a result of a node that is at fault already


class _OneAtATime:
    """One thread inside at a time, none of them in a forked child: torch.export keeps its state
    in globals.
    """

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_TRACING = _OneAtATime()
LOGGERS = ("torch._subclasses.fake_tensor", "torch.export", "torch.fx.experimental.symbolic_shapes")


@contextmanager
def _without_logs() -> Iterator[None]:
    """Torch writes no tracebacks to stderr: the errors name what was wrong."""
    levels = [(logger, logger.level) for logger in map(logging.getLogger, LOGGERS)]
    try:
        for logger, _ in levels:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)


def import_torch(model: Any, example_inputs: Any = None) -> Graph:
    """A torch module, ExportedProgram, .pt2 file or fx.GraphModule as a graph of stage "imported".

    A module is exported by torch.export with `example_inputs` (tensors by position, or a mapping
    from names of forward's arguments), in inference mode, and left as it was. Operators that the
    table knows stay whole, others are decomposed to core ATen first; what depends on constants
    alone is computed now. All floats become f32, and a free batch size the example's. Integers are
    ids (i32), or masks whose elements are 0 and 1.
    Activations between ops keep torch's (N, C, H, W); convolutions and poolings work on
    (N, H, W, C) between transposes.
    Errors: FrontendError, which lists every node that cannot be imported, with its line and the
            nearest form that can.
    """
    with _TRACING, _without_logs():
        program = to_program(model, example_inputs)
    return _Importer(program).graph()


class _Importer:
    """One pass over a program, with the results of each node and the faults."""

    def __init__(self, program: TorchGraph) -> None:
        self.program = program
        self.builder = Builder(symbol(program.name), "imported")
        self.results: dict[Node, Any] = {}
        self.faults: list[str] = []
        self.labels = Labels(program.constants.values())
        self.cache: dict[Any, Value] = {}

    def graph(self) -> Graph:
        for node in self.program.nodes:
            if node.op == "placeholder" and node.name in self.program.inputs:
                self.results[node] = self.builder.input(node.name, self.program.inputs[node.name])
            elif node.name in self.program.constants:
                self.results[node] = self.program.constants[node.name][1]
            elif node.op == "call_function":
                self.results[node] = self.imported(node)
        outputs = [self.output(node) for node in self.program.outputs]
        if self.faults:
            head = f"torch {self.program.name}: {len(self.faults)} nodes cannot be imported"
            raise FrontendError(listed(head, self.faults))
        graph = self.builder.finish(outputs, self.program.output_names).without_dead_code()
        try:
            verify(graph)
        except QirError as e:
            raise FrontendError(e.after(f"torch {self.program.name}")) from e
        return graph

    def output(self, node: Node) -> Value:
        result = self.results.get(node, UNKNOWN)
        if result is UNKNOWN:
            return Value("unknown", Tensor((), F32))
        try:
            return ImportContext(
                self.builder, node.name, loc_of(node), self.labels, self.cache
            ).value(result)
        except Unsupported as e:
            self.faults.append(f"output {node.name}: {e}")
            return Value("unknown", Tensor((), F32))

    def imported(self, node: Node) -> Any:
        """The results of a node; after a fault, placeholders of their types."""
        args, kwargs = torch.fx.node.map_aggregate((node.args, dict(node.kwargs)), self.resolved)
        operands = [
            leaf
            for leaf in flat((args, kwargs))
            if isinstance(leaf, (Value, QuantizedConstant, MissingResult, Complex))
        ]
        is_region = isinstance(node.target, torch._ops.HigherOrderOperator)
        if not is_region and any(leaf is UNKNOWN for leaf in flat((args, kwargs))):
            return UNKNOWN
        try:
            return self.result(node, args, kwargs, bool(operands))
        except Unsupported as e:
            fault = str(e)
        except QirError as e:
            fault = e.text
        except Exception as e:  # an operator in a form that its rule was not written for
            fault = f"{type(e).__name__} {first_line(e)}, a form that its rule takes is needed"
        self.faults.append(f"{node.target} {node.name}{at(loc_of(node))}: {fault}")
        return stand_in(node)

    def resolved(self, argument: Any) -> Any:
        return self.results.get(argument, UNKNOWN) if isinstance(argument, Node) else argument

    def result(self, node: Node, args: Any, kwargs: Any, has_values: bool) -> Any:
        name = str(node.target)
        rule = RULES.get(name)
        if name.startswith(CHECKS):
            return None
        if node.target is operator.getitem:
            return (
                args[0][args[1]]
                if isinstance(args[0], (tuple, list))
                else first_result(args[0], args[1])
            )
        if name == "aten.sym_size.int" and has_values:
            return args[0].type.shape[args[1]]
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            raise Unsupported(
                "control flow or a region of its own", "one path through the model is needed"
            )
        if not has_values and (rule is None or rule.folds):
            return self.constant_result(node, args, kwargs)
        if rule is None:
            raise Unsupported("not supported", f"nearest is {nearest(name)}")
        ctx = ImportContext(
            self.builder, label(node), loc_of(node), self.labels, self.cache, feeds_softmax(node),
            self.bits_of(node),
        )  # fmt: skip
        return rule.apply(ctx, *args, **kwargs)

    def bits_of(self, node: Node) -> frozenset[str]:
        """The operands that are boolean in torch, by their names here."""
        operands = ((n, self.results.get(n)) for n in node.all_input_nodes)
        return frozenset(
            v.name for n, v in operands if isinstance(v, Value) and dtype_of(n) == torch.bool
        )

    def constant_result(self, node: Node, args: Any, kwargs: Any) -> Any:
        """A constant node's result; a view of a parameter keeps the parameter's name."""
        result = computed(node, args, kwargs)
        for source in flat((args, kwargs)):
            if is_view(result, source):
                self.labels.derive(result, source)
        return result


def dtype_of(node: Node) -> torch.dtype | None:
    """The element type that torch gives the node's result, where it is one tensor."""
    value = node.meta.get("val")
    return value.dtype if isinstance(value, torch.Tensor) else None


def feeds_softmax(node: Node) -> bool:
    """Whether all that reads the node is a softmax, through nodes that move elements, or cast."""
    users = [user for user in node.users if not str(user.target).startswith(CHECKS)]
    return bool(users) and all(
        str(user.target).startswith(SOFTMAX)
        or (str(user.target).startswith(MOVES) and feeds_softmax(user))
        for user in users
    )


def is_view(tensor: Any, source: Any) -> bool:
    """Whether both are tensors and `tensor` shows the elements of `source`."""
    if not (isinstance(tensor, torch.Tensor) and isinstance(source, torch.Tensor)):
        return False
    return tensor.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()


def computed(node: Node, args: Any, kwargs: Any) -> Any:
    """The result of a node all of whose operands are constants, by torch itself."""
    tags = getattr(node.target, "tags", ())
    if torch.Tag.nondeterministic_seeded in tags:
        raise Unsupported("random numbers", "a constant or an input is needed")
    settings = {k: torch.device("cpu") if k == "device" else v for k, v in kwargs.items()}
    assert callable(node.target)
    try:
        with torch.no_grad():
            return node.target(*args, **settings)
    except Exception as e:  # torch's own code on the model's own constants
        raise Unsupported(
            f"{type(e).__name__} {first_line(e)}", "constants that can be computed are needed"
        ) from e


def first_result(result: Any, index: Any) -> Any:
    """`result[0]` of a node that has one result here and several in torch (dropout's mask)."""
    if index == 0:
        return result
    raise Unsupported(f"result {index}", "the first result alone is needed")


def stand_in(node: Node) -> Any:
    """Values of the types torch gives the results, so that the nodes after it are seen too."""
    value = node.meta.get("val")
    if isinstance(value, (tuple, list)):
        return tuple(stand_in_value(node, k, one) for k, one in enumerate(value))
    return stand_in_value(node, 0, value)


def stand_in_value(node: Node, k: int, value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or any(not isinstance(s, int) for s in value.shape):
        return UNKNOWN
    return Value(f"{node.name}.fault{k}", Tensor(tuple(value.shape), F32))


def loc_of(node: Node) -> Loc:
    """ "torch <path of the module> <file>:<line>": the innermost line outside torch itself."""
    frames = FRAME.findall(node.meta.get("stack_trace") or "")
    model_frames = [f for f in frames if not f[0].startswith(TORCH)]
    modules = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(modules[-1][0]) if modules else ""
    line = f"{Path(model_frames[-1][0]).name}:{model_frames[-1][1]}" if model_frames else ""
    return Loc(" ".join(part for part in ("torch", path or node.name, line) if part))


def label(node: Node) -> str:
    """The node's name for its values: `_native_batch_norm_legit_no_training_1` is batch_norm_1."""
    return node.name.replace("_legit_no_training", "").replace("_native_", "").lstrip("_")


def at(loc: Loc) -> str:
    return f" ({loc.source})" if loc.source else ""


def flat(tree: Any) -> list[Any]:
    """The leaves of nested tuples, lists and dictionaries."""
    if isinstance(tree, (tuple, list)):
        return [leaf for h in tree for leaf in flat(h)]
    if isinstance(tree, Mapping):
        return flat(list(tree.values()))
    return [tree]
