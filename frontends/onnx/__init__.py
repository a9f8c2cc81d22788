"""ONNX models, float and quantized, become imported graphs."""

from qir.frontends.onnx.importer import import_onnx

__all__ = ["import_onnx"]
