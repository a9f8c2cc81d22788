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

from qir.ir.errors import FrontendError
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
    opsets: dict[str, int] = field(default_factory=dict)

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
            raise FrontendError(f"{where}: dims {list(dims)}, at least 0 each is needed")
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor = self._with_external(tensor, where)
        self._check_size(tensor, prod(dims), bits, where)
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
            found, need = len(tensor.raw_data), -(-count * bits // 8)
            if found != need:
                raise FrontendError(f"{where}: {found} bytes of data, {need} are needed")
            return
        fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data)
        held = max(len(f) for f in (*fields, tensor.uint64_data))
        if held < -(-count * min(bits, 8) // 8):
            raise FrontendError(f"{where}: {held} elements of data, {count} are needed")

    def _with_external(self, tensor: Any, where: str) -> Any:
        """The tensor with its bytes read from the file beside the model, within its folder."""
        entries = {e.key: e.value for e in tensor.external_data}
        if self.folder is None:
            raise FrontendError(
                f"{where}: data in file {entries.get('location')!r}, data in the model is needed",
                "give the path of the model instead of its bytes",
            )
        try:
            path = (self.folder / entries["location"]).resolve()
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
        except (KeyError, ValueError, OSError) as e:
            raise FrontendError(
                f"{where}: external data {entries}, a location, offset and length are needed"
            ) from e
        if not path.is_relative_to(self.folder.resolve()):
            raise FrontendError(f"{where}: data in {path}, a file in {self.folder} is needed")
        whole = TensorProto()
        whole.CopyFrom(tensor)
        del whole.external_data[:]
        whole.data_location = TensorProto.DEFAULT
        whole.raw_data = _read_part(path, offset, length, where)
        return whole


def _read_part(path: Path, offset: int, length: int, where: str) -> bytes:
    try:
        size = path.stat().st_size
        end = size if length < 0 else offset + length
        if not 0 <= offset <= end <= size:
            raise FrontendError(
                f"{where}: bytes {offset} to {end} of {path.name}, at most {size} are needed"
            )
        with path.open("rb") as f:
            f.seek(offset)
            return f.read(end - offset)
    except (OSError, ValueError) as e:
        raise FrontendError(f"{where}: {path} cannot be read ({e}), the file is needed") from e


def load(model: str | Path | bytes | onnx.ModelProto) -> Model:
    """The parsed model.

    Errors: FrontendError when it cannot be read, is no model, or of an unknown opset.
    """
    folder, file = None, "model"
    match model:
        case onnx.ModelProto():
            proto = model
        case bytes() | bytearray() | memoryview():
            proto = _parsed(bytes(model), file)
        case str() | Path():
            path = Path(model)
            file, folder = path.name, path.parent
            try:
                proto = _parsed(path.read_bytes(), file)
            except (OSError, ValueError) as e:
                raise FrontendError(f"{path}: cannot be read ({e}), an ONNX file is needed") from e
        case _:
            raise FrontendError(
                f"model of type {type(model).__name__}, a path, bytes or onnx.ModelProto is needed"
            )
    if not proto.HasField("graph"):
        raise FrontendError(f"{file}: a model without graph, an ONNX model is needed")
    return Model(proto, file, folder, _opsets(proto.opset_import, file))


def _parsed(content: bytes, file: str) -> Any:
    try:
        return onnx.ModelProto.FromString(content)
    except Exception as e:  # the errors of protobuf, a package of onnx's and not of ours
        raise FrontendError(
            f"{file}: {len(content)} bytes that are no ONNX model ({e}),"
            " a whole .onnx file is needed"
        ) from e


def _opsets(imports: Iterable[Any], file: str) -> dict[str, int]:
    """Domain -> version, that of the default domain ('') held against what is known."""
    found = versions(imports)
    newest = onnx.defs.onnx_opset_version()
    version = found.setdefault("", 1)
    if not OLDEST_OPSET <= version <= newest:
        raise FrontendError(
            f"{file}: opset {version}, {OLDEST_OPSET} to {newest} is needed",
            "convert it with onnx.version_converter"
            if version < newest
            else "install a newer onnx",
        )
    return found


def versions(imports: Iterable[Any]) -> dict[str, int]:
    return {"" if o.domain in DEFAULT_DOMAINS else o.domain: int(o.version) for o in imports}


def type_name(data_type: int) -> str:
    try:
        return str(TensorProto.DataType.Name(data_type)).lower()
    except ValueError:
        return str(data_type)
