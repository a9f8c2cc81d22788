"""Quantized ONNX models: QDQ, QLinear and integer operators."""
