"""Recognizes files of other model formats, with a hint how to convert them."""

from __future__ import annotations

from qir.ir.errors import FrontendError

_TORCH = (
    "load it in Python and give the module: qir.compile(model, calibration=...),"
    " or export it with torch.onnx.export(model, inputs, 'model.onnx')"
)

# (place, bytes there) -> the format, and what to do.
MAGIC: dict[tuple[int, bytes], tuple[str, str]] = {
    (4, b"TFL3"): ("a TensorFlow Lite model", "tf2onnx: python -m tf2onnx.convert --tflite"
                   " model.tflite --output model.onnx --opset 17"),
    (0, b"PK\x03\x04"): ("a zip archive, as torch.save, Keras and .pt2 write them", _TORCH),
    (0, b"\x80\x02"): ("a Python pickle, as torch.save writes it", _TORCH),
    (0, b"\x89HDF\r\n\x1a\n"): ("an HDF5 file, as Keras writes it", "tf2onnx: python -m"
                                " tf2onnx.convert --keras model.h5 --output model.onnx"),
    (0, b"GGUF"): ("a GGUF file", "export the original model with torch.onnx.export"),
    (4, b"ORTM"): ("an ONNX Runtime .ort model", "give the .onnx file it was made of"),
    (0, b"\x93NUMPY"): ("a NumPy array", "a model comes first; arrays are calibration data"),
    (0, b"\x7fELF"): ("a compiled library", "give the model it was made of"),
    (0, b"\x1f\x8b"): ("a gzip file", "unpack it first"),
    (0, b"<?xml"): ("an XML file, as OpenVINO writes it", "give the .onnx file it was made of"),
    (0, b"graph @"): ("a graph in qir's text form", "name it .qir"),
    (0, b"version https://git-lfs"): ("a pointer of Git LFS", "git lfs pull"),
}  # fmt: skip


def check_format(content: bytes, file: str) -> None:
    """Errors: FrontendError when `content` starts as a file of another format does."""
    for (at, magic), (kind, hint) in MAGIC.items():
        if content[at : at + len(magic)] == magic:
            raise FrontendError(f"{file}: {kind}, an ONNX model is needed", hint)
    if not content:
        raise FrontendError(f"{file}: 0 bytes, an ONNX model is needed")
    if content[:64].lstrip()[:1] in (b"<", b"{"):
        raise FrontendError(
            f"{file}: text ({content[:20]!r}...), an ONNX model in binary form is needed"
        )
