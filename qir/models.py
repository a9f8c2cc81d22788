"""Models of any kind that compile takes, as graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qir.arguments import check_batch, check_shapes
from qir.ir.errors import DataError, FrontendError
from qir.ir.graph import Graph
from qir.ir.text.file import load_graph


def imported(
    model: Any,
    inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """Any model that `compile` takes, as a graph.

    Errors: FrontendError; DataError for a batch or shapes that are none, or shapes of a torch
    module.
    """
    check_batch(batch)
    check_shapes(shapes)
    if shapes and is_torch(model):
        raise DataError(
            "shapes: given with a torch module, an ONNX model is needed",
            "the example inputs of a torch module fix its shapes",
        )
    if isinstance(model, Graph):
        return model
    if isinstance(model, (str, Path)) and Path(model).suffix == ".qir":
        return load_graph(model)
    if isinstance(model, (str, Path)) and Path(model).suffix == ".pt2":
        from qir.frontends.torch import import_torch

        return import_torch(model, inputs)
    if type(model).__name__ == "ONNXProgram":  # of torch.onnx.export
        model = model.model_proto
    home = type(model).__module__.split(".")[0]
    if isinstance(model, (str, Path, bytes)) or home == "onnx":
        from qir.frontends.onnx import import_onnx

        return import_onnx(model, batch=batch, shapes=shapes)
    if is_torch(model):
        from qir.frontends.torch import import_torch

        return import_torch(model, inputs)
    raise FrontendError(
        f"model: a {type(model).__name__} was given, a torch module, an exported program, an ONNX"
        " file, its bytes, a ModelProto or a graph is needed"
    )


def language_model(model: Any) -> Any:
    """The torch module of a checkpoint on disk, a folder or a .gguf file; another model as it is.

    Errors: FrontendError.
    """
    if isinstance(model, (str, Path)) and (Path(model).is_dir() or Path(model).suffix == ".gguf"):
        from qir.frontends.torch import load_checkpoint

        return load_checkpoint(model)
    return model


def is_torch(model: Any) -> bool:
    """Whether the model is of a class from torch; torch is not imported to find out."""
    return any(kind.__module__.split(".")[0] == "torch" for kind in type(model).__mro__)


def name_of(model: Any, graph: Graph) -> str:
    """The name of the program: that of the file, of the module's class, or of the graph."""
    if isinstance(model, (str, Path)):
        return Path(model).stem
    return type(model).__name__ if is_torch(model) else graph.name
