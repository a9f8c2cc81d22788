"""Reads models (file, bytes, ModelProto) and their tensors, external data too; trusts nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from qir.frontends.onnx.read.budget import Budget
from qir.frontends.onnx.read.files import ExternalData, read_regular
from qir.frontends.onnx.read.fold import MAX_RANK
from qir.frontends.onnx.read.formats import check_format
from qir.frontends.onnx.read.wire import check_messages
from qir.ir.errors import SHOWN, FrontendError
from qir.ir.types import Array

OLDEST_OPSET = 7  # ONNX 1.2, the first with NumPy's broadcasting
DEFAULT_DOMAINS = ("", "ai.onnx")
BITS = {
    TensorProto.FLOAT: 32, TensorProto.UINT8: 8, TensorProto.INT8: 8, TensorProto.UINT16: 16,
    TensorProto.INT16: 16, TensorProto.INT32: 32, TensorProto.INT64: 64, TensorProto.BOOL: 8,
    TensorProto.FLOAT16: 16, TensorProto.DOUBLE: 64, TensorProto.UINT32: 32,
    TensorProto.UINT64: 64, TensorProto.BFLOAT16: 16, TensorProto.UINT4: 4, TensorProto.INT4: 4,
    getattr(TensorProto, "UINT2", -1): 2, getattr(TensorProto, "INT2", -2): 2,
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A parsed model, its name in messages, the folder of its external data, its opset versions."""

    proto: Any
    file: str
    folder: Path | None
    opsets: dict[str, int]
    budget: Budget
    external: ExternalData = field(default_factory=ExternalData)
    shared: dict[object, Array] = field(default_factory=dict)  # of external data: tied weights

    def array(self, tensor: Any) -> Array:
        """The elements of a TensorProto.

        Errors: FrontendError when they do not fit its type and dims.
        """
        where = f"{self.file} tensor {tensor.name!r}"
        bits = BITS.get(tensor.data_type)
        if bits is None:
            raise FrontendError(
                f"{where}: elements of type {type_name(tensor.data_type)}, float16 to float64,"
                " bfloat16, bool, or integers of 2 to 64 bits are needed"
            )
        dims = tuple(tensor.dims)
        if min(dims, default=1) < 0:
            raise FrontendError(f"{where}: dims {list(dims[:SHOWN])}, at least 0 each is needed")
        if len(dims) > MAX_RANK:
            raise FrontendError(f"{where}: {len(dims)} dims, at most {MAX_RANK} are needed")
        count = prod(dims)
        if tensor.data_location == TensorProto.EXTERNAL:
            entries = frozenset((e.key, e.value) for e in tensor.external_data)
            key = (entries, tensor.data_type, dims)
            if key not in self.shared:
                inline = self._with_external(tensor, -(-count * bits // 8), where)
                self.shared[key] = self._decoded(inline, count, bits, where)
            return self.shared[key]
        return self._decoded(tensor, count, bits, where)

    def _decoded(self, tensor: Any, count: int, bits: int, where: str) -> Array:
        self._check_size(tensor, count, bits, where)
        try:
            return np.asarray(numpy_helper.to_array(tensor))
        except (ValueError, TypeError, OverflowError, AttributeError, KeyError) as e:
            raise FrontendError(
                f"{where}: {e}, elements that fit its type and dims are needed"
            ) from e

    @staticmethod
    def _check_size(tensor: Any, count: int, bits: int, where: str) -> None:
        """Before anything is allocated: as many elements as the dims say must be there."""
        if tensor.raw_data:
            byte_count, need = len(tensor.raw_data), -(-count * bits // 8)
            if byte_count != need:
                raise FrontendError(f"{where}: {byte_count} bytes of data, {need} are needed")
            return
        fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data)
        elements = max(len(f) for f in (*fields, tensor.uint64_data))
        if elements < -(-count * min(bits, 8) // 8):
            raise FrontendError(f"{where}: {elements} elements of data, {count} are needed")

    def _with_external(self, tensor: Any, size: int, where: str) -> Any:
        """The tensor with its `size` bytes read from a file within the folder of the model."""
        entries = {e.key: e.value for e in tensor.external_data}
        if self.folder is None:
            raise FrontendError(
                f"{where}: data in file {entries.get('location')!r}, data in the model is needed",
                "give the path of the model instead of its bytes",
            )
        data = self.external.read(self.folder, entries, size, where)
        self.budget.extend(size if self.external.is_new else 0)
        inline = TensorProto()
        inline.CopyFrom(tensor)
        del inline.external_data[:]
        inline.data_location = TensorProto.DEFAULT
        inline.raw_data = data
        return inline


def load(model: str | Path | bytes | onnx.ModelProto) -> Model:
    """The parsed model.

    Errors: FrontendError when it cannot be read, is no model, or of an unknown opset.
    """
    folder, file = None, "model"
    match model:
        case onnx.ModelProto():
            proto, content = model, b""
        case bytes() | bytearray() | memoryview():
            content = bytes(model)
            proto = _parsed(content, file)
        case str() | Path():
            path = Path(model)
            file, folder = path.name, path.parent
            content = read_regular(path, "an ONNX file")
            proto = _parsed(content, file)
        case _:
            raise FrontendError(
                f"model of type {type(model).__name__}, a path, bytes or onnx.ModelProto is needed"
            )
    if not proto.HasField("graph"):
        raise FrontendError(f"{file}: a model without graph, an ONNX model is needed")
    size = len(content) or _held_bytes(proto)
    return Model(proto, file, folder, _opsets(proto.opset_import, file), Budget(size))


def _held_bytes(proto: Any) -> int:
    """The bytes of a model in memory, about: its constants, and its other parts as one."""
    tensors = [
        *proto.graph.initializer,
        *(a.t for node in proto.graph.node for a in node.attribute if a.HasField("t")),
    ]
    lists = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
    return sum(len(t.raw_data) + sum(4 * len(getattr(t, n)) for n in lists) for t in tensors)


def _parsed(content: bytes, file: str) -> Any:
    check_format(content, file)
    check_messages(content, file)
    try:
        return onnx.ModelProto.FromString(content)
    except Exception as e:  # the errors of protobuf, a package of onnx's and not of ours
        raise FrontendError(
            f"{file}: {len(content)} bytes that are no ONNX model ({e}),"
            " a whole .onnx file is needed"
        ) from e


def _opsets(imports: Iterable[Any], file: str) -> dict[str, int]:
    """Domain -> version; that of the default domain ('') is checked."""
    opsets = versions(imports)
    newest = onnx.defs.onnx_opset_version()
    version = opsets.setdefault("", 1)
    if not OLDEST_OPSET <= version <= newest:
        raise FrontendError(
            f"{file}: opset {version}, {OLDEST_OPSET} to {newest} is needed",
            "convert it with onnx.version_converter"
            if version < newest
            else "install a newer onnx",
        )
    return opsets


def versions(imports: Iterable[Any]) -> dict[str, int]:
    return {"" if o.domain in DEFAULT_DOMAINS else o.domain: int(o.version) for o in imports}


def type_name(data_type: int) -> str:
    try:
        return str(TensorProto.DataType.Name(data_type)).lower()
    except ValueError:
        return str(data_type)
